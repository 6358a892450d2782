"""`las audit`: composition and agreement of the products of every subset."""

from __future__ import annotations

import itertools
from collections import defaultdict
from functools import partial
from pathlib import Path

from las_builder import audit as audits
from las_builder import plan
from las_builder.core.types import Site
from las_builder.core.workspace import Workspace
from las_builder.errors import LasError, LegendError
from las_builder.fetch import PatchResult
from las_builder.harmonise import Crosswalk
from las_builder.recipe import Corpus, Subset
from las_builder.run.engine import Engine
from las_builder.run.rounds import final_weights, standing

TAXONOMY = "cover-9"
"""The classes in which products are compared: the nine level-1 covers of the ontology."""


def audit(corpus: Corpus, space: Workspace, engine: Engine) -> str:
    """Audit every subset of a corpus whose blocks are fetched.

    Returns:
        The pages written, one a line.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    sites = plan.read_plan(space.plan)
    pages = []
    for subset in corpus.subsets:
        own = [site for site in sites if site.subset == subset.name]
        pages.append(_audit(subset, own, corpus, space, engine))
    return "\n".join(str(page) for page in pages)


def _audit(
    subset: Subset, sites: list[Site], corpus: Corpus, space: Workspace, engine: Engine
) -> Path:
    home = space.subset(subset.name)
    now = standing(sites, home, subset.layout)
    products = (*subset.labels, *subset.compare)
    blocks: dict[tuple[int, int], list[PatchResult]] = defaultdict(list)
    for round_, line in now.results:
        if line.state == "stored":
            blocks[round_, line.row // subset.layout.block_patches].append(line)
    by_site: dict[str, audits.SiteCounts] = {}
    for _, found in engine.each(
        audits.count_block,
        sorted(blocks),
        prepare=partial(_job, blocks, home.cube, tuple(p.name for p in products)),
        title=f"{subset.name} audit",
        unit="patches",
        size=lambda key: len(blocks[key]),
    ):
        if isinstance(found, LasError):
            raise found
        for counts in found:
            by_site[counts.site] = audits.merge(by_site.get(counts.site), counts)
    counted = [by_site[site] for site in sorted(by_site)]
    weights = final_weights(now)
    taxonomy = corpus.catalogs.taxonomy(TAXONOMY)
    tables = {}
    for product in products:
        try:
            crosswalk = Crosswalk.build(taxonomy, [product], corpus.catalogs.ontology)
        except LegendError:  # no code lies in one class: it has a composition and no agreement
            continue
        tables[product.name] = crosswalk.table
    audits.write_page(
        home.audit,
        subset=subset.name,
        sites=len(counted),
        patches=sum(len(lines) for lines in blocks.values()),
        synthetic=subset.synthetic,
        products=products,
        compositions=[audits.composition(counted, weights, p) for p in products],
        agreements=[
            audits.agreement(counted, weights, (a, b), (tables[a], tables[b]), TAXONOMY)
            for a, b in itertools.combinations([p.name for p in products], 2)
            if a in tables and b in tables
        ],
        taxonomy=taxonomy,
    )
    return home.audit / "index.html"


def _job(
    blocks: dict[tuple[int, int], list[PatchResult]], cube: Path, products: tuple[str, ...],
    key: tuple[int, int],
) -> audits.AuditJob:  # fmt: skip
    return audits.AuditJob(group=cube / str(key[0]), rows=tuple(blocks[key]), products=products)
