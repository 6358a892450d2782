"""Recipes of ours made small: pieces of the virtual Earth that a STAC API and Earth Engine both
hold, as the same files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from replica import Replica, add_scenes, inner_box, item, square

from las_builder.access import LabelRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs, Imagery, LabelProduct, Where
from las_builder.core.types import LabelSource, Period, Scene

CATALOGS = Catalogs.load()
PIPELINES = Path(__file__).parents[1] / "pipelines"
STAC = "https://stac.example.org/api"
FILES = "https://files.example.org"


@dataclass(frozen=True)
class Case:
    """Where a recipe is tried, and how much of it."""

    place: tuple[float, float]
    pixels: int
    """Side of the scenes."""

    period: str
    compare: tuple[str, ...] = ()
    clear: int = 2
    """Scenes of each season."""

    size: int = 48
    dates: dict[str, Any] = field(default_factory=dict)


CASES = {
    "las-s2-dw": Case((11.5, 48.2), 240, "2021-01-01/2022-01-01", ("esa-worldcover-v200",), clear=1),
    "las-s2-clc": Case((11.5, 48.2), 240, "2018-03-01/2018-11-01", ("dynamic-world",)),
    "las-s2-worldcover": Case((11.5, 48.2), 240, "2021-04-01/2021-10-01", ("io-lulc-annual",)),
    "las-l89-glcfcs": Case((-60.2, -32.1), 300, "2021-01-01/2022-01-01", ("esa-worldcover-v200",)),
    "las-l89-nlcd": Case((-96.5, 40.8), 300, "2021-04-01/2021-11-01", ("esa-worldcover-v200",)),
    "las-hr-naip": Case((-77.5, 39.5), 600, "2013-01-01/2015-01-01", ("chesapeake-lc13", "usda-cdl")),
    "las-hr-ortho": Case((25.5, 62.3), 900, "2020-01-01/2023-01-01", ("io-lulc-annual",)),
}  # fmt: skip


@dataclass
class Both:
    """Files, and who lists them."""

    replica: Replica
    assets: dict[str, Any] = field(default_factory=dict)
    projects: dict[str, str] = field(
        default_factory=lambda: {"good": "", "new": "unregistered", "spent": "used-up"}
    )

    def write(self) -> None:
        self.replica.write_apis()
        said = {"assets": self.assets, "projects": self.projects}
        (self.replica.root / "earth_engine.json").write_text(json.dumps(said))

    def image(
        self, name: str, bands: dict[str, tuple[str, int]], properties: dict[str, Any],
        collection: str | None,
    ) -> None:  # fmt: skip
        """List files as bands of an image; `bands`: id to href and band of the file."""
        if collection is not None:
            self.assets[collection] = {"type": "IMAGE_COLLECTION"}
        self.assets[name] = {
            "type": "IMAGE", "properties": properties,
            "bands": [
                {"id": id_, "file": href.removeprefix("https://"), "index": index}
                for id_, (href, index) in bands.items()
            ],
        }  # fmt: skip


def make(
    root: Path, name: str, *, source: str = "earth-engine", sites: int = 10
) -> tuple[Both, Path]:
    """A replica of what a recipe needs, and the recipe made small."""
    case, both = CASES[name], Both(Replica(root))
    said = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text())
    imagery, period = CATALOGS.imagery(said["imagery"]), Period.parse(case.period)
    earth = VirtualEarth(CATALOGS)
    around = square(CATALOGS, imagery, *case.place, case.pixels)
    seasons = said["dates"]["per_site"] if said["dates"].get("choose") == "seasons" else 1
    for part in period.slots(seasons):
        scenes = add_scenes(
            both.replica,
            "stac",
            earth,
            imagery,
            around,
            part,
            clear=case.clear,
            cloudy=seasons == 1,
        )
        for listed in scenes:
            add_image(both, imagery, listed)
    # The scenes themselves, because maps of the same scene need them.
    asked = SearchRequest(site="x", grid=around, period=period, max_cloud=100)
    seen = {s.id: s for s in earth.search(imagery, [asked])[0]}
    used = [seen[i["id"]] for i in both.replica.items["stac"]]
    for product in [*said["labels"], *case.compare]:
        declared = CATALOGS.label(product)
        add_maps(both, earth, declared, around, used)
    for thing in (imagery, *(CATALOGS.label(p) for p in [*said["labels"], *case.compare])):
        for where in thing.where:
            if where.provider == "earth-engine" and where.collection is not None:
                both.assets.setdefault(where.collection, {"type": "IMAGE_COLLECTION"})
    both.write()
    said |= {
        "source": source, "compare": list(case.compare),
        "patch": {**said["patch"], "size": case.size},
        "sites": {
            "count": sites, "seed": 7, "spacing_km": 0.05, "region": inner_box(around, 0.16),
            "design": [{"share": 1, "uniform": "land"}],
        },
        "dates": {**said["dates"], "period": case.period, "patch_min_clear": 0.3, "max_cloud": 100, **case.dates},
        "splits": {"train": 18, "val": 1, "test": 1, "block_km": 300, "buffer_km": 1, "seed": 1},
    }  # fmt: skip
    recipe = root / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(said))
    return both, recipe


def millis(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def add_image(both: Both, imagery: Imagery, listed: dict[str, Any]) -> None:
    """List a scene of the STAC API in the collection of Earth Engine where it belongs."""
    ours = imagery.at("stac")
    wheres = [w for w in imagery.where if w.provider == "earth-engine"]
    assert ours is not None
    properties = listed["properties"]
    nine = "9" in str(properties.get("platform", ""))[-1:]
    where = wheres[-1] if len(wheres) > 1 and nine else wheres[0]
    qa = imagery.validity.band
    names = [*(b.name for b in imagery.bands), *([qa] if qa else [])]
    keys = [ours.assets.get(n, n) for n in names]
    bands = {
        where.assets.get(n, n): (listed["assets"][k]["href"], keys[:i].count(k) + 1)
        for i, (n, k) in enumerate(zip(names, keys, strict=True))
    }
    more = {"system:time_start": millis(properties["datetime"]), "PROCESSING_BASELINE": "05.11"}
    if where.cloud and properties.get("eo:cloud_cover") is not None:
        more[where.cloud] = properties["eo:cloud_cover"]
    both.image(f"{where.collection}/{listed['id']}", bands, more, where.collection)


def add_maps(both: Both, earth: VirtualEarth, product: LabelProduct, around: Any, scenes: list[Scene]) -> None:  # fmt: skip
    """The maps of a product around a place: one of each scene, or of each year of theirs."""
    done = set()
    for scene in scenes:
        year = product.epoch.year_for(scene.datetime.year)
        same = product.epoch.rule == "same-scene"
        key = scene.id if same else str(year)
        if key in done:
            continue
        (source,) = earth.labels(product, [LabelRequest(site="all", grid=around, scene=scene)])
        if not isinstance(source, LabelSource):
            continue
        done.add(key)
        layers = {"codes": source.codes, **source.evidence}
        hrefs = {n: f"{FILES}/{product.name}/{key}/{n}.tif" for n in layers}
        for name, data in layers.items():
            nodata = product.nodata if name == "codes" else None
            both.replica.put(hrefs[name], np.asarray(data), source.grid, nodata, 128)
        start, end = (scene.datetime, scene.datetime) if same else (
            datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        )  # fmt: skip
        list_map(both, product, key, hrefs, source, start, end)


def list_map(
    both: Both, product: LabelProduct, key: str, hrefs: dict[str, str], source: LabelSource,
    start: datetime, end: datetime, item_too: bool = True,
) -> None:  # fmt: skip
    where = next(w for w in product.where if w.provider == "earth-engine")
    codes = where.years[start.year] if where.years else where.assets.get("codes", "codes")
    bands = {codes: (hrefs["codes"], 1)}
    if where.years:  # a map of every year in one image: those that are not asked for are the same
        bands = dict.fromkeys(where.years.values(), bands[codes])
    bands |= {where.assets.get(n, n): (hrefs[n], 1) for n in hrefs if n != "codes"}
    times = {
        "system:time_start": start.timestamp() * 1000,
        "system:time_end": end.timestamp() * 1000,
    }
    if "HRLC" in str(where.collection):  # one image, no collection
        both.image(str(where.collection), bands, {}, None)
    else:
        both.image(f"{where.collection}/{key}", bands, times, where.collection)
    ours = product.at("stac")
    if ours is None or not item_too:
        return
    _list_item(both, product, ours, f"{product.name}-{key}", hrefs, source, start, end)


def _list_item(
    both: Both, product: LabelProduct, where: Where, id_: str, hrefs: dict[str, str],
    source: LabelSource, start: datetime, end: datetime,
) -> None:  # fmt: skip
    crs = str(source.grid.crs)
    properties = {
        "datetime": None, "start_datetime": start.isoformat().replace("+00:00", "Z"),
        "end_datetime": f"{end.year - 1}-12-31T23:59:59Z",
        "proj:shape": list(source.grid.shape), "proj:transform": list(source.grid.transform)[:6],
        **{k: v[0] if isinstance(v, list) else v for k, v in where.match.items()},
        **({"proj:epsg": int(crs[5:])} if crs.startswith("EPSG:") else {"proj:wkt2": crs}),
    }  # fmt: skip
    assets = {
        where.assets.get(n, n): {"href": href, "type": "image/tiff", "roles": ["data"]}
        for n, href in hrefs.items()
    }
    said = item(id_, where.collection or product.name, source.grid, properties, assets)
    both.replica.items["stac"].append(said)


def home(root: Path, project: str = "good") -> Path:
    """A home with credentials of `earthengine authenticate`."""
    folder = root / "home" / ".config" / "earthengine"
    folder.mkdir(parents=True, exist_ok=True)
    said = {"refresh_token": "r", "client_id": "c", "client_secret": "s", "project": project}
    (folder / "credentials").write_text(json.dumps(said))
    return root / "home"
