"""What a step asks, and how samples are cut."""

from __future__ import annotations

import numpy as np
import pytest
from train_kit import Fields, quick

from las_builder.catalogs import Catalogs, Ontology
from las_builder.core.types import IGNORE
from las_builder.errors import InputError, LegendError
from las_builder.harmonise.crosswalk import native
from las_builder.models.text import check_classes
from las_builder.pack import SubsetInfo
from las_builder.train.augment import Name, asked, cut, merged, titles
from las_builder.train.data import assemble, names_of

CATALOGS = Catalogs.load()


def test_image_label_and_weight_move_together() -> None:
    side = np.arange(40)
    row, column = np.meshgrid(side, side, indexing="ij")
    image = np.stack([row, column]).astype(np.float32)
    label = (row * 6 // 40 * 6 + column * 6 // 40).astype(np.uint8)
    orientations = set()
    for seed in range(60):
        got, lab, weight = cut(
            image, label, label.astype(np.float32),
            quick(crop=16, scale=(1.0, 1.0)), np.random.default_rng(seed),
        )  # fmt: skip
        assert got.shape == (2, 16, 16)
        want = (got[0] * 6 // 40 * 6 + got[1] * 6 // 40).astype(np.uint8)
        assert np.array_equal(lab, want)
        assert np.array_equal(weight, want.astype(np.float32))
        corner = got[:, :2, :2] - got.min(axis=(1, 2), keepdims=True)
        orientations.add(tuple(np.sign(corner[0] - corner[0, 0, 0]).ravel()) + tuple(
            np.sign(corner[1] - corner[1, 0, 0]).ravel()))  # fmt: skip
    assert len(orientations) == 8


def test_enlarged_labels_stay_where_the_image_is() -> None:
    chance = np.random.default_rng(0)
    smooth = np.kron(chance.integers(0, 2, (6, 6)), np.ones((16, 16))).astype(np.uint8)
    image = smooth[None].astype(np.float32)
    sizes = set()
    for seed in range(30):
        got, lab, _ = cut(
            image, smooth, np.ones_like(image[0]),
            quick(crop=48, scale=(0.5, 2.0)), np.random.default_rng(seed),
        )  # fmt: skip
        assert lab.shape == (48, 48)
        inside = np.isclose(got[0], np.rint(got[0]), atol=1e-4)  # not between two squares
        assert (lab == np.rint(got[0]))[inside].all()
        edges = (np.diff(lab.astype(int), axis=0) != 0).any(axis=1).sum()
        sizes.add(int(edges))
    assert len(sizes) > 3  # squares of many sizes
    for seed in range(
        30
    ):  # enlarged: a pixel has a quarter of its square at least, to the side too
        got, lab, _ = cut(
            image, smooth, np.ones_like(image[0]),
            quick(crop=48, scale=(1.2, 2.0)), np.random.default_rng(seed),
        )  # fmt: skip
        sure = np.abs(got[0] - 0.5) > 0.26
        assert (lab == np.rint(got[0]))[sure].all()


def test_a_patch_smaller_than_the_crop_is_taken_whole() -> None:
    image = np.random.default_rng(0).random((2, 24, 24), np.float32)
    got, *_ = cut(
        image, image[0].astype(np.uint8), image[0],
        quick(crop=512, scale=(1.0, 1.0), flips=False), np.random.default_rng(1),
    )  # fmt: skip
    assert np.array_equal(got, image)


def nlcd_names() -> tuple[Name, ...]:
    product = CATALOGS.label("nlcd")
    info = SubsetInfo(
        name="a", imagery=CATALOGS.imagery("naip"), bands=("R",), taxonomy=native(product),
        products=(product,), synthetic=False,
    )  # fmt: skip
    return names_of(info)


def test_classes_of_one_branch_become_its_node() -> None:
    names = nlcd_names()
    groups = {name.names[0]: {names[i].names[0] for i in m} for name, m in
              merged(names, 1, CATALOGS.ontology)}  # fmt: skip
    forests = {"Deciduous forest", "Evergreen forest", "Mixed forest"}
    assert groups["tree cover"] == forests
    assert len(groups["built-up"]) == 4
    assert sorted(i for _, m in merged(names, 1, CATALOGS.ontology) for i in m) == list(
        range(len(names))
    )


@pytest.mark.parametrize("level", [1, 2])
def test_every_declared_legend_can_be_merged_and_asked(level: int) -> None:
    tried = changed = 0
    for name in CATALOGS.names("labels"):
        product = CATALOGS.label(name)
        try:
            taxonomy = native(product)
        except LegendError:
            continue
        info = SubsetInfo(
            name="a", imagery=CATALOGS.imagery("naip"), bands=("R",), taxonomy=taxonomy,
            products=(product,), synthetic=False,
        )  # fmt: skip
        names = names_of(info)
        if name == "usda-cdl":  # has two codes of one title, which no run takes
            with pytest.raises(InputError, match="each name once"):
                check_classes([one.names for one in names])
            continue
        groups = merged(names, level, CATALOGS.ontology)
        check_classes([one.names for one, _ in groups])
        assert sorted(i for _, m in groups for i in m) == list(range(len(names)))
        tried, changed = tried + 1, changed + (len(groups) < len(names))
    assert tried > 30
    assert changed > 8


def test_titles_are_names() -> None:
    assert titles("Grassland / herbaceous") == ("grassland", "herbaceous")
    assert titles("Herbaceous savanna (with scattered woody)") == ("herbaceous savanna",)


def test_what_is_dropped_is_ignored_and_what_is_merged_is_renumbered(ontology: Ontology) -> None:
    names, dropped, fused, fewer = nlcd_names(), 0, 0, 0
    config = quick(drop_classes=0.3, merge_classes=0.5, drop_bands=0.5, keep_bands=2)
    for step in range(80):
        asks = asked(config, step, 7, names, ontology)
        again = asked(config, step, 7, names, ontology)
        assert again.classes == asks.classes
        assert again.bands == asks.bands
        used = asks.table[: len(names)]
        assert set(used[used != IGNORE].tolist()) == set(range(len(asks.classes)))
        assert (asks.table[len(names) :] == IGNORE).all()
        assert len(asks.classes) >= 2
        assert 2 <= len(asks.bands) <= 7
        assert list(asks.bands) == sorted(set(asks.bands))
        dropped += IGNORE in used
        fused += len(asks.classes) < len(set(used.tolist()) - {IGNORE}) or (
            len(used[used != IGNORE]) > len(asks.classes)
        )
        fewer += len(asks.bands) < 7
    assert min(dropped, fused, fewer) > 15
    plain = asked(quick(drop_classes=0, merge_classes=0, drop_bands=0), 5, 7, names, ontology)
    assert plain.bands == tuple(range(7))
    assert plain.table[: len(names)].tolist() == list(range(len(names)))


def test_bands_keep_their_wavelengths() -> None:
    source = Fields()
    patches = [source.read("train", i) for i in range(3)]
    asks = asked(quick(drop_bands=0.999, keep_bands=1), 1, 3, source.classes, CATALOGS.ontology)
    batch = assemble(source, 0, asks, patches)
    assert len(asks.bands) < 3
    for i, place in enumerate(asks.bands):
        assert batch.wavelengths[i] == source.wavelengths[place]
        assert np.array_equal(batch.image[1, i].numpy(), patches[1].image[place])
