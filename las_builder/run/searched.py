"""What became of the scenes that were found, by stratum: which were passed over, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from las_builder.core.types import Site
from las_builder.core.workspace import SubsetSpace, Workspace, write_json
from las_builder.recipe import Corpus
from las_builder.scenes import counts_in

SHOWN = 8
"""Strata in words; all are in the file."""

_WORDS = {
    "partial": "hold the patch in part",
    "coarse": "too coarse",
    "silent": "of days of which the mask says nothing",
    "unlabelled": "without their label map",
    "lattice": "on another lattice",
    "cloudy": "too cloudy over the patch",
}


def searched(corpus: Corpus, sites: Sequence[Site], space: Workspace) -> str:
    """Write `<subset>/scenes.json` and say in words what is in it.

    Args:
        corpus: Whose scenes.
        sites: The plan.
        space: Tables of scenes that are there are read.

    Returns:
        A line a subset, and one for each of the strata that lost the largest share of what was
        looked at; "" where nothing has been searched.
    """
    lines = []
    for subset in corpus.subsets:
        own = {site.id: site for site in sites if site.subset == subset.name}
        home = space.subset(subset.name)
        strata = of_strata(own, home)
        if not strata:
            continue
        total = sum(strata.values(), Counter[str]())
        write_json(
            home.searched,
            {"all": _plain(total), "strata": {k: _plain(v) for k, v in strata.items()}},
        )
        lines.append(f"{subset.name}: {_line(total)}")
        if len(strata) > 1:
            worst = sorted(strata, key=lambda name: (-_lost(strata[name]), name))[:SHOWN]
            lines += [f"  {name}: {_line(strata[name])}" for name in worst]
            if more := len(strata) - len(worst):
                lines.append(f"  and {more} strata more in {home.searched}")
    return "\n".join(lines)


def of_strata(sites: Mapping[str, Site], home: SubsetSpace) -> dict[str, Counter[str]]:
    """Stratum to sites, gaps by reason, and the sums of `Outcome.counts`, by name."""
    strata: dict[str, Counter[str]] = {}
    for number in home.rounds():
        for site, found, gap in counts_in(home.scenes(number)):
            counts = strata.setdefault(sites[site].stratum, Counter())
            counts.update({"sites": 1, **found})
            if gap is not None:
                counts[f"gap {gap}"] += 1
    return dict(sorted(strata.items()))


def _plain(counts: Mapping[str, int]) -> dict[str, int]:
    return {key: n for key, n in sorted(counts.items()) if n}


def _lost(counts: Mapping[str, int]) -> float:
    """Share of looks that ended in cloud; then of sites that ended as gaps."""
    gaps = sum(n for key, n in counts.items() if key.startswith("gap "))
    return round(counts["cloudy"] / max(counts["looked"], 1) + gaps / max(counts["sites"], 1), 9)


def _line(counts: Mapping[str, int]) -> str:
    passed = [f"{counts[key]:,} {words}" for key, words in _WORDS.items() if counts[key]]
    gaps = [f"{n:,} {key[4:]}" for key, n in sorted(counts.items()) if key.startswith("gap ")]
    return (
        f"{counts['sites']:,} sites, {counts['found']:,} scenes found, {counts['looked']:,} looked at"
        + (f"; passed over: {', '.join(passed)}" if passed else "")
        + (f"; gaps: {', '.join(gaps)}" if gaps else "")
    )
