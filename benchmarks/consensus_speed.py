"""How long a consensus takes: 10,000 sites of 264 x 264 pixels with five products, on two cores.

    python benchmarks/consensus_speed.py [--sites 10000] [--patches 160]

Counts tuples through `las consensus`' own jobs from a Zarr cube laid out as `las fetch` does it, fits
Dawid-Skene in five strata and labels every patch. The cube holds --patches different patches in blocks of
32 and is gone over until --sites are counted, each time with other weights; patches are drawn
(blotches of classes, a quarter of them said otherwise by each product), because the products of the
virtual Earth would take longer than all that is measured. Prints seconds of each part by the clock and
of CPU (the machine's load disturbs these less), and the peak memory of the process tree (PSS, as in fetch_memory.py, sampled four times a second).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from las_builder.catalogs import Catalogs
from las_builder.core.options import ConsensusOptions
from las_builder.fetch.cube import open_round
from las_builder.harmonise.consensus import Consensus, Design, Tuples, fit
from las_builder.run import Engine
from las_builder.run.consensus import WHOLE, CountJob, count_block, maps_of_row, merged

PRODUCTS = ("esa-worldcover-v200", "dynamic-world", "io-lulc-annual", "glc-fcs30d", "corine")
SIZE, BLOCK = 264, 32
STRATA = ("tropical", "dry", "temperate", "continental", "polar")


def blotches(chance: np.random.Generator, cell: int, top: int) -> np.ndarray:
    """(SIZE, SIZE) numbers below `top` in square patches."""
    n = SIZE // cell + 1
    small = chance.integers(0, top, (n, n))
    return np.kron(small, np.ones((cell, cell), np.int64))[:SIZE, :SIZE]


def build(path: Path, design: Design, patches: int) -> None:
    """Labels and shares of the five products."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    chance = np.random.default_rng(0)
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    said = {p.name: np.empty((patches, SIZE, SIZE), p.dtype) for p in design.products}
    for i in range(patches):
        atom = blotches(chance, 22, len(design.classes.atoms))
        for product, voter in zip(design.products, design.voters, strict=True):
            best = voter.codes[voter.weight.argmax(axis=1)][atom]
            wrong = blotches(chance, 11, 4) == 0
            other = voter.codes[blotches(chance, 33, voter.codes.size)]
            said[product.name][i] = np.where(wrong, other, best)
    for name, codes in said.items():
        for kind, data in (("labels", codes), ("shares", np.full(codes.shape, 100, np.uint8))):
            array = group.create_array(
                f"{kind}/{name}", shape=data.shape, chunks=(1, SIZE, SIZE),
                shards=(BLOCK, SIZE, SIZE), dtype=data.dtype, compressors=codec,
            )  # fmt: skip
            array[:] = data


def label_block(rows: tuple[int, ...], path: Path, fitted: Consensus, products: tuple) -> int:  # type: ignore[type-arg]
    """Pixels that got a label."""
    group = open_round(path)
    total = 0
    for row in rows:
        maps = maps_of_row(group, row, products)
        total += int((fitted.harmonise(maps, STRATA[row % 5]).classes != 255).sum())
    return total


def tree() -> dict[int, float]:
    """This process and its descendants, and the CPU seconds that each has used."""
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(said[1])
            used[int(entry.name)] = (int(said[11]) + int(said[12])) / os.sysconf("SC_CLK_TCK")
    mine = {os.getpid()}
    while more := {pid for pid, above in parents.items() if above in mine} - mine:
        mine |= more
    return {pid: used[pid] for pid in mine if pid in used}


def tree_memory(stop: threading.Event, peak: list[float]) -> None:
    """Highest sum of PSS of this process and its descendants, MiB."""
    while not stop.wait(0.25):
        total = 0
        for pid in tree():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        peak[0] = max(peak[0], total / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--patches", type=int, default=160)
    options = parser.parse_args()
    catalogs = Catalogs.load()
    design = Design.of(
        ConsensusOptions(), catalogs.taxonomy("cover-9"), [catalogs.label(n) for n in PRODUCTS],
        catalogs.ontology, catalogs.accuracies.values,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    build(folder / "0", design, options.patches)
    unit = WHOLE // (SIZE * SIZE)
    blocks = [
        tuple(range(start, min(start + BLOCK, options.patches)))
        for start in range(0, options.patches, BLOCK)
    ]
    jobs = [(i, blocks[i % len(blocks)]) for i in range(-(-options.sites // BLOCK))]
    sites = sum(len(rows) for _, rows in jobs)
    peak, stop = [0.0], threading.Event()
    watch = threading.Thread(target=tree_memory, args=(stop, peak), daemon=True)
    watch.start()
    with Engine(workers=2) as engine:
        engine.client()
        started, cpu = time.monotonic(), [sum(tree().values())]
        parts: dict[str, list] = {}  # type: ignore[type-arg]

        def job(key: tuple[int, tuple[int, ...]]) -> CountJob:
            rows = tuple((row, STRATA[row % 5], unit - key[0]) for row in key[1])
            return CountJob(group=folder / "0", rows=rows, siblings={},
                            products=design.products, ballots=design.ballots)  # fmt: skip

        held = 0
        for _, found in engine.each(count_block, jobs, prepare=job, title="count", unit="blocks"):
            for stratum, part in found.items():  # type: ignore[union-attr]
                parts.setdefault(stratum, []).append(part)
                held += len(part[1])
            if held > 1 << 22:
                parts, held = {s: [merged(p)] for s, p in parts.items()}, 0
        counts = {}
        for stratum, found in parts.items():
            said, count = merged(found)
            counts[stratum] = Tuples(said=said, sites=count / WHOLE)
        counted = time.monotonic()
        cpu.append(sum(tree().values()))
        fitted = fit(design, counts, {})
        learnt = time.monotonic()
        cpu.append(sum(tree().values()))
        work = partial(label_block, path=folder / "0", fitted=fitted, products=design.products)
        pixels = sum(
            int(found)  # type: ignore[arg-type]
            for _, found in engine.each(
                work, jobs, prepare=lambda key: key[1], title="label", unit="blocks"
            )
        )
        ended = time.monotonic()
        cpu.append(sum(tree().values()))
    stop.set()
    watch.join()
    shutil.rmtree(folder)
    tuples = {name: len(one.said) for name, one in counts.items()}
    print(
        f"{sites} sites, {pixels:,} pixels labelled, tuples {tuples}, {len(design.classes.atoms)} atoms"
    )
    print(
        f"count {counted - started:.0f} s, fit {learnt - counted:.0f} s, label {ended - learnt:.0f} s"
    )
    print("CPU seconds of all processes: " + ", ".join(f"{b - a:.0f}" for a, b in pairwise(cpu)))
    print(f"count and fit {learnt - started:.0f} s (bar 300), peak {peak[0]:.0f} MiB (bar 4096)")


if __name__ == "__main__":
    main()
