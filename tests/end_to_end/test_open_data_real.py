"""Real files behind STAC APIs and object stores: what the real client makes of them is what rasterio
reads straight from the file.

The three recipes run over real label maps under pieces of the virtual Earth, and over a real scene;
files of another pixel than a recipe's are read on their own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
import zarr
from affine import Affine
from click.testing import CliRunner
from kit_loopback import Loopback, serve
from pyproj import Transformer
from rasterio.windows import Window, from_bounds
from replica import Replica, add_labels, add_scenes, inner_box, item, square

from las_builder.access import LabelRequest, ReadRequest, SearchRequest, open_access
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.cli import las
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, LabelSource, Period
from las_builder.harmonise import regrid
from las_builder.scenes import SceneTable

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

CATALOGS = Catalogs.load()
PIPELINES = Path(__file__).parents[2] / "pipelines"
PC, ES, STAC = "planetary-computer", "earth-search", "https://stac.example.org/api"
BLOBS = "https://real.blob.core.windows.net/files"
SIZE = 48
S2_BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B11", "B12"]
"""Of the 60 m image in the order of its file."""

EDGE = "worldcover/ESA_WorldCover_10m_2020_v100_N66E177_Map_decimated.tif"
"""A tile that ends at 180°."""

ALWAYS = Period.parse("2011-01-01/2026-01-01")


class Files:
    """Real files put where their items say."""

    def __init__(self, root: Path, data: Path) -> None:
        self.replica, self.data = Replica(root), data

    def put(self, path: str) -> tuple[str, Grid]:
        """Its URL and its grid, as rasterio says it."""
        href = f"{BLOBS}/{path}"
        there = self.replica.file(href)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.data / path, there)
        with rasterio.open(there) as file:
            crs = file.crs.to_epsg()
            name = f"EPSG:{crs}" if crs else file.crs.to_wkt()
            return href, Grid(name, file.transform, file.width, file.height)

    def add(
        self, provider: str, collection: str, id_: str, assets: dict[str, tuple[str, list[str]]],
        properties: dict[str, Any],
    ) -> Grid:  # fmt: skip
        """List an item; assets are key to path and the bands of the file."""
        said: dict[str, Any] = {}
        for key, (path, bands) in assets.items():
            href, grid = self.put(path)
            said[key] = {
                "href": href, "type": "image/tiff", "proj:shape": list(grid.shape),
                "proj:transform": list(grid.transform)[:6],
                **({"eo:bands": [{"name": b} for b in bands]} if bands else {}),
            }  # fmt: skip
        crs = {"proj:epsg": int(grid.crs[5:])} if grid.crs.startswith("EPSG") else {"proj:wkt2": grid.crs}  # fmt: skip
        place = {"proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}
        self.replica.items[provider].append(
            item(id_, collection, grid, {"datetime": None, **crs, **place, **properties}, said)
        )
        return grid

    def year(self, provider: str, collection: str, path: str, year: int, key: str, **more: Any) -> Grid:  # fmt: skip
        """List a label map of one year."""
        days = {"start_datetime": f"{year}-01-01T00:00:00Z", "end_datetime": f"{year}-12-31T23:59:59Z"}  # fmt: skip
        return self.add(provider, collection, Path(path).stem, {key: (path, [])}, {**days, **more})


def inner(grid: Grid, row: int, column: int, n: int) -> Grid:
    """Some pixels of a grid."""
    t = grid.transform
    place = Affine(t.a, 0, t.c + column * t.a, 0, t.e, t.f + row * t.e)
    return Grid(grid.crs, place, n, n)


def made_up(files: Files, provider: str, imagery: str, lon: float, lat: float, size: int,
            days: str, **more: Any) -> Grid:  # fmt: skip
    """Scenes of the virtual Earth around a place."""
    declared, earth = CATALOGS.imagery(imagery), VirtualEarth(CATALOGS)
    around = square(CATALOGS, declared, lon, lat, size)
    add_scenes(files.replica, provider, earth, declared, around, Period.parse(days), clear=1,
               cloudy=0, **more)  # fmt: skip
    return around


def s2_worldcover_labels(files: Files) -> tuple[Grid, dict[str, Any]]:
    """WorldCover of São Tomé, both versions."""
    for year, version in ((2020, "v100"), (2021, "v200")):
        name = f"worldcover/ESA_WorldCover_10m_{year}_{version}_N00E006"
        recorded = json.loads((files.data / f"{name}.stac-item.json").read_text())
        said = {k: v for k, v in recorded["properties"].items() if k.startswith("esa_worldcover")}
        files.year(PC, "esa-worldcover", f"{name}_Map.tif", year, "map", **said)
    flag = {"properties": {"earthsearch:boa_offset_applied": True}, "stated_offset": -0.1}
    around = made_up(files, ES, "sentinel-2-l2a", 6.62, 0.24, 150, "2021-01-01/2022-01-01", **flag)
    return around, {"compare": ["esa-worldcover-v100"]}


def s2_worldcover_images(files: Files) -> tuple[Grid, dict[str, Any]]:
    """The image of T29UNU, where it is clearest; WorldCover is made up."""
    folder = "s2_l2a_t29unu_baseline0400/T29UNU_20221005T115411_"
    image, scl = f"{folder}BOA_60m_crop.tif", f"{folder}SCL_60m_crop.tif"
    assets = dict.fromkeys(S2_BANDS, (image, S2_BANDS)) | {"SCL": (scl, [])}
    said = {
        "datetime": "2022-10-05T11:54:11Z", "eo:cloud_cover": 59.8, "platform": "Sentinel-2A",
        "s2:processing_baseline": "04.00",
    }  # fmt: skip
    grid = files.add(PC, "sentinel-2-l2a", "S2A_T29UNU_20221005", assets, said)
    with rasterio.open(files.data / scl) as file:
        clear = np.isin(file.read(1), [4, 5, 6, 7]).cumsum(0).cumsum(1)
    n = 40
    shares = clear[n:, n:] - clear[:-n, n:] - clear[n:, :-n] + clear[:-n, :-n]
    row, column = (int(v) + 1 for v in np.unravel_index(shares.argmax(), shares.shape))
    around = inner(grid, row, column, n)
    fine = Grid(grid.crs, Affine(10, 0, around.transform.c, 0, -10, around.transform.f), 240, 240)
    earth = VirtualEarth(CATALOGS)
    asked = SearchRequest(site="x", grid=fine, period=Period.parse("2021-06-01/2021-09-01"), max_cloud=100)  # fmt: skip
    scene = earth.search(CATALOGS.imagery("sentinel-2-l2a"), [asked])[0][0]
    product = CATALOGS.label("esa-worldcover-v200")
    add_labels(files.replica, PC, earth, product, fine, scene)
    dates = {"period": "2022-01-01/2023-01-01", "label_years": 1}
    return fine, {"compare": [], "bands": S2_BANDS, "source": PC, "dates": dates}


def l89_nlcd_labels(files: Files) -> tuple[Grid, dict[str, Any]]:
    """NLCD of 2021 and CDL of 2019 of Durham, North Carolina, in two Albers CRSs."""
    folder = "nlcd_cdl_north_carolina/"
    files.year("stac", "nlcd", f"{folder}Annual_NLCD_LndCov_2021_CU_C1V0.tif", 2021, "codes")
    files.year(PC, "usda-cdl", f"{folder}cdl_2019_crop_to_nlcd.tif", 2019, "cropland",
               **{"usda_cdl:type": "cropland"})  # fmt: skip
    around = made_up(files, PC, "landsat-c2-l2", -78.85, 36.03, 200, "2021-04-01/2021-11-01")
    return around, {"compare": ["usda-cdl"], "source": f"{PC},{STAC}"}


def hr_naip_labels(files: Files) -> tuple[Grid, dict[str, Any]]:
    """NLCD of 2011 and Chesapeake's classes of one tile of West Virginia, on its own long pixels."""
    tile = "chesapeake_naip_wv/m_3907833_nw_17_1"
    files.year("stac", "nlcd", f"{tile}_nlcd.tif", 2011, "codes")
    files.year(PC, "chesapeake-lc-7", f"{tile}_lc.tif", 2013, "data")
    around = made_up(files, PC, "naip", -78.965, 39.47, 600, "2013-01-01/2015-01-01")
    return around, {"compare": ["chesapeake-lc7"], "source": f"{PC},{STAC}"}


