"""Audits of whole corpora: subsets beside each other, what a consensus changed, and nothing at all."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kit import Las

from las_builder.pack.read import open_shards

SITES = {"region": [-10, 36, 20, 55], "seed": 5, "spacing_km": 4}
DATES = {"period": "2021-01-01/2022-01-01"}
ONE: dict[str, Any] = {
    "name": "one", "imagery": "sentinel-2-l2a", "bands": ["B04"], "labels": ["esa-worldcover-v200"],
    "compare": ["io-lulc-annual"], "taxonomy": "native", "patch": {"size": 24},
    "sites": {"count": 8, **SITES}, "dates": DATES,
}  # fmt: skip
TWO: dict[str, Any] = {
    **ONE, "name": "two", "labels": ["esa-worldcover-v200", "io-lulc-annual"], "compare": [], "taxonomy": "cover-9",
    "sites": {"count": 6, **SITES},
}  # fmt: skip


def step(las: Las, name: str, recipe: Path, work: Path, *more: object) -> str:
    workers = () if name == "sample" else ("--workers", 1)
    said = las(name, recipe, "--work", work, *workers, *more)
    assert said.code == 0, said.err
    return said.out


def written(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / f"{recipe['name']}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_subsets_beside_each_other_and_what_the_consensus_changed(las: Las, tmp_path: Path) -> None:
    for one in (ONE, TWO):
        written(tmp_path, {**one, "source": "virtual"})
    corpus = written(
        tmp_path,
        {"name": "both", "source": "virtual", "splits": {"train": 1, "val": 0, "test": 0},
         "subsets": [{"recipe": "one.yaml"}, {"recipe": "two.yaml"}]},
    )  # fmt: skip
    work, home = tmp_path / "work", tmp_path / "work" / "both"
    for name in ("sample", "scenes", "fetch"):
        step(las, name, corpus, work)
    step(las, "audit", corpus, work)
    alone = json.loads((home / "two" / "audit" / "audit.json").read_text())
    assert alone["consensus"] is None  # not fitted yet
    step(las, "consensus", corpus, work)
    out = step(las, "audit", corpus, work)
    assert str(home / "audit.html") in out

    fitted = json.loads((home / "two" / "consensus.json").read_text())["report"]["changes"]
    found = json.loads((home / "two" / "audit" / "audit.json").read_text())
    assert found["consensus"] == fitted
    assert {line["product"] for line in fitted} == set(TWO["labels"])
    page = (home / "two" / "audit" / "index.html").read_text()
    section = page.split('<section id="consensus">')[1].split("</section>")[0]
    for line in fitted:
        assert f"{100 * line['changed']:.1f} %" in section
    assert "consensus" not in (home / "one" / "audit" / "index.html").read_text()

    step(las, "pack", corpus, work)  # without filters: its labels are those that were counted
    weight: dict[str, float] = defaultdict(float)
    shards = open_shards(home / "shards", home / "index.parquet")
    for entry in shards.entries:
        if entry.subset == "two":
            sample = shards.read(entry)
            for index, n in zip(*np.unique(sample.label, return_counts=True), strict=True):
                name = "ignore" if index == 255 else sample.metadata["classes"][index]
                weight[name] += n * sample.metadata["weight_km2"]
    balance = found["balance"][0]
    assert balance["product"].startswith("the consensus of ")
    assert {name: e["value"] for name, e in balance["classes"].items()} == pytest.approx(
        {name: w / sum(weight.values()) for name, w in weight.items()}, rel=1e-9
    )

    both = json.loads((home / "audit.json").read_text())
    assert [s["subset"] for s in both["subsets"]] == ["one", "two"]
    text = (home / "audit.html").read_text()
    links = re.findall(r'href="([^"]+)"', text)
    assert links == ["one/audit/index.html", "two/audit/index.html"]
    for subset, link in zip(both["subsets"], links, strict=True):
        assert (home / link).is_file()
        own = json.loads((home / subset["subset"] / "audit" / "audit.json").read_text())
        (pair,) = subset["agreement"]
        at = own["agreement"][0]["levels"][0]
        assert {k: pair[k] for k in ("can_agree", "compared", "overall")} == {
            k: at[k] for k in ("can_agree", "compared", "overall")
        }
        assert pair["classes"]["tree"]["of_a"] == at["classes"]["tree"]["of_a"]
        assert subset["sites"] == own["sites"] > 0
        assert f"{100 * at['can_agree']['value']:.1f}" in text
        shares = subset["balance"]["esa-worldcover-v200"]
        assert sum(e["value"] for e in shares.values()) == pytest.approx(1)
    # A consensus of other blocks is not told.
    (block,) = (home / "two" / "blocks").glob("*.json")
    block.write_bytes(block.read_bytes() + b"\n")
    step(las, "audit", corpus, work)
    found = json.loads((home / "two" / "audit" / "audit.json").read_text())
    assert found["consensus"] is None


@pytest.mark.parametrize("points", [True, False])
def test_an_audit_of_nothing_says_so(las: Las, tmp_path: Path, points: bool) -> None:
    recipe = written(tmp_path, {**ONE, "source": "virtual", "sites": {**ONE["sites"], "count": 2}})
    work = tmp_path / "work"
    for name in ("sample", "scenes", "fetch"):
        step(las, name, recipe, work)
    (block,) = (work / "one" / "one" / "blocks").glob("*.json")  # as if no product had anything
    said = json.loads(block.read_text())
    said["patches"] = [{**line, "state": "gap", "reason": "no-label"} for line in said["patches"]]
    block.write_text(json.dumps(said))
    more: tuple[object, ...] = ()
    if points:
        (tmp_path / "points.csv").write_text("lon,lat,class\n5,45,tree\n")
        more = ("--reference", tmp_path / "points.csv")
    out = step(las, "audit", recipe, work, *more)
    assert "0 sites" in out
    found = json.loads((work / "one" / "one" / "audit" / "audit.json").read_text())
    assert found["sites"] == 0
    assert found["areas_refused"] == "no site is stored."
    assert found["reference"] == []
    if points:
        assert (
            "1 of 1 reference points lie in no stored patch" in found["reference_points_left_out"]
        )
