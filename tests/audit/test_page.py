"""The page: every name escaped, nothing from elsewhere, numbers as estimated, and JSON beside it."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from audit_kit import CATALOGS, legend, population, row

from las_builder.audit import (
    Balance,
    Brief,
    Contested,
    Estimate,
    Findings,
    Groups,
    Judged,
    Level,
    Picture,
    Shares,
    accuracy,
    as_json,
    compare,
    drift,
    rank,
    stated,
    write_contested,
    write_corpus,
    write_page,
)
from las_builder.audit.cells import Html, html_table
from las_builder.audit.contested import differences

EVIL = "<script>alert('&')</script>"
COVER = CATALOGS.taxonomy("cover-9")


class Page(HTMLParser):
    """Tags, attributes and text as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def findings(counted) -> Findings:
    rng = np.random.default_rng(5)
    products = []
    for name, like in (("esa-worldcover-v100",) * 2, ("esa-worldcover-v200",) * 2):
        product = CATALOGS.label(like)
        first = product.classes[0].model_copy(update={"title": EVIL})
        products.append(
            product.model_copy(
                update={"name": name, "title": EVIL, "classes": [first, *product.classes[1:]]}
            )
        )
    labels = [rng.choice([10, 20, 30, 80], (40, 12, 12)).astype("uint8") for _ in products]
    labels[1][:35] = np.where(rng.random((35, 12, 12)) < 0.8, labels[0][:35], labels[1][:35])
    counts = counted(products, labels, [row(i, i) for i in range(40)])
    evil = COVER.classes[0].model_copy(update={"title": EVIL})
    taxonomy = COVER.model_copy(update={"title": EVIL, "classes": [evil, *COVER.classes[1:]]})
    table = {10: 1, 20: 2, 30: 3, 80: 0}
    level = Level(taxonomy, {p.name: table for p in products})
    groups = Groups((EVIL, "flat"), np.arange(40) % 2)
    people = population(rng.uniform(1, 2, 40), [1] * 40, 144, groups={"country": groups})
    can = np.ones((len(products[0].codes),) * 2, np.int8)
    said = [stated(counts, people, i, p, [level]) for i, p in enumerate(products)]
    ranked = rank(counts, people, products, level, 10)
    pixel = base64.b64encode(b"x").decode()
    mapped = np.array([0, 0, 1, 1, 2, 2])
    judged = accuracy(
        mapped, np.array([0, 0, 1, 2, 2, 2]), size=9, shares=Shares(np.full(9, 1 / 9)), weight=None,
        cluster=np.arange(6),
    )  # fmt: skip
    return Findings(
        subset=EVIL, about=EVIL, synthetic=(EVIL,), population=people, products=tuple(products),
        labels=frozenset([products[0].name]), levels=(level,),
        compared=(compare(counts, people, products, (0, 1), [level], can),), stated=tuple(said),
        drifts=(drift(counts, people, products, (0, 1)),),
        balance=(Balance(product=EVIL, taxonomy=taxonomy, shares=said[0].by_class["cover-9"]),),
        contested=tuple(ranked),
        pictures=(
            Picture(
                site=ranked[0].site, where=EVIL, image=pixel, disagreement=pixel,
                labels=tuple((p.name, pixel) for p in products),
                codes={p.name: (10, 80) for p in products},
            ),
        ),
        judged=(
            Judged(product=products[0].name, taxonomy=taxonomy, accuracy=judged, area_km2=50.0,
                   said={EVIL: 3}),
        ),
        lost_points=EVIL,
    )  # fmt: skip