CASES: dict[str, tuple[str, Callable[[Files], tuple[Grid, dict[str, Any]]]]] = {
    "las-s2-worldcover real labels": ("las-s2-worldcover", s2_worldcover_labels),
    "las-s2-worldcover real images": ("las-s2-worldcover", s2_worldcover_images),
    "las-l89-nlcd real labels": ("las-l89-nlcd", l89_nlcd_labels),
    "las-hr-naip real labels": ("las-hr-naip", hr_naip_labels),
}
TURNS = {
    "landsat": ("landsat-c2-l2", [f"SR_B{k}" for k in range(2, 8)], "QA_PIXEL"),
    "naip": ("naip", ["R", "G", "B", "N"], None),
}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Iterator[tuple[Files, Loopback, dict[str, Path]]]:
    """All of it behind one server; case to its recipe, made small."""
    root = tmp_path_factory.mktemp("real")
    files = Files(root, shared_data)
    recipes = {}
    for case, (name, publish) in CASES.items():
        around, changes = publish(files)
        said = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text())
        dates = {
            **said["dates"],
            "patch_min_clear": 0.1,
            "per_site": 1,
            "max_cloud": 100,
            **changes.pop("dates", {}),
        }
        sites = {
            "count": 10, "seed": 7, "spacing_km": 0.02, "region": inner_box(around, 0.2),
            "design": [{"share": 1, "uniform": "land"}],
        }  # fmt: skip
        said |= {
            "patch": {**said["patch"], "size": SIZE}, "sites": sites, "dates": dates,
            "splits": {"train": 18, "val": 1, "test": 1, "block_km": 300, "buffer_km": 1, "seed": 1},
        }  # fmt: skip
        source = changes.pop("source", said["source"])
        if "," in source:
            first, *others = source.split(",")
            source = {"imagery": first, "labels": [first, *others]}
        said |= {**changes, "source": source}
        recipes[case] = root / f"{case.replace(' ', '-')}.yaml"
        recipes[case].write_text(yaml.safe_dump(said))
    folder = shared_data / "landsat_c2l2"
    for scene in sorted(p.name for p in folder.iterdir() if p.is_dir()):
        keys = CATALOGS.imagery("landsat-c2-l2").at(PC).assets
        assets = {
            keys[band]: (f"landsat_c2l2/{scene}/{scene}_{band}.TIF", [])
            for band in [*TURNS["landsat"][1], "QA_PIXEL"]
        }
        day = f"{scene[17:21]}-{scene[21:23]}-{scene[23:25]}T12:00:00Z"
        said = {"datetime": day, "platform": "landsat-8", "eo:cloud_cover": 10.0}
        files.add(PC, "landsat-c2-l2", scene, assets, said)
    for path in sorted((shared_data / "naip_samples").glob("*.tif")):
        day = next(w for w in path.stem.split("_") if len(w) == 8 and w.startswith("20"))
        said = {"datetime": f"{day[:4]}-{day[4:6]}-{day[6:]}T12:00:00Z"}
        asset = {"image": (f"naip_samples/{path.name}", [])}
        files.add(PC, "naip", path.stem, asset, said)
    said = {"esa_worldcover:product_version": "1.0.0"}
    files.year(PC, "esa-worldcover", EDGE, 2020, "map", **said)
    files.replica.write_apis(page=4)
    server = serve(root)
    yield files, server, recipes
    server.stop()


