"""Legends against the reference tables, by their own rules written a second time, on strings only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from las_builder.catalogs import Catalogs, LabelClass, LabelProduct
from las_builder.harmonise.crosswalk import candidates

CATALOGS = Catalogs.load()

OTHER_NAMES = {
    "esa-worldcover-v100": "esa_worldcover_v100",
    "esa-worldcover-v200": "esa_worldcover_v200",
    "dynamic-world": "dynamic_world_v1",
    "io-lulc-annual": "io_lulc_annual_v02",
    "esri-lulc-2020": "esri_lulc_2020_10class",
    "corine": "corine_clc2018",
    "nlcd": "nlcd_2021",
    "nlcd-annual": "nlcd_annual_c1",
    "usda-cdl": "usda_cdl",
    "cgls-lc100": "cgls_lc100_discrete",
    "glc-fcs30d": "glc_fcs30d",
    "esa-cci-lc": "esa_cci_lc",
    "from-glc10": "from_glc10",
    "globeland30": "globeland30",
    "mcd12q1": "modis_mcd12q1_igbp",
    "glad-glclu": "glad_glclu2020",
    "jrc-gsw-transition": "jrc_gsw_transition_v14",
    "jrc-gsw-yearly": "jrc_gsw_yearly_v14",
    "ghsl-built-c": "ghsl_built_c_2018",
    "ghsl-built-s": "ghsl_built_s_10m_2018",
    "ghsl-smod": "ghsl_smod_v2",
    "wsf-2019": "wsf_2019",
    "global-mangrove-watch": "gmw_v3",
    "lcmap-conus": "usgs_lcmap_conus_v13",
    "mapbiomas-brazil": "mapbiomas_brazil",
    "google-open-buildings": "google_open_buildings_v3",
    "microsoft-buildings": "microsoft_buildings",
    "openstreetmap-landuse": "osm_landuse_tags",
    "worldcereal-temporary-crops": "esa_worldcereal_2021",
    "worldcereal-maize": "esa_worldcereal_2021",
    "worldcereal-winter-cereals": "esa_worldcereal_2021",
    "worldcereal-spring-cereals": "esa_worldcereal_2021",
    "worldcereal-irrigation": "esa_worldcereal_2021",
    "worldcereal-active-cropland": "esa_worldcereal_2021",
    "lcz": "lcz_global",
    "eucropmap": "eucropmap",
    "chesapeake-lc13": "chesapeake_lc13",
    "chesapeake-lc7": "chesapeake_lc7",
    "chesapeake-lu": "chesapeake_lu",
    "drcog-lulc": "drcog_lulc",
    "noaa-ccap": "noaa_ccap",
    "nalcms-2020": "nalcms_2020",
    "jrc-forest-types": "jrc_gfc2020_types",
    "sbtn-natural-lands": "sbtn_natural_lands_v11",
}

IN_FILES_ONLY = {"terramesh-lulc", "slovenia-lulc"}
"""Legends of files that somebody cut; the reference tables do not have them."""

RASTERS = {
    "thematic_map", "continuous_layer", "settlement_context", "crop_mask", "urban_typology",
    "high_resolution_map", "forest_type_map", "vector_footprints", "vector_tags",
}  # fmt: skip

NARROWED = {
    ("esa-worldcover-v100", 60): {"bare.lichen_moss"},
    ("esa-worldcover-v200", 60): {"bare.lichen_moss"},
}
"""Leaves that the reference's node has and the code has not: 100 is moss and lichen."""

OURS_BROADER = {
    ("mapbiomas-brazil", 33), ("sbtn-natural-lands", 2), ("openstreetmap-landuse", 47),
}  # fmt: skip
"""Partial in the reference with no other node: here the class lies inside the node."""


