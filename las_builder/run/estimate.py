"""`las estimate`: what a run will ask of its providers, how long it takes, what it leaves on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from las_builder.access import label_files, label_requests
from las_builder.access.cost import Cost, Layout, cost_of, layout_of, window_cost
from las_builder.access.counts import Counts, counts
from las_builder.access.ranges import CHUNK, remembered
from las_builder.access.web import is_url
from las_builder.catalogs import Catalogs
from las_builder.catalogs.models import PROVIDERS
from las_builder.core.types import PinnedScene
from las_builder.core.workspace import Workspace, write_json
from las_builder.fetch import blocks_of
from las_builder.fetch.block import READ_TOGETHER
from las_builder.recipe import Corpus, Subset
from las_builder.scenes import PinnedRows

SAMPLED = 2000
"""Patches looked at; of more, these evenly spread ones stand for all."""

ROUGH = (1.7, 180_000.0)
"""Before scenes are pinned: ranges and bytes a band and patch, as measured on Sentinel-2's
cloud-optimised GeoTIFFs of 1024 pixels a block (noise: real scenes compress better)."""

PACKED = 0.6
"""Bytes in the cube to raw ones: Blosc's zstd on real Sentinel-2 crops."""

DECODED_S = 0.05
"""CPU seconds of one core a patch of 13 bands."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One subset's `las fetch`."""

    subset: str
    patches: int
    cost: Cost
    disk: float
    """Bytes."""

    hours: float
    basis: str
    eecu: str = ""
    """In words, of Earth Engine: hours, and of how many."""

    eecu_seconds: float | None = None

    def line(self) -> str:
        """In words."""
        return (
            f"{self.subset}: {self.patches} patches; {self.cost.requests:,.0f} requests "
            f"({self.cost.headers:,.0f} headers, {self.cost.ranges:,.0f} ranges, "
            f"{self.cost.others:,.0f} searches and tokens), "
            f"{self.cost.bytes / 1e9:,.2f} GB over the wire, {self.disk / 1e9:,.2f} GB on disk, "
            f"{self.hours:,.1f} h{self.eecu}\n  basis: {self.basis}"
        )


def estimate(corpus: Corpus, space: Workspace, workers: int) -> str:
    """Estimate `las fetch` of every subset, and keep it for the comparison after the run.

    Args:
        corpus: Checked.
        space: Scenes that are pinned there make it exact; without them it is rough.
        workers: Of the run.

    Raises:
        InputError: What a provider holds is broken.
        AccessError: A provider does not answer.
    """
    made = [_of_subset(subset, space, workers) for subset in corpus.subsets]
    said: dict[str, Any] = {
        one.subset: {
            "patches": one.patches, "requests": round(one.cost.requests),
            "bytes": round(one.cost.bytes), "basis": one.basis,
            **({"eecu_seconds": one.eecu_seconds} if one.eecu_seconds is not None else {}),
        }
        for one in made
    }  # fmt: skip
    if space.root.is_dir():
        write_json(space.logs / "estimate.json", said)
    return "\n".join(one.line() for one in made)


