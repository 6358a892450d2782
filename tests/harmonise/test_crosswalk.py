"""Codes to classes: the worked example of the reference tables, and what is no label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from affine import Affine

from las_builder.catalogs import Catalogs
from las_builder.catalogs.models import LabelProduct, Ontology, Taxonomy
from las_builder.core.grid import Grid
from las_builder.core.types import LabelMap
from las_builder.errors import GridMismatchError, LegendError, RecipeError
from las_builder.harmonise import Crosswalk, harmonise
from las_builder.harmonise.crosswalk import candidates, check_told, native, read_code

NODES: list[tuple[str, list[str] | None]] = [
    ("water", None), ("water.inland", None), ("water.seasonal", ["water", "wetland", "bare"]),
    ("tree", None), ("tree.broadleaf", None), ("tree.plantation", None),
    ("shrub", None), ("grass", None), ("crop", None), ("crop.annual", None),
    ("crop.annual.greenhouse", ["built", "crop"]), ("crop.permanent", ["crop", "tree", "shrub"]),
    ("built", None), ("built.building", None), ("built.green_urban", ["grass", "tree", "shrub", "built"]),
    ("built.green_urban.sport", None), ("built.extraction", ["bare", "built", "water"]),
    ("built.extraction.mine", ["bare", "water"]), ("built.extraction.dump", ["bare"]),
    ("bare", None), ("wetland", None), ("special", None), ("special.unlabelled", None),
]  # fmt: skip
ONTOLOGY = Ontology(
    title="t", version="0", status="test", verified=False, sources=[],
    nodes=[{"id": i, "title": i, "cover": c} for i, c in NODES],
)  # fmt: skip
LEVEL_1 = ["water", "tree", "shrub", "grass", "crop", "built", "bare", "wetland"]


def taxonomy(basis: str = "cover", classes: dict[str, list[str]] | None = None) -> Taxonomy:
    classes = classes or {name: [name] for name in LEVEL_1}
    return Taxonomy(
        name=f"nine_{basis}", title="t", basis=basis,
        classes=[
            {"name": n, "title": n, "color_hint": "00FF00", "members": m, "prompts": [n]}
            for n, m in classes.items()
        ],
    )  # fmt: skip


def product(legend: dict[int, list[str]], basis: str = "cover", **more: Any) -> LabelProduct:
    return LabelProduct(
        **{
            "name": "p", "title": "P", "version": "1", "license": "CC-BY-4.0", "attribution": "a",
            "nodata": 0, "gsd": 10, "lattice": {"crs": "EPSG:4326", "pixel": 1},
            "epoch": {"rule": "fixed", "start": "2020-01-01"}, "basis": basis, "where": [],
            "verified": True, "sources": [],
            "classes": [
                {"value": v, "name": f"code_{abs(v)}", "title": f"Code {v}", "means": m}
                for v, m in legend.items()
            ],
            **more,
        }
    )  # fmt: skip


def patch(codes: list[list[int]], dtype: str = "uint8", name: str = "p") -> LabelMap:
    array = np.array(codes, dtype)
    grid = Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), array.shape[1], array.shape[0])
    return LabelMap(product=name, version="item-1", grid=grid, codes=array, share=array * 0 + 100)


def classes_of(codes: dict[int, list[str]], basis: str, product_basis: str) -> list[str | None]:
    walk = Crosswalk.build(taxonomy(basis), [product(codes, product_basis)], ONTOLOGY)
    return [None if walk.table[v] == 255 else LEVEL_1[walk.table[v]] for v in codes]


def test_the_worked_example_of_the_reference_tables() -> None:
    codes = {60: ["bare", "built.extraction.mine", "built.extraction.dump"], 80: ["water"]}
    assert classes_of(codes, "cover", "cover") == ["bare", "water"]
    assert classes_of(codes, "use", "cover") == [None, "water"]
    corine = {
        141: ["built.green_urban"],
        131: ["built.extraction.mine"],
        132: ["built.extraction.dump"],
    }
    assert classes_of(corine, "cover", "use") == [None, None, "bare"]
    assert classes_of(corine, "use", "use") == ["built", "built", "built"]
    (green,) = product({141: ["built.green_urban"]}, "use").classes
    seen = candidates(green, product({1: ["tree"]}), "cover", ONTOLOGY)
    assert {leaf.split(".")[0] for leaf in seen} == {"grass", "tree", "shrub", "built"}


def test_an_added_node_adds_what_is_seen_unless_the_product_states_cover() -> None:
    trees = {10: ["tree", "crop.permanent"], 60: ["bare"]}
    assert classes_of(trees, "cover", "cover") == ["tree", "bare"]
    assert classes_of(trees, "cover", "use") == [None, "bare"]
    assert classes_of({1: ["tree", "wetland"], 2: ["bare"]}, "cover", "cover") == [
        None,
        "bare",
    ]  # no cover of its own
    assert classes_of({1: ["tree", "tree.plantation"]}, "cover", "cover") == ["tree"]
    assert classes_of({1: ["built.green_urban.sport"], 2: ["tree"]}, "cover", "cover") == [
        None,
        "tree",
    ]


def test_the_head_is_the_node_where_one_is_named() -> None:
    classes = [{"value": 50, "name": "built_up", "title": "B", "means": ["crop.annual.greenhouse", "built"],
                "node": "built", "relation": "partial"}]  # fmt: skip
    walk = Crosswalk.build(taxonomy(), [product({}, "cover", classes=classes)], ONTOLOGY)
    assert LEVEL_1[walk.table[50]] == "built"


def test_a_code_that_reaches_beyond_every_class_is_no_label() -> None:
    two = taxonomy(classes={"inland": ["water.inland"], "trees": ["tree"]})
    walk = Crosswalk.build(
        two, [product({1: ["water"], 2: ["water.inland"], 3: ["grass"], 4: []})], ONTOLOGY
    )
    assert dict(walk.table) == {0: 255, 1: 255, 2: 0, 3: 255, 4: 255}
    with pytest.raises(LegendError, match="native"):
        Crosswalk.build(two, [product({3: ["grass"]})], ONTOLOGY)


def test_native_is_the_legend_in_its_order() -> None:
    declared = product({112: ["tree"], 0: ["special.unlabelled"], 7: [], 20: ["shrub"]})
    legend = native(declared)
    assert [c.name for c in legend.classes] == ["code_112", "code_20"]
    assert [c.prompts for c in legend.classes] == [["Code 112"], ["Code 20"]]
    assert legend.classes[0].color_hint != legend.classes[1].color_hint
    got = harmonise([patch([[112, 20, 0, 7]])], "native", [declared])
    np.testing.assert_array_equal(got.classes, [[0, 1, 255, 255]])
    np.testing.assert_array_equal(got.voters, [[1, 1, 0, 1]])
    np.testing.assert_array_equal(got.confidence, [[255] * 4])
    assert (got.taxonomy, got.confidence_kind) == ("native-p", None)
    assert (got.classes.dtype, got.confidence.dtype, got.voters.dtype) == (np.uint8,) * 3
    with pytest.raises(LegendError, match="1 to 254"):
        native(product({1: []}))


def test_codes_of_any_size_and_sign() -> None:
    declared = product(
        {111: ["tree"], 999: [], -3: ["bare"], 70000: ["grass"]}, nodata=-9, data_type="int32"
    )
    got = harmonise([patch([[111, 999], [-3, 70000], [-9, 111]], "int32")], "native", [declared])
    np.testing.assert_array_equal(got.classes, [[0, 255], [1, 2], [255, 0]])


def test_a_code_that_is_not_declared_is_refused() -> None:
    with pytest.raises(LegendError) as caught:
        harmonise([patch([[1, 3, 200]])], "native", [product({1: ["tree"], 2: ["bare"]})])
    assert "p (item-1): `code` is [3, 200]; allowed: the codes 0, 1, 2" in str(caught.value)


def test_published_accuracy_is_a_prior() -> None:
    rows = [
        {"value": 1, "users": 50.0, "source": "recalled", "verified": False},
        {"value": 1, "users": 89.6, "source": "report", "verified": True},
        {"value": 3, "users": 12.0, "source": "report", "verified": True},
        {"value": None, "overall": 77.0, "source": "report", "verified": True},
        {"value": 2, "producers": 60.0, "source": "report", "verified": True},
    ]
    declared = product({1: ["tree"], 2: ["bare"], 3: []}, accuracy=rows)
    got = harmonise([patch([[1, 2, 3, 0]])], "native", [declared])
    np.testing.assert_array_equal(got.confidence, [[90, 255, 255, 255]])
    assert got.confidence_kind == "prior"
    assert harmonise([patch([[2, 3]])], "native", [declared]).confidence_kind is None


def test_one_product_only() -> None:
    one, two = product({1: ["tree"]}), product({1: ["tree"]}, name="q")
    with pytest.raises(RecipeError, match=r"`labels` is \['p', 'q'\].*consensus"):
        Crosswalk.build("native", [one, two])
    with pytest.raises(RecipeError, match="ontology"):
        Crosswalk.build(taxonomy(), [one])
    with pytest.raises(GridMismatchError, match="'q'"):
        Crosswalk.build("native", [one]).harmonise([patch([[1]], name="q")])


def test_a_class_that_names_a_boundary_concept_means_it() -> None:
    catalogs = Catalogs.load()
    worldcover = catalogs.label("esa-worldcover-v200")
    own = Crosswalk.build(catalogs.taxonomy("worldcover-11"), [worldcover], catalogs.ontology)
    names = [entry.name for entry in own.taxonomy.classes]
    assert "mangrove" in names[own.table[95]]
    assert "moss" in names[own.table[100]]
    # Nine level-1 covers name neither: there a mangrove can be tree or wetland, and is no label.
    nine = Crosswalk.build(catalogs.taxonomy("cover-9"), [worldcover], catalogs.ontology)
    assert nine.table[95] == 255


# ---- across classes


def across(weights: dict[str, float] | None, on_ambiguous: str = "prior", **more: Any) -> Crosswalk:
    """Code 141 is urban green, which can be grass, tree, shrub or built; code 1 is water."""
    classes = [
        {"value": 1, "name": "water", "title": "W", "means": ["water"]},
        {"value": 141, "name": "green", "title": "G", "means": ["built.green_urban"],
         "weights": weights},
    ]  # fmt: skip
    asked = taxonomy(classes=more.pop("classes", None)).model_copy(
        update={"on_ambiguous": on_ambiguous}
    )
    return Crosswalk.build(asked, [product({}, "use", classes=classes, **more)], ONTOLOGY)


def test_the_heaviest_class_where_the_taxonomy_asks_for_it() -> None:
    weights = {"grass": 5.0, "tree": 3.0, "built": 2.0}
    walk = across(weights)
    assert LEVEL_1[walk.table[141]] == "grass"
    assert walk.prior[141] == 50, "half of the weights"
    assert 1 not in walk.prior
    assert across(weights, "ignore").table[141] == 255
    assert across(None).table[141] == 255, "no weights, no prior"
    # Weights of nodes below a class count for it.
    assert (
        LEVEL_1[across({"grass": 4, "tree.broadleaf": 3, "tree.plantation": 2}).table[141]]
        == "tree"
    )


def test_ties_and_what_no_class_has_are_no_label() -> None:
    assert across({"grass": 1, "tree": 1}).table[141] == 255
    assert across({"grass": 1, "tree": 1, "shrub": 1.5}).table[141] == LEVEL_1.index("shrub")
    two = {"water": ["water"], "grass": ["grass"]}
    assert across({"grass": 2, "tree": 3}, classes=two).table[141] == 255
    assert across({"grass": 3, "tree": 2}, classes=two).table[141] == 1
    # A node that lies across classes counts for none of them.
    split = {"water": ["water"], "broad": ["tree.broadleaf"], "grass": ["grass"]}
    assert across({"tree": 3, "grass": 2}, classes=split).table[141] == 255


def test_a_prior_by_weight_is_never_surer_than_its_share() -> None:
    rows = [{"value": 141, "users": 80.0, "source": "report", "verified": True}]
    walk = across({"grass": 3, "tree": 1}, accuracy=rows)
    assert walk.prior[141] == 60
    got = walk.harmonise([patch([[141, 1]])])
    np.testing.assert_array_equal(got.classes, [[LEVEL_1.index("grass"), 0]])
    np.testing.assert_array_equal(got.confidence, [[60, 255]])


def test_a_class_that_no_product_can_tell_is_refused() -> None:
    three = taxonomy(classes={"water": ["water"], "trees": ["tree"], "crops": ["crop"]})
    one = product({1: ["water"], 2: ["tree", "crop"], 3: []})
    with pytest.raises(LegendError) as caught:
        check_told(three, [one], ONTOLOGY, where="r.yaml")
    text = str(caught.value)
    assert "r.yaml: `taxonomy` is 'nine_cover'" in text
    assert "not trees (only among others: p 2), crops (only among others: p 2)" in text
    other = product({7: ["crop.annual"], 8: ["tree.broadleaf"]}, name="q")
    check_told(three, [one, other], ONTOLOGY, where="r.yaml")
    with pytest.raises(LegendError, match=r"p or q can tell; not trees"):
        check_told(three, [one, product({7: ["crop"]}, name="q")], ONTOLOGY, where="r.yaml")


def test_several_products_tell_a_class_by_what_their_codes_have_in_common() -> None:
    three = taxonomy(classes={"water": ["water"], "trees": ["tree"], "crops": ["crop"]})
    one = product({1: ["water"], 2: ["tree", "crop"]})
    other = product({7: ["tree", "grass"], 8: ["crop", "built"], 9: ["water"]}, name="q")
    check_told(three, [one, other], ONTOLOGY, where="r.yaml")
    for alone in (one, other):
        with pytest.raises(LegendError, match=r"not trees .*, crops "):
            check_told(three, [alone], ONTOLOGY, where="r.yaml")
    # Two that leave the same two over tell neither; one that never says trees narrows nothing.
    for lost in ({7: ["tree", "crop"]}, {7: ["water"], 8: ["grass"]}):
        with pytest.raises(LegendError, match=r"p or q can tell; not trees .*, crops "):
            check_told(three, [one, product(lost, name="q")], ONTOLOGY, where="r.yaml")


def test_how_a_code_is_read() -> None:
    two = taxonomy(classes={"inland": ["water.inland"], "trees": ["tree"]})
    legend = product(
        {1: ["water"], 2: ["water.inland"], 3: ["grass"], 4: [], 5: ["tree", "water.inland"]}
    )
    read = {e.value: read_code(e, legend, two, ONTOLOGY) for e in legend.classes}
    assert {v: (r.how, r.index) for v, r in read.items()} == {
        1: ("across", 255), 2: ("inside", 0), 3: ("outside", 255), 4: ("no label", 255),
        5: ("across", 255),
    }  # fmt: skip
    assert (read[1].between, read[1].beyond) == ((0,), {"water.seasonal"})
    assert (read[5].between, read[5].beyond) == ((0, 1), frozenset())
