"""What is wrong with a declaration is said in one line: file, key, value, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from las_builder.catalogs import Catalogs
from las_builder.catalogs.loader import packaged
from las_builder.errors import CatalogError, InputError, UnknownNameError

Edit = Callable[[dict[str, Any]], object]

KINDS = {
    "imagery": "sentinel-2-l2a",
    "labels": "esa-worldcover-v200",
    "taxonomies": "cover-9",
}


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, Edit], Path]:
    """Write one of our declarations under another name, changed in one place."""

    def write(kind: str, edit: Edit) -> Path:
        content = yaml.safe_load((packaged("catalogs") / kind / f"{KINDS[kind]}.yaml").read_text())
        edit(content)
        path = tmp_path / kind / "mine.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def load(kind: str, folder: Path, name: str = "mine") -> object:
    catalogs = Catalogs.load(folder)
    read = {"imagery": catalogs.imagery, "labels": catalogs.label, "taxonomies": catalogs.taxonomy}
    return read[kind](name)


def refusal(kind: str, path: Path) -> str:
    with pytest.raises(CatalogError) as caught:
        load(kind, path.parents[1])
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert caught.value.exit_code == 2
    return text


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_copy_of_ours_is_read(edited: Callable[[str, Edit], Path], kind: str) -> None:
    path = edited(kind, lambda d: None)
    thing = load(kind, path.parents[1])
    assert getattr(thing, "name") == "mine"  # noqa: B009


def test_the_users_folder_comes_first(edited: Callable[[str, Edit], Path]) -> None:
    path = edited("labels", lambda d: d.update(title="Mine"))
    path.rename(path.with_name("nlcd.yaml"))
    catalogs = Catalogs.load(path.parents[1])
    assert catalogs.label("nlcd").title == "Mine"
    assert catalogs.label("corine").title != "Mine"
    assert catalogs.names("labels").count("nlcd") == 1


@pytest.mark.parametrize(
    ("kind", "edit", "key", "nearest"),
    [
        ("imagery", lambda d: d.update(licence="x"), "licence", "license"),
        ("imagery", lambda d: d["bands"][3].update(gds=10), "bands.3.gds", "gsd"),
        (
            "imagery",
            lambda d: d["bands"][0].update({"eo:comon_name": "blue"}),
            "bands.0.eo:comon_name",
            "eo:common_name",
        ),
        ("imagery", lambda d: d["lattice"].update(pixl=10), "lattice.pixl", "pixel"),
        ("imagery", lambda d: d["where"][0].update(asset={}), "where.0.asset", "assets"),
        ("labels", lambda d: d.update(no_data=0), "no_data", "nodata"),
        (
            "labels",
            lambda d: d["classification:classes"][0].update({"color-hint": "006400"}),
            "classification:classes.0.color-hint",
            "color_hint",
        ),
        ("labels", lambda d: d["epoch"].update(strat="2020-01-01"), "epoch.strat", "start"),
        ("taxonomies", lambda d: d["classes"][1].update(member=[]), "classes.1.member", "members"),
    ],
)
def test_unknown_key(
    edited: Callable[[str, Edit], Path], kind: str, edit: Edit, key: str, nearest: str
) -> None:
    text = refusal(kind, edited(kind, edit))
    assert f"`{key}`" in text
    assert f"Did you mean '{nearest}'?" in text


@pytest.mark.parametrize(
    ("kind", "edit", "key"),
    [
        ("imagery", lambda d: d.pop("license"), "license"),
        ("imagery", lambda d: d["bands"][2].pop("gsd"), "bands.2.gsd"),
        ("imagery", lambda d: d.pop("sources"), "sources"),
        ("labels", lambda d: d.pop("nodata"), "nodata"),
        (
            "labels",
            lambda d: d["classification:classes"][4].pop("means"),
            "classification:classes.4.means",
        ),
        ("taxonomies", lambda d: d["classes"][0].pop("prompts"), "classes.0.prompts"),
    ],
)
def test_missing_key(edited: Callable[[str, Edit], Path], kind: str, edit: Edit, key: str) -> None:
    text = refusal(kind, edited(kind, edit))
    assert f"`{key}`" in text
    assert "the key is required" in text


@pytest.mark.parametrize(
    ("kind", "edit", "key", "found", "allowed"),
    [
        ("imagery", lambda d: d.update(data_type="uint12"), "data_type", "uint12", "'uint16'"),
        ("imagery", lambda d: d["lattice"].update(pixel=0), "lattice.pixel", "0", "greater than 0"),
        ("imagery", lambda d: d["bands"][0].update(gsd="ten"), "bands.0.gsd", "ten", "number"),
        (
            "imagery",
            lambda d: d["where"][0].update(provider="aws"),
            "where.0.provider",
            "aws",
            "'earth-search'",
        ),
        (
            "imagery",
            lambda d: d["validity"].update(clear_when_zero=[0]),
            "validity",
            "dict",
            "with one of clear_values, clear_when_zero and clear_at_least",
        ),
        ("labels", lambda d: d["epoch"].update(rule="yearly"), "epoch.rule", "yearly", "'fixed'"),
        (
            "labels",
            lambda d: d["classification:classes"][0].update(color_hint="#006400"),
            "classification:classes.0.color_hint",
            "#006400",
            "[0-9A-F]{6}",
        ),
        (
            "labels",
            lambda d: d["classification:classes"][0].update(name="Tree cover"),
            "classification:classes.0.name",
            "Tree cover",
            "[0-9a-z_]+",
        ),
        (
            "labels",
            lambda d: d["classification:classes"][0].update(relation="similar"),
            "classification:classes.0.relation",
            "similar",
            "'exact'",
        ),
        ("taxonomies", lambda d: d.update(classes=[]), "classes", "list", "at least 1"),
        (
            "taxonomies",
            lambda d: d["classes"][0].update(prompts=[]),
            "classes.0.prompts",
            "list",
            "at least 1",
        ),
    ],
)
def test_bad_value(
    edited: Callable[[str, Edit], Path], kind: str, edit: Edit, key: str, found: str, allowed: str
) -> None:
    text = refusal(kind, edited(kind, edit))
    assert f"`{key}` is " in text
    assert found in text
    assert allowed in text.split("; allowed: ")[1]


def test_two_classes_with_one_value(edited: Callable[[str, Edit], Path]) -> None:
    path = edited("labels", lambda d: d["classification:classes"][1].update(value=10))
    assert "two classes have the same value" in refusal("labels", path)


def test_a_meaning_that_is_no_node(edited: Callable[[str, Edit], Path]) -> None:
    path = edited("labels", lambda d: d["classification:classes"][0].update(means=["trees"]))
    text = refusal("labels", path)
    assert "classes[10].means" in text
    assert "'trees'" in text


@pytest.mark.parametrize(
    ("means", "node", "relation"),
    [
        (["tree", "shrub"], "tree", "exact"),
        (["tree.broadleaf"], "tree", "exact"),
        (["tree", "shrub"], "tree", "broader"),
        (["tree.broadleaf"], "tree", "narrower"),
        (["shrub"], "tree", "partial"),
    ],
)
def test_a_relation_that_contradicts_the_sets(
    edited: Callable[[str, Edit], Path], means: list[str], node: str, relation: str
) -> None:
    change = {"means": means, "node": node, "relation": relation}
    path = edited("labels", lambda d: d["classification:classes"][0].update(change))
    text = refusal("labels", path)
    assert f"`classes[10].relation` is {relation!r}" in text


@pytest.mark.parametrize(
    ("means", "node", "relation"),
    [
        (["tree"], "tree", "exact"),
        (["tree.broadleaf.evergreen", "tree.broadleaf.deciduous"], "tree.broadleaf", "exact"),
        (["tree.broadleaf"], "tree", "broader"),
        (["tree", "shrub"], "tree", "narrower"),
        (["tree.broadleaf", "shrub"], "tree", "partial"),
        ([], "special.unlabelled", "exact"),
    ],
)
def test_a_relation_that_fits_the_sets(
    edited: Callable[[str, Edit], Path], means: list[str], node: str, relation: str
) -> None:
    change = {"means": means, "node": node, "relation": relation}
    path = edited("labels", lambda d: d["classification:classes"][0].update(change))
    assert load("labels", path.parents[1])


@pytest.mark.parametrize("member", ["tree", "tree.broadleaf", "tree.broadleaf.evergreen"])
def test_taxonomy_classes_that_overlap(edited: Callable[[str, Edit], Path], member: str) -> None:
    """Whether a class takes a whole class of its sibling or one leaf of it."""
    path = edited("taxonomies", lambda d: d["classes"][2]["members"].append(member))
    text = refusal("taxonomies", path)
    assert "`classes.shrubland.members`" in text
    assert f"'{member}'" in text
    assert "tree_cover has tree." in text


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda d: d["classes"][2].update(members=["tree.mixed"]),
            [
                "classes.shrubland.members",
                "'tree.mixed'",
                "tree_cover and shrubland share tree.mixed",
            ],
        ),
        (
            lambda d: d["classes"][2].update(members=[]),
            ["classes.shrubland.members", "[]", "at least one ontology node"],
        ),
        (
            lambda d: d["classes"][2].update(members=["special.context"]),
            ["classes.shrubland.members", "special.context", "outside special"],
        ),
        (
            lambda d: d["classes"][2].update(members=["shrub.clsoed"]),
            ["classes.shrubland.members", "Did you mean 'shrub.closed'?"],
        ),
        (
            lambda d: d["classes"][2].update(name="water"),
            ["`classes`", "'water'", "different names"],
        ),
    ],
)
def test_a_class_is_a_set_of_its_own(
    edited: Callable[[str, Edit], Path], edit: Edit, words: list[str]
) -> None:
    text = refusal("taxonomies", edited("taxonomies", edit))
    assert all(word in text for word in words), text


def change(**keys: object) -> Edit:
    return lambda d: d["classification:classes"][0].update(keys)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change(means=[]), ["classes[10].means", "at least one ontology node", "below special"]),
        (
            change(means=["tree", "special.context"], node="tree", relation="narrower"),
            ["classes[10].means", "together with one below special"],
        ),
        (
            change(means=["tree"], node="special.negative", relation="partial"),
            ["classes[10].means", "together with one below special"],
        ),
        (change(ours=["water"]), ["classes[10].ours", "'water'", "nodes of `means`"]),
        (change(means=["tree"], relation="partial"), ["classes[10].relation", "'partial'"]),
        (change(weights={"water": 1.0}), ["classes[10].weights", "'water'", "can be"]),
        (change(weights={"tre": 1.0}), ["classes[10].weights", "'tre'"]),
        (change(weights={"tree": 0.0}), ["classes[10].weights.tree", "0.0", "above 0"]),
        (change(weights={"tree": float("inf")}), ["classes[10].weights.tree", "above 0"]),
        (change(means=["tree.brodleaf"]), ["Did you mean 'tree.broadleaf'?"]),
    ],
)
def test_a_code_means_a_set(
    edited: Callable[[str, Edit], Path], edit: Edit, words: list[str]
) -> None:
    text = refusal("labels", edited("labels", edit))
    assert all(word in text for word in words), text


def test_weights_of_what_can_be_seen_there(edited: Callable[[str, Edit], Path]) -> None:
    path = edited(
        "labels",
        change(
            means=["built.green_urban"], node="built.green_urban", relation="exact",
            weights={"grass": 0.5, "tree.mixed": 0.1},
        ),
    )  # fmt: skip
    assert load("labels", path.parents[1])


def test_levels_are_made_from_the_ontology(tmp_path: Path) -> None:
    catalogs = Catalogs.load()
    ids = [n.id for n in catalogs.ontology.nodes if not n.id.startswith("special")]
    for level in (1, 2, 3):
        for suffix, basis in (("", "cover"), ("-use", "use")):
            taxonomy = catalogs.taxonomy(f"level-{level}{suffix}")
            assert (taxonomy.basis, taxonomy.version) == (basis, catalogs.ontology.version)
            members = [m for c in taxonomy.classes for m in c.members]
            # Brute force: every leaf is cut to the level; what it is cut to, is a class, once.
            leaves = [i for i in ids if not any(j.startswith(i + ".") for j in ids)]
            assert sorted(members) == sorted({".".join(x.split(".")[:level]) for x in leaves})
    assert len(catalogs.taxonomy("level-1").classes) == 9
    assert len(catalogs.taxonomy("level-2").classes) == 37
    # Levels nest: a class of level 2 lies inside one of level 1.
    below = catalogs.ontology.below
    for fine in catalogs.taxonomy("level-2").classes:
        inside = [c for c in catalogs.taxonomy("level-1").classes
                  if below(fine.members[0]) <= below(c.members[0])]  # fmt: skip
        assert len(inside) == 1
    assert "level-2-use" in catalogs.names("taxonomies")
    with pytest.raises(UnknownNameError, match="'level-2'"):
        catalogs.taxonomy("level2")
    (tmp_path / "taxonomies").mkdir()
    own = yaml.safe_load((packaged("catalogs") / "taxonomies/cover-9.yaml").read_text())
    (tmp_path / "taxonomies/level-1.yaml").write_text(yaml.safe_dump({**own, "title": "Mine"}))
    assert Catalogs.load(tmp_path).taxonomy("level-1").title == "Mine"


def test_a_taxonomy_member_that_is_no_node(edited: Callable[[str, Edit], Path]) -> None:
    path = edited("taxonomies", lambda d: d["classes"][0].update(members=["watre"]))
    assert "'watre'" in refusal("taxonomies", path)


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        ("imagery", "sentinel-2-l2", "sentinel-2-l2a"),
        ("imagery", "landsat", "landsat-c2-l2"),
        ("labels", "esa-worldcover-v300", "esa-worldcover-v200"),
        ("labels", "dynamicworld", "dynamic-world"),
        ("taxonomies", "cover9", "cover-9"),
    ],
)
def test_unknown_name(tmp_path: Path, kind: str, name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load(kind, tmp_path, name)
    text = str(caught.value)
    assert "\n" not in text
    assert f"Did you mean '{nearest}'?" in text
    assert name in text
    assert isinstance(caught.value, InputError)


def test_who_asked_is_in_the_message() -> None:
    with pytest.raises(UnknownNameError) as caught:
        Catalogs.load().label("worldcover", where="pipelines/a.yaml", key="compare[0]")
    assert str(caught.value).startswith("pipelines/a.yaml: `compare[0]` is 'worldcover'")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"title: [", "yaml"),
        (b"- a\n- b\n", "yaml"),
        (b"", "yaml"),
        ("title: Übersicht".encode("latin-1"), "yaml"),
    ],
)
def test_what_is_no_declaration(tmp_path: Path, content: bytes, key: str) -> None:
    path = tmp_path / "labels" / "mine.yaml"
    path.parent.mkdir()
    path.write_bytes(content)
    assert f"`{key}` is " in refusal("labels", path)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="a folder of declarations"):
        Catalogs.load(tmp_path / "none")
