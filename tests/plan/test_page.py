"""`plan.html`: its numbers are those of the plan, and it needs no other file."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Component, Patch, Sites, Splits
from las_builder.plan import Chapter, Draft, SiteTable, assign, leaks, write_page
from las_builder.plan.page import cells_of

CATALOGS = Catalogs.load()
STRATA = Strata.load(CATALOGS)
PIXEL = bytes.fromhex("89504e470d0a1a0a")


class Tables(HTMLParser):
    """(what, subset) to rows of text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
        self.rows: list[list[str]] = []
        self.cell = False
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "table":
            self.rows = self.tables[named.get("data-what") or "", named.get("data-subset") or ""]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


def number(text: str) -> float:
    return float(re.sub(r"[,%]", "", text.split("(", maxsplit=1)[0]).strip())


def draft(name: str, sites: Sites) -> Draft:
    return Draft.of(
        subset=name, sites=sites, patch=Patch(size=64),
        imagery=CATALOGS.imagery("sentinel-2-l2a"), products=[], strata=STRATA,
        where="recipe.yaml",
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, SiteTable, str, list[Chapter]]:
    splits = Splits(seed=2)
    designs = {
        "wide": Sites(
            count=260, region="NZL,FJI,MDG,SWE", seed=1, spacing_km=8,
            design=[
                Component(share=0.5, uniform="land"),
                Component(share=0.5, strata=["climate-group"], allocation="sqrt"),
            ],
        ),
        "one & two": Sites(count=40, region=[9.0, 45.0, 11.0, 47.0]),
    }  # fmt: skip
    drafts = {name: draft(name, sites) for name, sites in designs.items()}
    drawn = SiteTable.join([d.draw() for d in drafts.values()]).ordered()
    sites = drawn.placed(assign(drawn, splits))
    chapters = [Chapter(name, "Of <this>.", designs[name], d) for name, d in drafts.items()]
    folder = tmp_path_factory.mktemp("page")
    (folder / "plan.png").write_bytes(PIXEL)
    texts = []
    for k in range(2):
        write_page(
            folder / f"{k}.html", title="a <corpus>", description="", synthetic=True, sites=sites,
            chapters=chapters, splits=splits, leaks=leaks(sites, splits),
            picture=folder / "plan.png",
        )  # fmt: skip
        texts.append((folder / f"{k}.html").read_text())
    assert texts[0] == texts[1]
    parsed = Tables()
    parsed.feed(texts[0])
    return parsed, sites, texts[0], chapters


Page = tuple[Tables, SiteTable, str, list[Chapter]]


def test_it_needs_nothing_else(page: Page) -> None:
    parsed, _, text, _ = page
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "<this>" not in text
    assert "SYNTHETIC" in text
    assert 'name="viewport"' in text


def test_splits_are_those_of_the_plan(page: Page) -> None:
    parsed, sites, _, chapters = page
    head, *rows = parsed.tables["splits", ""]
    assert [row[0] for row in rows] == [*(c.name for c in chapters), "all"]
    for row in rows:
        mine = sites.primary & ((sites.subset == row[0]) | (row[0] == "all"))
        assert number(row[1]) == mine.sum()
        for split, text in zip(head[2:], row[2:], strict=True):
            assert number(text) == (mine & (sites.split == split)).sum()
        assert sum(number(text) for text in row[2:]) == mine.sum()


def test_cells_are_those_of_the_plan(page: Page) -> None:
    parsed, sites, _, chapters = page
    for chapter in chapters:
        _, *rows = parsed.tables["cells", chapter.name]
        assert chapter.draft is not None
        asked = {f"{c.component}: {c.stratum}": c for c in chapter.draft.allocation.cells}
        assert {row[0] for row in rows} == set(asked)
        for row in rows:
            component, stratum = row[0].split(": ")
            mine = sites.subset == chapter.name
            mine &= (sites.component == component) & (sites.stratum == stratum)
            assert number(row[1]) == round(asked[row[0]].area_km2)
            assert number(row[3]) == asked[row[0]].count
            assert number(row[5]) == (mine & sites.primary).sum()
            assert number(row[6]) == (mine & ~sites.primary).sum()
            assert ("fewer than 30" in row[7]) == ((mine & sites.primary).sum() < 30)
            assert "short" not in row[7]


