"""GeoTIFF members without GDAL's open and close: the tags are GDAL's, the pixels are ours.

Written and read here is one shape alone, the one that shards have (TIFF 6.0; GeoTIFF, OGC 19-008):
little-endian, a strip a band, Zstandard (compression 50000, libtiff), horizontal differences
(predictor 2), integers of one or two bytes. Whatever else comes is for rasterio: `write` and `layout`
give None. Each strip has a checksum of its own, so a byte that was changed is noticed.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numcodecs import zstd
from numpy.typing import NDArray

from las_builder.core.grid import Grid

_ENTRY = struct.Struct("<HHI4s")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
"""Bytes of a value by its type: byte, ASCII, short, long, rational, double."""

_OFFSETS, _COUNTS, _SCALE, _TIEPOINT, _NODATA = 273, 279, 33550, 33922, 42113
_WRITTEN = {_OFFSETS, _COUNTS, _SCALE, _TIEPOINT}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the bands of a member are."""

    shape: tuple[int, int, int]
    """(band, y, x)"""

    dtype: np.dtype[Any]
    strips: tuple[tuple[int, int], ...]
    """(offset, length) in bytes of each band."""


def write(
    grid: Grid, image: NDArray[np.generic], level: int, template: Callable[[Grid], bytes]
) -> bytes | None:
    """A member of some bands.

    Args:
        grid: Of the pixels.
        image: (band, y, x).
        level: Of Zstandard.
        template: Gives, for a grid, a GeoTIFF by GDAL with the same bands and any pixels. Hashable,
            and asked once for one CRS and shape.

    Returns:
        None: its type is not for us.
    """
    turn = grid.transform
    if image.dtype.kind not in "iu" or image.dtype.itemsize > 2:
        return None
    height, width = grid.shape
    tags = dict(_template(template, grid.crs, height, width))
    if grid.crs is not None:
        # Size of a pixel and where the corner is: all grids have north up.
        tags[_SCALE] = 12, 3, struct.pack("<3d", turn.a, -turn.e, 0.0)
        tags[_TIEPOINT] = 12, 6, struct.pack("<6d", 0.0, 0.0, 0.0, turn.c, turn.f, 0.0)
    strips = [zstd.compress(differences(band), level, True) for band in image]
    return _assembled(tags, strips)


def layout(data: bytes | memoryview) -> Layout | None:
    """Where the bands are; None: not a member of our own writing, or cut off."""
    try:
        tags = _entries(data)
        height, width = (_first(data, tags, tag) for tag in (257, 256))
        bits, kinds = set(_numbers(data, tags, 258)), set(_numbers(data, tags, 339))
        count = _first(data, tags, 277)
        shaped = tuple(_first(data, tags, tag) for tag in (259, 317, 278, 284))
        strips = tuple(
            zip(_numbers(data, tags, _OFFSETS), _numbers(data, tags, _COUNTS), strict=True)
        )
    except (KeyError, ValueError, struct.error):
        return None
    if shaped[:3] != (50000, 2, height) or (count > 1 and shaped[3] != 2):
        return None
    if len(strips) != count or len(bits) != 1 or len(kinds) != 1:
        return None
    if not bits <= {8, 16} or not kinds <= {1, 2}:
        return None
    dtype = np.dtype(f"<{'ui'[kinds.pop() - 1]}{bits.pop() // 8}")
    return Layout((count, height, width), dtype, strips)


def read_into(
    data: bytes | memoryview, found: Layout, out: NDArray[np.generic],
    physical: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]] | None = None,
) -> None:  # fmt: skip
    """Decode the bands into an array.

    Args:
        data: The member.
        found: Its layout.
        out: (band, y, x), contiguous, of the layout's type.
        physical: Scales and offsets of the bands and where number * scale + offset goes,
            (band, y, x); in double precision but for the result.

    Raises:
        ValueError: A strip is damaged or cut off.
    """
    view = memoryview(data)
    for (start, length), band in zip(found.strips, out, strict=True):
        if start + length > len(view):
            raise ValueError(f"a strip ends at byte {start + length} of {len(view)}")
        try:
            zstd.decompress(view[start : start + length], band)
        except RuntimeError as error:
            raise ValueError(f"a strip that does not decode: {error}") from error
    plain = out.view(f"u{out.dtype.itemsize}")
    if physical is None:
        _sums(plain)
    else:
        _scaled_sums(plain, out, *physical)


