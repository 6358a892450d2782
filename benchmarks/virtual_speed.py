"""How fast the virtual Earth is on one core, and whether its memory grows with requests.

    python benchmarks/virtual_speed.py

CPU seconds, median of nine places that nothing was asked about before: a million points of the truth
in patches and one by one over the globe; a label patch of 264 x 264 (ESA WorldCover in degrees, the
truth in UTM); a Sentinel-2 L1C patch of 264 x 264 and 13 bands. Bars: 1M points a second, 0.1 s, 0.6 s.
Peak memory after 20 and after 120 image patches.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable

import numpy as np

from las_builder.access import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.types import Period, Scene

SIZE = 264
PLACES = [(11.0, 48.3), (-93.5, 42.1), (-61.2, -4.1), (20.0, 10.2), (103.0, 62.0), (2.4, 48.9),
          (77.2, 28.6), (-58.4, -34.6), (179.99, 66.5)]  # fmt: skip


def median(work: Callable[[float, float], float]) -> float:
    return round(float(np.median([work(lon, lat) for lon, lat in PLACES])), 4)


def main() -> None:
    """Print one JSON object."""
    earth = VirtualEarth(Catalogs.load())
    imagery, product = (
        earth.catalogs.imagery("sentinel-2-l1c"),
        earth.catalogs.label("esa-worldcover-v200"),
    )
    names = tuple(band.name for band in imagery.bands)

    def place(lon: float, lat: float) -> tuple[Grid, Scene]:
        grid = imagery.lattice.grid_at(lon, lat, SIZE)
        request = SearchRequest(
            site="a", grid=grid, period=Period.parse("2021-06-01/2021-07-15"), max_cloud=100
        )
        return grid, next(s for s in earth.search(imagery, [request])[0] if s.grid.contains(grid))

    def truth(lon: float, lat: float) -> float:
        x, y = np.meshgrid(lon + np.arange(1000) * 1e-4, lat - np.arange(1000) * 9e-5)
        start = time.process_time()
        earth.truth(x, y)
        return time.process_time() - start

    def scattered(lon: float, lat: float) -> float:
        rng = np.random.default_rng([abs(int(lon * 100)), abs(int(lat * 100))])
        x, y = rng.uniform(-180, 180, 10**6), np.degrees(np.arcsin(rng.uniform(-1, 1, 10**6)))
        start = time.process_time()
        earth.truth(x, y)
        return time.process_time() - start

    def label(lon: float, lat: float) -> float:
        grid, scene = place(lon, lat)
        start = time.process_time()
        earth.labels(product, [LabelRequest(site="a", grid=grid, scene=scene)])
        return time.process_time() - start

    def truth_patch(lon: float, lat: float) -> float:
        grid, _ = place(lon, lat)
        start = time.process_time()
        earth.truth(*grid.lonlat())
        return time.process_time() - start

    def image(lon: float, lat: float) -> float:
        grid, scene = place(lon, lat)
        start = time.process_time()
        earth.read(imagery, [ReadRequest(site="a", scene=scene, grid=grid, bands=names)])
        return time.process_time() - start

    image(5.0, 45.0), label(5.0, 45.0), truth(5.0, 45.0)  # compiled and read from disk
    said = {
        "truth, 1M points of a patch, s": median(truth),
        "truth, 1M points over the globe, s": median(scattered),
        "truth patch 264 x 264, s": median(truth_patch),
        "WorldCover patch 264 x 264, s": median(label),
        "Sentinel-2 patch 264 x 264 x 13, s": median(image),
    }
    peaks = []
    for first, last in ((0, 20), (20, 120)):
        for k in range(first, last):
            image(5.0 + 0.11 * k, 46.0 - 0.3 * (k % 40))
        peaks.append(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))
    print(
        json.dumps({**said, "peak MB after 20 patches": peaks[0], "after 120": peaks[1]}, indent=1)
    )


if __name__ == "__main__":
    main()