def test_names_are_text_and_nothing_comes_from_elsewhere(findings, tmp_path: Path) -> None:
    write_page(tmp_path, findings)
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.text.count(EVIL) >= 9
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "nan" not in page.text
    write_page(tmp_path / "again", findings)
    for name in ("index.html", "audit.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_numbers_on_the_page_and_beside_it(findings, tmp_path: Path) -> None:
    write_page(tmp_path, findings)
    text = Page((tmp_path / "index.html").read_text()).text
    said = json.loads((tmp_path / "audit.json").read_text(), parse_constant=pytest.fail)
    (agreed,) = said["agreement"]
    overall = agreed["levels"][0]["overall"]
    assert f"{100 * overall['value']:.1f} ± {98 * 2 * overall['error']:.1f} %" in text
    assert overall["high"] - overall["low"] == pytest.approx(2 * 1.96 * overall["error"])
    assert sum(share for *_, share in agreed["levels"][0]["table"]) == pytest.approx(1)
    assert set(agreed["levels"][0]["by"]["country"]) == {EVIL, "flat"}
    areas = said["stated"][0]["areas_km2"]
    assert sum(e["value"] for e in areas.values()) == pytest.approx(said["area_km2"])
    assert said["reference"][0]["overall"]["value"] == pytest.approx(2.5 / 3)
    few = agreed["levels"][0]["by"]["country"]["flat"]
    assert few["effective_sites"] < 30
    assert few["few"]
    assert "(too few)" in text
    assert "SYNTHETIC" in text


def test_refused_areas_say_why(findings, tmp_path: Path) -> None:
    import dataclasses

    people = dataclasses.replace(findings.population, area_km2=None, refused="chosen by hand.")
    bare = [dataclasses.replace(s, areas=None, class_areas=None) for s in findings.stated]
    write_page(tmp_path, dataclasses.replace(findings, population=people, stated=tuple(bare)))
    text = Page((tmp_path / "index.html").read_text()).text
    assert "No areas are estimated: chosen by hand." in text
    assert "area, km²" not in text.split("Accuracy")[0]
    said = json.loads((tmp_path / "audit.json").read_text())
    assert said["area_km2"] is None
    assert said["areas_refused"] == "chosen by hand."
    assert said["stated"][0]["areas_km2"] is None


def test_ranking_against_loops_and_polygons_in_qgis(counted, tmp_path: Path) -> None:
    import geopandas
    import shapely

    rng = np.random.default_rng(8)
    products = [legend(name, [0, 1, 2, 3]) for name in "pqr"]
    labels = [rng.integers(0, 4, (6, 12, 12)).astype("uint8") for _ in products]
    for k in range(1, 3):
        labels[k][0] = labels[0][0]  # site a: all alike
    labels[0][1], labels[1][1][2:] = 0, 0  # site b: little can be compared by any two
    labels[0][2] = 0  # site c: p says nothing, q and r do
    table = {0: 255, 1: 0, 2: 1, 3: 2}
    level = Level(COVER, {p.name: table for p in products})
    rows = [row(i, i, "vvv") for i in range(6)]
    people = population([1] * 6, [1] * 6, 144)
    found = rank(counted(products, labels, rows), people, products, level, 10)
    want = {}
    for i in range(6):
        differ = compared = most = 0
        for a, b in ((0, 1), (0, 2), (1, 2)):
            both = (labels[a][i] > 0) & (labels[b][i] > 0)
            compared, most = compared + both.sum(), max(most, both.mean())
            differ += (both & (labels[a][i] != labels[b][i])).sum()
        if differ and most >= 0.25:
            want["abcdef"[i]] = differ / compared
    assert set(want) == set("cdef")
    assert [c.site for c in found] == sorted(want, key=lambda s: -want[s])
    assert {c.site: c.disagreement for c in found} == pytest.approx(want, abs=1e-8)
    assert all(c.worst is not None and c.worst[1] != c.worst[3] for c in found)

    split = shapely.MultiPolygon([shapely.box(179.9, 0, 180, 1), shapely.box(-180, 0, -179.9, 1)])
    path = tmp_path / "contested.gpkg"
    write_contested(path, found, {c.site: split for c in found})
    frame = geopandas.read_file(path)
    assert frame.crs.to_epsg() == 4326
    assert frame["site"].tolist() == [c.site for c in found]
    assert frame["disagreement"].tolist() == pytest.approx([c.disagreement for c in found])
    assert frame.geometry.iloc[0].equals(split)
    first = path.read_bytes()
    write_contested(path, found, {c.site: split for c in found})
    assert path.read_bytes() == first
    write_contested(path, [], {})
    assert len(geopandas.read_file(path)) == 0


def test_a_contested_site_without_a_place_is_left_out(tmp_path: Path) -> None:
    import geopandas

    one = Contested(site="a", disagreement=0.5, compared=1.0, worst=None)
    write_contested(tmp_path / "c.gpkg", [one], {"a": None})
    assert len(geopandas.read_file(tmp_path / "c.gpkg")) == 0
    assert math.isfinite(one.disagreement)


def test_the_page_of_a_corpus_escapes_names_and_is_the_same_twice(findings, tmp_path: Path) -> None:
    briefs = [(Brief.of(findings), f"{name}/index.html") for name in "ab"]
    for folder in ("one", "two"):
        write_corpus(tmp_path / folder / "audit.html", EVIL, briefs)
    text = (tmp_path / "one" / "audit.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.links == ["a/index.html", "b/index.html"]
    assert page.text.count(EVIL) >= 8
    assert "nan" not in page.text
    for name in ("audit.html", "audit.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    said = json.loads((tmp_path / "one" / "audit.json").read_text(), parse_constant=pytest.fail)
    (pair,) = said["subsets"][0]["agreement"]
    assert pair["overall"]["value"] == findings.compared[0].levels[0].overall.value
    assert said["subsets"][1]["accuracy"] == {
        findings.products[0].name: findings.judged[0].accuracy.overall.as_json()
    }


def test_heads_of_tables_are_text_unless_they_say_otherwise() -> None:
    made = html_table(["<i>a</i>", Html("<i>b</i>")], [])
    assert "&lt;i&gt;a" in made
    assert "<i>b</i>" in made


@pytest.mark.parametrize(
    ("whole", "unit", "shown"), [(4e6, "10³ km²", "1,000"), (40.0, "km²", "10.0")]
)
def test_areas_are_in_a_unit_that_suits_them(
    findings, tmp_path: Path, whole: float, unit: str, shown: str
) -> None:
    import dataclasses

    people = dataclasses.replace(findings.population, area_km2=whole)
    quarter = Estimate(whole / 4, 0.0, 100.0, 40)
    said = [dataclasses.replace(s, areas={10: quarter}) for s in findings.stated]
    write_page(tmp_path, dataclasses.replace(findings, population=people, stated=tuple(said)))
    text = Page((tmp_path / "index.html").read_text()).text
    assert f"area, {unit}" in text
    assert f"{shown} ± 0" in text


def test_maps_of_disagreement_against_loops() -> None:
    rng = np.random.default_rng(3)
    products = [legend(name, [0, 1, 2, 3]) for name in "pqr"]
    # p's code 2 can be of two classes, 3 is none of q.
    may = {
        "p": {1: frozenset({0}), 2: frozenset({1, 2}), 3: frozenset({2})},
        "q": {1: frozenset({0}), 2: frozenset({1}), 3: frozenset()},
        "r": {1: frozenset({1}), 2: frozenset({2}), 3: frozenset({0, 1, 2})},
    }
    level = Level(COVER, {}, may)
    codes = [rng.integers(0, 4, (9, 7)).astype("uint8") for _ in products]
    found = differences(codes, products, level)
    for y in range(9):
        for x in range(7):
            sets = [
                may[p.name].get(int(c[y, x]), frozenset())
                for p, c in zip(products, codes, strict=True)
            ]
            pairs = [(a, b) for a, b in ((0, 1), (0, 2), (1, 2)) if sets[a] and sets[b]]
            if not pairs:
                assert tuple(found[y, x]) == (236, 238, 240)
                continue
            share = sum(not sets[a] & sets[b] for a, b in pairs) / len(pairs)
            want = [int(255 + (end - 255) * share) for end in (178, 24, 43)]
            assert found[y, x].tolist() == pytest.approx(want, abs=1)


def test_classes_that_only_a_sibling_level_has_are_named(findings) -> None:
    import dataclasses

    name = findings.levels[0].taxonomy.name
    bare = dataclasses.replace(findings, levels=(), balance=(), own=findings.levels)
    assert name in as_json(bare)["stated"][0]["by_class"]
