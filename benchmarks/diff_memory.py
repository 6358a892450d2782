"""Does the memory of `las diff` grow with patches? Only by the columns of two indices.

    python benchmarks/diff_memory.py [--samples 3000 30000 300000]

Writes one shard of 264 x 264 patches and indices of so many keys that point into it, compares two
such packings that differ in one patch of a hundred, and prints the peak resident memory of the
process and patches a second, writing diff.csv and diff.gpkg.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from affine import Affine

from las_builder import run
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.workspace import Workspace, write_json
from las_builder.harmonise import Crosswalk
from las_builder.pack import (
    Member,
    Sample,
    SampleRecord,
    SubsetInfo,
    manifest,
    write_index,
    write_shard,
)

SIZE = 264


def packed(root: Path, samples: int, *, other: bool) -> None:
    catalogs, bands = Catalogs.load(), ("B02", "B03", "B04", "B08")
    product = catalogs.label("esa-worldcover-v200")
    subset = SubsetInfo(
        name="s2", imagery=catalogs.imagery("sentinel-2-l2a"), bands=bands,
        taxonomy=Crosswalk.build("native", [product]).taxonomy, products=(product,), synthetic=True,
    )  # fmt: skip
    chance = np.random.default_rng(1)
    grid = Grid("EPSG:32632", Affine(10, 0, 550_000, 0, -10, 6_000_000), SIZE, SIZE)
    made = []
    for i in range(100):
        label = chance.integers(0, 8, (SIZE // 8, SIZE // 8)).repeat(8, 0).repeat(8, 1)
        if other and i == 0:
            label[:9, :9] = 10
        record = SampleRecord(
            key=f"a-{i}", subset="s2", split="train", site=f"a-{i}", grid=grid,
            datetime=datetime(2021, 6, 1, tzinfo=UTC), scenes=("s",), products={product.name: "v"},
            taxonomy=subset.taxonomy.name, scale=(1e-4,) * 4, offset=(-0.1,) * 4, synthetic=True,
        )  # fmt: skip
        made.append(
            Sample(
                key=record.key, grid=grid, bands=bands, valid=np.ones(grid.shape, bool),
                image=chance.integers(0, 4000, (4, *grid.shape)).astype(np.uint16),
                label=label.astype(np.uint8), confidence=np.full(grid.shape, 80, np.uint8),
                scale=record.scale, offset=record.offset, classes=tuple(subset.taxonomy.classes),
                metadata=record.metadata(subset),
            )
        )  # fmt: skip
    space = Workspace(root)
    report = write_shard(space.shards / "s2-train-000000.tar", made, subset="s2", split="train")
    places = [report.members[5 * i : 5 * i + 5] for i in range(100)]
    members = [
        Member(f"site-{i:07d}-20210601", m.member, m.offset, m.length)
        for i in range(samples)
        for m in places[i % 100]
    ]
    write_index(space.index, [replace(report, members=tuple(members))])
    write_json(space.manifest, manifest([report], [subset], sources={}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--samples", type=int, nargs="+", default=[3000, 30_000, 300_000])
    arguments.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.one is not None:
        started = time.monotonic()
        run.diff(asked.one / "a", asked.one / "b", asked.one / "out")
        seconds = time.monotonic() - started
        # Not ru_maxrss: that of a process begins with what its parent held.
        held = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
        peak = int(held.split()[0]) / 1024
        print(json.dumps({"peak_mb": round(peak), "per_second": round(asked.samples[0] / seconds)}))
        return
    for samples in asked.samples:
        with tempfile.TemporaryDirectory() as folder:
            for name in "ab":
                packed(Path(folder) / name, samples, other=name == "b")
            command = [sys.executable, __file__, "--one", folder, "--samples", str(samples)]
            print(samples, subprocess.check_output(command, text=True).strip(), flush=True)


if __name__ == "__main__":
    main()
