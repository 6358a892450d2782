"""How much is asked for at once: what the service allows, and what it has managed before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from las_builder.access.earth_engine.client import splits
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.grid import Grid
from las_builder.errors import AccessError


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bands on some pixels of a grid."""

    grid: Grid
    """The whole."""

    bands: tuple[str, ...]
    rows: tuple[int, int]
    cols: tuple[int, int]

    @property
    def weight(self) -> int:
        """Numbers that it holds."""
        return len(self.bands) * self.height * self.width

    @property
    def height(self) -> int:
        """Rows."""
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.cols[1] - self.cols[0]

    @property
    def place(self) -> Grid:
        """Its own pixels."""
        t = self.grid.transform
        west, north = t.c + self.cols[0] * t.a, t.f + self.rows[0] * t.e
        return Grid(self.grid.crs, Affine(t.a, 0.0, west, 0.0, t.e, north), self.width, self.height)

    def halves(self, *, long: bool = False) -> list[Piece]:
        """Half the bands each; of one band, or of what is too long, half the longer side each; none
        of a single pixel.
        """
        if len(self.bands) > 1 and not long:
            n = (len(self.bands) + 1) // 2
            return [replace(self, bands=self.bands[:n]), replace(self, bands=self.bands[n:])]
        if self.height * self.width == 1:
            return []
        name = "rows" if self.height >= self.width else "cols"
        first, last = self.rows if name == "rows" else self.cols
        middle = (first + last + 1) // 2
        if name == "rows":
            return [replace(self, rows=(first, middle)), replace(self, rows=(middle, last))]
        return [replace(self, cols=(first, middle)), replace(self, cols=(middle, last))]


@dataclass(slots=True)
class Memory:
    """The most numbers at once that were too much for something before; of this process."""

    most: dict[Hashable, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def too_much(self, what: Hashable, weight: int) -> None:
        """So many were."""
        with self.lock:
            self.most[what] = min(weight - 1, self.most.get(what, weight))


MEMORY = Memory()


def counted(pixels: int, kinds: Sequence[np.dtype[np.generic]]) -> int:
    """Bytes that the service counts: at least two a band and pixel, and one for its mask."""
    return pixels * sum(max(2, kind.itemsize) + 1 for kind in kinds)


def fits(piece: Piece, kinds: dict[str, np.dtype[np.generic]], service: EarthEngineService) -> bool:
    """Whether the service allows a piece."""
    size = counted(piece.height * piece.width, [kinds[name] for name in piece.bands])
    return (
        size <= service.max_bytes
        and max(piece.height, piece.width) <= service.max_side
        and len(piece.bands) <= service.max_bands
    )


def pieces(
    whole: Piece, kinds: dict[str, np.dtype[np.generic]], service: EarthEngineService,
    what: Hashable = None,
) -> Iterator[Piece]:  # fmt: skip
    """A whole in pieces that are allowed, and that were not too much for `what` before."""
    small = whole.weight <= MEMORY.most.get(what, whole.weight)
    halves = whole.halves(long=max(whole.height, whole.width) > service.max_side)
    if (small and fits(whole, kinds, service)) or not halves:
        yield whole
        return
    for half in halves:
        yield from pieces(half, kinds, service, what)


def in_pieces(
    whole: Piece,
    kinds: dict[str, np.dtype[np.generic]],
    service: EarthEngineService,
    read: Callable[[Piece], dict[str, NDArray[np.generic]]],
    what: Hashable,
) -> dict[str, NDArray[np.generic]]:
    """All bands of a whole, read in as few pieces as the service manages.

    Args:
        whole: What is wanted.
        kinds: Type of each band, or a wider one.
        service: Its limits.
        read: Reads one piece: band to (y, x).
        what: Things that are alike in what they cost; what was too much is remembered by it.

    Raises:
        AccessError: It failed, also in the smallest pieces.
    """
    out: dict[str, NDArray[np.generic]] = {}
    for piece in pieces(whole, kinds, service, what):
        try:
            found = read(piece)
        except AccessError as problem:
            if not splits(service, problem) or not (halves := piece.halves()):
                raise
            MEMORY.too_much(what, piece.weight)
            found = {}
            for half in halves:
                _put(found, in_pieces(half, kinds, service, read, what), half, piece)
        _put(out, found, piece, whole)
    return out


def _put(
    out: dict[str, NDArray[np.generic]], found: dict[str, NDArray[np.generic]], piece: Piece,
    whole: Piece,
) -> None:  # fmt: skip
    """The bands of a piece into those of the whole."""
    top, left = piece.rows[0] - whole.rows[0], piece.cols[0] - whole.cols[0]
    for name, data in found.items():
        if data.shape == (whole.height, whole.width):
            out[name] = data
            continue
        canvas = out.setdefault(name, np.zeros((whole.height, whole.width), data.dtype))
        canvas[top : top + piece.height, left : left + piece.width] = data
