"""Three products become one label: the same for any number of workers, and said in every sample."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import Las

from las_builder import plan
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.leaves import LEAVES
from las_builder.catalogs import Catalogs
from las_builder.core.workspace import sha256_tree

RECIPE: dict[str, Any] = {
    "name": "three", "imagery": "sentinel-2-l2a", "bands": ["B02", "B03", "B04", "B08"],
    "labels": ["esa-worldcover-v200", "io-lulc-annual", "glc-fcs30d"], "taxonomy": "cover-9",
    "consensus": {"reference": "virtual", "reference_sites": 6, "min_sites": 4}, "source": "virtual",
    "patch": {"size": 24},
    "sites": {"count": 10, "region": [-10, 36, 20, 55], "seed": 5, "spacing_km": 4},
    "dates": {"period": "2021-01-01/2022-01-01"}, "shards": {"samples": 8},
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "three.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


@pytest.mark.filterwarnings("ignore:no reference point of")
def test_three_products_one_label(tmp_path: Path, las: Las) -> None:
    recipe, work = write(tmp_path), tmp_path / "work"
    said = las("build", str(recipe), "--work", str(work), "--workers", "1")
    assert said.code == 0, said.err
    home = work / "three"
    fitted = json.loads((home / "three" / "consensus.json").read_text())
    assert fitted["consensus"]["method"] == "dawid-skene"
    assert fitted["report"]["calibration"]["sites"] == 6
    assert {line["product"] for line in fitted["report"]["changes"]} == set(RECIPE["labels"])
    for shard in sorted((home / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for name in (n for n in tar.getnames() if n.endswith(".json")):
                member = tar.extractfile(name)
                assert member is not None
                made = json.load(member)
                assert made["confidence_kind"] == "calibrated"
                assert made["consensus"]["products"] == RECIPE["labels"]
                assert len(made["consensus"]["parameters"]) == 64
    before, shards = (home / "three" / "consensus.json").read_bytes(), sha256_tree(home / "shards")
    (home / "three" / "consensus.json").unlink()
    said = las("consensus", str(recipe), "--work", str(work), "--workers", "2")
    assert said.code == 0, said.err
    assert (home / "three" / "consensus.json").read_bytes() == before
    assert las("pack", str(recipe), "--work", str(work), "--workers", "1").code == 0
    assert sha256_tree(home / "shards") == shards

    # Points of the user's own: one lies in a patch, one in none.
    site = next(s for s in plan.read_plan(home / "plan.parquet") if s.primary)
    leaf = LEAVES[int(VirtualEarth(Catalogs.load()).truth([site.lon], [site.lat])[0])]
    names = {"tree": "tree_cover", "crop": "cropland", "grass": "grassland", "built": "built_up",
             "bare": "bare_ground", "shrub": "shrubland", "snow_ice": "snow_and_ice"}  # fmt: skip
    name = names.get(leaf.split(".")[0], leaf.split(".")[0])
    points = tmp_path / "points.csv"
    points.write_text(f"lon,lat,class\n{site.lon},{site.lat},{name}\n100,-40,water\n")
    arguments = ["consensus", str(recipe), "--work", str(work), "--workers", "1", "--reference"]
    said = las(*arguments, str(points))
    assert said.code == 0, said.err
    assert "1 of 2 points lie in no stored patch" in said.err
    points.write_text("lon,lat,class\n100,-40,water\n")
    said = las(*arguments, str(points))
    assert said.code == 2
    assert "All 1 points lie outside every patch" in said.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taxonomy": "native", "consensus": None}, "a taxonomy for the consensus of the products"),
        ({"labels": ["glc-fcs30d"]}, "with two products or more"),
        ({"consensus": {"method": "majority"}}, "consensus.method"),
    ],
)
def test_what_a_recipe_cannot_ask(
    tmp_path: Path, las: Las, changes: dict[str, Any], message: str
) -> None:
    said = las("check", str(write(tmp_path, **changes)))
    assert said.code == 2
    assert message in said.err
