"""GeoTIFF members without GDAL's open and close: the tags are GDAL's, the pixels are ours.

Written and read here is one shape alone, the one that shards have (TIFF 6.0; GeoTIFF, OGC 19-008):
little-endian, a strip a band, Zstandard (compression 50000, libtiff), horizontal differences
(predictor 2), integers of one or two bytes. Whatever else comes is for rasterio: `write` and `layout`
give None. Each strip has a checksum of its own, so a byte that was changed is noticed.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numcodecs import zstd
from numpy.typing import NDArray

from las_builder.core.grid import Grid

_ENTRY = struct.Struct("<HHII")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
"""Bytes of a value by its type: byte, ASCII, short, long, rational, double."""

_TYPES = {
    (bits, kind): np.dtype(f"<{'ui'[kind - 1]}{bits // 8}") for bits in (8, 16) for kind in (1, 2)
}
"""Of pixels by BitsPerSample and SampleFormat."""

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
        height, width, count = tags[257][2], tags[256][2], tags[277][2]
        shaped = tags[259][2], tags[317][2], tags[278][2], tags[284][2]
        bits, kinds, starts, lengths = (
            _numbers(data, *tags[tag]) for tag in (258, 339, _OFFSETS, _COUNTS)
        )
    except (KeyError, ValueError, struct.error):
        return None
    if shaped[:3] != (50000, 2, height) or (count > 1 and shaped[3] != 2):
        return None
    if not 0 < count == len(bits) == len(kinds) == len(starts) == len(lengths):
        return None
    dtype = _TYPES.get((bits[0], kinds[0]))
    if dtype is None or len(set(bits)) > 1 or len(set(kinds)) > 1:
        return None
    return Layout((count, height, width), dtype, tuple(zip(starts, lengths, strict=True)))


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


def _entries(data: bytes | memoryview) -> dict[int, tuple[int, int, int]]:
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
    return {tag: (kind, count, word) for tag, kind, count, word in _ENTRY.iter_unpack(table)}


def _value(data: bytes | memoryview, entry: tuple[int, int, int]) -> bytes:
    kind, count, word = entry
    size = _SIZES.get(kind, 0) * count
    return word.to_bytes(4, "little")[:size] if size <= 4 else bytes(data[word : word + size])


def _numbers(data: bytes | memoryview, kind: int, count: int, word: int) -> tuple[int, ...]:
    if count == 1:
        return (word,)
    short = kind == 3
    if count == 2 and short:
        return word & 0xFFFF, word >> 16
    return struct.unpack_from(f"<{count}{'H' if short else 'I'}", data, word)


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
