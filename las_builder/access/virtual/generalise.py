"""Cartographic generalisation: what a map leaves out because it is small.

Both operations look a known number of pixels around (`reach`), so a window read with that margin
gives the same pixels as any other window that holds them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray


def reach(radius: float, smallest: int) -> int:
    """Pixels around a pixel that `majority` and then `sieve` look at.

    A unit of fewer than `smallest` pixels that holds a pixel ends nearer than that many pixels
    away, and so do its neighbours; whether these are small themselves is as far again.
    """
    return math.floor(radius) + (2 * smallest if smallest > 1 else 0)


def majority(classes: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """The commonest class within a disc around each pixel.

    Args:
        classes: (height, width) of small whole numbers.
        radius: Pixels from centre to centre; below 1 nothing changes.

    Returns:
        (height, width). Of equally common classes the pixel's own, else the lowest. At the edges
        of the array the disc is cut.
    """
    if radius < 1:
        return classes
    r = math.floor(radius)
    steps = [
        (dy, dx)
        for dy in range(-r, r + 1)
        for dx in range(-r, r + 1)
        if dy * dy + dx * dx <= radius * radius
    ]
    out = np.empty_like(classes)
    _majority(np.ascontiguousarray(classes), np.array(steps, np.int64), out)
    return out


def sieve(classes: NDArray[np.uint8], smallest: int) -> NDArray[np.uint8]:
    """Units of fewer pixels take the class that most of their edge touches.

    Args:
        classes: (height, width) of small whole numbers.
        smallest: Pixels that a unit, connected by edges, must have to stay.

    Returns:
        (height, width). Only neighbours that stay themselves count, where there are any; of
        equally long edges the lowest class wins. All units are judged at once.
    """
    if smallest <= 1:
        return classes
    classes = np.ascontiguousarray(classes)
    unit = np.full(classes.shape, -1, np.int32)
    size = np.zeros(classes.size, np.int32)
    stack = np.empty(classes.size, np.int32)
    out = classes.copy()
    _units(classes, unit, size, stack)
    _merge(classes, unit, size, smallest, out)
    return out


@njit(cache=True)
def _majority(classes, steps, out):  # type: ignore[no-untyped-def]
    height, width = classes.shape
    count = np.zeros(256, np.int64)
    for y in range(height):
        for x in range(width):
            own = classes[y, x]
            best, winner = 0, own
            for n in range(len(steps)):
                j, i = y + steps[n, 0], x + steps[n, 1]
                if 0 <= j < height and 0 <= i < width:
                    count[classes[j, i]] += 1
            for n in range(len(steps)):
                j, i = y + steps[n, 0], x + steps[n, 1]
                if 0 <= j < height and 0 <= i < width:
                    c = classes[j, i]
                    if count[c] > best or (count[c] == best and c < winner):
                        best, winner = count[c], c
            out[y, x] = own if count[own] == best else winner
            for n in range(len(steps)):
                j, i = y + steps[n, 0], x + steps[n, 1]
                if 0 <= j < height and 0 <= i < width:
                    count[classes[j, i]] = 0


@njit(cache=True)
def _units(classes, unit, size, stack):  # type: ignore[no-untyped-def]
    height, width = classes.shape
    number = 0
    for start in range(height * width):
        if unit[start // width, start % width] >= 0:
            continue
        wanted = classes[start // width, start % width]
        top, pixels = 1, 0
        stack[0] = start
        unit[start // width, start % width] = number
        while top > 0:
            top -= 1
            y, x = stack[top] // width, stack[top] % width
            pixels += 1
            for j, i in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
                if (
                    0 <= j < height
                    and 0 <= i < width
                    and unit[j, i] < 0
                    and classes[j, i] == wanted
                ):
                    unit[j, i] = number
                    stack[top] = j * width + i
                    top += 1
        size[number] = pixels
        number += 1


@njit(cache=True)
def _merge(classes, unit, size, smallest, out):  # type: ignore[no-untyped-def]
    height, width = classes.shape
    done = np.zeros(size.size, np.bool_)
    edges = np.zeros((2, 256), np.int64)  # with units that stay, with all
    pixels = np.empty(smallest, np.int32)
    for start in range(height * width):
        number = unit[start // width, start % width]
        if size[number] >= smallest or done[number]:
            continue
        done[number] = True
        edges[:] = 0
        found, at = 1, 0
        pixels[0] = start
        unit[start // width, start % width] = -2 - number
        while at < found:
            y, x = pixels[at] // width, pixels[at] % width
            at += 1
            for j, i in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
                if j < 0 or j >= height or i < 0 or i >= width:
                    continue
                if unit[j, i] == number:
                    unit[j, i] = -2 - number
                    pixels[found] = j * width + i
                    found += 1
                elif unit[j, i] != -2 - number:
                    other = unit[j, i] if unit[j, i] >= 0 else -2 - unit[j, i]
                    edges[1, classes[j, i]] += 1
                    if size[other] >= smallest:
                        edges[0, classes[j, i]] += 1
        kind = 0 if edges[0].max() > 0 else 1
        if edges[kind].max() > 0:
            for n in range(found):
                out[pixels[n] // width, pixels[n] % width] = edges[kind].argmax()