def _of_subset(subset: Subset, space: Workspace, workers: int) -> Estimate:
    home, layout = space.subset(subset.name), subset.layout
    rows = [PinnedRows(home.scenes(number)) for number in home.rounds()]
    count = sum(map(len, rows))
    if not count:
        return _roughly(subset, workers)
    done = {p.stem for p in home.blocks.glob("*.json")}
    todo = [
        (one, block) for number, one in zip(home.rounds(), rows, strict=True)
        for block in blocks_of(number, len(one), layout) if block.name not in done
    ]  # fmt: skip
    before = counts.requests.total()
    _ = subset.access  # whose declaration says how its hosts are asked; asks for collections
    opened = counts.requests.total() - before
    raw = _raw(subset)
    every = [p for one, block in todo for p in one.rows(block.start, block.stop)]
    if not every:
        return Estimate(subset.name, 0, Cost(), 0.0, 0.0, "every block is done")
    if subset.access.name == "earth-engine":
        return _of_earth_engine(
            subset, [list(one.rows(b.start, b.stop)) for one, b in todo], workers
        )
    seen_by = subset.imagery.validity.reads
    names = list(dict.fromkeys([*subset.bands, *seen_by]))
    step = max(1, len(every) // SAMPLED)
    sample = every[::step]
    heads = _Heads()
    typical = _typical(sample, names, heads)
    # Spectral bands are one read, what validity needs another: a file with both is read twice.
    cost = cost_of(sample, subset.bands, typical) + cost_of(sample, seen_by, typical)
    cost += _labels(subset, sample, heads)
    cost = cost.times(len(every) / len(sample))
    # Every process opens the APIs and gets tokens of its own; half of `opened` are collections.
    alone = workers == 1
    others = (
        opened + heads.tokens
        if alone
        else opened + min(workers, len(todo)) * (opened / 2 + heads.tokens)
    )
    cost += Cost(others=others)
    blocks = [
        [s.assets[n].href for p in one.rows(b.start, b.stop) for s in p.scene.parts for n in names]
        for one, b in todo
    ]
    files = {href for hrefs in blocks for href in hrefs if href.startswith("http")}
    headers = min(sum(len({h for h in hrefs if h.startswith("http")}) for hrefs in blocks),
                  len(files) * workers)  # fmt: skip
    cost += Cost(headers, 0.0, headers * float(CHUNK))
    return Estimate(
        subset.name, len(every), cost, len(every) * raw * PACKED, _hours(cost, len(every), workers),
        f"windows of {len(sample)} of {len(every)} pinned patches, blocks of "
        f"{_blocks(typical)} from the headers of {len(typical)} files, sizes of files as pinned; "
        f"searches and tokens as asked for now; disk at {PACKED} of the raw pixels (assumed); hours at {DECODED_S * 1e3:.0f} ms a patch"
        + ("; what Earth Engine is asked is not counted" if "earth-engine" in _sources(subset) else ""),
    )  # fmt: skip


def _roughly(subset: Subset, workers: int) -> Estimate:
    """Before scenes are pinned, from the recipe alone."""
    if subset.imported is not None:
        return Estimate(
            subset.name, 0, Cost(), 0.0, 0.0,
            "an import is read from disk; patches are counted when there are scenes",
        )  # fmt: skip
    (imagery, *labels), products = _sources(subset), len(subset.layout.products)
    patches = subset.recipe.sites.count * subset.recipe.dates.per_site
    raw = _raw(subset)
    if subset.recipe.source == "earth-engine":
        cost = Cost(0.0, patches * (1.0 + products), patches * raw)
        basis = (
            "a request a patch and map, bytes of the raw pixels; EECU is told when there are scenes"
        )
    else:
        reads = patches * (
            (len(subset.bands) + 1) * _far(imagery) + products * any(map(_far, labels))
        )
        cost = Cost(reads, ROUGH[0] * reads, ROUGH[1] * reads)
        basis = (
            f"{ROUGH[0]} ranges and {ROUGH[1] / 1e3:.0f} kB a band, of blocks of 1024 pixels"
            if reads
            else "nothing is on the web"
        )
    return Estimate(
        subset.name, patches, cost, patches * raw * PACKED, _hours(cost, patches, workers),
        f"rough, no scenes are pinned: {basis}",
    )  # fmt: skip


def _sources(subset: Subset) -> tuple[str, ...]:
    """Who has the imagery, then who has labels."""
    source = subset.recipe.source
    return (source, source) if isinstance(source, str) else (source.imagery, *source.products)


def _far(source: str) -> bool:
    """Whether a source is read over the wire."""
    return source != "virtual" and (source in PROVIDERS or is_url(source))


def _of_earth_engine(
    subset: Subset, blocks: Sequence[Sequence[PinnedScene]], workers: int
) -> Estimate:
    """A few patches are asked for, and their requests, bytes and EECU counted."""
    from las_builder.access.earth_engine import EarthEngine
    from las_builder.access.earth_engine.eecu import tier
    from las_builder.access.earth_engine.estimate import need

    engine = subset.access
    assert isinstance(engine, EarthEngine)
    calls = [
        block[i : i + READ_TOGETHER]
        for block in blocks for i in range(0, len(block), READ_TOGETHER)
    ]  # fmt: skip
    found = need(
        engine, subset.imagery, subset.bands, subset.layout.products, calls, len(blocks), workers
    )
    name, hours = tier(engine.service)
    patches = sum(map(len, blocks))
    eecu = ", EECU not told"
    if found.eecu_seconds is not None:
        share = found.eecu_seconds / 3600 / hours
        eecu = (
            f", {found.eecu_seconds / 3600:,.3f} EECU-hours ({share:.1%} of the {hours:,.0f} a month "
            f"of the tier {name})"
        )
    cost = Cost(0.0, found.pixels, found.bytes, found.others)
    disk = patches * _raw(subset) * PACKED
    return Estimate(
        subset.name, patches, cost, disk, _hours(cost, patches, workers),
        f"{found.sampled} patches asked for and counted, a range is a request for pixels; "
        f"disk at {PACKED} of the raw pixels (assumed); hours at {DECODED_S * 1e3:.0f} ms a "
        "patch and a hundred requests a second",
        eecu, found.eecu_seconds,
    )  # fmt: skip


def _raw(subset: Subset) -> float:
    size, bands = subset.recipe.patch.size, len(subset.bands)
    products = sum(p.dtype.itemsize + 1 for p in subset.layout.products)
    return float(size * size * (bands * subset.imagery.dtype.itemsize + 1 + products))


def _hours(cost: Cost, patches: int, workers: int) -> float:
    """The longest of decoding and of what a hundred requests a second allow."""
    return max(patches * DECODED_S / workers, cost.requests / 100) / 3600


class _Heads:
    """Layouts of files from their headers, and how many tokens it took to get those."""

    def __init__(self) -> None:
        self.layouts: dict[str, Layout | None] = {}
        self.tokens = 0

    def of(self, href: str) -> Layout | None:
        """The layout of a file; None: it is on disk."""
        if href not in self.layouts:
            before, held = counts.requests.total(), remembered(href)
            found = self.layouts[href] = layout_of(href)
            asked = counts.requests.total() - before
            self.tokens += max(0, asked - (found is not None and not held))
        return self.layouts[href]


def _typical(
    patches: Sequence[PinnedScene], names: Sequence[str], heads: _Heads
) -> dict[str, Layout]:
    out = {}
    for name in names:
        found = heads.of(patches[0].scene.parts[0].assets[name].href)
        if found is not None:
            out[name] = found
    return out


def _blocks(typical: dict[str, Layout]) -> str:
    sizes = sorted({layout.block for layout in typical.values()})
    return " and ".join(f"{h} x {w}" for h, w in sizes) or "files on disk"


def _labels(subset: Subset, patches: Sequence[PinnedScene], heads: _Heads) -> Cost:
    """Label windows, once a site and map; the maps are found as `fetch` will find them."""
    total = Cost()
    met: set[str] = set()
    for product in subset.layout.products:
        for request in label_requests(product, patches).values():
            before = counts.requests.total()
            files = label_files(subset.access, product, request)
            total += Cost(others=counts.requests.total() - before)
            for href in files:
                layout = heads.of(href)
                if layout is None:
                    continue
                if href not in met:
                    total += Cost(1.0, 0.0, float(CHUNK))
                    met.add(href)
                total += window_cost(request.grid, layout)
    return total


def remember(space: Workspace, sent: Counts, slowed: Counter[str]) -> str:
    """Add what a run sent to `logs/wire.json`; how far off the estimate was, if there was one.

    Args:
        space: Of the run.
        sent: And received.
        slowed: Host to how often its limit was halved.
    """
    path = space.logs / "wire.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    total = {
        "requests": before.get("requests", 0) + sum(sent.requests.values()),
        "bytes": before.get("bytes", 0) + sum(sent.received.values()),
        "failures": {
            **before.get("failures", {}),
            **{
                f"{host} {kind}": n + before.get("failures", {}).get(f"{host} {kind}", 0)
                for (host, kind), n in sorted(sent.failures.items())
            },
        },
    }
    if spent := Counter(before.get("spent", {})) + sent.spent:
        total["spent"] = dict(sorted(spent.items()))
    if not total["requests"]:
        return ""
    total["slowed"] = dict(sorted((slowed + Counter(before.get("slowed", {}))).items()))
    write_json(path, total)
    guess = space.logs / "estimate.json"
    failed = sum(total["failures"].values())
    said = (
        f"over the wire: {total['requests']:,} requests, {total['bytes'] / 1e9:,.3f} GB, "
        f"{failed:,} answers of no use"
    )
    if slowed:
        hosts = ", ".join(f"{host} ({n} times)" for host, n in sorted(slowed.items()))
        said += f"; slowed down for {hosts}: its limit in catalogs/providers is too high"
    if guess.exists():
        want = json.loads(guess.read_text()).values()
        asked, size = sum(w["requests"] for w in want), sum(w["bytes"] for w in want)
        if asked and size:
            off = [(total["requests"] - failed) / asked - 1, total["bytes"] / size - 1]
            said += f"; the estimate was off by {off[0]:+.0%} in requests, {off[1]:+.0%} in bytes"
    return said + _eecu(total.get("spent", {}), guess)


def _eecu(spent: Mapping[str, int], guess: Path) -> str:
    """What Earth Engine says that it cost, of how much a month, and how far off the estimate was."""
    from las_builder.access.earth_engine.eecu import ASKED, READ, SPENT, tier

    if not spent.get(ASKED):
        return ""
    if not spent.get(READ):
        return "; EECU: none of its answers said"
    # Profiles of the last few requests of each worker are not read back.
    seconds = spent.get(SPENT, 0) / 1000 * spent[ASKED] / spent[READ]
    name, hours = tier(Catalogs.load().earth_engine)
    said = (
        f"; {seconds / 3600:,.4f} EECU-hours, {seconds / 3600 / hours:.1%} of a month of the tier "
        f"{name} (read back of {spent[READ]:,} of {spent[ASKED]:,} requests)"
    )
    want = json.loads(guess.read_text()).values() if guess.exists() else ()
    if known := sum(w.get("eecu_seconds", 0.0) for w in want):
        said += f", {seconds / known - 1:+.0%} of the estimate"
    return said