@pytest.fixture(autouse=True)
def _mirrored(world: tuple[Files, Loopback, dict[str, Path]], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from las_builder.access import stac_api

    stac_api._client.cache_clear()
    stac_api._maps_in.cache_clear()
    monkeypatch.setenv("LAS_MIRRORS", world[1].mirrors)


def at_centres(path: Path, grid: Grid, band: int = 1, only: np.ndarray | None = None) -> np.ndarray:
    """What a file says at the centres of a grid's pixels, worked out by rasterio and pyproj alone;
    of `only` some of them, the others mean nothing.
    """
    with rasterio.open(path) as file:
        x, y = np.meshgrid(*grid.xy())
        there = Transformer.from_crs(grid.crs, file.crs, always_xy=True).transform(x, y)
        t = file.transform
        columns = np.floor((there[0] - t.c) / t.a).astype(int)
        rows = np.floor((there[1] - t.f) / t.e).astype(int)
        if only is not None:
            rows, columns = (np.where(only, v, v[only][0]) for v in (rows, columns))
        top, left = int(rows.min()), int(columns.min())
        window = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
        return file.read(band, window=window)[rows - top, columns - left]


@pytest.mark.parametrize("case", CASES)
def test_a_recipe_over_real_files(
    world: tuple[Files, Loopback, dict[str, Path]], case: str, tmp_path: Path
) -> None:
    files, _, recipes = world
    recipe = recipes[case]
    for stage in ("sample", "scenes", "fetch"):
        workers = ["--workers", "1"] if stage != "sample" else []
        done = CliRunner().invoke(las, [stage, str(recipe), "--work", str(tmp_path), *workers])
        assert done.exit_code == 0, done.exception
    assert "10 sites = 10 stored" in done.output
    said = yaml.safe_load(recipe.read_text())
    home = tmp_path / said["name"] / said["name"]
    group = zarr.open_group(home / "cube.zarr" / "0", mode="r")
    items = {i["id"]: i for listed in files.replica.items.values() for i in listed}
    bands = said.get("bands") or [band.name for band in CATALOGS.imagery(said["imagery"]).bands]
    manifests = [json.loads(path.read_text()) for path in sorted(home.glob("blocks/*.json"))]
    versions = {p["row"]: p["versions"] for one in manifests for p in one["patches"]}
    compared = 0
    for row, patch in enumerate(SceneTable.read(home / "scenes" / "0.parquet").patches):
        if not group["stored"][row]:
            continue
        compared += 1
        for k, name in enumerate(bands):
            ref = patch.scene.assets[name]
            want = at_centres(files.replica.file(ref.href), patch.grid, ref.index)
            np.testing.assert_array_equal(group["image"][row, k], want, err_msg=name)
        for product in (*said["labels"], *said["compare"]):
            id_ = versions[row][product]
            (href,) = [a["href"] for a in items[id_]["assets"].values()]
            want = at_centres(files.replica.file(href), patch.grid)
            codes = group[f"labels/{product}"][row]
            np.testing.assert_array_equal(codes, want.astype(codes.dtype), err_msg=product)
    assert compared == 10


@pytest.mark.parametrize("kind", TURNS)
def test_real_scenes_on_their_own_pixels(
    world: tuple[Files, Loopback, dict[str, Path]], kind: str
) -> None:
    """Decimated Landsat scenes and NAIP at 0.6, 5 and 22 m: windows all over, found by search."""
    files, _, _ = world
    name, bands, qa = TURNS[kind]
    imagery, access, chance = CATALOGS.imagery(name), open_access(PC), np.random.default_rng(5)
    where = imagery.at(PC)
    real = [
        i for i in files.replica.items[PC]
        if i["collection"] == name and all(a["href"].startswith(BLOBS) for a in i["assets"].values())
    ]  # fmt: skip
    assert len(real) == {"landsat": 2, "naip": 5}[kind]
    compared = 0
    for one in real:
        path = files.replica.file(one["assets"][where.assets[bands[0]]]["href"])
        with rasterio.open(path) as file:
            whole = Grid(f"EPSG:{file.crs.to_epsg()}", file.transform, file.width, file.height)
        windows = [
            inner(whole, *(int(v) for v in chance.integers(0, np.array(whole.shape) - 40)), 40)
            for _ in range(5)
        ]
        asked = [SearchRequest(site="p", grid=w, period=ALWAYS, max_cloud=100) for w in windows]
        for window, scenes in zip(windows, access.search(imagery, asked), strict=True):
            (scene,) = [s for s in scenes if s.id == one["id"]]
            reads = [ReadRequest(site="p", scene=scene, grid=window, bands=tuple(bands))]
            if qa:
                reads.append(ReadRequest(site="p", scene=scene, grid=window, bands=(qa,), categorical=True))  # fmt: skip
            chips = access.read(imagery, reads)
            for request, chip in zip(reads, chips, strict=True):
                assert not isinstance(chip, Chip) or not chip.resampled
                for k, band in enumerate(request.bands):
                    key = where.assets[band]
                    with rasterio.open(files.replica.file(one["assets"][key]["href"])) as file:
                        place = from_bounds(*window.bounds, transform=file.transform)
                        index = bands.index(band) + 1 if file.count > 1 else 1
                        want = file.read(index, window=place.round_offsets().round_lengths())
                    if isinstance(chip, Chip):
                        np.testing.assert_array_equal(chip.data[k], want, err_msg=band)
                    else:  # a corner of a scene, outside of its swath
                        nodata = imagery.validity.nodata if band == qa else imagery.nodata
                        assert (want == nodata).all()
                    compared += want.size * isinstance(chip, Chip)
    assert compared > 60_000


def test_a_patch_over_180_degrees_has_the_labels_of_the_tile_that_there_is(
    world: tuple[Files, Loopback, dict[str, Path]],
) -> None:
    """West of the line those of the tile, east of it none: no tile of that side is listed."""
    files, _, _ = world
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(180, 67.9)
    grid = Grid("EPSG:32601", Affine(100, 0, x - 6400, 0, -100, y + 6400), 128, 128)
    product, earth = CATALOGS.label("esa-worldcover-v100"), VirtualEarth(CATALOGS)
    asked = SearchRequest(site="x", grid=grid, period=ALWAYS, max_cloud=100)
    scene = earth.search(CATALOGS.imagery("sentinel-2-l2a"), [asked])[0][0]
    (source,) = open_access(PC).labels(product, [LabelRequest(site="p", grid=grid, scene=scene)])
    assert isinstance(source, LabelSource)
    found = regrid(source, grid, nodata=product.nodata, dtype=product.dtype).codes
    east = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(*np.meshgrid(*grid.xy()))[0]  # fmt: skip
    west = east > 0
    assert 0.3 < west.mean() < 0.7
    assert (found[~west] == product.nodata).all()
    want = at_centres(files.replica.file(f"{BLOBS}/{EDGE}"), grid, only=west)
    np.testing.assert_array_equal(found[west], want[west])
    assert len(np.unique(found[west])) > 3
