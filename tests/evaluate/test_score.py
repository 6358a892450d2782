"""A checkpoint on a benchmark: what the JSON says is what the tiles hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Las
from kit_benchmarks import WRITERS, release, squares
from kit_imports import SETS, image
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from las_builder.catalogs import Catalogs
from las_builder.errors import CheckpointError, InputError
from las_builder.evaluate import score as scores
from las_builder.evaluate.benchmark import Task, Tile, tiles_of
from las_builder.evaluate.page import write_page
from las_builder.evaluate.windows import Piece
from las_builder.evaluate.zero_shot import evaluate
from las_builder.models import checkpoint
from las_builder.models.config import ModelConfig, sized
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import OntologyText, Prompter

CATALOGS = Catalogs.load()
LOVEDA = Task.of("loveda", CATALOGS)
N = len(LOVEDA.classes)
RECORD = {
    "subsets": ["las-s2"],
    "classes": [
        {"names": ["river"], "nodes": ["water"]}, {"names": ["Forest"], "nodes": ["tree.broadleaf"]},
        {"names": ["maize"], "nodes": ["crop.annual.maize"]},
    ],
}  # fmt: skip


class Given:
    """Tiles from arrays, which count how often they are read."""

    def __init__(self, n: int = 5) -> None:
        chance = np.random.default_rng(3)
        self.truths = [
            chance.choice([0, 1, 2, 4, 5, 255], (40, 50)).astype(np.uint8) for _ in range(n)
        ]
        self.said = [
            np.where(chance.random((40, 50)) < 0.7, np.where(t == 255, 0, t), chance.integers(0, N, t.shape))
            for t in self.truths
        ]  # fmt: skip
        self.asked: list[int] = []

    @property
    def names(self) -> list[str]:
        return [f"tile {i}" for i in range(len(self.truths))]

    def read(self, i: int) -> Tile:
        picture = np.random.default_rng(i).random((3, 40, 50)).astype(np.float32)
        return Tile(f"tile {i}", picture, self.truths[i], (0, 1, 2))

    def answer(self, tile: Tile) -> Iterable[Piece]:
        i = self.names.index(tile.name)
        self.asked.append(i)
        p = np.full((N, 40, 50), 0.1 / (N - 1), np.float32)
        np.put_along_axis(p, self.said[i][None].astype(int), 0.9, axis=0)
        return [Piece(0, 0, p[:, :16]), Piece(16, 0, p[:, 16:, :20]), Piece(16, 20, p[:, 16:, 20:])]

    def method(self, name: str = "m") -> scores.Method:
        return scores.Method(
            name=name, kind="checkpoint", facts={"sha256": "x"}, answer=self.answer
        )


def told(tiles: Given, out: Path, **more: object) -> dict[str, object]:
    file = scores.score(LOVEDA, tiles, tiles.method(), out, unseen_classes=None, **more)
    return json.loads(file.read_text())


def test_scores_are_those_of_all_pixels_at_once(tmp_path: Path) -> None:
    tiles = Given()
    found = told(tiles, tmp_path)
    truth, said = np.stack(tiles.truths), np.stack(tiles.said)
    known = truth != 255
    y, x = truth[known], said[known]
    there = [0, 1, 2, 4, 5]
    iou = jaccard_score(y, x, labels=there, average=None)
    assert found["miou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert found["mf1"] == pytest.approx(
        f1_score(y, x, labels=there, average=None).mean(), abs=1e-12
    )
    assert found["overall"] == pytest.approx((y == x).mean(), abs=1e-12)
    assert [found["classes"][k]["iou"] for k in there] == pytest.approx(iou, abs=1e-12)
    assert found["classes"][3]["iou"] is None
    assert found["classes"][3]["name"] == "water"
    assert found["absent"] == {"water": int((x == 3).sum()), "agriculture": int((x == 6).sum())}
    assert found["pixels"] == known.sum()
    for i, tile in enumerate(found["tiles"]):
        inside = tiles.truths[i] != 255
        matrix = confusion_matrix(tiles.truths[i][inside], tiles.said[i][inside], labels=range(N))
        np.testing.assert_array_equal(tile["counts"], matrix)
    low, high = found["miou_95"]
    assert low < found["miou"] < high
    p = np.array([0.9, *[0.1 / (N - 1)] * (N - 1)])
    assert found["uncertainty"] == pytest.approx(-(p * np.log(p)).sum() / np.log(N), abs=1e-6)


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    whole = told(Given(), tmp_path / "whole")
    tiles = Given()

    def stop(line: str) -> None:
        if "3 of 5" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        told(tiles, tmp_path / "cut", told=stop)
    assert tiles.asked == [0, 1, 2]
    kept = sorted((tmp_path / "cut").glob("*/*.npz"))
    kept[1].write_bytes(kept[1].read_bytes()[:100])  # the disk was full, say
    assert told(tiles, tmp_path / "cut") == whole
    assert tiles.asked == [0, 1, 2, 1, 3, 4]
    # Another checkpoint under the same name: nothing of the old one is taken.
    other = replace(tiles.method(), facts={"sha256": "y"})
    scores.score(LOVEDA, tiles, other, tmp_path / "cut", unseen_classes=None)
    assert tiles.asked[6:] == [0, 1, 2, 3, 4]


def test_comparison_in_words(tmp_path: Path) -> None:
    tiles, better = Given(), Given()
    better.said = [np.where(t == 255, 0, t) for t in better.truths]
    for name, one in (("a", tiles), ("b", better)):
        scores.score(LOVEDA, one, one.method(name), tmp_path, unseen_classes=None)
    a, b = tmp_path / "a-loveda.json", tmp_path / "b-loveda.json"
    gain = 100 * (1 - json.loads(a.read_text())["miou"])
    said = scores.compare(a, b)
    assert f"difference {gain:+.2f} points" in said
    assert said.endswith(": a difference")
    assert "100.00 of b" in said
    assert "difference +0.00" in scores.compare(a, a)
    assert "no difference" in scores.compare(a, a)
    fewer = Given(4)
    scores.score(LOVEDA, fewer, fewer.method("c"), tmp_path, unseen_classes=None)
    with pytest.raises(InputError, match="the 5 of loveda"):
        scores.compare(a, tmp_path / "c-loveda.json")
    moved = Given()
    moved.truths[2] = np.where(moved.truths[2] == 0, 1, moved.truths[2]).astype(np.uint8)
    scores.score(LOVEDA, moved, moved.method("d"), tmp_path, unseen_classes=None)
    with pytest.raises(InputError, match="same truth"):
        scores.compare(a, tmp_path / "d-loveda.json")
    (tmp_path / "e.json").write_text("[1]")
    with pytest.raises(InputError, match="las evaluate"):
        scores.compare(a, tmp_path / "e.json")


def test_classes_that_training_never_had() -> None:
    found = scores.unseen(LOVEDA, RECORD, CATALOGS.ontology)
    new = {name[0] for name, flag in zip(LOVEDA.classes, found, strict=True) if flag}
    # water by meaning, and by "river"; forest by name although it means less; maize is not agriculture.
    assert new == {"background", "building", "road", "barren land", "agriculture"}
    assert scores.unseen(LOVEDA, None, CATALOGS.ontology) is None


def test_closed_set_model_as_one_of_the_benchmark() -> None:
    own = [["water.marine"], ["tree.broadleaf"], ["crop"], ["snow_ice"], ["built.building", "bare"]]
    places = scores.nearest(own, LOVEDA.means, CATALOGS.ontology)
    names = [None if place is None else LOVEDA.classes[place][0] for place in places]
    assert names[:4] == ["water", "forest", "agriculture", None]
    assert names[4] == "barren land"  # it shares more leaves with it than with building
    p = np.random.default_rng(0).dirichlet(np.ones(5), (2, 4, 4)).transpose(0, 3, 1, 2)
    got = scores.gathered(lambda _: p.astype(np.float32), places, N)(
        np.empty((2, 3, 4, 4), np.float32)
    )
    wanted = np.zeros((2, N, 4, 4))
    for i, place in enumerate(places):
        if place is not None:
            wanted[:, place] += p[:, i] / (1 - p[:, 3])
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_subsets_that_share_names_are_asked_as_one_set() -> None:
    more = [
        {"names": ["Water", "sea"], "nodes": ["water"]},
        {"names": ["River"], "nodes": ["water.inland"]},
        {"names": ["lake", "forest"], "nodes": ["water"]},
    ]
    both = {
        "subsets": ["a", "b"],
        "classes": [{"names": ["water", "river"], "nodes": ["water"]}, *more],
    }
    found = scores.told_apart(both)
    assert found == [
        (("water", "river"), ("water",)), (("sea",), ("water",)), (("lake", "forest"), ("water",)),
    ]  # fmt: skip
    # A model takes them.
    assert len(Prompter(OntologyText())([names for names, _ in found])) == 3


def test_which_bands_are_given_and_which_stand_in() -> None:
    plain = replace(sized("nano"), spectral=None, pixel_skip=False)
    vaihingen = Task.of("vaihingen", CATALOGS)
    assert scores.bands_said(vaihingen, plain) == {
        "used": ["R", "G"], "filled": {"blue": "G"}, "left_out": ["N"],
    }  # fmt: skip
    flair = Task.of("flair", CATALOGS)
    assert scores.bands_said(flair, sized("nano")) == {
        "used": ["R", "G", "B", "NIR"], "filled": {}, "left_out": ["height"],
    }  # fmt: skip


def test_what_a_checkpoint_was_trained_with_and_lacks() -> None:
    images = [
        {"level": "surface", "wavelengths": [0.49, 0.56, 0.665, 0.842, 1.61, 2.19]},
        {"level": "toa", "wavelengths": [0.443, 0.482, 0.56, 0.655, 0.865, 1.609]},
    ]
    record = {**RECORD, "images": images}
    flair = Task.of("flair", CATALOGS)
    found = scores.bands_said(flair, sized("nano"), record)
    assert found["missing"] == [0.443, 1.609, 1.61, 2.19]
    assert found["foreign"] == "display"
    dw = Task.of("ssl4eo-s12-dw", CATALOGS)
    found = scores.bands_said(dw, sized("nano"), record)
    assert (found["missing"], found["foreign"]) == ([], None)
    assert "missing" not in scores.bands_said(dw, sized("nano"), RECORD)  # an older checkpoint
    # What sees no spectra misses none.
    plain = replace(sized("nano"), spectral=None, pixel_skip=False)
    assert scores.bands_said(flair, plain, record)["missing"] == []


def test_a_map_of_a_product_as_a_prediction(tmp_path: Path) -> None:
    from affine import Affine
    from kit import raster

    [(_, codes)] = WRITERS["ssl4eo-s12-dw"](tmp_path / "copy").items()
    task = Task.of("ssl4eo-s12-dw", CATALOGS)
    tiles = tiles_of(task, tmp_path / "copy")
    # WorldCover at 30 m, on a lattice three pixels to the left, without its last columns.
    legend = CATALOGS.label("esa-worldcover-v200")
    chance = np.random.default_rng(2)
    coarse = chance.choice([10, 30, 40, 50, 60, 80, 95], (16, 15)).astype(np.uint8)
    coarse[0, 3] = legend.nodata
    place = tiles.read(0).grid.transform
    moved = Affine(30, 0, place.c - 30, 0, -30, place.f)
    raster(
        tmp_path / "map.tif", coarse[None], crs="EPSG:32633", transform=moved, nodata=legend.nodata
    )
    answer, near = scores.product(legend, tmp_path / "map.tif", task.means, CATALOGS.ontology)
    words = {title: p if p is None else task.classes[p][0] for title, p in near.items()}
    assert words["Permanent water bodies"] == "water"
    assert (words["Tree cover"], words["Built-up"]) == ("trees", "built area")
    fine = np.full((48, 48), 255)
    fine[:, :42] = coarse.repeat(3, 0).repeat(3, 1)[:, 3:45]
    titles = {entry.value: entry.title for entry in legend.classes}
    said = np.full((48, 48), -1)
    for code in np.unique(coarse[coarse != legend.nodata]):
        index = near[titles[code]]
        said[fine == code] = -1 if index is None else index
    said[0:3, 6:9] = -1
    method = scores.Method(name="wc", kind="product", facts={}, answer=answer)
    file = scores.score(task, tiles, method, tmp_path / "s", unseen_classes=None)
    found = json.loads(file.read_text())
    scored = (codes != 0) & (codes != 10)
    inside = scored & (said >= 0)
    matrix = confusion_matrix(codes[inside] - 1, said[inside], labels=range(9))
    np.testing.assert_array_equal(found["tiles"][0]["counts"], matrix)
    assert found["silent"] == (scored & (said < 0)).sum() > 0
    with pytest.raises(InputError, match="where they are"):
        list(answer(Given().read(0)))


def test_maps_that_are_none_are_refused_before_anything_is_asked(
    weights: Path, tmp_path: Path
) -> None:
    from affine import Affine
    from kit import raster

    SETS["loveda"](tmp_path / "copy")
    (tmp_path / "words.tif").write_text("no raster")
    raster(
        tmp_path / "nowhere.tif",
        np.ones((1, 4, 4), np.uint8),
        crs=None,
        transform=Affine(1, 0, 5, 0, -1, 5),
    )
    product = "esa-worldcover-v200"
    for files, words in (
        (["none.tif"], "a raster that GDAL opens"), (["words.tif"], "a raster that GDAL opens"),
        (["nowhere.tif"], "says where it is"), (["a.tif", "b.tif"], "one map of each product"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            evaluate(
                weights, ["loveda"], tmp_path / "copy", tmp_path / "s", catalogs=CATALOGS,
                products=[(product, tmp_path / file) for file in files],
            )  # fmt: skip
    assert not (tmp_path / "s").exists()


# ---- with a model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny: ModelConfig) -> Path:
    torch.manual_seed(0)
    model = LandSegmenter(tiny)
    with torch.no_grad():
        for p in model.decoder.head.parameters():
            p.mul_(8)
    file = tmp_path_factory.mktemp("demo") / "best.safetensors"
    images = [{"level": "surface", "wavelengths": [0.665, 2.21]}]
    record = {**RECORD, "images": images}
    checkpoint.save(model, file, {"step": "7", "trained_on": json.dumps(record)})
    return file


def test_end_to_end(weights: Path, tmp_path: Path) -> None:
    SETS["loveda"](tmp_path / "copies" / "loveda")
    pictures = [image(f"e{i}", 13, (48, 48), "uint16") for i in range(2)]
    codes = [squares(f"e{i}", list(range(11))) for i in range(2)]
    release(tmp_path / "copies" / "ssl4eo-s12-dw" / "dw_test_lmdb", {"s2": pictures, "dw": codes})
    out = tmp_path / "scores"
    written = evaluate(
        weights, ["loveda", "ssl4eo-s12-dw"], tmp_path / "copies", out, catalogs=CATALOGS,
        zero_shot=True, baselines=["closed-set", "majority"], window=128,
    )  # fmt: skip
    stem = f"{weights.parent.name}-best"
    assert [path.name for path in written[3:]] == [
        f"{stem}-ssl4eo-s12-dw.json", f"{stem}-closed-set-ssl4eo-s12-dw.json", "majority-ssl4eo-s12-dw.json",
    ]  # fmt: skip
    one = json.loads(written[3].read_text())
    assert one["step"] == "7"
    assert one["setting"] == "zero-shot"
    assert one["miou_seen"] is not None
    assert one["miou_unseen"] is not None
    # The model asked itself, in its own way: a tile is one window, so nothing is blended.
    task = Task.of("ssl4eo-s12-dw", CATALOGS)
    text = Prompter(OntologyText())([tuple(names) for names in task.classes])
    model = checkpoint.load(weights).eval()
    with torch.inference_mode():
        given = torch.from_numpy(pictures[1] * np.float32(1e-4))[None]
        said = model(given, task.wavelengths, text, "toa").argmax(dim=1)[0].numpy()
    inside = (codes[1] != 0) & (codes[1] != 10)
    matrix = confusion_matrix(codes[1][inside] - 1, said[inside], labels=range(9))
    np.testing.assert_array_equal(one["tiles"][1]["counts"], matrix)
    most = json.loads(written[5].read_text())
    counts = np.bincount(
        np.stack(codes)[(np.stack(codes) != 0) & (np.stack(codes) != 10)], minlength=10
    )
    assert most["constant"] == task.classes[counts.argmax() - 1][0]
    assert most["overall"] == pytest.approx(counts.max() / counts.sum(), abs=1e-12)
    page = (out / "index.html").read_text()
    assert page.count("<h2>") == 3
    assert "never run" in page
    assert page.count("<figcaption>truth") == 6
    assert (
        "trained with bands at 2.21 µm, which are not there; trained on nothing of level display"
        in page
    )
    assert f"{100 * one['miou']:.1f}" in page
    assert "http" not in page


def test_the_command(weights: Path, tmp_path: Path, las: Las) -> None:
    SETS["loveda"](tmp_path / "copy")
    out = tmp_path / "scores"
    said = las(
        "evaluate", weights, "loveda", "--folder", tmp_path / "copy", "-o", out, "--window", 64,
        "--baseline", "majority", "--device", "cpu",
    )  # fmt: skip
    assert said.code == 0, said
    a, b = out / "majority-loveda.json", out / f"{weights.parent.name}-best-loveda.json"
    assert str(b) in said.out
    assert json.loads(b.read_text())["setting"] == "as it is"
    said = las("evaluate", "--compare", a, b)
    assert said.code == 0
    assert "points, 95 % of draws" in said.out
    said = las("evaluate", weights, "loveda", "--folder", tmp_path / "nothing")
    assert said.code == 2
    assert "zenodo.org" in said.err
    assert las("evaluate", weights, "loveda").code == 2
    said = las("evaluate", weights, "lovda", "--folder", tmp_path)
    assert said.code == 2
    assert "loveda" in said.err


def test_what_is_refused(weights: Path, tmp_path: Path) -> None:
    WRITERS["potsdam"](tmp_path / "copy")
    bare = tmp_path / "bare.safetensors"
    checkpoint.save(checkpoint.load(weights), bare)
    with pytest.raises(CheckpointError, match="trained_on"):
        evaluate(bare, ["potsdam"], tmp_path / "copy", tmp_path, catalogs=CATALOGS, zero_shot=True)
    for there in (  # an import of the set has any name
        {**RECORD, "subsets": ["potsdam"]},
        {**RECORD, "subsets": ["las-hr-x"], "products": ["nlcd", "potsdam"]},
    ):
        checkpoint.save(checkpoint.load(weights), bare, {"trained_on": json.dumps(there)})
        with pytest.raises(CheckpointError, match=r"`trained_on` is 'potsdam'.*no zero-shot"):
            evaluate(
                bare, ["potsdam"], tmp_path / "copy", tmp_path, catalogs=CATALOGS, zero_shot=True
            )
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x.json").write_text("{}")
    with pytest.raises(InputError, match="las-scores-1"):
        write_page(tmp_path / "s", CATALOGS)
