"""The page: every name escaped, numbers as estimated, SYNTHETIC where it is."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from las_builder.audit import Agreement, Composition, ratio, write_page
from las_builder.catalogs import Catalogs

EVIL = "<script>alert('&')</script>"


class Page(HTMLParser):
    """Tags and text as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def facts(**more: Any) -> dict[str, Any]:
    catalogs = Catalogs.load()
    product = catalogs.label("esa-worldcover-v200")
    first = product.classes[0].model_copy(update={"title": EVIL})
    product = product.model_copy(update={"title": EVIL, "classes": [first, *product.classes[1:]]})
    taxonomy = catalogs.taxonomy("cover-9")
    named = taxonomy.classes[0].model_copy(update={"title": EVIL})
    taxonomy = taxonomy.model_copy(
        update={"title": EVIL, "classes": [named, *taxonomy.classes[1:]]}
    )
    shares = {
        product.classes[0].value: ratio([30, 10], [40, 40], [1, 1]),
        product.classes[1].value: ratio([10, 30], [40, 40], [1, 1]),
    }
    overall = ratio([30, 10], [40, 40], [1, 1])
    return {
        "subset": EVIL, "sites": 2, "patches": 3, "synthetic": True, "products": [product],
        "compositions": [Composition(product.name, shares)],
        "agreements": [
            Agreement(EVIL, "q", "cover-9", overall, {(0, 0): 0.5, (0, 1): 0.375, (1, 0): 0.125}),
        ],
        "taxonomy": taxonomy, **more,
    }  # fmt: skip


def test_names_are_text_and_never_tags(tmp_path: Path) -> None:
    write_page(tmp_path, **facts())
    page = Page((tmp_path / "index.html").read_text())
    assert "script" not in page.tags
    # title, h1, product, class; a and b: heading, sentence; taxonomy: sentence, row, column
    assert page.text.count(EVIL) >= 9
    assert not re.search(r"(src|href)=", (tmp_path / "index.html").read_text())


def test_numbers_on_the_page_and_beside_it(tmp_path: Path) -> None:
    write_page(tmp_path, **facts())
    text = Page((tmp_path / "index.html").read_text()).text
    # shares 3/4 and 1/4 of two like sites: mean 1/2, error |3/4 - 1/4| / 2
    assert "50.0 ± 25.0 %" in text
    assert "37.5" in text
    assert "12.5" in text
    said = json.loads((tmp_path / "audit.json").read_text())
    (agreed,) = said["agreement"]
    assert agreed["overall"] == {"value": 0.5, "error": pytest.approx(0.25), "sites": 2}
    assert agreed["table"] == [[0, 0, 0.5], [0, 1, 0.375], [1, 0, 0.125]]
    assert [e["value"] for e in said["composition"]["esa-worldcover-v200"].values()] == [0.5, 0.5]


def test_synthetic_is_said_where_it_is(tmp_path: Path) -> None:
    write_page(tmp_path / "a", **facts())
    write_page(tmp_path / "b", **facts(synthetic=False))
    assert "SYNTHETIC" in (tmp_path / "a" / "index.html").read_text()
    assert "SYNTHETIC" not in (tmp_path / "b" / "index.html").read_text()
    write_page(tmp_path / "c", **facts())
    for name in ("index.html", "audit.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_nothing_compared_and_a_single_site(tmp_path: Path) -> None:
    never = Agreement("p", "q", "cover-9", ratio([], [], []), {})
    product = facts()["products"][0]
    lonely = Composition(product.name, {product.classes[0].value: ratio([1], [4], [1])})
    write_page(tmp_path, **facts(agreements=[never], compositions=[lonely]))
    text = Page((tmp_path / "index.html").read_text()).text
    assert "nan" not in text
    assert "No pixel" in text
    assert "25.0 %" in text
    said = json.loads((tmp_path / "audit.json").read_text(), parse_constant=pytest.fail)
    assert said["agreement"][0]["overall"] == {"value": None, "error": None, "sites": 0}
    assert said["composition"][product.name][str(product.classes[0].value)]["error"] is None
    assert math.isnan(never.overall.value)
