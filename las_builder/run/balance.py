"""What the consensus of a subset says, counted patch by patch for its audit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder import audit as audits
from las_builder import plan
from las_builder.catalogs import LabelProduct
from las_builder.core.types import IGNORE
from las_builder.core.workspace import SubsetSpace, plain_disk_errors, writing
from las_builder.errors import LasError
from las_builder.fetch.cube import open_round
from las_builder.harmonise.consensus import Consensus, Design
from las_builder.recipe import Subset
from las_builder.run.consensus import fitted, maps_of_row, places
from las_builder.run.engine import Engine

_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelJob:
    """Some stored patches of one round, ascending."""

    group: Path
    rows: tuple[tuple[int, int, str], ...]
    """(row, place of its site, stratum)."""

    siblings: Mapping[int, tuple[tuple[Path, int], ...]] = field(default_factory=dict)
    """Row to the other rows of its site; only where stability is evidence."""

    products: tuple[LabelProduct, ...]
    consensus: Consensus
    out: Path

    @property
    def file(self) -> Path:
        """Named by the hash of all that decides its content."""
        said = f"{self.consensus.digest}\n{self.group.name}\n{self.rows!r}\n{dict(self.siblings)!r}"
        digest = hashlib.blake2b(said.encode(), digest_size=12).hexdigest()
        return self.out / f"consensus-{digest}.npy"


def count_labels(job: LabelJob) -> Path:
    """Count the classes of some patches: (n, 3) of place of the site, class, pixels."""
    if job.file.exists():
        return job.file
    group: Any = open_round(job.group)
    start, stop = job.rows[0][0], job.rows[-1][0] + 1
    held = {name: np.asarray(group[name][start:stop]) for name in job.consensus.arrays}
    lines = [np.zeros((0, 3), np.int64)]
    for row, site, stratum in job.rows:
        maps = maps_of_row(
            held, row - start, job.products, arrays=job.consensus.arrays,
            siblings=job.siblings.get(row, ()),
        )  # fmt: skip
        n = np.bincount(job.consensus.harmonise(maps, stratum).classes.ravel(), minlength=256)
        index = np.flatnonzero(n)
        lines.append(np.stack([np.full(index.size, site), index, n[index]], axis=1))
    with plain_disk_errors(job.file), writing(job.file) as part, part.open("wb") as file:
        np.save(file, np.concatenate(lines))
    return job.file


def consensus_balance(
    subset: Subset, stored: plan.SiteTable, population: audits.Population,
    rows: Mapping[int, Sequence[audits.Row]], home: SubsetSpace, engine: Engine,
) -> tuple[audits.Balance, ...]:  # fmt: skip
    """Shares of the classes by the label itself, before filters; none without a fitted consensus.

    Args:
        subset: Whose label it is.
        stored: Sites that have pixels.
        population: Of the same sites.
        rows: Round to its stored patches, ascending.
        home: With cube and fit.
        engine: Labels the patches that are not counted yet.
    """
    found, design = fitted(subset, home), subset.crosswalk
    if found is None or not isinstance(design, Design):
        return ()
    consensus = Consensus.from_json(found["consensus"])
    strata = places(subset, design, list(stored))
    of_site: dict[int, list[tuple[int, int]]] = {}
    for round_, lines in rows.items():
        for line in lines:
            of_site.setdefault(line.site, []).append((round_, line.row))
    jobs = []
    for round_, lines in rows.items():
        for at in range(0, len(lines), _ROWS):
            some = lines[at : at + _ROWS]
            siblings = {
                line.row: tuple(
                    (home.cube / str(n), row)
                    for n, row in of_site[line.site]
                    if (n, row) != (round_, line.row)
                )
                for line in some
                if consensus.needs_siblings
            }
            jobs.append(
                LabelJob(
                    group=home.cube / str(round_),
                    rows=tuple((line.row, line.site, strata[line.site]) for line in some),
                    siblings=siblings,
                    products=design.products,
                    consensus=consensus,
                    out=home.audit / "counts",
                )
            )
    waiting = [job for job in jobs if not job.file.exists()]
    for _, done in engine.each(
        count_labels, waiting, prepare=lambda job: job, title=f"{subset.name} consensus",
        unit="patches", size=lambda job: len(job.rows),
    ):  # fmt: skip
        if isinstance(done, LasError):
            raise done
    files = [job.file for job in jobs]
    for stale in set(home.audit.glob("counts/consensus-*.npy")) - set(files):
        stale.unlink()
    shares = _shares(population, np.concatenate([np.zeros((0, 3), np.int64), *map(np.load, files)]))
    title = ", ".join(product.title for product in subset.labels)
    return (
        audits.Balance(
            product=f"the consensus of {title}", taxonomy=design.taxonomy, shares=shares
        ),
    )


def _shares(population: audits.Population, lines: NDArray[np.int64]) -> dict[int, audits.Estimate]:
    """Class index to its share of all pixels; `IGNORE`: of none."""
    counts = np.zeros((len(population), IGNORE + 1))
    np.add.at(counts, (lines[:, 0], lines[:, 1]), lines[:, 2])
    whole = counts.sum(axis=1)
    return {
        int(index): population.ratio(counts[:, index], whole)
        for index in np.flatnonzero(counts.any(axis=0))
    }
