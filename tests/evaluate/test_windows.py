"""Blending, against a canvas that holds all of it."""

from __future__ import annotations

import numpy as np
import pytest

from las_builder.evaluate.windows import blended, hann, starts


def field(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((2, height, width), np.float32)


def opinion(images: np.ndarray) -> np.ndarray:
    """Three classes that depend on where in its window a pixel is, so that seams would show."""
    height, width = images.shape[-2:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    raw = np.stack([images[:, 0] * 3, images[:, 1] + y / 9, np.broadcast_to(np.sin(x), images[:, 0].shape)], 1)  # fmt: skip
    raw = np.exp(raw)
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def brute(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """Every window at its place on one canvas, in float64."""
    _, height, width = image.shape
    tall, wide = min(window, height), min(window, width)
    total, weights = np.zeros((3, height, width)), np.zeros((height, width))
    rows = sorted({*range(0, max(height - window, 0), stride), max(height - window, 0)})
    columns = sorted({*range(0, max(width - window, 0), stride), max(width - window, 0)})
    ramp = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (tall, wide)]
    for r in rows:
        for c in columns:
            here = np.s_[..., r : r + tall, c : c + wide]
            w = np.outer(*ramp)
            total[here] += opinion(image[here][None])[0] * w
            weights[here] += w
    return total / weights


@pytest.mark.parametrize(
    ("height", "width", "window", "overlap"),
    [(100, 90, 32, 0.5), (33, 700, 32, 0.25), (20, 20, 32, 0.5), (64, 300, 32, 0.0), (20, 90, 32, 0.7)],
)  # fmt: skip
def test_against_one_canvas(height: int, width: int, window: int, overlap: float) -> None:
    image = field(height, width)
    want = brute(image, window, max(round(window * (1 - overlap)), 1))
    got = {}
    for name, memory, batch in (("whole", 2**28, 4), ("strips", 1, 3)):
        canvas = np.full((3, height, width), np.nan)
        times = np.zeros((height, width), int)
        for piece in blended(
            lambda r, c, h, w: image[:, r : r + h, c : c + w], opinion, height, width,
            classes=3, window=window, overlap=overlap, batch=batch, memory=memory,
        ):  # fmt: skip
            h, w = piece.probability.shape[1:]
            here = np.s_[..., piece.row : piece.row + h, piece.column : piece.column + w]
            canvas[here] = piece.probability
            times[here] += 1
        assert (times == 1).all()
        np.testing.assert_allclose(canvas, want, atol=2e-6)
        np.testing.assert_allclose(canvas.sum(axis=0), 1, atol=1e-5)
        got[name] = canvas
    assert np.array_equal(got["whole"], got["strips"])


def test_windows_cover_a_side_and_weigh_everywhere() -> None:
    for length in (1, 31, 32, 33, 95, 96, 97):
        begun = starts(length, 32, 16)
        covered = {i for s in begun for i in range(s, min(s + 32, length))}
        assert covered == set(range(length))
        assert begun[-1] == max(length - 32, 0)
        assert len(begun) == len(set(begun))
    assert (hann(5) > 0).all()
