"""What a consensus changed: where it says something else than a product would have alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from las_builder.harmonise.consensus.dawid_skene import Tuples
from las_builder.harmonise.consensus.model import Consensus

MOST = 12
"""Changes that are listed of each product and stratum, the largest first."""


def changes(
    consensus: Consensus, counts: Mapping[str, Tuples], tables: Sequence[Mapping[int, int]]
) -> list[dict[str, Any]]:
    """Of every stratum and product: how much of the ground the consensus labels otherwise.

    Args:
        consensus: The fitted one.
        counts: Of every stratum, as it was fitted on.
        tables: Of each product, code to class index by its own crosswalk, 255: in no class.

    Returns:
        A line a stratum and product: `compared` (share of the ground where both say a class),
        `changed` (of that), `filled` (share of the ground where only the consensus says one), and
        `largest`: [class of the product, class of the consensus, share of the ground].
    """
    names = consensus.classes.names
    out = []
    for stratum, here in sorted(counts.items()):
        label, _ = consensus.decide(here.said, stratum)
        total = float(here.sites.sum())
        for p, (ballot, table) in enumerate(zip(consensus.ballots, tables, strict=True)):
            own = np.array([table.get(int(code), 255) for code in ballot.codes])
            symbol = here.said[:, p]
            alone = np.where(symbol >= 0, own[symbol // ballot.levels], 255)
            both = (alone != 255) & (label >= 0)
            other = both & (alone != label)
            pairs: dict[tuple[int, int], float] = {}
            for a, b, n in zip(
                alone[other].tolist(),
                label[other].tolist(),
                here.sites[other].tolist(),
                strict=True,
            ):
                pairs[a, b] = pairs.get((a, b), 0.0) + n
            largest = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST]
            compared = float(here.sites[both].sum())
            out.append(
                {
                    "stratum": stratum,
                    "product": ballot.product,
                    "sites": round(total, 1),
                    "compared": _share(compared, total),
                    "changed": _share(float(here.sites[other].sum()), compared),
                    "filled": _share(float(here.sites[(alone == 255) & (label >= 0)].sum()), total),
                    "largest": [[names[a], names[b], _share(n, total)] for (a, b), n in largest],
                }
            )
    return out


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole > 0 else 0.0
