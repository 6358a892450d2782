"""Reference points and an audit: those that no site stands for judge nothing, and are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from kit import Las

from las_builder import plan
from las_builder.core.grid import to_lonlat
from las_builder.core.workspace import Workspace

# 320 m of patch around a point of a box of about 200 m: it reaches over the border of the region.
WEST, SOUTH, EAST, NORTH = 10.0, 50.0, 10.003, 50.002
RECIPE: dict[str, Any] = {
    "name": "v", "imagery": "sentinel-2-l2a", "bands": ["B04"],
    "labels": ["esa-worldcover-v200"], "taxonomy": "worldcover-11", "source": "virtual", "patch": {"size": 32},
    "sites": {"count": 1, "region": [WEST, SOUTH, EAST, NORTH], "seed": 5, "spacing_km": 1},
    "dates": {"period": "2021-01-01/2022-01-01", "max_cloud": 20, "patch_min_clear": 0.9},
}  # fmt: skip


def test_points_outside_the_population_are_dropped_and_named(las: Las, tmp_path: Path) -> None:
    recipe = tmp_path / "v.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    options = ("--work", tmp_path, "--workers", 1)
    for step in ("sample", "scenes", "fetch"):
        said = las(step, recipe, *(options if step != "sample" else options[:2]))
        assert said.code == 0, said.err
    space = Workspace(tmp_path / "v")
    sites = plan.read_plan(space.plan)
    west, south, east, north = (float(edge[0]) for edge in sites.grids.bounds())
    x, y = np.meshgrid(np.linspace(west, east, 12)[1:-1], np.linspace(south, north, 12)[1:-1])
    lon, lat = to_lonlat(str(sites.grids.crs[0]), x.ravel(), y.ravel())
    inside = (lon >= WEST) & (lon < EAST) & (lat >= SOUTH) & (lat < NORTH)
    assert 20 < inside.sum() < inside.size - 20

    def audited(rows: list[tuple[float, float, str, int]]) -> dict[str, Any]:
        file = tmp_path / "points.csv"
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([("lon", "lat", "class", "weight"), *rows])
        said = las("audit", recipe, *options, "--reference", file)
        assert said.code == 0, said.err
        found = json.loads((space.subset("v").audit / "audit.json").read_text())
        assert (found["reference_points_left_out"] or "") in said.out
        return found

    # Words that only `cover-9` has, which is not the taxonomy of the recipe.
    places = zip(lon.tolist(), lat.tolist(), inside.tolist(), strict=True)
    rows = [(x, y, "lawn" if here else "swamp", 1) for x, y, here in places]
    found = audited([*rows, (100.0, 60.0, "swamp", 1)])
    out = int((~inside).sum()) + 1
    lost = found["reference_points_left_out"]
    assert lost.startswith(
        f"{out} of {len(rows) + 1} reference points lie outside of the target population"
    )
    assert "in no stored patch" not in lost
    (judged,) = found["reference"]
    assert judged["taxonomy"] == "cover-9"
    assert judged["points"] == inside.sum()
    # Those of the population alone say the same, and nothing is left out.
    alone = audited([row for row, here in zip(rows, inside, strict=True) if here])
    assert alone["reference_points_left_out"] is None
    assert alone["reference"] == found["reference"]
