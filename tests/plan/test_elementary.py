"""Our own sine and its kin: as exact as the library's, and the same bits on every machine."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from scipy.stats import chi2

from las_builder.plan import elementary as e
from las_builder.plan.process import key_of

RNG = np.random.default_rng(0)


def error(found: list[float], want: np.ndarray, relative: bool = True) -> float:
    away = np.abs(np.array(found) - want.astype(float))
    return float((away / np.abs(want.astype(float)) if relative else away).max())


def test_as_exact_as_extended_precision() -> None:
    x = RNG.uniform(-720, 720, 5000)
    turn = np.mod(x.astype(np.longdouble), 360) * (np.arctan(np.longdouble(1)) * 4 / 180)
    assert error([e.sin_cos(v)[0] for v in x], np.sin(turn), relative=False) < 3e-16
    assert error([e.sin_cos(v)[1] for v in x], np.cos(turn), relative=False) < 3e-16
    x = RNG.uniform(-1, 1, 5000)
    assert error([e.arcsin(v) for v in x], np.arcsin(x.astype(np.longdouble))) < 5e-16
    x = RNG.uniform(-600, 600, 5000)
    assert error([e.exp(v) for v in x], np.exp(x.astype(np.longdouble))) < 3e-16
    x = 10 ** RNG.uniform(-300, 300, 5000)
    assert error([e.log(v) for v in x], np.log(x.astype(np.longdouble))) < 3e-16
    x = 10 ** RNG.uniform(-9, 1.5, 5000)
    want = -np.expm1(-x.astype(np.longdouble)) / x
    assert error([e.survival(v) for v in x], want) < 2e-14
    x, y = RNG.normal(size=(2, 5000))
    assert error([e.angle(*v) for v in zip(x, y, strict=True)], np.degrees(np.arctan2(y, x)),
                 relative=False) < 1e-13  # fmt: skip


def test_exact_where_geometry_decides() -> None:
    for quarter, want in enumerate([(0, 1), (1, 0), (0, -1), (-1, 0)]):
        for turns in (-2, 0, 3):
            assert e.sin_cos(90.0 * quarter + 360 * turns) == want
    assert e.arcsin(1) == math.pi / 2
    assert e.arcsin(-1.5) == -math.pi / 2
    assert (e.survival(0), e.exp(0), e.log(1), e.exp(-1e9)) == (1, 1, 0, 0)
    assert (e.angle(-1, 0), e.angle(0, 1), e.angle(0, -1), e.angle(0, 0)) == (180, 90, -90, 0)


def test_the_same_bits_everywhere() -> None:
    x = [i * 0.7310585786300049 - 180 for i in range(500)]
    values = [
        *(v for degrees in x for v in e.sin_cos(degrees)),
        *(e.arcsin(v / 200) for v in x),
        *(e.exp(v / 10) for v in x),
        *(e.log(v + 181) for v in x),
        *(e.survival((v + 180) / 30) for v in x),
        *(e.angle(v, v * v - 9000) for v in x),
        *(e.uniform(np.uint64(2**63 + 5), i, 7 * i, i % 5) for i in range(500)),
    ]
    digest = hashlib.blake2b(np.array(values).tobytes(), digest_size=8).hexdigest()
    assert digest == "f853da297e89c0a6"
    assert key_of(7, "las-s2-worldcover") == np.uint64(7309403225114743933)


@pytest.mark.parametrize("vary", ["place", "number", "purpose", "key"])
def test_random_numbers_are_uniform_and_neighbours_unrelated(vary: str) -> None:
    def draw(i: int) -> float:
        at = {"place": 12_345_678, "number": 3, "purpose": 1, "key": 99}
        at[vary] += i
        return float(e.uniform(np.uint64(at["key"]), at["place"], at["number"], at["purpose"]))

    u = np.array([draw(i) for i in range(40_000)])
    assert 0 < u.min() < u.max() < 1
    counts = np.histogram(u, 200, (0, 1))[0]
    assert chi2.sf(((counts - 200) ** 2 / 200).sum(), 199) > 1e-3
    pairs = np.histogram2d(u[:-1], u[1:], 10, [(0, 1), (0, 1)])[0]
    assert chi2.sf(((pairs - 399.99) ** 2 / 399.99).sum(), 99) > 1e-3
