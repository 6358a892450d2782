"""Maps that were pinned with their scenes: a catalogue that changes cannot change a build."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from affine import Affine
from kit import Server, raster

from las_builder.access import (
    LabelRequest,
    items,
    label_files,
    label_maps,
    open_access,
    open_paired,
    ranges,
)
from las_builder.access import raster as rasters
from las_builder.access.folders import index_folder
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import Gap, LabelSource, PinnedMap, Scene
from las_builder.errors import AccessError

CATALOGS = Catalogs.load()
PRODUCT = CATALOGS.label("esa-worldcover-v200")
GRID = Grid("EPSG:32633", Affine(10, 0, 500_200, 0, -10, 4_999_880), 16, 16)
SCENE = Scene(
    id="s", datetime=datetime(2021, 6, 1, tzinfo=UTC), cloud_cover=0.0, grid=GRID, assets={}
)


def catalogue(home: Path, out: str, maps: dict[str, int]) -> str:
    """A catalogue of maps, by id, that hold one code each."""
    entries = []
    for name, code in maps.items():
        raster(home / "data" / f"{name}.tif", np.full((64, 64), code, np.uint8))
        entries.append(
            {
                "product": PRODUCT.name, "id": name, "start": date(2021, 1, 1),
                "end": date(2021, 12, 31), "file": f"{name}.tif",
            }
        )  # fmt: skip
    said = {"title": "maps", "license": "CC0-1.0", "labels": entries}
    (home / "index.yaml").write_text(yaml.safe_dump(said))
    index_folder(home / "data", home / "index.yaml", home / out, catalogs=CATALOGS)
    return str(home / out)


def request(maps: tuple[PinnedMap, ...] | None = None) -> LabelRequest:
    return LabelRequest(site="a", grid=GRID, scene=SCENE, maps=maps)


def code(source: str, maps: tuple[PinnedMap, ...] | None) -> int | None:
    (found,) = open_access(source).labels(PRODUCT, [request(maps)])
    if isinstance(found, Gap):
        return None
    assert isinstance(found, LabelSource)
    (value,) = np.unique(found.codes)
    return int(value)


def test_a_map_that_joins_the_catalogue_changes_nothing(tmp_path: Path) -> None:
    before = catalogue(tmp_path, "before", {"m": 10})
    after = catalogue(tmp_path, "after", {"a": 50, "m": 10})
    (pinned,) = label_maps(open_access(before), PRODUCT, [request()]) or [()]
    assert [one.id for one in pinned] == ["m"]
    assert (pinned[0].size, pinned[0].etag) == (None, None)
    assert code(before, pinned) == 10
    assert code(after, None) == 50, "without a pin the first of two maps speaks"
    assert code(after, pinned) == 10
    (file,) = label_files(open_access(after), PRODUCT, request(pinned))
    assert file.endswith("/m.tif")
    assert label_maps(open_access("virtual"), PRODUCT, [request()]) is None


def test_where_there_was_no_map_there_stays_none(tmp_path: Path) -> None:
    empty = catalogue(tmp_path, "empty", {"m": 10})
    far = Grid("EPSG:32633", Affine(10, 0, 700_000, 0, -10, 4_999_880), 16, 16)
    asked = LabelRequest(site="a", grid=far, scene=SCENE)
    assert label_maps(open_access(empty), PRODUCT, [asked]) == [()]
    assert code(empty, ()) is None


def test_a_map_that_left_the_catalogue_is_a_failure(tmp_path: Path) -> None:
    before = catalogue(tmp_path, "before", {"m": 10})
    (pinned,) = label_maps(open_access(before), PRODUCT, [request()]) or [()]
    after = catalogue(tmp_path, "after", {"a": 50})
    with pytest.raises(AccessError, match="is there no more") as caught:
        code(after, pinned)
    assert caught.value.kind == "changed"


def test_a_file_that_was_replaced_or_moved_is_a_failure(tmp_path: Path, server: Server) -> None:
    source = f"{server.url}/catalogue/catalog.json"
    catalogue(tmp_path, "catalogue", {"m": 10})
    (pinned,) = label_maps(open_access(source), PRODUCT, [request()]) or [()]
    (one,) = pinned
    assert one.size == (tmp_path / "data" / "m.tif").stat().st_size
    assert code(source, pinned) == 10
    raster(
        tmp_path / "data" / "m.tif",
        np.random.default_rng(1).choice([10, 30], (64, 64)).astype(np.uint8),
        compress="deflate",
    )
    ranges.forget(one.href)  # as another process would
    rasters.forget(one.href)
    with pytest.raises(AccessError, match=rf"had {one.size}") as caught:
        code(source, pinned)
    assert caught.value.kind == "changed"
    elsewhere = PinnedMap(id="m", href=f"{server.url}/other.tif", size=one.size)
    with pytest.raises(AccessError, match="is now at"):
        code(source, (elsewhere,))


def test_which_scenes_have_their_map(tmp_path: Path) -> None:
    """By the id of the map, or by any property of it that names the scene."""
    dynamic = CATALOGS.label("dynamic-world")
    raster(tmp_path / "data" / "map.tif", np.full((64, 64), 1, np.uint8))
    entries = [
        {"product": dynamic.name, "start": date(2021, 6, 1), "end": date(2021, 6, 1), **more}
        for more in (
            {"id": "S2A_one", "file": "map.tif"},
            {"id": "dw-2", "file": "map.tif", "properties": {"scene": "S2A_two"}},
        )
    ]
    said = {"title": "maps", "license": "CC-BY-4.0", "labels": entries}
    (tmp_path / "index.yaml").write_text(yaml.safe_dump(said))
    index_folder(tmp_path / "data", tmp_path / "index.yaml", tmp_path / "out", catalogs=CATALOGS)
    access = open_access(str(tmp_path / "out"))
    far = Grid("EPSG:32633", Affine(10, 0, 700_000, 0, -10, 4_999_880), 16, 16)
    asked = [
        LabelRequest(site="a", grid=grid, scene=replace(SCENE, id=name))
        for grid, name in [
            (GRID, "S2A_one"),
            (GRID, "S2A_two"),
            (GRID, "S2A_six"),
            (far, "S2A_one"),
        ]
    ]
    assert access.labelled(dynamic, asked) == [True, True, False, False]
    paired = open_paired(open_access("virtual"), access)
    assert paired.labelled(dynamic, asked) == [True, True, False, False]
    clear, cloudy = (replace(SCENE, cloud_cover=share) for share in (35.0, 35.1))
    requests = [LabelRequest(site="a", grid=GRID, scene=s) for s in (clear, cloudy)]
    assert open_access("virtual").labelled(dynamic, requests) == [True, False]


def test_a_file_that_is_not_there_is_pinned_as_it_is_listed(tmp_path: Path, server: Server) -> None:
    """The search for scenes goes on; reading the map is what fails."""
    source = f"{server.url}/catalogue/catalog.json"
    catalogue(tmp_path, "catalogue", {"m": 10})
    (tmp_path / "data" / "m.tif").unlink()
    (pinned,) = label_maps(open_access(source), PRODUCT, [request()]) or [()]
    assert [(one.id, one.size, one.etag) for one in pinned] == [("m", None, None)]
    with pytest.raises(AccessError) as caught:
        code(source, pinned)
    assert caught.value.kind == "absent"


def test_a_size_that_an_item_states_needs_no_etag(tmp_path: Path, server: Server) -> None:
    """Items that say how large their files are, of a product that was not pinned; and one that is
    wrong about it.
    """
    server.etag = '"one"'
    source = f"{server.url}/catalogue/catalog.json"
    catalogue(tmp_path, "catalogue", {"m": 10})
    (item,) = (tmp_path / "catalogue").rglob("m.json")
    size = (tmp_path / "data" / "m.tif").stat().st_size
    said = json.loads(item.read_text())
    for asset in said["assets"].values():
        asset["file:size"] = size
    item.write_text(json.dumps(said))
    assert code(source, None) == 10
    item.write_text(item.read_text().replace(f'"file:size": {size}', f'"file:size": {size + 1}'))
    items._load.cache_clear()
    with pytest.raises(AccessError, match=f"had {size + 1}") as caught:
        code(source, None)
    assert caught.value.kind == "changed"
