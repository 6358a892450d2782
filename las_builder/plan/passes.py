"""Single passes over the cells of a target.

The globe has 9 million cells of land. An array of them takes longer to be given by the system than
to be worked out, so what NumPy would do in several steps, each with an array of its own, is one
loop here. Sums run in the order of cells, so they are those of `np.bincount` and `np.cumsum`.

Strata are numbers of cells, or an empty array where all are of stratum 0; shapes are values of
cells, or an empty array where all are 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

NO_INTS, NO_FLOATS = np.zeros(0, np.int32), np.zeros(0)
"""What stands for no strata and no shape."""


@njit(cache=True)
def _at(number: NDArray[np.int32], n: int) -> int:
    return int(number[n]) if number.size else 0


@njit(cache=True)
def _of(values: NDArray[np.float64], n: int) -> float:
    return float(values[n]) if values.size else 1.0


@njit(cache=True, nogil=True)
def add_density(rate, number, shape, out):  # type: ignore[no-untyped-def]
    """Add to every cell the rate of its stratum times its shape."""
    for n in range(out.size):
        out[n] += rate[_at(number, n)] * _of(shape, n)


@njit(cache=True, nogil=True)
def sums(number, values, out):  # type: ignore[no-untyped-def]
    """Add to every stratum the values of its cells (none: 1)."""
    for n in range(number.size):
        out[number[n]] += _of(values, n)


@njit(cache=True, nogil=True)
def relabel(number, new, areas, out):  # type: ignore[no-untyped-def]
    """Give every stratum its new number, in place, and add its cells' areas to the new one's."""
    for n in range(number.size):
        number[n] = new[number[n]]
        out[number[n]] += areas[n]


@njit(cache=True, nogil=True)
def look_up(array, rows, columns, row, column, meant, out):  # type: ignore[no-untyped-def]
    """What the codes of a global array mean, cell by cell.

    Args:
        array: (y, x) of whole numbers.
        rows: Of the array, for each row of the lattice.
        columns: Of the array, for each column of the lattice.
        row: Of each cell.
        column: Of each cell.
        meant: By code, (codes,).
        out: (cells,).
    """
    for n in range(row.size):
        out[n] = meant[array[rows[row[n]], columns[column[n]]]]


@njit(cache=True, nogil=True)
def starts(cell, out):  # type: ignore[no-untyped-def]
    """Where the points of every cell start among points in the order of cells, (cells + 1,)."""
    done = 0
    for n in range(cell.size):
        while done <= cell[n]:
            out[done] = n
            done += 1
    out[done:] = cell.size


@njit(cache=True, nogil=True)
def strata_masses(rate, number, shape, areas, row, whole, out, cells):  # type: ignore[no-untyped-def]
    """Add to every stratum what `systematic` takes its cells to hold, and how many cells it has."""
    for n in range(row.size):
        h = _at(number, n)
        cells[h] += 1
        if areas[n] > 0:
            out[h] += rate[h] * _of(shape, n) * whole[row[n]]


@njit(cache=True, nogil=True)
def systematic(rate, number, shape, areas, row, whole, first, at, out):  # type: ignore[no-untyped-def]
    """The cells at which a running sum over strata, then cells, passes some masses.

    Args:
        rate: Mass per km2 of every stratum.
        number: Stratum of every cell.
        shape: Of every cell.
        areas: Cells of no area have no mass.
        row: Of every cell, on the lattice.
        whole: Area of a cell of each row, km2.
        first: How many cells the strata before each have, (strata,); is changed.
        at: Ascending masses.
        out: The first cell at which the sum is above each.
    """
    order = np.empty(row.size if number.size else 0, np.int32)
    for n in range(order.size):
        order[first[number[n]]] = n
        first[number[n]] += 1
    total, k = 0.0, 0
    cell = 0
    for i in range(row.size):
        if k == at.size:
            break
        cell = order[i] if number.size else i
        if areas[cell] > 0:
            total += rate[_at(number, cell)] * _of(shape, cell) * whole[row[cell]]
        while k < at.size and at[k] < total:
            out[k] = cell
            k += 1
    if row.size:
        out[k:] = order[row.size - 1] if number.size else row.size - 1


@njit(cache=True, nogil=True)
def allocated(rate, number, shape, areas, wanted, crowd, first, second, worst):  # type: ignore[no-untyped-def]
    """What the sites of every stratum weigh, and where they stand thickest.

    Args:
        rate: Density of one site of every stratum, per km2.
        number: Stratum of every cell.
        shape: Of every cell.
        areas: km2 of every cell.
        wanted: Sites of all strata per km2 of every cell; weights are one over it.
        crowd: Of every cell.
        first: Gets the mean weight of each stratum.
        second: Gets the mean square.
        worst: Gets the largest crowd.
    """
    for n in range(areas.size):
        h = _at(number, n)
        chance = rate[h] * _of(shape, n) * areas[n]
        weight = 1 / wanted[n] if wanted[n] > 0 else 0.0
        first[h] += chance * weight
        second[h] += chance * (weight * weight)
        if chance > 0 and crowd[n] > worst[h]:
            worst[h] = crowd[n]


@njit(cache=True, nogil=True)
def merged(row, column, known, values, out, fresh, wide):  # type: ignore[no-untyped-def]
    """Values of the cells that are known already.

    Args:
        row: Of each cell, on the lattice, ascending.
        column: Of each cell.
        known: Ascending numbers on the lattice of the cells that are known.
        values: Theirs.
        out: Gets the values of the cells.
        fresh: Gets whether a cell is not known.
        wide: Columns of the lattice.

    Returns:
        How many cells are not known.
    """
    k, count = 0, 0
    for n in range(row.size):
        key = row[n] * wide + column[n]
        while k < known.size and known[k] < key:
            k += 1
        fresh[n] = k == known.size or known[k] != key
        if fresh[n]:
            count += 1
        else:
            out[n] = values[k]
    return count


@njit(cache=True, nogil=True)
def join(row, column, fresh, found, known, values, keys, both, wide):  # type: ignore[no-untyped-def]
    """What is known and what is fresh, by ascending number on the lattice."""
    k, m = 0, 0
    for n in range(row.size):
        if not fresh[n]:
            continue
        key = row[n] * wide + column[n]
        while k < known.size and known[k] < key:
            keys[m], both[m] = known[k], values[k]
            k, m = k + 1, m + 1
        keys[m], both[m] = key, found[n]
        m += 1
    keys[m:], both[m:] = known[k:], values[k:]


@njit(cache=True, nogil=True)
def room(crowd, extra, full):  # type: ignore[no-untyped-def]
    """The most times that all of `extra` fits beside `crowd` below `full`, at most 1."""
    least = 1.0
    for n in range(crowd.size):
        if extra[n] > 0:
            least = min(least, (full - crowd[n]) / extra[n])
    return least


@njit(cache=True, nogil=True)
def held(density, row, whole):  # type: ignore[no-untyped-def]
    """∫ of a density over whole cells."""
    total = 0.0
    for n in range(row.size):
        total += density[n] * whole[row[n]]
    return total
