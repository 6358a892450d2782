"""The rows beside a checkpoint that CLIP gives: its patches, ProxyCLIP, and the fusion of the two branches.

Every window is asked once for all of them. Fusion needs the confidence of a class over the whole tile
before it can say anything of a pixel, so what was said of a tile is kept until all rows have read it.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.core.workspace import plain_disk_errors, sha256_file
from las_builder.evaluate import score as scores
from las_builder.evaluate.benchmark import Task, Tile
from las_builder.evaluate.fusion import FUSIONS, Confidence, Fusion
from las_builder.evaluate.proxyclip import Proxy, both, side_of
from las_builder.evaluate.windows import Piece, Say
from las_builder.models import clip as clips
from las_builder.models.segmenter import LandSegmenter

_IN_MEMORY = 64 * 2**20
_WHOLE = 65535
"""Probabilities are kept as 16-bit shares of this: off by 8e-6 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """What the rows are made with."""

    file: Path
    """A CLIP of `clip.save`, or GeoRSCLIP's own file."""

    fusions: Sequence[str] = ("mean",)
    """Keys of `fusion.FUSIONS`; none: no row of fusion."""

    proxy: Proxy = field(default_factory=Proxy)


class Branches:
    """Both branches on tiles, asked once a window, whatever rows are made of it.

    The first row to ask of a tile asks the windows; others read what was kept of the last tile, in
    memory up to 64 MiB and in a temporary file beyond.

    Args:
        say: Gives 3 x class maps: LandSegmenter's, CLIP's patches', ProxyCLIP's (`proxyclip.both`).
        classes: How many.
        folder: Where the temporary file goes; it has no name.
        window: Side of the windows, pixels.
        overlap: Share of a window that the next one repeats.
        batch: Windows at once.
    """

    def __init__(
        self, say: Say, classes: int, folder: Path, *, window: int, overlap: float, batch: int
    ) -> None:
        self.classes, self.folder = classes, folder
        self._windows = scores.by_windows(
            say, 3 * classes, window=window, overlap=overlap, batch=batch
        )
        self._tile: Tile | None = None
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._close: Callable[[], object] = lambda: None
        self._places: list[tuple[int, int, int, int]] = []
        self._sure = Confidence(classes)

    def own(self, tile: Tile) -> Iterator[Piece]:
        """LandSegmenter's, as without CLIP to the bit."""
        for piece in self._ask(tile):
            yield replace(piece, probability=piece.probability[: self.classes])

    def patches(self, tile: Tile) -> Iterator[Piece]:
        """CLIP's patches'."""
        return self._part(tile, 1)

    def proxied(self, tile: Tile) -> Iterator[Piece]:
        """ProxyCLIP's."""
        return self._part(tile, 2)

    def fused(self, fusion: Fusion) -> scores.Answer:
        """LandSegmenter's, with ProxyCLIP where it lacks confidence."""

        def answer(tile: Tile) -> Iterator[Piece]:
            pieces, k = self._kept(tile), self.classes
            sure = self._sure(fusion.confidence)
            for piece in pieces:
                p = piece.probability
                yield replace(piece, probability=fusion.join(p[:k], p[2 * k :], sure))

        return answer

    def _part(self, tile: Tile, which: int) -> Iterator[Piece]:
        first = which * self.classes
        for piece in self._kept(tile):
            yield replace(piece, probability=piece.probability[first : first + self.classes])

    def _ask(self, tile: Tile) -> Iterator[Piece]:
        """Ask the windows, and keep what they say: all of it, once the last piece was taken."""
        self._forget()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self.folder))  # noqa: SIM115
        self._file = file
        self._close = weakref.finalize(self, file.close)
        for piece in self._windows(tile):
            small = np.rint(piece.probability * np.float32(_WHOLE)).astype(np.uint16)
            self._places.append((piece.row, piece.column, *small.shape[1:]))
            self._sure.add(_large(small[: self.classes]))
            with plain_disk_errors(self.folder):
                file.write(small.data)
            yield piece
        self._tile = tile

    def _kept(self, tile: Tile) -> Iterator[Piece]:
        if self._tile is not tile:
            for _ in self._ask(tile):
                pass
        return self._read()

    def _read(self) -> Iterator[Piece]:
        assert self._file is not None
        self._file.seek(0)
        for row, column, rows, columns in self._places:
            raw = self._file.read(2 * 3 * self.classes * rows * columns)
            small = np.frombuffer(raw, np.uint16).reshape(3 * self.classes, rows, columns)
            yield Piece(row, column, _large(small))

    def _forget(self) -> None:
        self._close()
        self._tile, self._file, self._places = None, None, []
        self._sure = Confidence(self.classes)


def rows_of(
    own: scores.Method,
    model: LandSegmenter,
    task: Task,
    options: ClipOptions,
    out: Path,
    *,
    text_file: Path | None,
    window: int,
    overlap: float,
    batch: int,
    device: str,
) -> list[scores.Method]:
    """A checkpoint's row, and those of CLIP's patches, ProxyCLIP and each fusion beside it.

    Args:
        own: The checkpoint's row; its answer is exchanged for one that gives the same.
        model: Of the checkpoint.
        task: The benchmark.
        options: The CLIP and what is made of it.
        out: The folder of scores.
        text_file: Checkpoint of a GeoRSCLIP text tower, where the model wants one.
        window: Side of the windows, pixels.
        overlap: Share of a window that the next one repeats.
        batch: Windows at once.
        device: cpu, cuda.

    Raises:
        CheckpointError: No CLIP in that file.
        InputError: Class names that no model can answer.
    """
    clip = clips.load(options.file)
    proxy = replace(options.proxy, side=side_of(clip.config, options.proxy))
    say = both(
        model, clip, task.classes, task.wavelengths, task.level, proxy,
        text_file=text_file, device=device,
    )  # fmt: skip
    branches = Branches(say, len(task.classes), out, window=window, overlap=overlap, batch=batch)
    asked: dict[str, Any] = {
        "beside": own.name,
        "clip": {
            "file": options.file.name, "sha256": sha256_file(options.file),
            "size": clip.config.size, "side": proxy.side, "templates": clip.encoder().templates,
        },
    }  # fmt: skip
    alone = {"windows": own.facts["windows"], "bands": scores.bands_said(task, None), **asked}
    through = {**own.facts, **asked, "proxy": asdict(proxy)}
    rows = [
        replace(own, answer=branches.own),
        scores.Method(name=f"{own.name}-clip", kind="clip", facts=alone, answer=branches.patches),
        scores.Method(
            name=f"{own.name}-proxyclip", kind="proxyclip", facts=through, answer=branches.proxied
        ),
    ]  # fmt: skip
    for name in options.fusions:
        fusion = FUSIONS[name]
        rows.append(
            scores.Method(
                name=f"{own.name}-fusion" + ("" if name == "mean" else f"-{name}"), kind="fusion",
                facts={**through, "fusion": asdict(fusion)}, answer=branches.fused(fusion),
            )
        )  # fmt: skip
    return rows


def _large(small: NDArray[np.uint16]) -> NDArray[np.float32]:
    return small.astype(np.float32) / np.float32(_WHOLE)