class Reference:
    """The reference's ontology and mappings, read as they are."""

    def __init__(self, folder: Path) -> None:
        table = yaml.safe_load((folder / "crosswalk.yaml").read_text())
        self.nodes = {node["id"]: node for node in table["ontology"]["nodes"]}
        self.products = {entry["product"]: entry for entry in table["crosswalk"]}
        legends = yaml.safe_load((folder / "label_products.yaml").read_text())
        self.legends = {entry["key"]: entry for entry in legends["products"]}

    def mapping(self, product: LabelProduct, entry: LabelClass) -> dict[str, Any] | None:
        """The reference's line for a code of ours."""
        other = OTHER_NAMES[product.name]
        lines = {m["value"]: m for m in self.products[other]["mappings"]}
        value: Any = entry.value
        if other == "esa_worldcereal_2021":
            kind = product.name.removeprefix("worldcereal-").replace("-", "")
            value = f"{kind}={entry.value}"
        elif other == "ghsl_built_s_10m_2018":
            value = "1-100" if entry.value else 0
        elif other == "osm_landuse_tags":
            value = list(lines)[entry.value - 1]  # numbered in the order of the table
        elif other in ("google_open_buildings_v3", "microsoft_buildings"):
            value = "building"
        return lines.get(value)

    def basis(self, product: LabelProduct) -> str:
        return str(self.products[OTHER_NAMES[product.name]]["basis"])

    def cover(self, node: str) -> list[str] | None:
        """`cover_level1` of a node, of the nearest ancestor that has one."""
        parts = node.split(".")
        for k in range(len(parts), 0, -1):
            found = self.nodes[".".join(parts[:k])].get("cover_level1")
            if found:
                return list(found)
        return None

    def roll(self, nodes: Iterable[str], level: int) -> set[str]:
        """Nodes cut to a level; those above it, to all that is below them at that level."""
        out = set()
        for node in nodes:
            if node.count(".") >= level - 1:
                out.add(".".join(node.split(".")[:level]))
                continue
            below = [n for n in self.nodes if n.startswith(node + ".")]
            ends = [n for n in below if not any(m.startswith(n + ".") for m in below)] or [node]
            out |= {".".join(n.split(".")[:level]) for n in ends}
        return out

    def candidates(self, line: dict[str, Any], also: list[str], basis: str, asked: str) -> set[str]:
        """The candidate set of `use_rules`, as nodes."""
        head = line["node"]
        if head.startswith("special"):
            return set()
        others = [n for n in [*line.get("also", []), *also] if not n.startswith("special")]
        if asked == "use":
            return {head, *others}
        out = set(self.cover(head) or [head])
        for node in others:
            cover = self.cover(node)
            if basis == "cover" and cover and head.split(".")[0] in cover:
                continue
            out |= set(cover or [node])
        return out


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> Reference:
    folder = shared_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip("no ../shared/reference")
    return Reference(folder)


def test_every_product_of_the_reference_is_declared(reference: Reference) -> None:
    assert set(OTHER_NAMES) | IN_FILES_ONLY == set(CATALOGS.names("labels"))
    wanted = {key for key, entry in reference.legends.items() if entry["kind"] in RASTERS}
    assert wanted == set(OTHER_NAMES.values())


def test_the_ontology_is_the_reference(reference: Reference) -> None:
    ours = {node.id: node for node in CATALOGS.ontology.nodes}
    assert len(ours) == 122
    assert [n.id for n in CATALOGS.ontology.nodes] == list(reference.nodes)
    for key, node in reference.nodes.items():
        assert ours[key].title == node["name"], key
        assert ours[key].cover == node.get("cover_level1"), key
        assert ours[key].concept == node.get("concept", ""), key


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_legends_are_those_of_the_reference(reference: Reference, name: str) -> None:
    product = CATALOGS.label(name)
    assert product.basis == reference.basis(product)
    lines = []
    for entry in product.classes:
        line = reference.mapping(product, entry)
        if line is None:
            assert (name, entry.value, entry.node) == ("chesapeake-lu", 255, "special.unlabelled")
            continue
        lines.append(line["value"])
        assert entry.node == line["node"], entry
        if (name, entry.value) in OURS_BROADER:
            assert (entry.relation, line["relation"]) == ("broader", "partial")
            assert entry.note.startswith("ours: ")
        else:
            assert entry.relation == line["relation"], entry
        # What is ours is added only where the reference knows an overlap and does not say with what.
        also = [n for n in line.get("also", []) if not n.startswith("special")]
        no_label = line["node"].startswith("special")
        alone = line["relation"] == "partial" and not also and not no_label
        assert bool(entry.ours) == (alone and (name, entry.value) not in OURS_BROADER), entry
        assert not set(entry.ours) & {line["node"], *also}
    whole = [m["value"] for m in reference.products[OTHER_NAMES[name]]["mappings"]]
    if not name.startswith("worldcereal"):
        assert list(dict.fromkeys(lines)) == sorted(whole, key=lines.index)


