"""How hard the virtual Earth is: a random forest on its Sentinel-2 pixels, against its truth.

    python benchmarks/virtual_difficulty.py [--pixels 1000000] [--seed 0] [--spread 0 --draw 0]

Places are uniform on the land between 82° N and 80° S. Of each, a window of 64 x 64 pixels of 10 m
is read on two days: the clearest scene of summer and of spring (of the north) that shows all of it. Classes are
the top of the ontology, from the truth at the centres of the pixels. Train and test places lie in
different cells of an equal-area lattice of 500 km. The forest sees one pixel on one day; then the
mean and deviation of the 7 x 7 around it too; then one pixel on both days.

Needs scikit-learn. Takes some 15 minutes on 2 cores at 1M pixels.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from las_builder.access import ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.leaves import LEAVES, branch
from las_builder.catalogs import Catalogs
from las_builder.core.types import Chip, Period, Scene

SIDE, MARGIN = 64, 3
SEASONS = ("2021-06-25/2021-10-01", "2021-03-10/2021-06-15")
TOPS = sorted({branch(leaf, 1) for leaf in LEAVES})
CLASS = np.array([TOPS.index(branch(leaf, 1)) for leaf in LEAVES])


def places(n: int, earth: VirtualEarth, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Degrees, uniform on land per area."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, 12 * n), np.degrees(np.arcsin(rng.uniform(-1, 1, 12 * n)))
    kept = (lat < 82) & (lat > -80) & earth.world.strata.is_land(lon, lat)
    return lon[kept][:n], lat[kept][:n]


def cell(lon: float, lat: float, km: float = 500.0) -> int:
    """Equal-area cell of a place."""
    belts = round(math.pi * 6371 / km)
    belt = int((math.sin(math.radians(lat)) + 1) / 2 * belts)
    return belt * 1000 + int((lon + 180) / 360 * round(2 * 6371 / km * 2))


def clearest(earth: VirtualEarth, lon: float, lat: float) -> list[tuple[Chip, Scene]]:
    """Of each season, a chip with next to no clouds."""
    imagery = earth.catalogs.imagery("sentinel-2-l2a")
    grid = imagery.lattice.grid_at(lon, lat, SIDE + 2 * MARGIN)
    bands = (*(band.name for band in imagery.bands), "SCL")
    found = []
    for season in SEASONS:
        request = SearchRequest(site="a", grid=grid, period=Period.parse(season), max_cloud=60)
        scenes = sorted(earth.search(imagery, [request])[0], key=lambda s: s.cloud_cover or 0)
        for scene in [s for s in scenes if s.grid.contains(grid)][:6]:
            qa = earth.read(
                imagery, [ReadRequest(site="a", scene=scene, grid=grid, bands=("SCL",))]
            )
            if not isinstance(qa[0], Chip) or not qa[0].inside.all():
                continue
            if np.isin(qa[0].data, (3, 8, 9, 10)).mean() < 0.02:
                chip = earth.read(
                    imagery, [ReadRequest(site="a", scene=scene, grid=grid, bands=bands[:-1])]
                )[0]
                found.append((chip, scene))
                break
    return found


def around(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and deviation of the 7 x 7 around each inner pixel, (2 bands, SIDE, SIDE)."""
    view = np.lib.stride_tricks.sliding_window_view(bands, (7, 7), axis=(1, 2))
    return np.concatenate([view.mean(axis=(3, 4)), view.std(axis=(3, 4))])


def gather(earth: VirtualEarth, n: int, each: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Pixels of n places: what the forest sees, the class, the cell."""
    rng = np.random.default_rng(seed + 1)
    one, near, two, truth, cells = [], [], [], [], []
    for lon, lat in zip(*places(n, earth, seed), strict=True):
        found = clearest(earth, lon, lat)
        if len(found) < 2:
            continue
        grid = found[0][0].grid
        x, y = grid.lonlat()
        inner = slice(MARGIN, -MARGIN)
        leaf = earth.truth(x[inner, inner], y[inner, inner], 10.0, 2021)
        layers = [chip.data.astype(np.float32) for chip, _ in found]
        pick = rng.choice(SIDE * SIDE, each, replace=False)
        first, second = (
            layer[:, inner, inner].reshape(len(layer), -1)[:, pick].T for layer in layers
        )
        one.append(first)
        near.append(around(layers[0]).reshape(2 * len(first.T), -1)[:, pick].T)
        two.append(second)
        truth.append(CLASS[leaf.ravel()[pick]])
        cells.append(np.full(each, cell(lon, lat)))
    return {
        "one": np.concatenate(one),
        "near": np.concatenate(near),
        "two": np.concatenate(two),
        "truth": np.concatenate(truth),
        "cell": np.concatenate(cells),
    }


def score(
    x: NDArray[np.float32], y: NDArray[np.int64], test: NDArray[np.bool_], trees: int
) -> tuple[float, dict[str, float]]:
    """Mean intersection over union of the classes that the test places hold, and each."""
    forest = RandomForestClassifier(trees, min_samples_leaf=4, n_jobs=2, random_state=0)
    forest.fit(x[~test], y[~test])
    said, true = forest.predict(x[test]), y[test]
    each = {}
    for k, name in enumerate(TOPS):
        if (true == k).any():
            both = ((said == k) & (true == k)).sum()
            each[name] = round(float(both / ((said == k) | (true == k)).sum()), 3)
    return round(float(np.mean(list(each.values()))), 4), each


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=1_000_000, help="to train on")
    parser.add_argument("--each", type=int, default=512, help="of a place")
    parser.add_argument("--trees", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the world")
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--draw", type=int, default=0)
    options = parser.parse_args()
    earth = VirtualEarth(Catalogs.load(), options.seed, options.spread, options.draw)
    started = time.perf_counter()
    n = round(options.pixels / options.each / 0.7 / 0.9)
    data = gather(earth, n, options.each, seed=11)
    y = data["truth"]
    # A third of the cells is for testing; a hash of the cell decides.
    test = (data["cell"] * 2654435761 % 2**32) / 2**32 < 0.3
    print(
        f"# {len(y)} pixels, {test.sum()} to test, {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    share = {t: round(float((y == k).mean()), 4) for k, t in enumerate(TOPS)}
    one, near, two = data["one"], data["near"], data["two"]
    result: dict[str, object] = {
        "pixels": int((~test).sum()),
        "test": int(test.sum()),
        "share": share,
    }
    for name, x in (
        ("one pixel, one day", one),
        ("7 x 7, one day", np.concatenate([one, near], axis=1)),
        ("one pixel, two days", np.concatenate([one, two], axis=1)),
    ):
        miou, each = score(x, y, test, options.trees)
        result[name] = {"miou": miou, "iou": each}
        print(f"# {name}: {miou}  {each}  {time.perf_counter() - started:.0f} s", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
