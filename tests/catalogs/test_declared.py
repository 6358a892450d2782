"""What every declaration keeps, whoever adds it: these tests run over all files of `catalogs/`."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
import yaml

from las_builder.catalogs import Catalogs, Imagery, LabelProduct, Taxonomy
from las_builder.catalogs.loader import packaged

CATALOGS = Catalogs((packaged("catalogs"),))
IMAGERY = CATALOGS.names("imagery")
LABELS = CATALOGS.names("labels")
TAXONOMIES = CATALOGS.names("taxonomies")

LICENSE = re.compile(r"^[\w\-.+]+$")
"""What STAC 1.1 allows: one SPDX identifier, or `other`."""

SHARED_COLOURS = {
    "usda-cdl", "chesapeake-lu", "glc-fcs30d", "esa-cci-lc", "eucropmap", "mapbiomas-brazil",
    "sbtn-natural-lands",
}  # fmt: skip
"""Products whose official legend gives one colour to several codes."""

IMPORTS = {"terramesh-lulc", "slovenia-lulc"}
"""Products that exist only as files that somebody cut: no provider, no virtual Earth."""


def test_the_first_declarations_are_there() -> None:
    assert {"sentinel-2-l2a", "sentinel-2-l1c", "landsat-c2-l2", "naip"} <= set(IMAGERY)
    assert {
        "esa-worldcover-v100", "esa-worldcover-v200", "dynamic-world", "io-lulc-annual", "nlcd",
        "nlcd-annual", "corine", "usda-cdl", "glc-fcs30d", "chesapeake-lc7", "chesapeake-lc13",
        "chesapeake-lu",
    } <= set(LABELS)  # fmt: skip
    assert {"cover-9", "worldcover-11", "forest-water-built-crop"} <= set(TAXONOMIES)


@pytest.mark.parametrize("name", [*IMAGERY, *LABELS, *TAXONOMIES])
def test_names_are_those_of_files_and_fit_in_keys(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


def test_no_name_is_used_twice() -> None:
    names = [*IMAGERY, *LABELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", IMAGERY)
def test_imagery(name: str) -> None:
    imagery = CATALOGS.imagery(name)
    assert imagery.name == name
    names = [band.name for band in imagery.bands]
    assert len(set(names)) == len(names)
    assert set(imagery.rgb) <= set(names)
    assert imagery.stretch[0] < imagery.stretch[1]
    assert imagery.gsd == imagery.lattice.pixel
    assert all((band.gsd / imagery.gsd).is_integer() for band in imagery.bands)
    waves = [band.center_wavelength for band in imagery.bands if band.center_wavelength]
    assert waves == sorted(waves)
    assert all(0.4 <= wave <= 14 for wave in waves), "micrometres"
    assert all(
        band.full_width_half_max is None or 0.01 <= band.full_width_half_max <= 2
        for band in imagery.bands
    )
    if imagery.nodata is not None:
        assert imagery.dtype.type(imagery.nodata) == imagery.nodata
    if imagery.lattice.cell is not None:
        assert (imagery.lattice.cell / max(b.gsd for b in imagery.bands)).is_integer()
    assert imagery.validity.band not in names
    _provenance(imagery)
    for where in imagery.where:
        known = {*names, imagery.validity.band}
        assert set(where.assets) <= known, f"{where.provider} names bands that nobody has"
        assert where.errors
        if where.provider != "virtual":
            assert where.collection


@pytest.mark.parametrize("name", IMAGERY)
@pytest.mark.parametrize("provider", ["virtual", "stac"])
def test_imagery_is_on_the_virtual_earth_and_in_folders(name: str, provider: str) -> None:
    imagery = CATALOGS.imagery(name)
    where = imagery.at(provider)
    assert where is not None
    assert where.auth == "none"
    assert not where.assets, "there, assets have the names of our bands"
    if provider == "stac":
        assert where.collection == name


@pytest.mark.parametrize("name", LABELS)
def test_label_product(name: str) -> None:
    product = CATALOGS.label(name)
    assert product.name == name
    codes = [entry.value for entry in product.classes]
    names = [entry.name for entry in product.classes]
    assert codes == sorted(set(codes))
    assert len(set(names)) == len(names)
    assert all(product.dtype.type(code) == code for code in product.codes)
    _provenance(product)

    nothing = [entry for entry in product.classes if entry.value == product.nodata]
    assert all(not entry.means for entry in nothing), "the code that says nothing has a meaning"
    for entry in product.classes:
        special = (entry.node or "").startswith("special")
        assert special == (not entry.means), f"{entry.value} {entry.name}"
        assert not any(node.startswith("special") for node in entry.means)
        assert len(set(entry.means)) == len(entry.means)
        assert entry.node is not None
        assert entry.relation is not None
    colours = [e.color_hint for e in product.classes if e.color_hint is not None]
    if name not in SHARED_COLOURS:
        assert len(set(colours)) == len(colours)

    for row in product.accuracy:
        assert row.value is None or row.value in codes
        assert (row.value is None) == (row.overall is not None)
        given = [v for v in (row.users, row.producers, row.overall) if v is not None]
        assert given
        assert all(0 < v <= 100 for v in given)
        assert row.source
        assert row.scope, "numbers of unknown scope cannot be compared"

    for where in product.where:
        assert set(where.assets) <= {"codes", *product.evidence}
        assert where.errors, "what is packaged errs as it is declared"
    if product.epoch.rule == "fixed":
        assert product.epoch.start
        assert product.epoch.end
        assert product.epoch.start <= product.epoch.end


@pytest.mark.parametrize("name", LABELS)
def test_the_virtual_earth_has_the_products_whose_errors_are_declared(name: str) -> None:
    declared = yaml.safe_load((packaged("catalogs") / "virtual/products.yaml").read_text())
    where = CATALOGS.label(name).at("virtual")
    assert (where is not None) == (name in declared["products"])


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_imported_products_have_only_files(name: str) -> None:
    assert [where.provider for where in CATALOGS.label(name).where] == ["stac"]


def test_dynamic_world_is_on_earth_engine_only() -> None:
    product = CATALOGS.label("dynamic-world")
    assert [where.provider for where in product.where] == ["earth-engine", "virtual"]
    assert product.epoch.rule == "same-scene"
    assert product.evidence == [entry.name for entry in product.classes]


def test_one_item_is_never_two_products() -> None:
    """Products that share a collection are told apart by a property that both state."""
    wheres = [
        (name, where)
        for name in LABELS
        for where in CATALOGS.label(name).where
        if where.provider != "virtual"
    ]
    for (a, one), (b, other) in combinations(wheres, 2):
        if a != b and (one.provider, one.collection) == (other.provider, other.collection):
            assert any(other.match.get(key, value) != value for key, value in one.match.items()), (
                f"{a} and {b} would both take an item of {one.collection}"
            )
    shared = [w.collection for _, w in wheres if w.collection == "esa-worldcover"]
    assert len(shared) == 4, "the two versions, at two providers each"


@pytest.mark.parametrize("name", TAXONOMIES)
def test_taxonomy(name: str) -> None:
    taxonomy = CATALOGS.taxonomy(name)
    assert taxonomy.name == name
    for values in (
        [c.name for c in taxonomy.classes],
        [c.color_hint for c in taxonomy.classes],
        [prompt for c in taxonomy.classes for prompt in c.prompts],
    ):
        assert len(set(values)) == len(values), "two classes would look or read the same"
    for entry in taxonomy.classes:
        assert entry.members
        assert not any(node.startswith("special") for node in entry.members)
        assert all(re.fullmatch(r"[a-z][a-z \-]*", prompt) for prompt in entry.prompts)
    assert taxonomy.sources


def test_cover_9_is_level_1_of_the_ontology() -> None:
    top = {node.id for node in CATALOGS.ontology.nodes if "." not in node.id} - {"special"}
    taxonomy = CATALOGS.taxonomy("cover-9")
    assert sorted(m for c in taxonomy.classes for m in c.members) == sorted(top)
    assert len(top) == 9


def test_worldcover_11_is_worldcover() -> None:
    """Same names and colours as the product, and every code reaches its own class directly."""
    taxonomy, product = CATALOGS.taxonomy("worldcover-11"), CATALOGS.label("esa-worldcover-v200")
    assert [(c.name, c.color_hint) for c in taxonomy.classes] == [
        (c.name, c.color_hint) for c in product.classes
    ]
    below = CATALOGS.ontology.below
    for target, entry in zip(taxonomy.classes, product.classes, strict=True):
        assert entry.node is not None
        members = frozenset[str]().union(*(below(node) for node in target.members))
        head = [n for n in entry.means if (n + ".").startswith(entry.node + ".")]
        assert head
        assert all(below(node) <= members for node in head), entry.name


def test_ontology() -> None:
    ontology = CATALOGS.ontology
    ids = [node.id for node in ontology.nodes]
    assert len(set(ids)) == len(ids)
    assert len([i for i in ids if i.count(".") == 0]) == 10
    assert not ontology.verified, "the mappings are proposals"
    top = {i for i in ids if "." not in i}
    for node in ontology.nodes:
        assert set(node.cover or []) <= top, "what is seen is stated at level 1"
    # Brute force: a leaf is a node that no other id continues.
    leaves = {i for i in ids if not any(j.startswith(i + ".") for j in ids)}
    assert ontology.leaves == leaves
    assert ontology.below("tree") == {i for i in leaves if i.split(".")[0] == "tree"}
    assert ontology.below("water.marine.ocean") == {"water.marine.ocean"}
    with pytest.raises(KeyError):
        ontology.below("tre")
    assert ontology.cover_of("crop.permanent.olive") == ["crop", "tree", "shrub"], "inherited"
    assert ontology.cover_of("built.urban_fabric.dense") == ["built"], "its own"
    assert ontology.cover_of("crop.annual.maize") is None


def _provenance(thing: Imagery | LabelProduct) -> None:
    assert LICENSE.match(thing.license), "SPDX or `other`; words go into the attribution"
    assert thing.attribution
    assert thing.title
    assert thing.description
    assert thing.sources
    west, south, east, north = thing.extent.bbox
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    start, end = thing.extent.interval
    assert start is not None
    assert end is None or start <= end


def test_kinds_are_what_they_say() -> None:
    assert isinstance(CATALOGS.imagery("naip"), Imagery)
    assert isinstance(CATALOGS.taxonomy("cover-9"), Taxonomy)
    assert CATALOGS.label("corine").dtype == "int16", "codes of CLC do not fit eight bits"


def test_the_documentation_lists_every_product() -> None:
    page = (packaged("catalogs").parent / "docs/labels.md").read_text()
    rows = {r.split("`")[1]: r.split(" | ") for r in page.splitlines() if r.startswith("| `")}
    assert sorted(rows) == LABELS
    for name, row in rows.items():
        product = CATALOGS.label(name)
        assert row[1] == product.title
        assert row[2] == ("vector" if product.vector else f"{product.gsd:g} m")
        assert row[4:7] == [product.basis, str(len(product.classes)), product.license]
        assert row[7].startswith("yes" if product.verified else "no")
