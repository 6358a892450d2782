"""Learning from a benchmark's training tiles: from them alone, nested shares, and it helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import Las
from kit_benchmarks import WRITERS, release, squares
from kit_imports import SETS, image, picture
from sklearn.linear_model import LogisticRegression
from train_kit import quick

from las_builder.access import imports
from las_builder.catalogs import Catalogs
from las_builder.errors import ImportFolderError, InputError, RasterError
from las_builder.evaluate.benchmark import FolderTiles, Task, tiles_of, training_of
from las_builder.evaluate.branches import ClipOptions
from las_builder.evaluate.transfer import Learnt, TileSource, Transfer, chosen, learn, logistic
from las_builder.evaluate.zero_shot import evaluate
from las_builder.models import checkpoint
from las_builder.models.config import sized
from las_builder.models.segmenter import LandSegmenter

CATALOGS = Catalogs.load()
LOVEDA = Task.of("loveda", CATALOGS)
CODES = [2, 4, 6, 7]
COLOURS = {0: (0, 0, 0), 2: (200, 60, 50), 4: (20, 40, 120), 6: (30, 90, 30), 7: (120, 170, 70)}
TUNING = ("steps=4", "batch=2", "crop=32", "save_every=1", "log_every=1", "workers=0", "lr=0.003")


def copy(root: Path, train: int = 6, val: int = 2) -> Path:
    """LoveDA whose classes are colours, a little noisy."""
    for division, n in (("Train", train), ("Val", val)):
        for i in range(n):
            home, name = root / division / ("Urban", "Rural")[i % 2], f"{division}{i}"
            codes = squares(name, [*CODES, 0])
            noise = np.random.default_rng(i).normal(0, 12, (3, *codes.shape))
            pixels = np.stack([np.vectorize(lambda v, c=c: COLOURS[v][c])(codes) for c in range(3)])
            picture(
                home / "images_png" / f"{i}.png", (pixels + noise).clip(0, 255).astype(np.uint8)
            )
            picture(home / "masks_png" / f"{i}.png", codes)
    return root


@pytest.fixture(scope="module")
def loveda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("copy") / "loveda")


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never trained; its pixels have 16 channels."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("nano") / "best.safetensors"
    checkpoint.save(LandSegmenter(sized("nano", zoom=1)), file)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller one, never trained either."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("bare") / "best.safetensors"
    checkpoint.save(LandSegmenter(quick().of_model()), file)
    return file


def learnt(
    transfer: Transfer, folder: Path, weights: Path, out: Path, task: Task = LOVEDA, **more: Any
) -> Learnt:
    return learn(transfer, task, folder, weights, out, catalogs=CATALOGS, window=64, **more)


PROBE = Transfer(protocol="linear-probe")
TUNE = Transfer(protocol="fine-tune", settings=TUNING)


def test_logistic_regression_is_scikit_learns() -> None:
    chance = np.random.default_rng(4)
    y = chance.choice([0, 2, 3], 600, p=[0.6, 0.3, 0.1])
    x = chance.normal(0, 1, (600, 5)) * [1, 20, 0.1, 1, 3] + y[:, None] * [0.5, -9, 0.02, 0, 1]
    x[:, 3] = 7.0  # says nothing
    weight, bias, _ = logistic(x.astype(np.float32), y, 5, 2.0)
    x = x.astype(np.float32).astype(float)
    spread = np.where(x.std(axis=0) < 1e-9, 1, x.std(axis=0))
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000)
    wanted = theirs.fit((x - x.mean(axis=0)) / spread, y).predict_proba(
        (x - x.mean(axis=0)) / spread
    )
    logits = x @ weight + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p[:, [0, 2, 3]], wanted, atol=2e-5)
    assert (p[:, [1, 4]] == 0).all()
    assert np.isneginf(bias[[1, 4]]).all()


def test_shares_are_nested_and_the_same_everywhere() -> None:
    names = [f"tile {i}" for i in range(200)]
    one, ten, whole = (chosen(names, share, 0) for share in (0.01, 0.1, 1.0))
    assert (len(one), len(ten), len(whole)) == (2, 20, 200)
    assert set(one) < set(ten) < set(whole)
    assert whole == list(range(200))
    # By the names, not by their order; by the seed.
    assert {names[::-1][i] for i in chosen(names[::-1], 0.1, 0)} == {names[i] for i in ten}
    assert chosen(names, 0.1, 1) != ten
    assert len(chosen(names[:5], 0.01, 0)) == 1
    import hashlib

    smallest = min(names, key=lambda name: hashlib.sha256(f"0/{name}".encode()).hexdigest())
    assert names[chosen(names, 0.001, 0)[0]] == smallest


def test_a_probe_finds_the_rule_that_words_do_not(loveda: Path, nano: Path, tmp_path: Path) -> None:
    more = {"catalogs": CATALOGS, "window": 64}
    [file] = evaluate(nano, ["loveda"], loveda, tmp_path, **more)
    [probed] = evaluate(nano, ["loveda"], loveda, tmp_path, transfer=PROBE, **more)
    [some] = evaluate(
        nano, ["loveda"], loveda, tmp_path, transfer=replace(PROBE, share=0.2), **more
    )
    plain, one, fifth = (json.loads(f.read_text()) for f in (file, probed, some))
    assert plain["miou"] < 0.5
    assert one["miou"] > 0.9
    assert fifth["learnt"]["tiles"] == 1
    assert one["miou"] > fifth["miou"] - 0.05 > plain["miou"]
    assert one["kind"] == "linear-probe"
    assert one["learnt"]["tiles"] == one["learnt"]["of"] == 6
    truths = [training_of(LOVEDA, loveda, "train").read(i).truth for i in range(6)]
    assert one["learnt"]["pixels"] == sum(int((t != 255).sum()) for t in truths)
    # Classes that no training tile has are never said.
    assert one["absent"] == {}
    page = (tmp_path / "index.html").read_text()
    assert "of 1 of the 6 training tiles (20 %, seed 0)" in page
    assert "best-linear-probe-100pc" in page


def test_the_probe_is_fitted_to_what_the_model_makes_of_the_tiles(
    loveda: Path, weights: Path, tmp_path: Path
) -> None:
    """Its classifier against scikit-learn's on vectors that are made here."""
    from las_builder.models.text import OntologyText, Prompter

    found = learnt(PROBE, loveda, weights, tmp_path)
    model = checkpoint.load(weights).eval()
    text = Prompter(OntologyText())([tuple(names) for names in LOVEDA.classes])
    tiles = training_of(LOVEDA, loveda, "train")
    x, y = [], []
    with torch.inference_mode():
        for i in range(6):
            tile = tiles.read(i)
            pixels = model.seen(
                torch.from_numpy(tile.image)[None], LOVEDA.wavelengths, text, LOVEDA.level
            ).pixels
            known = tile.truth != 255
            x.append(pixels[0].numpy()[:, known].T)
            y.append(tile.truth[known])
    vectors, truth = np.concatenate(x).astype(float), np.concatenate(y)
    middle, spread = vectors.mean(axis=0), vectors.std(axis=0)
    theirs = LogisticRegression(C=1.0, tol=1e-9, max_iter=3000).fit(
        (vectors - middle) / spread, truth
    )
    tile = tiles_of(LOVEDA, loveda).read(0)
    with torch.inference_mode():
        pixels = model.seen(
            torch.from_numpy(tile.image)[None], LOVEDA.wavelengths, text, LOVEDA.level
        ).pixels
    flat = (pixels[0].numpy().reshape(len(middle), -1).T - middle) / spread
    mine = found.say(tile.image[None])[0].reshape(len(LOVEDA.classes), -1).T
    np.testing.assert_allclose(mine[:, theirs.classes_], theirs.predict_proba(flat), atol=2e-3)


