"""Captions against counts by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from las_builder.pack.caption import caption

TITLES = ("Tree cover", "Cropland", "Permanent water bodies", "NLCD thing")


def said(label: np.ndarray, *, month: int = 7, lat: float | None = 50.0, place: str = "") -> str:
    return caption(
        label.astype(np.uint8), TITLES, when=datetime(2021, month, 5, tzinfo=UTC), lat=lat,
        place=place, sensor="Sentinel-2 L2A", makers=["ESA WorldCover"],
    )  # fmt: skip


def patch(shares: dict[int, int]) -> np.ndarray:
    """10 x 10 pixels, row after row."""
    return np.repeat(list(shares), list(shares.values())).reshape(10, 10)


def test_shares_neighbours_place_and_season() -> None:
    label = patch({0: 50, 1: 30, 2: 17, 3: 3})
    assert said(label, place="Germany, temperate climate") == (
        "Sentinel-2 L2A of Germany, temperate climate, summer, July 2021. Tree cover (50 %), cropland "
        "(30 %) and permanent water bodies (17 %); a little NLCD thing. Tree cover lies mostly beside "
        "cropland. Labelled by ESA WorldCover."
    )


def test_one_class_and_no_label() -> None:
    assert "Almost all of it is tree cover; a little cropland." in said(patch({0: 96, 1: 4}))
    assert "beside" not in said(patch({0: 96, 1: 4}))
    assert said(patch({255: 100})).endswith("July 2021. No label.")
    assert "40 % of it has no label." in said(patch({0: 60, 255: 40}))
    assert "Almost all of it is tree cover." in said(patch({0: 60, 255: 40}))


def test_neighbours_are_counted_by_edges() -> None:
    label = np.zeros((10, 10), int)
    label[4:6, 4:6] = 1  # 8 edges
    label[0, :6] = 2  # 6 below, 1 at the side
    assert "beside cropland" in said(label)
    label[0, :8] = 2  # 8 and 1
    assert "beside permanent water" in said(label)


@pytest.mark.parametrize(
    ("month", "lat", "words"),
    [
        (1, 50.0, "winter, January"), (1, -50.0, "summer, January"), (12, 50.0, "winter, December"),
        (4, -30.0, "autumn, April"), (10, -30.0, "spring, October"), (7, 5.0, "L2A, July"),
        (7, -23.3, "L2A, July"), (7, None, "L2A, July"), (7, 89.9, "summer, July"),
    ],
)  # fmt: skip
def test_seasons(month: int, lat: float | None, words: str) -> None:
    assert f"{words} 2021" in said(patch({0: 100}), month=month, lat=lat)
