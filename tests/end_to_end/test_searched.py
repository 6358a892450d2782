"""The place is chosen first and then the scene; what became of every scene is counted by stratum."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import yaml

from las_builder import recipe, run
from las_builder.core.workspace import Workspace
from las_builder.scenes import SceneTable


def test_clouds_choose_scenes_and_reserves_by_rank_and_never_places(tmp_path: Path) -> None:
    content = {
        "name": "made", "imagery": "sentinel-2-l2a", "bands": ["B04"],
        "labels": ["esa-worldcover-v200"], "source": "virtual", "patch": {"size": 132},
        "sites": {
            "count": 10, "region": ["Indonesia", "Germany"], "seed": 4,
            "design": [{"share": 1.0, "strata": ["climate-group"]}],
        },
        "splits": {"train": 1, "val": 0, "test": 0},
    }  # fmt: skip
    plans, spaces = [], []
    for max_cloud, clear in ((100, 0.0), (30, 0.999)):
        dates = {
            "period": "2021-05-01/2021-06-15",
            "max_cloud": max_cloud,
            "patch_min_clear": clear,
        }
        (tmp_path / "made.yaml").write_text(yaml.safe_dump({**content, "dates": dates}))
        corpus = recipe.read(str(tmp_path / "made.yaml"))
        space = Workspace(tmp_path / f"work{max_cloud}")
        with run.Engine(workers=1) as engine:
            sites = run.sample(corpus, space)
            run.scenes(corpus, sites, space, engine)
        said = run.searched(corpus, sites, space)
        plans.append([(s.id, s.lon, s.lat, s.rank, s.primary, s.density) for s in sites])
        spaces.append(space)
    assert plans[0] == plans[1]
    table = SceneTable.read(spaces[1].subset("made").scenes(0))
    assert len(table.gaps) > 2, "no sky of Indonesia and Germany is as clear as that everywhere"
    assert len(table.outcomes) > 10
    ranks = defaultdict(list)
    for site in sites:
        ranks[site.cell].append((site.rank, site.id in set(table.sites)))
    for found in ranks.values():  # reserves are looked for in their order, and none is left out
        looked = [there for _, there in sorted(found)]
        assert looked == sorted(looked, reverse=True)

    stratum = {site.id: site.stratum for site in sites}
    want: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in table.outcomes:
        want[stratum[outcome.site]].update({"sites": 1, **outcome.counts})
        if outcome.gap is not None:
            want[stratum[outcome.site]][f"gap {outcome.gap.reason}"] += 1
    stored = json.loads(spaces[1].subset("made").searched.read_text())
    assert stored["strata"] == {name: dict(counts) for name, counts in want.items()}
    assert stored["all"] == dict(sum(want.values(), Counter()))
    all_, *rest = said.splitlines()
    assert all_.startswith(f"made: {stored['all']['sites']} sites, {stored['all']['found']} scenes")
    assert f"{stored['all']['cloudy']} too cloudy over the patch" in all_
    assert f"{stored['all']['gap too-cloudy']} too-cloudy" in all_
    assert len(rest) == len(want)
    # A look is a scene that was kept or found too cloudy; nothing is counted twice.
    for outcome in table.outcomes:
        counts = outcome.counts
        assert counts.get("looked", 0) == len(outcome.pinned) + counts.get("cloudy", 0)
        assert counts.get("looked", 0) + counts.get("partial", 0) <= counts.get("found", 0)
