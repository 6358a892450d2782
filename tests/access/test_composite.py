"""Composites: against loops over pixels, members with other offsets, and strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from affine import Affine

from las_builder.access import ReadRequest, composite
from las_builder.access.composite import best, composed, median
from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef, Chip, Gap, GapReason, Scene
from las_builder.errors import StacError

GRID = Grid("EPSG:32633", Affine(10, 0, 399960, 0, -10, 5000040), 24, 18)


@pytest.fixture
def s2() -> Imagery:
    return Catalogs.load().imagery("sentinel-2-l2a")


def scene(day: int, baseline: str = "05.09") -> Scene:
    return Scene(
        id=f"s{day}", datetime=datetime(2021, 6, day, 10, tzinfo=UTC), cloud_cover=1.0, grid=GRID,
        assets={band: AssetRef(href=f"mem://{day}") for band in ("B04", "B08", "SCL")},
        properties={"s2:processing_baseline": baseline, "platform": "sentinel-2a"},
    )  # fmt: skip


class Held:
    """Numbers and validity of some scenes by formula; reads any window of them."""

    def __init__(self, seed: int, days: Sequence[int], clear: float = 0.6) -> None:
        chance = np.random.default_rng(seed)
        self.numbers = {d: chance.integers(1, 9000, (2, *GRID.shape), np.uint16) for d in days}
        self.scl = {
            d: np.where(chance.random(GRID.shape) < clear, 4, 9).astype(np.uint8) for d in days
        }
        self.asked: list[tuple[str, tuple[str, ...], int]] = []

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        out: list[Chip | Gap] = []
        for r in requests:
            assert not r.scene.members
            top = round((GRID.transform.f - r.grid.transform.f) / 10)
            rows = slice(top, top + r.grid.height)
            day = int(r.scene.id[1:])
            self.asked.append((r.scene.id, r.bands, r.grid.height))
            qa = r.bands == ("SCL",)
            assert qa == r.categorical
            data = self.scl[day][None, rows] if qa else self.numbers[day][:, rows]
            inside = np.ones(r.grid.shape, bool)
            out.append(Chip(grid=r.grid, bands=r.bands, data=data, inside=inside, resampled=False))
        return out


def request(whole: Scene) -> ReadRequest:
    return ReadRequest(site="a", scene=whole, grid=GRID, bands=("B04", "B08"))


def middle(values: list[int]) -> int:
    """The median by its definition, halves upwards, in exact arithmetic."""
    low, high = sorted(values)[(len(values) - 1) // 2], sorted(values)[len(values) // 2]
    return int((Fraction(low + high, 2) + Fraction(1, 2)).__floor__())


@pytest.mark.parametrize("way", ["median", "best"])
@pytest.mark.parametrize("days", [(3,), (9, 4), (9, 4, 17), (9, 4, 17, 2, 28, 6)])
def test_a_composite_is_what_a_loop_over_pixels_gives(
    s2: Imagery, way: composite.Composite, days: tuple[int, ...]
) -> None:
    held = Held(len(days), days)
    whole = Scene.of(way, [scene(day) for day in days])
    (chip,) = composed(held.read, s2, [request(whole)])
    assert isinstance(chip, Chip)
    empty = 0
    for y, x in np.ndindex(*GRID.shape):
        there = [d for d in days if held.scl[d][y, x] == 4]
        assert chip.inside[y, x] == bool(there)
        empty += not there
        for k in range(2):
            values = [int(held.numbers[d][k, y, x]) for d in there]
            want = 0 if not values else values[0] if way == "best" else middle(values)
            assert chip.data[k, y, x] == want
    assert empty or len(days) > 3
    assert chip.data.dtype == np.uint16


def test_medians_of_floats_and_of_negative_numbers() -> None:
    numbers = np.array([[[[-3, 7]]], [[[-2, 9]]]], np.int16)
    valid = np.ones((2, 1, 2), bool)
    assert median(numbers, valid).tolist() == [[[-2, 8]]]
    floats = numbers.astype(np.float32) / 2
    assert median(floats, valid).tolist() == [[[-1.25, 4.0]]]
    valid[1, 0, 0] = False
    assert median(floats, valid).tolist() == [[[-1.5, 4.0]]]
    assert best(numbers, valid[::-1]).tolist() == [[[-2, 7]]]


@pytest.mark.parametrize("way", ["median", "best"])
def test_a_large_patch_is_composed_in_strips_with_the_same_numbers(
    s2: Imagery, way: composite.Composite, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(5, (1, 2, 3, 4))
    whole = Scene.of(way, [scene(day) for day in (1, 2, 3, 4)])
    (at_once,) = composed(held.read, s2, [request(whole)])
    held.asked.clear()
    monkeypatch.setattr(composite, "STRIP_BYTES", 5 * GRID.width * 2 * 4 * 2)
    (in_strips,) = composed(held.read, s2, [request(whole)])
    assert {height for _, _, height in held.asked} == {5, 3}
    assert isinstance(at_once, Chip)
    assert isinstance(in_strips, Chip)
    assert np.array_equal(at_once.data, in_strips.data)
    assert np.array_equal(at_once.inside, in_strips.inside)


def test_members_of_before_and_after_baseline_4_are_brought_to_one_offset(s2: Imagery) -> None:
    held = Held(7, (1, 2, 3), clear=1.1)
    held.numbers[1][0, 0, 0] = 65_100  # saturated; 1000 more does not fit
    members = [scene(1, "02.14"), scene(2, "05.09"), scene(3, "05.10")]
    whole = Scene.of("median", members)
    (chip,) = composed(held.read, s2, [request(whole)])
    assert isinstance(chip, Chip)
    scale, offset = s2.radiometry(whole, "B04")
    assert (scale, offset) == (0.0001, -0.1)
    physical = []
    for day, one in zip((1, 2, 3), members, strict=True):
        a, b = s2.radiometry(one, "B04")
        physical.append(held.numbers[day][0].astype(float) * a + b)
    want = np.median(physical, axis=0)
    want[0, 0] = np.median([6.5535 - 0.1, physical[1][0, 0], physical[2][0, 0]])
    assert np.abs(chip.data[0] * scale + offset - want).max() < 1e-9
    # All of one baseline keep the provider's numbers.
    old = Scene.of("best", [scene(1, "02.14"), scene(2, "02.12")])
    (chip,) = composed(held.read, s2, [request(old)])
    assert isinstance(chip, Chip)
    assert np.array_equal(chip.data, held.numbers[1])
    assert s2.radiometry(old, "B04") == (0.0001, 0.0)


def test_members_of_another_scale_are_refused(s2: Imagery) -> None:
    other = replace(
        scene(2), assets={"B04": AssetRef(href="x", scale=0.0002), "B08": AssetRef(href="x")}
    )
    held = Held(1, (1, 2))
    whole = Scene.of("median", [scene(1), other])
    with pytest.raises(StacError, match=r"raster:scale.*B04.*0\.0002"):
        composed(held.read, s2, [request(whole)])


def test_a_composite_in_which_nobody_sees_anything_is_a_gap_and_others_are_passed_on(
    s2: Imagery,
) -> None:
    held = Held(2, (1, 2), clear=-1.0)
    whole = Scene.of("median", [scene(1), scene(2)])
    plain = request(scene(1))
    gap, chip, again = composed(held.read, s2, [request(whole), plain, request(whole)])
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.NOT_COVERED
    assert again == gap
    assert isinstance(chip, Chip)
    assert np.array_equal(chip.data, held.numbers[1])


def test_what_a_composite_says_of_itself() -> None:
    members = [scene(9), scene(2, "05.10"), scene(20), scene(4)]
    whole = Scene.of("best", members)
    assert whole.id == "s9+s2+s20+s4"
    assert whole.datetime == datetime(2021, 6, 4, 10, tzinfo=UTC)
    assert whole.parts == tuple(members)
    assert members[0].parts == (members[0],)
    assert whole.properties == {
        "platform": "sentinel-2a",
        "start_datetime": "2021-06-02T10:00:00+00:00",
        "end_datetime": "2021-06-20T10:00:00+00:00",
    }
