"""What a sample keeps of its scene: satellite, sun, view, and where its item is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from affine import Affine

from las_builder.core.grid import Grid
from las_builder.core.types import PinnedScene, Scene
from las_builder.pack.record import scene_facts
from las_builder.scenes import SceneTable
from las_builder.scenes.table import Outcome

GRID = Grid("EPSG:32632", Affine(10, 0, 600000, 0, -10, 5400000), 8, 8)


def test_facts_by_the_names_of_stac() -> None:
    said = {
        "platform": "sentinel-2a", "view:sun_elevation": 40.5, "view:sun_azimuth": 155.0,
        "view:off_nadir": 0, "s2:processing_baseline": "05.00", "constellation": None,
    }  # fmt: skip
    assert scene_facts(said) == {
        "platform": "sentinel-2a", "view:sun_azimuth": 155.0, "view:sun_elevation": 40.5,
        "view:off_nadir": 0,
    }  # fmt: skip
    # The Planetary Computer says the zenith angle of the sun instead.
    other = scene_facts({"s2:mean_solar_zenith": 25.25, "s2:mean_solar_azimuth": 141.5})
    assert other == {"view:sun_elevation": 64.75, "view:sun_azimuth": 141.5}
    assert scene_facts({}) == {}


@pytest.mark.parametrize(
    ("href", "kept"),
    [
        ("https://stac.example/items/a?sig=secret#x", "https://stac.example/items/a"),
        ("https://stac.example/items/a", "https://stac.example/items/a"),
        ("", ""),
    ],
)
def test_where_the_item_is_goes_through_the_table(tmp_path: Path, href: str, kept: str) -> None:
    when = datetime(2021, 6, 1, tzinfo=UTC)
    scene = Scene(id="a", datetime=when, cloud_cover=None, grid=GRID, assets={}, href=href)
    both = Scene.of("median", [scene, scene])
    for one in (scene, both):
        pinned = PinnedScene(site="s", slot=0, scene=one, grid=GRID, clear=1.0)
        SceneTable((Outcome("s", (pinned,), None),)).write(tmp_path / "0.parquet")
        (back,) = SceneTable.read(tmp_path / "0.parquet").patches
        assert [part.href for part in back.scene.parts] == [kept] * len(one.parts)