def test_tuning_learns(loveda: Path, weights: Path, tmp_path: Path) -> None:
    longer = replace(
        TUNE, settings=(*TUNING, "steps=40", "warmup=3", "batch=4", "ema=0.9", "save_every=50")
    )
    more = {"catalogs": CATALOGS, "window": 64}
    [plain] = evaluate(weights, ["loveda"], loveda, tmp_path, **more)
    [tuned] = evaluate(weights, ["loveda"], loveda, tmp_path, transfer=longer, **more)
    before, after = (json.loads(f.read_text()) for f in (plain, tuned))
    assert after["miou"] > before["miou"] + 0.2
    assert after["kind"] == after["setting"] == "fine-tune"
    assert after["learnt"]["steps"] == 40
    assert after["learnt"]["settings"]["lr"] == 0.003
    assert after["learnt"]["settings"]["drop_classes"] == 0


@pytest.mark.parametrize("transfer", [PROBE, TUNE], ids=lambda t: t.protocol)
def test_what_is_scored_is_never_opened(
    transfer: Transfer, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(tmp_path / "copy")
    for file in (*(folder / "Val").rglob("*.png"), *(folder / "Test").rglob("*.png")):
        file.write_bytes(b"whoever opens this fails")
    opened: list[str] = []
    ours = imports.open_raster

    def watched(href: str, **more: Any) -> Any:
        opened.append(href)
        return ours(href, **more)

    monkeypatch.setattr(imports, "open_raster", watched)
    learnt(transfer, folder, weights, tmp_path / "out")
    assert len(set(opened)) == 12
    assert all("/Train/" in href for href in opened)
    with pytest.raises(RasterError):
        tiles_of(LOVEDA, folder).read(0)


def test_the_validation_split_is_for_looking_at_only(weights: Path, tmp_path: Path) -> None:
    for name in "ab":
        SETS["chesapeake"](tmp_path / name)
    for file in (tmp_path / "b").glob("*-val_tiles/*"):
        file.unlink()
    task = Task.of("chesapeake", CATALOGS)
    with_it, without = (
        learnt(TUNE, tmp_path / name, weights, tmp_path / f"{name}-out", task) for name in "ab"
    )
    assert with_it.facts == without.facts
    [shown], [bare] = ((tmp_path / f"{name}-out").rglob("report.html") for name in "ab")
    assert "-val_tiles" in shown.read_text()
    assert "-val_tiles" not in bare.read_text()


def stopping(word: str) -> Callable[[str], None]:
    def told(line: str) -> None:
        if word in line:
            raise KeyboardInterrupt

    return told


@pytest.mark.parametrize(
    ("transfer", "word"), [(PROBE, ", 3 embedded"), (TUNE, "step 3/4")], ids=["probe", "tune"]
)
def test_a_run_that_was_killed_goes_on(
    transfer: Transfer, word: str, loveda: Path, weights: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = learnt(transfer, loveda, weights, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        learnt(transfer, loveda, weights, tmp_path / "cut", told=stopping(word))
    read: list[int] = []
    ours = FolderTiles.read

    def counted(self: FolderTiles, i: int) -> Any:
        read.append(i)
        return ours(self, i)

    monkeypatch.setattr(FolderTiles, "read", counted)
    steps: list[str] = []
    found = learnt(transfer, loveda, weights, tmp_path / "cut", told=steps.append)
    assert found.facts == whole.facts
    assert read == ([3, 4, 5] if transfer is PROBE else [])
    assert not any("step 2/4" in line for line in steps)
    # Once more: nothing is learnt again.
    steps.clear()
    assert (
        learnt(transfer, loveda, weights, tmp_path / "cut", told=steps.append).facts == whole.facts
    )
    assert len(steps) == 1
    if transfer is TUNE:
        return
    # Another beginning under the same name shares nothing.
    other = tmp_path / "best.safetensors"
    torch.manual_seed(1)
    checkpoint.save(LandSegmenter(quick().of_model()), other)
    again = learnt(transfer, loveda, other, tmp_path / "cut")
    assert again.facts["head"] != whole.facts["head"]


def test_pieces_of_a_tile(tmp_path: Path) -> None:
    WRITERS["potsdam"](tmp_path)
    task = Task.of("potsdam", CATALOGS)
    tiles = training_of(task, tmp_path, "train")
    assert tiles.names == ["4_Ortho_RGBIR/top_potsdam_2_10_RGBIR"]
    assert tiles.shapes == [(48, 48)]
    whole = tiles.read(0)
    part = tiles.part(0, 16, 32, 32)
    np.testing.assert_array_equal(part.truth[:, :16], whole.truth[16:48, 32:])
    np.testing.assert_array_equal(part.image[:, :, :16], whole.image[:, 16:48, 32:])
    assert np.isnan(part.image[:, :, 16:]).all()
    assert (part.truth[:, 16:] == 255).all()
    source = TileSource(task, tiles, [0], None, 20, ("000000",) * 6)
    assert source.count("train") == 9
    assert source.count("val") == 0
    last = source.read("train", 8)
    np.testing.assert_array_equal(last.label, whole.truth[28:, 28:])
    assert source.classes[1].names[0] == "impervious surface"
    # Where all tiles are smaller than the pieces, pieces are of the largest.
    one = TileSource(task, tiles, [0], None, 512, ()).read("train", 0)
    assert one.label.shape == (48, 48)
    assert not np.isnan(one.image).any()


# ---- what is refused


@pytest.mark.parametrize(
    "name",
    ["dynamicearthnet", "five-billion-pixels", "landcover-ai", "multisenge", "ssl4eo-s12-dw"],
)
def test_benchmarks_without_other_tiles(name: str, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^{name}.*Nothing can be learnt there\.") as caught:
        learnt(PROBE, tmp_path, weights, tmp_path, Task.of(name, CATALOGS))
    assert "\n" not in str(caught.value)


def test_all_benchmarks_are_looked_at_before_the_first_is_learnt(
    loveda: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "loveda").symlink_to(loveda)
    with pytest.raises(InputError, match=r"^multisenge"):
        evaluate(
            weights, ["loveda", "multisenge"], tmp_path / "copies", tmp_path / "out",
            catalogs=CATALOGS, transfer=PROBE,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_copies_without_training_tiles(weights: Path, tmp_path: Path) -> None:
    codes = squares("p", list(range(8)))
    release(tmp_path / "a" / "loveda_val_lmdb", {"img": [image("p", 3, (48, 48))], "mask": [codes]})
    for folder in (tmp_path / "a", tmp_path / "a" / "loveda_val_lmdb"):
        with pytest.raises(InputError, match=r"scored alone.*Train\.zip"):
            learnt(PROBE, folder, weights, tmp_path)
    copy(tmp_path / "b", train=0)
    with pytest.raises(ImportFolderError, match="pictures in train"):
        learnt(PROBE, tmp_path / "b", weights, tmp_path)
    # Both: trained on the folder, scored on the records.
    copy(tmp_path / "a", train=2)
    assert learnt(PROBE, tmp_path / "a", weights, tmp_path).facts["of"] == 2


def test_tiles_without_a_truth(weights: Path, tmp_path: Path) -> None:
    for file in copy(tmp_path / "c", train=2).glob("Train/*/masks_png/*.png"):
        picture(file, np.zeros((48, 48), np.uint8))
    with pytest.raises(InputError, match="no pixel with a truth"):
        learnt(PROBE, tmp_path / "c", weights, tmp_path)


def test_settings_that_no_run_has(loveda: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stepz"):
        learnt(replace(TUNE, settings=("stepz=3",)), loveda, weights, tmp_path)


def test_the_command(loveda: Path, weights: Path, tmp_path: Path, las: Las) -> None:
    base = ("evaluate", weights, "loveda", "--folder", loveda, "-o", tmp_path, "--window", 64,
            "--device", "cpu")  # fmt: skip
    said = las(*base, "--protocol", "linear-probe", "--share", 0.1)
    assert said.code == 0, said
    [file] = tmp_path.glob("*-linear-probe-10pc-loveda.json")
    assert json.loads(file.read_text())["learnt"]["tiles"] == 1
    assert "1 of 6 tiles" in said.out
    assert las(*base, "--share", 0.1).code == 2
    assert "--set" in las(*base, "--protocol", "linear-probe", "--set", "steps=3").err
    assert las(*base, "--protocol", "fine-tune", "--zero-shot").code == 2
    said = las(*base[:2], "landcover-ai", *base[3:], "--protocol", "fine-tune")
    assert said.code == 2
    assert len(said.err.strip().splitlines()) == 1


def test_another_text_tower_is_another_row(loveda: Path, weights: Path, tmp_path: Path) -> None:
    """Its vectors decide as the model's weights do: nothing of the one is taken for the other."""
    digests = set()
    for i in range(2):
        tower = tmp_path / f"tower-{i}.pt"
        tower.write_bytes(bytes([i]))
        learnt(replace(PROBE, share=0.2), loveda, weights, tmp_path / "out", text_file=tower)
        [file] = evaluate(
            weights, ["loveda"], loveda, tmp_path, catalogs=CATALOGS, window=64, text_file=tower
        )
        digests.add(json.loads(file.read_text())["text_sha256"])
    assert len(digests) == len(list((tmp_path / "out").glob("probe-*"))) == 2


def test_no_more_pixels_than_are_said(
    loveda: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("las_builder.evaluate.transfer.PIXELS", 100)
    assert learnt(PROBE, loveda, weights, tmp_path).facts["pixels"] == 6 * 16


@pytest.mark.parametrize(
    "beside", [{"zero_shot": True}, {"clip": ClipOptions(file=Path("clip.safetensors"))}]
)
def test_what_learns_there_is_neither_zero_shot_nor_beside_clip(
    tmp_path: Path, beside: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="neither clip nor zero_shot"):
        evaluate(
            tmp_path / "none.safetensors", ["loveda"], tmp_path, tmp_path / "out",
            catalogs=Catalogs.load(), transfer=Transfer(protocol="linear-probe"), **beside,
        )  # fmt: skip
