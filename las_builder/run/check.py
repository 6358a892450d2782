"""`las check`, and what every stage checks before it begins."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from las_builder import plan
from las_builder.catalogs import Strata
from las_builder.core.report import Tally
from las_builder.core.workspace import Workspace
from las_builder.errors import WorkspaceError
from las_builder.harmonise.decisions import read_decisions
from las_builder.recipe import EVERY, Corpus, Subset
from las_builder.run.rounds import standing
from las_builder.run.sample import draw


def check(corpus: Corpus, space: Workspace | None = None) -> str:
    """Ask every provider, resolve every region, read what reviewers decided; nothing is written.

    Whether so many sites fit is not asked: `las sample` solves that, with `--dry-run` or before it
    writes.

    Args:
        corpus: As the recipe says.
        space: Whose decisions are read, if it has a plan; None: none are.

    Raises:
        InputError: The first thing that is wrong.
    """
    strata = Strata.load(corpus.catalogs)
    lines = []
    for subset in corpus.subsets:
        _ = subset.access  # asked before anything is drawn
        sites = _sites(subset, strata)
        labels = ", ".join(product.name for product in subset.labels)
        lines.append(
            f"{subset.name}: {sites} of {subset.imagery.name} with {labels} in "
            f"{len(subset.crosswalk.taxonomy.classes)} classes, from {subset.access.name}"
        )
    if space is not None and space.plan.exists():
        lines += _decided(corpus, space)
    lines.append(str(corpus.licence()))
    answered = "declarations, licences and regions agree, providers answer"
    fits = "whether so many sites fit is said by `las sample --dry-run`"
    return "\n".join([*lines, f"{corpus.file}: {answered}; {fits}"])


def _sites(subset: Subset, strata: Strata) -> str:
    """How many sites, and that their region is one."""
    asked = subset.recipe.sites
    if asked.region == "catalogue":
        return f"{sum(site.primary for site in draw(subset, strata))} sites"
    plan.covered(asked, subset.imagery, subset.labels, strata, subset.file)
    return "all sites" if asked.count == EVERY else f"{asked.count} sites"


def _decided(corpus: Corpus, space: Workspace) -> list[str]:
    """What reviewers decided, a line a subset that has decisions.

    Raises:
        InputError: A line that `las pack` would refuse.
    """
    sites = plan.read_plan(space.plan)
    lines = []
    for subset in corpus.subsets:
        path = space.subset(subset.name).decisions
        own = {site.id for site in sites if site.subset == subset.name}
        classes = [entry.name for entry in subset.crosswalk.taxonomy.classes]
        found = read_decisions(path, own, classes)
        actions = Counter(line.action for decided in found.values() for line in decided)
        if actions:
            said = ", ".join(f"{n} {action}" for action, n in sorted(actions.items()))
            lines.append(f"{subset.name}: {path.name} on {len(found)} sites: {said}")
    return lines


def require(path: Path, command: str) -> None:
    """Refuse a stage whose input another stage has not written yet.

    Raises:
        WorkspaceError: It is not there; names the command that writes it.
    """
    if not path.exists():
        raise WorkspaceError(
            path,
            "file",
            None,
            "a file that is there",
            f"Run `{command}` with the same recipe first.",
        )


def report(corpus: Corpus, space: Workspace) -> str:
    """How every site that was looked for has ended so far; the counts add up."""
    sites = plan.read_plan(space.plan)
    lines = []
    whole = Tally()
    for subset in corpus.subsets:
        own = [site for site in sites if site.subset == subset.name]
        now = standing(own, space.subset(subset.name), subset.layout)
        tally = now.tally()
        whole += tally
        waiting = len(now.searched) - tally.total
        more = f" + {waiting} not fetched yet" if waiting else ""
        short = sum(now.wanted().values())
        end = f"; {short} primaries short, reserves ended" if short and not now.open() else ""
        patches = sum(line.state == "stored" for _, line in now.results)
        lines.append(f"{subset.name}: {tally}{more}{'' if waiting else end}; {patches} patches")
        if not now.undone:
            for name, n in now.missing((*subset.labels, *subset.compare)).items():
                lines.append(f"{subset.name}: {name} has nothing on {n} of them")
    several = len(corpus.subsets) > 1
    return "\n".join([*lines, f"{corpus.name}: {whole}"] if several else lines)