def differences(band: NDArray[np.generic]) -> NDArray[np.generic]:
    """(y, x) each number less the one before it in its row; the first of a row as it is."""
    plain = np.ascontiguousarray(band)
    out = np.empty_like(plain)
    _differences(plain.view(f"u{plain.dtype.itemsize}"), out.view(f"u{plain.dtype.itemsize}"))
    return out


@njit(cache=True, nogil=True)
def _differences(plain, out):  # type: ignore[no-untyped-def]
    for y in range(plain.shape[0]):
        out[y, 0] = plain[y, 0]
        for x in range(1, plain.shape[1]):
            out[y, x] = plain[y, x] - plain[y, x - 1]


@njit(cache=True, nogil=True)
def _sums(image):  # type: ignore[no-untyped-def]
    for b in range(image.shape[0]):
        for y in range(image.shape[1]):
            for x in range(1, image.shape[2]):
                image[b, y, x] += image[b, y, x - 1]


@njit(cache=True, nogil=True)
def _scaled_sums(plain, image, scale, offset, out):  # type: ignore[no-untyped-def]
    for b in range(image.shape[0]):
        for y in range(image.shape[1]):
            for x in range(1, image.shape[2]):
                plain[b, y, x] += plain[b, y, x - 1]
            for x in range(image.shape[2]):  # a row that is still in the cache
                out[b, y, x] = np.float32(image[b, y, x] * scale[b] + offset[b])


@functools.lru_cache(maxsize=4096)
def _template(
    make: Callable[[Grid], bytes], crs: str | None, height: int, width: int
) -> dict[int, tuple[int, int, bytes]]:
    from affine import Affine

    data = make(Grid(crs, Affine(1, 0, 0, 0, -1, 0), width, height))
    return {tag: (entry[0], entry[1], _value(data, entry)) for tag, entry in _entries(data).items()}


def _entries(data: bytes | memoryview) -> dict[int, tuple[int, int, bytes]]:
    """Tag to (type, count, the four bytes that are or lead to its value), of the first image.

    Raises:
        ValueError: No little-endian TIFF of 32 bits.
        struct.error: It is cut off.
    """
    if data[:4] != b"II*\0":
        raise ValueError("no little-endian TIFF")
    (at,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, at)
    table = data[at + 2 : at + 2 + n * _ENTRY.size]
    return {tag: (kind, count, value) for tag, kind, count, value in _ENTRY.iter_unpack(table)}


def _value(data: bytes | memoryview, entry: tuple[int, int, bytes]) -> bytes:
    kind, count, inline = entry
    size = _SIZES.get(kind, 0) * count
    start = int.from_bytes(inline, "little")
    return inline[:size] if size <= 4 else bytes(data[start : start + size])


def _numbers(
    data: bytes | memoryview, tags: Mapping[int, tuple[int, int, bytes]], tag: int
) -> tuple[int, ...]:
    kind, count, _ = tags[tag]
    return struct.unpack(f"<{count}{'H' if kind == 3 else 'I'}", _value(data, tags[tag]))


def _first(data: bytes | memoryview, tags: Mapping[int, tuple[int, int, bytes]], tag: int) -> int:
    return _numbers(data, tags, tag)[0]


def _assembled(tags: dict[int, tuple[int, int, bytes]], strips: Sequence[bytes]) -> bytes:
    """Header, tags, what does not fit into them, strips."""
    n = len(strips)
    lengths = [len(strip) for strip in strips]
    tags[_OFFSETS] = 4, n, bytes(4 * n)
    tags[_COUNTS] = 4, n, struct.pack(f"<{n}I", *lengths)
    ordered = sorted(tags.items())
    beside = 8 + 2 + 12 * len(ordered) + 4
    places, at = {}, beside
    for tag, (_, _, value) in ordered:
        if len(value) > 4:
            places[tag] = at
            at += len(value) + len(value) % 2
    starts = [at + sum(lengths[:i]) for i in range(n)]
    tags[_OFFSETS] = 4, n, struct.pack(f"<{n}I", *starts)
    head = [b"II*\0", struct.pack("<IH", 8, len(ordered))]
    for tag, _ in ordered:
        kind, count, value = tags[tag]
        inline = struct.pack("<I", places[tag]) if tag in places else value.ljust(4, b"\0")
        head.append(struct.pack("<HHI", tag, kind, count) + inline)
    head.append(bytes(4))
    head += [tags[tag][2] + bytes(len(tags[tag][2]) % 2) for tag in places]
    return b"".join([*head, *strips])
