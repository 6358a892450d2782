"""Which sites are still wanted: computed from files alone, by any machine, at any time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from las_builder import plan
from las_builder.catalogs import LabelProduct
from las_builder.core.report import Tally
from las_builder.core.types import Site
from las_builder.core.workspace import SubsetSpace
from las_builder.fetch import CubeLayout, PatchResult, blocks_of, read_block
from las_builder.scenes import Outline


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one subset is."""

    sites: Sequence[Site]
    searched: frozenset[str]
    """Sites that some round has looked for."""

    gaps: dict[str, str]
    """Site to reason: too few scenes, or nothing stored although scenes were pinned."""

    stored: frozenset[str]
    """Sites with at least one patch in the cube."""

    failed: dict[str, str]
    """Site to error: given up."""

    results: Sequence[tuple[int, PatchResult]]
    """(round, line) of every finished block."""

    undone: int
    """Blocks without a manifest, their own or that of a product that joined later."""

    rounds: int
    """Rounds whose scenes are pinned."""

    def wanted(self) -> dict[tuple[str, str], int]:
        """Cell to sites still missing, once every block is done."""
        primaries = Counter(site.cell for site in self.sites if site.primary)
        have = Counter(site.cell for site in self.sites if site.id in self.stored)
        failed = Counter(site.cell for site in self.sites if site.id in self.failed)
        missing = {cell: n - have[cell] - failed[cell] for cell, n in sorted(primaries.items())}
        return {cell: n for cell, n in missing.items() if n > 0}

    def spare(self) -> dict[tuple[str, str], list[Site]]:
        """Cell to the sites that no round has looked for, by rank."""
        out = defaultdict(list)
        for site in sorted(self.sites, key=lambda s: s.rank):
            if site.id not in self.searched:
                out[site.cell].append(site)
        return dict(out)

    def open(self) -> bool:
        """Whether another round would find sites to look for."""
        spare = self.spare()
        return any(spare.get(cell) for cell in self.wanted())

    def missing(self, products: Iterable[LabelProduct]) -> dict[str, int]:
        """Product to stored patches on which it has nothing, where there are any."""
        stored = [line for _, line in self.results if line.state == "stored"]
        found = {
            p.name: sum(p.name not in (line.versions or {}) for line in stored) for p in products
        }
        return {name: n for name, n in found.items() if n}

    def tally(self) -> Tally:
        """Sites that were looked for, by how they ended."""
        return Tally(
            stored=len(self.stored),
            gaps=dict(sorted(Counter(self.gaps.values()).items())),
            failed=dict(sorted(Counter(self.failed.values()).items())),
        )


def standing(sites: Iterable[Site], space: SubsetSpace, layout: CubeLayout) -> Standing:
    """Read the plan, scene tables and manifests of one subset into one value."""
    searched: set[str] = set()
    gaps: dict[str, str] = {}
    results: list[tuple[int, PatchResult]] = []
    undone = 0
    rounds = space.rounds()
    for round_ in rounds:
        table = Outline.read(space.scenes(round_))
        searched.update(table.sites)
        gaps.update(table.gaps)
        for block in blocks_of(round_, table.patches, layout):
            lines, done = read_block(space, block, layout.added)
            results.extend((round_, result) for result in lines)
            undone += not done
    stored = {result.site for _, result in results if result.state == "stored"}
    failed = {
        result.site: result.reason
        for _, result in results
        if result.state == "failed" and result.site not in stored
    }
    for _, result in results:
        if result.state == "gap" and result.site not in stored and result.site not in failed:
            gaps.setdefault(result.site, result.reason)
    return Standing(
        tuple(sites), frozenset(searched), gaps, frozenset(stored), failed, results, undone,
        len(rounds),
    )  # fmt: skip


def final_weights(standing: Standing) -> dict[str, float | None]:
    """Stored site to its final weight, km2: see `plan.final_weights`."""
    return dict(plan.final_weights(standing.sites, standing.stored).km2)
