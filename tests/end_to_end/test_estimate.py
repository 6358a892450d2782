"""What `las estimate` says of recipes that ask nobody, and of masks that are in no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kit_imports
import numpy as np
import pytest
import yaml
from affine import Affine

from las_builder import recipe, run
from las_builder.access import SearchRequest
from las_builder.core.grid import Grid, from_lonlat
from las_builder.core.types import PinnedScene
from las_builder.core.workspace import Workspace
from las_builder.scenes import Outcome, SceneTable

Estimates = dict[str, dict[str, Any]]


def made(tmp_path: Path, **more: Any) -> recipe.Corpus:
    content = {
        "name": "made", "imagery": "sentinel-2-l2a", "bands": ["B02", "B04"],
        "labels": ["esa-worldcover-v200"], "source": "virtual", "patch": {"size": 48},
        "sites": {"count": 6, "seed": 3, "region": [10, 45, 12, 47]},
        "dates": {"period": "2021-04-01/2021-10-01"}, **more,
    }  # fmt: skip
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(content))
    return recipe.read(str(tmp_path / "made.yaml"))


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("virtual", 0),
        ("planetary-computer", 6 * 4),
        ({"imagery": "planetary-computer", "labels": "virtual"}, 6 * 3),
        ({"imagery": "virtual", "labels": "planetary-computer"}, 6),
    ],
)
def test_what_is_not_on_the_web_costs_no_requests(tmp_path: Path, source: Any, reads: int) -> None:
    said = run.estimate(made(tmp_path, source=source), Workspace(tmp_path / "work"), 1)
    assert f"made: 6 patches; {reads * 2.7:,.0f} requests" in said
    assert ("nothing is on the web" in said) == (reads == 0)


def test_an_import_is_no_thousand_million_patches(tmp_path: Path) -> None:
    kit_imports.openearthmap(tmp_path / "data")
    content = {
        "kind": "import", "name": "oem", "dataset": "openearthmap", "folder": "data",
        "patch": {"size": 32},
    }  # fmt: skip
    (tmp_path / "oem.yaml").write_text(yaml.safe_dump(content))
    corpus = recipe.read(
        str(tmp_path / "oem.yaml"), overrides=recipe.Overrides(accepted=frozenset({"openearthmap"}))
    )
    said = run.estimate(corpus, Workspace(tmp_path / "work"), 1)
    assert said.startswith("oem: 0 patches; 0 requests")
    assert "patches are counted when there are scenes" in said


def test_a_mask_that_is_made_of_bands_is_in_no_file(tmp_path: Path) -> None:
    dates = {"period": "2021-06-01/2021-07-01", "validity": "omnicloudmask"}
    corpus, space = made(tmp_path, dates=dates), Workspace(tmp_path / "work")
    (subset,) = corpus.subsets
    x, y = from_lonlat("EPSG:32632", np.array([11.0]), np.array([46.0]))
    west, north = round(float(x[0]) / 10) * 10, round(float(y[0]) / 10) * 10
    grid = Grid("EPSG:32632", Affine(10, 0, west, 0, -10, north), 48, 48)
    asked = SearchRequest(site="s", grid=grid, period=subset.recipe.dates.period, max_cloud=100)
    scene = subset.access.search(subset.imagery, [asked])[0][0]
    pinned = PinnedScene(site="s", slot=0, scene=scene, grid=grid, clear=1.0)
    home = space.subset("made")
    SceneTable((Outcome("s", (pinned,), None),)).write(home.scenes(0))
    said = run.estimate(corpus, space, 1)
    assert "windows of 1 of 1 pinned patches" in said
    kept: Estimates = json.loads((space.logs / "estimate.json").read_text())
    assert kept["made"]["patches"] == 1