def test_all_of_worldcereal(reference: Reference) -> None:
    lines = set()
    for name in OTHER_NAMES:
        if name.startswith("worldcereal"):
            product = CATALOGS.label(name)
            found = [reference.mapping(product, entry) for entry in product.classes]
            lines |= {line["value"] for line in found if line is not None}
    assert lines == {m["value"] for m in reference.products["esa_worldcereal_2021"]["mappings"]}


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_names_and_colours_are_those_of_the_reference(reference: Reference, name: str) -> None:
    product = CATALOGS.label(name)
    legend = {e["value"]: e for e in reference.legends[OTHER_NAMES[name]]["legend"]}
    for entry in product.classes:
        line = reference.mapping(product, entry)
        if line is None:
            continue
        colour = legend[line["value"]]["color"]
        assert entry.color_hint == (colour and colour.lstrip("#").upper()), entry


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("basis", ["cover", "use"])
@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_sets_are_what_the_rules_of_the_reference_give(
    reference: Reference, name: str, basis: Any, level: int
) -> None:
    """Every code, rolled up to a level: the leaves of ours against the nodes of the reference."""
    product = CATALOGS.label(name)
    for entry in product.classes:
        line = reference.mapping(product, entry)
        if line is None:
            assert not candidates(entry, product, basis, CATALOGS.ontology)
            continue
        nodes = reference.candidates(line, entry.ours, reference.basis(product), basis)
        want = reference.roll(nodes, level)
        if level > 1:
            want -= NARROWED.get((name, entry.value), set())
        leaves = candidates(entry, product, basis, CATALOGS.ontology)
        got = {".".join(leaf.split(".")[:level]) for leaf in leaves}
        assert got == want, (name, entry.value, entry.name)


def test_the_worked_example(reference: Reference) -> None:
    """WorldCover 60 and 80, CORINE 141, as the reference writes them out."""
    mine = ["built.extraction.mine", "built.extraction.dump"]
    bare = {"node": "bare", "relation": "partial", "also": mine}
    assert reference.candidates(bare, [], "cover", "cover") == {"bare"}
    assert reference.roll(reference.candidates(bare, [], "cover", "use"), 1) == {"bare", "built"}
    green = {"node": "built.green_urban", "relation": "exact"}
    assert reference.candidates(green, [], "use", "cover") == {"grass", "tree", "shrub", "built"}
    worldcover, corine = CATALOGS.label("esa-worldcover-v200"), CATALOGS.label("corine")

    def level_1(product: LabelProduct, value: int, basis: Any) -> set[str]:
        entry = next(e for e in product.classes if e.value == value)
        leaves = candidates(entry, product, basis, CATALOGS.ontology)
        return {leaf.split(".")[0] for leaf in leaves}

    assert level_1(worldcover, 60, "cover") == {"bare"}
    assert level_1(worldcover, 60, "use") == {"bare", "built"}
    assert level_1(worldcover, 80, "cover") == {"water"}
    assert level_1(corine, 141, "cover") == {"grass", "tree", "shrub", "built"}
    assert level_1(corine, 141, "use") == {"built"}
