"""Rows of CLIP beside a checkpoint: one asking of the windows for all, and what is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Las
from kit_imports import SETS
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs
from las_builder.cli import evaluate as command
from las_builder.errors import CheckpointError
from las_builder.evaluate import score as scores
from las_builder.evaluate.benchmark import Task, Tile, tiles_of
from las_builder.evaluate.branches import Branches, ClipOptions, rows_of
from las_builder.evaluate.fusion import FUSIONS, Fusion, class_confidence
from las_builder.evaluate.zero_shot import evaluate
from las_builder.models import checkpoint
from las_builder.models.clip import Clip, save
from las_builder.models.config import CLIPS, ModelConfig
from las_builder.models.segmenter import LandSegmenter

CATALOGS = Catalogs.load()
K = 4


class Asked:
    """Three branches by a rule of the pixels, which counts its windows."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.windows += len(images)
        logits = np.concatenate([images * s for s in (3, -2, 5)], axis=1)[:, : 3 * K]
        p = np.exp(logits).reshape(len(images), 3, K, *images.shape[2:])
        return (p / p.sum(axis=2, keepdims=True)).reshape(len(images), 3 * K, *images.shape[2:])


def tile(seed: int = 0, shape: tuple[int, int] = (70, 90)) -> Tile:
    chance = np.random.default_rng(seed)
    image = chance.normal(0, 1, (K, *shape)).astype(np.float32)
    image[3] = -9  # of LandSegmenter and ProxyCLIP class 3 is never likely
    return Tile(f"tile {seed}", image, np.zeros(shape, np.uint8), (0, 1, 2))


def whole(pieces: object, shape: tuple[int, int]) -> NDArray[np.float64]:
    out = np.full((K, *shape), np.nan)
    for piece in pieces:  # type: ignore[attr-defined]
        rows, columns = piece.probability.shape[1:]
        here = np.s_[:, piece.row : piece.row + rows, piece.column : piece.column + columns]
        assert np.isnan(out[here]).all()
        out[here] = piece.probability
    return out


def branches(say: Asked, folder: Path, window: int = 32) -> Branches:
    return Branches(say, K, folder, window=window, overlap=0.5, batch=3)


def test_every_row_is_of_one_asking(tmp_path: Path) -> None:
    say, one = Asked(), tile()
    both = branches(say, tmp_path)
    own = whole(both.own(one), one.truth.shape)
    once = say.windows
    patches, proxied = (whole(f(one), one.truth.shape) for f in (both.patches, both.proxied))
    wanted = Asked()(one.image[None])[0].astype(np.float64)  # the rule is of single pixels
    np.testing.assert_allclose(own, wanted[:K], atol=1e-6)
    np.testing.assert_allclose(patches, wanted[K : 2 * K], atol=1e-5)
    np.testing.assert_allclose(proxied, wanted[2 * K :], atol=1e-5)
    for fusion in (*FUSIONS.values(), Fusion(confidence="max", below=0.8, gate=False)):
        fused = whole(both.fused(fusion)(one), one.truth.shape)
        np.testing.assert_allclose(fused, fusion(own, proxied), atol=1e-4)
    # Of the whole tile: a strip of it has other confidences.
    assert np.abs(class_confidence(own[:, :16]) - class_confidence(own)).max() > 1e-3
    assert say.windows == once
    other = tile(1)
    np.testing.assert_allclose(
        whole(both.proxied(other), other.truth.shape),
        Asked()(other.image[None])[0, 2 * K :],
        atol=1e-5,
    )
    assert say.windows == 2 * once
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_asked_for_alone_are_the_same(tmp_path: Path) -> None:
    one, first, second = tile(), Asked(), Asked()
    mine, alone = branches(first, tmp_path), branches(second, tmp_path)
    _ = whole(mine.own(one), one.truth.shape)
    fused = [whole(b.fused(Fusion())(one), one.truth.shape) for b in (mine, alone)]
    np.testing.assert_array_equal(*fused)
    # A row that is dropped half way leaves nothing that another would take for whole.
    half = tile(2)
    next(iter(mine.own(half)))
    for other in (half, one):
        maps = [whole(b.fused(Fusion())(other), other.truth.shape) for b in (mine, alone)]
        np.testing.assert_array_equal(*maps)


def test_large_tiles_go_to_a_file_without_a_name(tmp_path: Path, monkeypatch) -> None:
    one = tile()
    want = whole(branches(Asked(), tmp_path).proxied(one), one.truth.shape)
    monkeypatch.setattr("las_builder.evaluate.branches._IN_MEMORY", 1000)
    both = branches(Asked(), tmp_path / "new")
    np.testing.assert_array_equal(whole(both.proxied(one), one.truth.shape), want)
    assert both._file is not None
    assert both._file._rolled
    assert list((tmp_path / "new").iterdir()) == []


# ---- with models


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny: ModelConfig) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("demo") / "best.safetensors"
    checkpoint.save(LandSegmenter(tiny), file)
    return file


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("clip") / "nano.safetensors"
    small = replace(
        CLIPS["nano"], width=64, heads=2, layers=2, text_width=64, text_layers=1, dim=16
    )
    save(Clip(small), file)
    return file


