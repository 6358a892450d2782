"""Filters against loops over pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pydantic import TypeAdapter

from las_builder.catalogs import Catalogs
from las_builder.core.grid import Grid
from las_builder.core.options import Dates
from las_builder.core.types import Harmonised
from las_builder.errors import CatalogError, RecipeError, UnknownNameError
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.filters import Filters, Seen, Step, class_leaves

CATALOGS = Catalogs.load()
GRID = Grid("EPSG:32733", Affine(10, 0, 500_040, 0, -10, 7_000_000), 24, 20)
BANDS = ("B03", "B04", "B08", "B11")


def built(
    *steps: dict[str, Any], taxonomy: str = "cover-9", product: str = "esa-worldcover-v200",
    imagery: str = "sentinel-2-l2a", bands: tuple[str, ...] = BANDS, per_site: int = 1,
    period: str = "2021-01-01/2022-01-01", catalogs: Catalogs = CATALOGS,
) -> Filters:  # fmt: skip
    products = [catalogs.label(product)]
    native = "native" if taxonomy == "native" else catalogs.taxonomy(taxonomy)
    walk = Crosswalk.build(native, products, catalogs.ontology)
    return Filters.build(
        TypeAdapter(list[Step]).validate_python(list(steps)),
        taxonomy=walk.taxonomy, products=products, imagery=catalogs.imagery(imagery), bands=bands,
        dates=Dates(period=period, per_site=per_site), catalogs=catalogs, where="r.yaml",
    )  # fmt: skip


def labelled(classes: np.ndarray, confidence: np.ndarray | int = 80) -> Harmonised:
    classes = classes.astype(np.uint8)
    return Harmonised(
        taxonomy="t", classes=classes,
        confidence=np.where(classes == 255, 255, confidence).astype(np.uint8),
        confidence_kind="prior", voters=np.ones(classes.shape, np.uint8),
    )  # fmt: skip


def seen(
    shape: tuple[int, int], image: np.ndarray | None = None, valid: np.ndarray | None = None,
    others: tuple[Harmonised, ...] = (),
) -> Seen:  # fmt: skip
    image = np.zeros((len(BANDS), *shape), np.uint16) if image is None else image
    valid = np.ones(shape, bool) if valid is None else valid
    return Seen(
        grid=GRID, image=image, valid=valid, scale=(1e-4,) * 4, offset=(-0.1,) * 4, others=others
    )


def patch(number: int = 0, classes: int = 4, void: float = 0.1) -> np.ndarray:
    chance = np.random.default_rng(number)
    coarse = chance.integers(0, classes, (5, 6)).repeat(4, 0).repeat(4, 1)
    return np.where(chance.random(coarse.shape) < void, 255, coarse)


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_erosion_is_what_a_loop_over_neighbours_says(pixels: int) -> None:
    classes = patch(pixels)
    found = built({"step": "erode_edges", "pixels": pixels}).apply(
        labelled(classes), seen(classes.shape)
    )
    want = classes.copy()
    height, width = classes.shape
    for y in range(height):
        for x in range(width):
            around = {
                classes[v, u]
                for v in range(max(0, y - pixels), min(height, y + pixels + 1))
                for u in range(max(0, x - pixels), min(width, x + pixels + 1))
            } - {255}
            if classes[y, x] != 255 and len(around) > 1:
                want[y, x] = 255
    np.testing.assert_array_equal(found.label.classes, want)
    np.testing.assert_array_equal(found.label.confidence == 255, want == 255)
    (effect,) = found.effects
    assert (effect.step, effect.ignored) == ("erode_edges", int((want != classes).sum()))
    assert 0 < effect.ignored < classes.size


def coarse(metres: float) -> Grid:
    """A patch of 20 x 24 pixels of so many metres."""
    return Grid("EPSG:32733", Affine(metres, 0, 500_040, 0, -metres, 7_000_000), 24, 20)


@pytest.mark.parametrize(
    ("metres", "pixels", "reach"),
    [(30, None, 5), (30, 2, 2), (100, None, 2), (120, None, 2), (149, None, 2), (150, None, 0),
     (150, 3, 0), (300, None, 0), (600, None, 0), (1, None, 64)],
)  # fmt: skip
def test_softened_edges_are_what_a_loop_over_neighbours_says(
    metres: float, pixels: int | None, reach: int
) -> None:
    classes = patch(7)
    confidence = np.random.default_rng(3).integers(0, 101, classes.shape)
    confidence[:2] = 255
    label = labelled(classes, confidence)
    step = built({"step": "soften_edges", "factor": 0.5, "pixels": pixels}, product="esa-cci-lc")
    look = dataclasses.replace(seen(classes.shape), grid=coarse(metres))
    found = step.apply(label, look)
    want = label.confidence.astype(int)
    lowered = 0
    height, width = classes.shape
    for y, x in np.ndindex(height, width):
        around = {
            classes[v, u]
            for v in range(max(0, y - reach), min(height, y + reach + 1))
            for u in range(max(0, x - reach), min(width, x + reach + 1))
        } - {255}
        if classes[y, x] != 255 and len(around) > 1 and want[y, x] != 255:
            lowered += (want[y, x] + 1) // 2 < want[y, x]
            want[y, x] = (want[y, x] + 1) // 2
    np.testing.assert_array_equal(found.label.confidence, want)
    np.testing.assert_array_equal(found.label.classes, label.classes)
    (effect,) = found.effects
    assert (effect.step, effect.ignored, effect.lowered) == ("soften_edges", 0, lowered)
    assert (lowered > 20) == (reach > 0)
    assert found.label.confidence_kind == "prior"


def test_edges_are_softened_for_coarse_products_alone() -> None:
    step = {"step": "soften_edges", "factor": 0.5}
    with pytest.raises(
        RecipeError, match=r"filters\.0.*larger than 4 of sentinel-2-l2a \(10 m\); .*v200 have 10 m"
    ):
        built(step)
    two = built(step, product="esa-cci-lc")
    finer = Filters.build(
        two.steps, taxonomy=CATALOGS.taxonomy("cover-9"), dates=Dates(period="2021-01-01/2022-01-01"),
        products=[CATALOGS.label(name) for name in ("esa-cci-lc", "nlcd", "mcd12q1")],
        imagery=CATALOGS.imagery("sentinel-2-l2a"), bands=BANDS, catalogs=CATALOGS, where="r.yaml",
    )  # fmt: skip
    assert (two.gsd, finer.gsd) == (300, 30)
    assert two.said() != finer.said()
    with pytest.raises(ValueError, match="factor"):
        built({"step": "soften_edges"}, product="esa-cci-lc")


def test_what_has_no_edge_is_left_alone() -> None:
    erode = built({"step": "erode_edges", "pixels": 3})
    holes = np.where(np.eye(9, dtype=bool), 255, 2)
    for classes in (np.full((9, 9), 3), np.full((9, 9), 255), holes):
        found = erode.apply(labelled(classes), seen(classes.shape))
        np.testing.assert_array_equal(found.label.classes, classes)
        assert found.effects[0].ignored == 0


def test_void_share_and_classes_reject() -> None:
    half = np.full((4, 10), 255)
    half[:, :7] = 1
    void = np.full((4, 10), 255)
    for limit, classes, kept in ((0.3, half, True), (0.29, half, False), (0.99, void, False)):
        found = built({"step": "void_share", "max": limit}).apply(
            labelled(classes), seen(classes.shape)
        )
        assert (found.rejected is None) == kept
        assert found.rejected in (None, "void_share")
    two = half.copy()
    two[0, 0] = 5  # one of 28 labelled pixels
    cases = [({"n": 1}, half, True), ({"n": 2}, half, False), ({"n": 1}, void, False),
             ({"n": 2}, two, True), ({"n": 2, "min_share": 1 / 28}, two, True),
             ({"n": 2, "min_share": 0.04}, two, False)]  # fmt: skip
    for said, classes, kept in cases:
        step = built({"step": "min_classes", **said})
        found = step.apply(labelled(classes), seen(classes.shape))
        assert (found.rejected is None) == kept, (said, kept)
        assert step.apply(labelled(classes), seen(classes.shape), keep=True).rejected is None


def test_steps_follow_each_other() -> None:
    stripes = np.tile([0, 1], (6, 6))
    erode, void = {"step": "erode_edges"}, {"step": "void_share", "max": 0.5}
    assert built(void, erode).apply(labelled(stripes), seen(stripes.shape)).rejected is None
    found = built(erode, void).apply(labelled(stripes), seen(stripes.shape))
    assert found.rejected == "void_share"
    assert found.effects[0].ignored == stripes.size  # and nothing is left to be confident of
    assert found.label.confidence_kind is None
    assert built(erode).select is False
    assert built(erode, void).select is True


CLASSES = [c.name for c in CATALOGS.taxonomy("cover-9").classes]


def vetoed(name: str, green: float, red: float, nir: float, swir: float) -> bool:
    """The packaged rules once more, by hand."""

    def index(a: float, b: float) -> float:
        return (a - b) / (a + b) if a + b > 0 else float("nan")

    ndvi, ndwi, ndsi = index(nir, red), index(green, nir), index(green, swir)
    if name == "water":
        return ndvi > 0.5
    if name == "snow_and_ice":
        return ndsi < 0.1 or ndvi > 0.6
    if name == "bare_ground":
        return ndvi > 0.6
    if name == "built_up":
        return ndvi > 0.75
    if name in ("tree_cover", "shrubland", "grassland"):  # rice is cropland: it may be flooded
        return ndwi > 0.3 and ndvi < 0 and ndsi > 0
    return False


def test_the_veto_is_what_a_loop_over_pixels_says() -> None:
    chance = np.random.default_rng(5)
    shape = (60, 60)
    classes = chance.choice([*range(9), 255], shape)
    image = chance.integers(0, 7000, (4, *shape)).astype(np.uint16)  # below 1000: negative
    valid = chance.random(shape) < 0.8
    before = labelled(classes)
    found = built({"step": "spectral_veto"}).apply(before, seen(shape, image, valid))
    want = classes.copy()
    by_class = dict.fromkeys(CLASSES, 0)
    for y, x in np.ndindex(shape):
        if classes[y, x] == 255 or not valid[y, x]:
            continue
        name = CLASSES[classes[y, x]]
        if vetoed(name, *(float(v) * 1e-4 - 0.1 for v in image[:, y, x])):
            want[y, x] = 255
            by_class[name] += 1
    np.testing.assert_array_equal(found.label.classes, want)
    assert found.effects[0].ignored == sum(by_class.values())
    assert {name for name, n in by_class.items() if n} == set(CLASSES) - {"cropland", "wetland"}
    nothing = built({"step": "spectral_veto"}).apply(before, seen(shape, image, ~valid & valid))
    np.testing.assert_array_equal(nothing.label.classes, classes)


def test_the_offset_of_the_image_is_applied() -> None:
    water = np.zeros((2, 2))
    image = np.zeros((4, 2, 2), np.uint16)
    image[1], image[2] = 1400, 2600  # red 0.04, nir 0.16: NDVI 0.6; without the offset 0.3
    step = built({"step": "spectral_veto"})
    assert (step.apply(labelled(water), seen((2, 2), image)).label.classes == 255).all()
    plain = Seen(grid=GRID, image=image, valid=np.ones((2, 2), bool), scale=(1e-4,) * 4,
                 offset=(0.0,) * 4)  # fmt: skip
    assert (step.apply(labelled(water), plain).label.classes == 0).all()


def test_native_legends_are_vetoed_by_what_their_codes_look_like() -> None:
    corine = CATALOGS.label("corine")
    walk = Crosswalk.build("native", [corine])
    leaves = dict(zip(
        [c.name for c in walk.taxonomy.classes],
        class_leaves(walk.taxonomy, [corine], CATALOGS.ontology), strict=True,
    ))  # fmt: skip
    names = {c.value: c.name for c in corine.classes}
    built_up = CATALOGS.ontology.below("built")
    assert leaves[names[142]] - built_up  # sport and leisure: grass can be seen there
    assert leaves[names[111]] <= built_up  # continuous urban fabric
    assert leaves[names[512]] <= CATALOGS.ontology.below("water")
    step = built({"step": "spectral_veto"}, taxonomy="native", product="corine")
    index = {name: i for i, name in enumerate(leaves)}
    image = np.zeros((4, 1, 3), np.uint16)
    image[1], image[2] = 1100, 5000  # NDVI 0.95
    classes = np.array([[index[names[142]], index[names[111]], index[names[512]]]])
    found = step.apply(labelled(classes), seen((1, 3), image)).label.classes
    assert found.tolist() == [[classes[0, 0], 255, 255]]


def test_use_taxonomies_are_vetoed_by_what_can_be_seen_there() -> None:
    dense, sparse = class_leaves(
        CATALOGS.taxonomy("cover-9").model_copy(
            update={
                "basis": "use",
                "classes": [
                    CATALOGS.taxonomy("cover-9").classes[5].model_copy(update={"members": [m]})
                    for m in ("built.urban_fabric.dense", "built.urban_fabric.sparse")
                ],
            }
        ),
        [], CATALOGS.ontology,
    )  # fmt: skip
    assert dense <= CATALOGS.ontology.below("built")
    assert sparse & CATALOGS.ontology.below("tree")


@pytest.mark.parametrize("then", ["ignore", "lower"])
def test_unstable_pixels(then: str) -> None:
    chance = np.random.default_rng(9)
    maps = [chance.choice([0, 1, 255], (12, 12), p=[0.6, 0.3, 0.1]) for _ in range(3)]
    confidence = chance.integers(0, 101, (12, 12))
    confidence[0] = 255
    said = {"then": "lower", "factor": 0.5} if then == "lower" else {}
    step = built({"step": "temporal_stability", **said}, product="dynamic-world", per_site=3)
    assert step.compare_maps
    label = labelled(maps[0], confidence)
    found = step.apply(label, seen((12, 12), others=tuple(labelled(m) for m in maps[1:])))
    changed = 0
    for y, x in np.ndindex(12, 12):
        mine = int(maps[0][y, x])
        others = {int(m[y, x]) for m in maps[1:]} - {255}
        doubted = mine != 255 and bool(others - {mine})
        was = int(label.confidence[y, x])
        is_, sure = int(found.label.classes[y, x]), int(found.label.confidence[y, x])
        if not doubted:
            assert (is_, sure) == (mine, was)
        elif then == "ignore":
            assert (is_, sure) == (255, 255)
            changed += 1
        else:
            assert is_ == mine
            assert sure == (was if was == 255 else (was + 1) // 2)
            changed += sure < was
    (effect,) = found.effects
    assert (effect.ignored if then == "ignore" else effect.lowered) == changed > 10
    alone = step.apply(label, seen((12, 12)))
    np.testing.assert_array_equal(alone.label.classes, label.classes)


def test_one_map_is_refused() -> None:
    step = {"step": "temporal_stability"}
    built(step, product="io-lulc-annual", per_site=2, period="2020-06-01/2022-01-01")
    cases = [
        {"product": "esa-worldcover-v200", "per_site": 4, "period": "2018-01-01/2023-01-01"},
        {"product": "io-lulc-annual", "per_site": 2, "period": "2021-01-01/2022-01-01"},
        {"product": "io-lulc-annual", "per_site": 1, "period": "2019-01-01/2022-01-01"},
        {"product": "nlcd", "per_site": 2, "period": "2019-01-01/2020-01-01"},
    ]
    for case in cases:
        with pytest.raises(RecipeError, match=r"filters\.0.*more than one label map"):
            built(step, **case)
    with pytest.raises(ValueError, match="factor with"):
        built({"step": "temporal_stability", "factor": 0.5})


def test_what_a_veto_needs_is_checked() -> None:
    step = {"step": "spectral_veto"}
    with pytest.raises(
        RecipeError, match=r"swir16, which ndsi needs; of sentinel-2-l2a.*B08 \(nir\)"
    ):
        built(step, bands=("B03", "B04", "B08"))
    few = built({**step, "indices": ["ndvi"]}, bands=("B04", "B08"))
    green = np.zeros((2, 1, 1), np.uint16)
    green[1] = 5000
    found = few.apply(
        labelled(np.zeros((1, 1))),
        Seen(grid=GRID, image=green, valid=np.ones((1, 1), bool), scale=(1e-4,) * 2, offset=(0, 0)),
    )
    assert found.effects[0].ignored == 1
    built(step, imagery="landsat-c2-l2", bands=("SR_B3", "SR_B4", "SR_B5", "SR_B6"))  # nir08
    with pytest.raises(RecipeError, match=r"has no raster:scale"):
        built({**step, "indices": ["ndvi", "ndwi"]}, imagery="naip", bands=("R", "G", "B", "N"))
    with pytest.raises(RecipeError, match="an index of spectral: ndvi, ndwi, ndsi"):
        built({**step, "indices": ["ndre"]})
    with pytest.raises(UnknownNameError, match="Did you mean 'spectral'"):
        built({**step, "rules": "spectrl"})
    with pytest.raises(RecipeError, match="at most the 9 classes of cover-9"):
        built({"step": "min_classes", "n": 10})


def test_rules_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "vetoes").mkdir()
    file = tmp_path / "vetoes" / "mine.yaml"
    text = """
title: Mine
indices: {ndvi: {title: t, plus: [nir], minus: [red], source: s}}
rules: [{classes: [%s], when: {%s: {%s: 0.2}}, why: w, source: ours, verified: false}]
verified: false
sources: [ours]
"""
    mine = Catalogs.load(tmp_path)
    file.write_text(text % ("tree", "ndvi", "below"))
    step = {"step": "spectral_veto", "rules": "mine"}
    image = np.full((4, 1, 2), 3000, np.uint16)
    tree_and_water = np.array([[1, 0]])
    found = built(step, catalogs=mine).apply(labelled(tree_and_water), seen((1, 2), image))
    assert found.label.classes.tolist() == [[255, 0]]
    file.write_text(text % ("special", "ndvi", "below"))
    with pytest.raises(RecipeError, match="every leaf of a class"):
        built(step, catalogs=mine)
    for wrong, word in ((("tre", "ndvi", "below"), "an ontology node"),
                        (("tree", "ndwi", "below"), "an index among ndvi"),
                        (("tree", "ndvi", "under"), "above, below")):  # fmt: skip
        file.write_text(text % wrong)
        with pytest.raises(CatalogError, match=word):
            built(step, catalogs=mine)