def test_histograms_are_those_of_the_plan_and_of_the_land(page: Page) -> None:
    parsed, sites, _, chapters = page
    chance = np.random.default_rng(5)
    for chapter in chapters:
        mine = sites.of_rows((sites.subset == chapter.name) & sites.primary)
        assert chapter.draft is not None
        target = chapter.draft.law.target
        # The population by brute force: points uniform on the sphere that the target contains.
        z, lon = chance.uniform(-1, 1, 4_000_000), chance.uniform(-180, 180, 4_000_000)
        lat = np.degrees(np.arcsin(z))
        land = target.contains(lon, lat)
        lon, lat = lon[land], lat[land]
        # A layer is asked at the middle of the land cell.
        middle = [(np.floor(v * 20) + 0.5) / 20 for v in (mine.lon, mine.lat)]
        climates = [STRATA.climate_name(int(c)) or "none" for c in STRATA.climate(*middle)]
        countries = [STRATA.countries[int(c)].name for c in STRATA.country(lon, lat)]
        for what in ("latitude", "climate", "country"):
            _, *rows = parsed.tables[what, chapter.name]
            assert sum(number(row[2]) for row in rows) == len(mine)
            for column in (1, 3, 4):
                assert sum(number(row[column]) for row in rows) == pytest.approx(100, abs=0.1)
            for row in rows:
                if what == "latitude":
                    south, north = (
                        int(re.sub(r"\D", "", v)) * (-1 if "S" in v else 1)
                        for v in row[0].split("–")
                    )
                    here = (mine.lat >= south) & (mine.lat < north)
                    there = (lat >= south) & (lat < north)
                elif what == "climate":
                    here = np.array([name == row[0] for name in climates])
                    there = None
                else:
                    here, there = None, np.array([name == row[0] for name in countries])
                if here is not None:
                    assert number(row[2]) == here.sum()
                    weight = 100 * mine.weight_km2[here].sum() / mine.weight_km2.sum()
                    assert number(row[4]) == pytest.approx(weight, abs=0.006)
                if there is not None:
                    share, n = there.mean(), there.size
                    error = 400 * np.sqrt(share * (1 - share) / n)
                    assert number(row[1]) == pytest.approx(100 * share, abs=error + 0.3)
    assert ("climate-group", "wide") in parsed.tables
    assert ("climate-group", "one & two") not in parsed.tables


def test_weights_are_those_of_the_plan(page: Page) -> None:
    parsed, sites, _, chapters = page
    for chapter in chapters:
        mine = sites.of_rows((sites.subset == chapter.name) & sites.primary)
        rows = dict(row[:2] for row in parsed.tables["weights", chapter.name][1:])
        assert number(rows["sum, km²"]) == pytest.approx(mine.weight_km2.sum(), abs=1)
        assert number(rows["most, km²"]) == pytest.approx(mine.weight_km2.max(), abs=0.06)
        kish = mine.weight_km2.sum() ** 2 / (mine.weight_km2**2).sum()
        assert number(rows["effective sites (Kish)"]) == pytest.approx(kish, abs=0.51)
        assert chapter.draft is not None
        area = chapter.draft.law.target.area
        assert number(rows["target population, km²"]) == pytest.approx(area, abs=1)


def test_every_site_is_in_the_cell_that_drew_it(page: Page) -> None:
    _, sites, _, chapters = page
    for chapter in chapters:
        mine = sites.of_subset(chapter.name)
        assert chapter.draft is not None
        target = chapter.draft.law.target
        at = cells_of(target, mine.lon, mine.lat)
        assert (at >= 0).all()
        lon, lat = target.centres()
        assert np.abs(mine.lon - lon[at]).max() <= 0.025 + 1e-7
        assert np.abs(mine.lat - lat[at]).max() <= 0.025 + 1e-7


def test_sites_without_weights_are_said_to_have_none(page: Page, tmp_path: Path) -> None:
    _, sites, _, chapters = page
    nothing = dataclasses.replace(sites, weight_km2=np.full(len(sites), np.nan))
    (tmp_path / "plan.png").write_bytes(PIXEL)
    splits = Splits(seed=2)
    alone = [dataclasses.replace(c, draft=None) for c in chapters]
    for some in (chapters, alone):
        write_page(
            tmp_path / "plan.html", title="a", description="", synthetic=False, sites=nothing,
            chapters=some, splits=splits, leaks=leaks(sites, splits),
            picture=tmp_path / "plan.png",
        )  # fmt: skip
        text = (tmp_path / "plan.html").read_text()
        assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", text.lower())
        assert text.count("No site has a weight") == 2
        assert "SYNTHETIC" not in text