def test_rows_beside_a_checkpoint(weights, clip, tmp_path: Path) -> None:
    SETS["loveda"](tmp_path / "copy")
    out, options = tmp_path / "scores", ClipOptions(file=clip, fusions=("mean", "omitted"))
    more = {"catalogs": CATALOGS, "window": 64}
    alone = evaluate(weights, ["loveda"], tmp_path / "copy", tmp_path / "alone", **more)
    written = evaluate(weights, ["loveda"], tmp_path / "copy", out, clip=options, **more)
    stem = f"{weights.parent.name}-best"
    names = ["", "-clip", "-proxyclip", "-fusion", "-fusion-omitted"]
    assert [file.name for file in written] == [f"{stem}{n}-loveda.json" for n in names]
    own, patches, proxied, fused, omitted = (json.loads(file.read_text()) for file in written)
    assert own == json.loads(alone[0].read_text())  # CLIP beside it changes nothing of it
    assert patches["clip"]["side"] == 96
    assert patches["bands"]["left_out"] == []
    assert "proxy" not in patches
    assert proxied["proxy"]["embedding"] == "pixels"
    assert (fused["fusion"]["below"], omitted["fusion"]["below"]) == (None, 0.5)
    assert [one["kind"] for one in (own, patches, proxied, fused)] == [
        "checkpoint", "clip", "proxyclip", "fusion",
    ]  # fmt: skip
    unsure = [one["uncertainty"] for one in (own, patches, proxied, fused)]
    assert len(set(unsure)) == 4
    page = (out / "index.html").read_text()
    assert (
        page.count("<figcaption>ProxyCLIP<")
        == page.count("<figcaption>fusion (omitted)<")
        == len(own["tiles"])
    )
    assert "GeoRSCLIP weights: never run" in page
    assert "official weights: never run" in page
    assert page.count("a LandSegmenter nano, without weights of SAM2.1") == 4  # CLIP alone has none

    # A tile of one row is gone: both branches are asked again for that tile, and all is as it was.
    before = [file.read_bytes() for file in written]
    sorted((out / f"{stem}-fusion-loveda").glob("*.npz"))[0].unlink()
    told: list[str] = []
    evaluate(weights, ["loveda"], tmp_path / "copy", out, clip=options, told=told.append, **more)
    assert [line.split(",")[0] for line in told] == [f"loveda: 1 of {len(own['tiles'])} tiles"]
    assert [file.read_bytes() for file in written] == before
    # Another CLIP under the same name: its rows are made again, the checkpoint's own is not.
    torch.manual_seed(2)
    save(
        Clip(replace(CLIPS["nano"], width=64, heads=2, layers=1, text_width=64)),
        tmp_path / clip.name,
    )
    other = replace(options, file=tmp_path / clip.name, fusions=())
    evaluate(weights, ["loveda"], tmp_path / "copy", out, clip=other, **more)
    after = [file.read_bytes() for file in written]
    assert (after[0], after[3]) == (before[0], before[3])
    assert after[1] != before[1]
    assert after[2] != before[2]


def test_fusion_is_made_of_the_two_rows(weights, clip, tmp_path: Path) -> None:
    """The row's confusion matrix is that of the formula on the two branches' maps."""
    SETS["loveda"](tmp_path / "copy")
    task = Task.of("loveda", CATALOGS)
    tiles = tiles_of(task, tmp_path / "copy")
    own = scores.Method(name="m", kind="checkpoint", facts={"windows": {}}, answer=lambda tile: [])
    rows = rows_of(
        own, checkpoint.load(weights), task, ClipOptions(file=clip), tmp_path,
        text_file=None, window=32, overlap=0.5, batch=2, device="cpu",
    )  # fmt: skip
    one = tiles.read(0)
    maps = {}
    for row in rows:
        p = np.zeros((len(task.classes), *one.truth.shape))
        for piece in row.answer(one):
            y, x = piece.probability.shape[1:]
            p[:, piece.row : piece.row + y, piece.column : piece.column + x] = piece.probability
        maps[row.kind] = p
    wanted = Fusion()(maps["checkpoint"], maps["proxyclip"])
    np.testing.assert_allclose(maps["fusion"], wanted, atol=1e-4)
    assert np.abs(maps["fusion"] - maps["checkpoint"]).max() > 1e-2


def test_the_command(weights, clip, tmp_path: Path, las: Las) -> None:
    SETS["loveda"](tmp_path / "copy")
    common = ("evaluate", weights, "loveda", "--folder", tmp_path / "copy", "-o", tmp_path / "s")
    said = las(*common, "--clip", clip, "--fusion", "max", "--window", 64, "--device", "cpu")
    assert said.code == 0, said
    assert "-fusion-max-loveda.json" in said.out
    said = las(*common, "--clip", weights)
    assert said.code == 2
    assert "landsegmenter-1" in said.err
    assert las(*common, "--fusion", "max").code == 2
    assert "are with --clip" in las(*common, "--proxy", "neck").err


def test_the_command_offers_every_fusion() -> None:
    (asked,) = (option for option in command.params if option.name == "fusions")
    assert set(asked.type.choices) == set(FUSIONS)


def test_no_clip_in_the_file(weights, tmp_path: Path) -> None:
    SETS["loveda"](tmp_path / "copy")
    with pytest.raises(CheckpointError, match="las-clip-1"):
        evaluate(
            weights, ["loveda"], tmp_path / "copy", tmp_path / "s", catalogs=CATALOGS,
            clip=ClipOptions(file=weights),
        )  # fmt: skip
