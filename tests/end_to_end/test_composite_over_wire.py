"""A composite of scenes behind a STAC API and an object store: pixels, pins, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
import zarr
from kit_loopback import serve
from rasterio.windows import from_bounds
from replica import Replica, add_labels, add_scenes, inner_box, square

from las_builder import recipe, run
from las_builder.access import SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import Period
from las_builder.core.workspace import Workspace
from las_builder.scenes import SceneTable

CATALOGS = Catalogs.load()
DAYS = "2021-04-01/2021-10-01"


def straight(path: Path, grid: Grid) -> np.ndarray:
    """A band over a grid, read with rasterio alone; 20 m pixels are repeated."""
    with rasterio.open(path) as file:
        window = from_bounds(*grid.bounds, transform=file.transform)
        k = round(file.transform.a / grid.pixel[0])
        row, col = int(window.row_off + 1e-6), int(window.col_off + 1e-6)
        off = [round((v - f) * k) for v, f in ((window.row_off, row), (window.col_off, col))]
        n = (grid.height + k - 1) // k + 1
        data = file.read(1, window=((row, row + n), (col, col + n)))
    fine = data.repeat(k, 0).repeat(k, 1)
    return fine[off[0] : off[0] + grid.height, off[1] : off[1] + grid.width]


def test_a_median_over_the_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(tmp_path / "root")
    imagery = CATALOGS.imagery("sentinel-2-l2a")
    earth, period = VirtualEarth(CATALOGS), Period.parse(DAYS)
    around = square(CATALOGS, imagery, 11.5, 48.2, 300)
    add_scenes(
        replica, "earth-search", earth, imagery, around, period, clear=2, cloudy=2,
        properties={"earthsearch:boa_offset_applied": True}, stated_offset=-0.1,
    )  # fmt: skip
    request = SearchRequest(site="x", grid=around, period=period, max_cloud=100)
    scene = earth.search(imagery, [request])[0][0]
    product = CATALOGS.label("esa-worldcover-v200")
    add_labels(replica, "planetary-computer", earth, product, around, scene)
    replica.write_apis()
    content = {
        "name": "made", "imagery": imagery.name, "bands": ["B04", "B8A"], "labels": [product.name],
        "source": "earth-search", "patch": {"size": 48},
        "sites": {"count": 6, "seed": 3, "spacing_km": 0.05, "region": inner_box(around, 0.2)},
        "dates": {"period": DAYS, "composite": "median", "composite_scenes": 4, "max_cloud": 100},
        "splits": {"train": 1, "val": 0, "test": 0},
    }  # fmt: skip
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(content))
    server = serve(tmp_path / "root")
    monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
    monkeypatch.setenv("LAS_PATIENCE_S", "20")
    try:
        corpus, space = recipe.read(str(tmp_path / "made.yaml")), Workspace(tmp_path / "work")
        with run.Engine(workers=1) as engine:
            sites = run.sample(corpus, space)
            run.scenes(corpus, sites, space, engine)
            said = run.estimate(corpus, space, 1)
            before = server.seen()
            run.fetch(corpus, space, engine)
            after = server.seen()
    finally:
        server.stop()
    home = space.subset("made")
    patches = SceneTable.read(home.scenes(0)).patches
    group = zarr.open_group(home.cube / "0", mode="r")
    assert group["stored"][:].all()
    for row, pinned in enumerate(patches):
        members = pinned.scene.members
        assert 2 <= len(members) <= 4
        assert all(m.assets[b].etag for m in members for b in ("B04", "B8A", "SCL"))
        (one,) = pinned.maps[product.name]
        assert one.size == replica.file(one.href).stat().st_size
        assert one.etag
        numbers = np.stack(
            [[straight(replica.file(m.assets[b].href), pinned.grid) for b in ("B04", "B8A")] for m in members]
        ).astype(float)  # fmt: skip
        scl = np.stack([straight(replica.file(m.assets["SCL"].href), pinned.grid) for m in members])
        clear = np.isin(scl, [4, 5, 6, 7, 11]) & (numbers != 0).all(axis=1)
        valid = clear.any(axis=0)
        stack = np.where(clear[:, None], numbers, np.nan)
        stack[..., ~valid] = 0
        want = np.floor(np.nanmedian(stack, axis=0) + 0.5)
        assert np.array_equal(group["valid"][row], valid)
        assert np.array_equal(group["image"][row][:, valid], want[:, valid])
    guess = json.loads((space.logs / "estimate.json").read_text())["made"]
    asked = after["requests"] - before["requests"]
    print("estimated", guess, "counted", asked, after["bytes"] - before["bytes"])
    assert guess["requests"] == pytest.approx(asked, rel=0.15), said
    assert guess["bytes"] == pytest.approx(after["bytes"] - before["bytes"], rel=0.15), said
