"""Does the memory of `las fetch` grow with sites? It must not (bar: 2,000 within 10 % of 200).

    python benchmarks/fetch_memory.py [--sites 200 2000] [--workers 2]

Runs sample, scenes and fetch of `las-s2-worldcover` (264 x 264 x 12 bands, two dates a site) on the
virtual Earth, each number of sites in a folder of its own, and prints the peak of the resident
memory of the whole process tree of `las fetch`, read every 50 ms: summed, of the main process at that
moment, and of the largest process. Pages that processes share are counted once each (USS would hide the libraries).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil


def las(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "las_builder.cli", *arguments]


def watched(command: list[str]) -> dict[str, float]:
    """Run a command; peak MB of its process tree, and its seconds."""
    peak = {"tree_mb": 0.0, "main_mb": 0.0, "largest_mb": 0.0}
    started = time.monotonic()
    run = subprocess.Popen(command)
    done = threading.Event()

    def look() -> None:
        root = psutil.Process(run.pid)
        while not done.wait(0.05):
            sizes = []
            for process in [root, *_children(root)]:
                try:
                    sizes.append(process.memory_info().rss / 1e6)
                except psutil.Error:
                    continue
            if sum(sizes) > peak["tree_mb"]:
                peak["tree_mb"], peak["main_mb"] = sum(sizes), sizes[0]
            peak["largest_mb"] = max(peak["largest_mb"], *sizes, 0.0)

    watcher = threading.Thread(target=look)
    watcher.start()
    code = run.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return {**peak, "seconds": time.monotonic() - started}


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sites", type=int, nargs="+", default=[200, 2000])
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    found = {}
    for sites in options.sites:
        work = Path(tempfile.mkdtemp(prefix="las-memory-"))
        try:
            recipe = ["las-s2-worldcover", "--source", "virtual", "--count", str(sites)]
            common = ["--work", str(work)]
            engine = ["--workers", str(options.workers)]
            subprocess.run(las("sample", *recipe, *common), check=True)
            subprocess.run(las("scenes", *recipe, *common, *engine), check=True)
            found[sites] = watched(las("fetch", *recipe, *common, *engine))
        finally:
            shutil.rmtree(work)
    first = found[options.sites[0]]
    for sites, peak in found.items():
        ratios = {k: round(peak[k] / first[k], 3) for k in ("tree_mb", "largest_mb")}
        print(
            json.dumps(
                {"sites": sites, **{k: round(v, 1) for k, v in peak.items()}, "ratio": ratios}
            )
        )


if __name__ == "__main__":
    main()
