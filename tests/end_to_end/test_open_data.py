"""Recipes of ours through STAC APIs and object stores that speak the real protocols."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
import zarr
from kit_loopback import Loopback, serve
from rasterio.windows import from_bounds
from replica import Replica, add_labels, add_scenes, inner_box, square

from las_builder.access import SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import LabelSource, Period, PinnedScene
from las_builder.harmonise import regrid
from las_builder.scenes import SceneTable

CATALOGS = Catalogs.load()
PIPELINES = Path(__file__).parents[2] / "pipelines"
STAC = "https://stac.example.org/api"
CASES = {
    "las-s2-worldcover": ("earth-search", "planetary-computer", (11.5, 48.2), 240, "2021-04-01/2021-10-01"),
    "las-l89-nlcd": ("planetary-computer", "stac", (-96.5, 40.8), 300, "2021-04-01/2021-11-01"),
    "las-hr-naip": ("planetary-computer", "stac", (-96.5, 40.8), 600, "2013-01-01/2015-01-01"),
}  # fmt: skip
"""Recipe to who has its imagery, who its label (NLCD is in no public API that we know of, so it comes
from an API of one's own), where, how large, when; products to compare are the Planetary Computer's."""

SIZE = 48


@pytest.fixture(scope="module", params=list(CASES))
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Replica, Loopback, Path]]:
    """A replica of what a recipe of ours needs, served, and the recipe made small."""
    name = request.param
    provider, others, (lon, lat), size, days = CASES[name]
    root = tmp_path_factory.mktemp(name)
    replica = Replica(root)
    said = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text())
    imagery = CATALOGS.imagery(said["imagery"])
    earth, period = VirtualEarth(CATALOGS), Period.parse(days)
    around = square(CATALOGS, imagery, lon, lat, size)
    flag = {"earthsearch:boa_offset_applied": True} if provider == "earth-search" else {}
    more = {"properties": flag, "stated_offset": -0.1}
    add_scenes(replica, provider, earth, imagery, around, period, clear=2, cloudy=1, **more)
    asked = SearchRequest(site="x", grid=around, period=period, max_cloud=100)
    scene = earth.search(imagery, [asked])[0][0]
    label, compare = said["labels"][0], said["compare"][-1]
    for product, place in ((label, others), (compare, "planetary-computer")):
        add_labels(replica, place, earth, CATALOGS.label(product), around, scene)
    replica.write_apis()
    said |= {
        "compare": [compare],
        "patch": {**said["patch"], "size": SIZE},
        "sites": {
            "count": 10, "seed": 7, "spacing_km": 0.05, "region": inner_box(around, 0.16),
            "design": [{"share": 1, "uniform": "land"}],
        },
        "dates": {**said["dates"], "period": days, "patch_min_clear": 0.3},
        "splits": {"train": 18, "val": 1, "test": 1, "block_km": 300, "buffer_km": 1, "seed": 1},
    }  # fmt: skip
    recipe = root / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(said))
    server = serve(root)
    yield replica, server, recipe
    server.stop()


def las(
    server: Loopback, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    said = {
        "LAS_MIRRORS": server.mirrors, "LAS_PATIENCE_S": "60", "PC_SDK_SUBSCRIPTION_KEY": "",
        **environment,
    }  # fmt: skip
    command = [sys.executable, "-m", "las_builder.cli", *map(str, arguments)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, env={**environ, **said}
    )


def straight(path: Path, index: int, grid: Grid) -> np.ndarray:
    """A band of a file over a grid whose edges its pixels share, read with rasterio alone."""
    with rasterio.open(path) as file:
        window = from_bounds(*grid.bounds, transform=file.transform)
        scale = round(file.transform.a / grid.pixel[0])
        first = [int(np.floor(v + 1e-6)) for v in (window.row_off, window.col_off)]
        skip = [
            round((v - f) * scale)
            for v, f in zip((window.row_off, window.col_off), first, strict=True)
        ]
        n = (grid.height + scale - 1) // scale + 1
        data = file.read(
            index, window=((first[0], first[0] + n), (first[1], first[1] + n)), boundless=False
        )
    fine = data.repeat(scale, 0).repeat(scale, 1)
    return fine[skip[0] : skip[0] + grid.height, skip[1] : skip[1] + grid.width]


def test_a_recipe_end_to_end(world: tuple[Replica, Loopback, Path], tmp_path: Path) -> None:
    replica, server, recipe = world
    server.ask("reset")
    said = yaml.safe_load(recipe.read_text())
    provider, others, *_ = CASES[said["name"]]
    place = ["--work", tmp_path]
    if others == "stac":
        place += ["--source", f"{provider},{STAC}"]
    for stage in ("sample", "scenes", "estimate"):
        done = las(server, stage, recipe, *place, *(["--workers", 1] * (stage != "sample")))
        assert done.returncode == 0, done.stderr
    before = server.seen()
    assert before["requests"] == before["answered"], "nothing failed, so nothing was asked twice"
    done = las(server, "build", recipe, *place, "--workers", 1)
    assert done.returncode == 0, done.stderr
    name = said["name"]
    home = tmp_path / name / name
    patches = [
        p for path in sorted(home.glob("scenes/*.parquet")) for p in SceneTable.read(path).patches
    ]
    assert len({p.site for p in patches}) == 10
    imagery = CATALOGS.imagery(said["imagery"])
    compared = 0
    group = zarr.open_group(home / "cube.zarr" / "0", mode="r")
    for row, patch in enumerate(SceneTable.read(home / "scenes" / "0.parquet").patches):
        if not group["stored"][row]:
            continue
        compared += 1
        compare_pixels(replica, group, row, patch, imagery.name)
        for product in (*said["labels"], *said["compare"]):
            compare_labels(replica, group, row, patch, product)
    assert compared >= 8
    seen = server.seen()
    logs = tmp_path / name / "logs"
    guess = json.loads((logs / "estimate.json").read_text())[name]
    sent = json.loads((logs / "wire.json").read_text())
    # Landing pages and collections are asked for by `build` before it fetches.
    asked = [
        line
        for line in server.ask("log")["log"][before["requests"] :]
        if "Range" in line[2] or line[2]
    ]
    assert sent["requests"] == pytest.approx(len(asked), abs=12)
    counted = [seen[k] - before[k] for k in ("requests", "bytes")]
    assert [guess[k] for k in ("requests", "bytes")] == pytest.approx(counted, rel=0.15)
    assert "the estimate was off by" in done.stderr
    pinned = patches[0].scene.assets[imagery.rgb[0]]
    file = replica.file(pinned.href)
    assert pinned.size == file.stat().st_size
    assert pinned.etag
    assert "sig=" not in (home / "scenes" / "0.parquet").read_bytes().decode("latin1")
    again = las(server, "build", recipe, *place, "--workers", 1)
    assert again.returncode == 0, again.stderr
    asked = [line for line in server.ask("log")["log"][seen["requests"] :] if line[0] == "POST"]
    assert not asked, "what is done is not searched again"


def compare_pixels(
    replica: Replica, group: Any, row: int, patch: PinnedScene, imagery: str
) -> None:
    for k, band in enumerate(group["image"].attrs["bands"] if "bands" in group["image"].attrs else
                             CATALOGS.imagery(imagery).bands):  # fmt: skip
        name = band if isinstance(band, str) else band.name
        ref = patch.scene.assets[name]
        want = straight(replica.file(ref.href), ref.index, patch.grid)
        np.testing.assert_array_equal(group["image"][row, k], want, err_msg=f"{patch.site} {name}")


def compare_labels(
    replica: Replica, group: Any, row: int, patch: PinnedScene, product: str
) -> None:
    (item,) = [i for items in replica.items.values() for i in items if i["id"].startswith(product)]
    declared = CATALOGS.label(product)
    (asset,) = item["assets"].values()
    with rasterio.open(replica.file(asset["href"])) as file:
        codes = file.read(1)
        grid = Grid(file.crs.to_string(), file.transform, file.width, file.height)
    source = LabelSource(
        product=product, version="", grid=grid, codes=codes, nodata=declared.nodata
    )
    want = regrid(source, patch.grid, nodata=declared.nodata, dtype=declared.dtype).codes
    np.testing.assert_array_equal(group[f"labels/{product}"][row], want)
