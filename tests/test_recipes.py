"""Our recipes: what each names can be had where it says, and fits together."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from las_builder import recipe, run
from las_builder.catalogs import Strata
from las_builder.catalogs.loader import packaged
from las_builder.errors import (
    InputError,
    LasWarning,
    LegendError,
    RecipeError,
    SourceError,
    UnknownNameError,
)
from las_builder.plan.sampling import covered
from las_builder.recipe import Corpus, Overrides

SIX = {
    "las-s2-dw": (34000, {"dynamic-world"}),
    "las-s2-worldcover": (34000, {"esa-worldcover-v200"}),
    "las-s2-clc": (20500, {"corine"}),
    "las-l89-nlcd": (23000, {"nlcd"}),
    "las-l89-glcfcs": (25000, {"glc-fcs30d"}),
    "las-hr-naip": (13500, {"nlcd"}),
}
IMPORTS = {"las-hr-oem", "las-hr-dynamicearthnet", "las-hr-flair"}
DRAWN = [*SIX, "las-hr-ortho"]


def read(name: str, **more: Any) -> Corpus:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LasWarning)
        return recipe.read(name, overrides=Overrides(**more))


def test_the_corpus_has_eight_subsets() -> None:
    with pytest.warns(LasWarning, match="waiting for data/") as said:
        corpus = recipe.read("las")
    assert {s.name: s.recipe.sites.count for s in corpus.subsets} == {
        name: count for name, (count, _) in SIX.items()
    }
    assert sum(s.recipe.sites.count for s in corpus.subsets) == 150_000
    assert [str(w.message) for w in said] == [
        "las-hr-oem: waiting for data/OpenEarthMap; passed over",
        "las-hr-dynamicearthnet: waiting for data/DynamicEarthNet; passed over",
    ]


def test_every_file_is_one_of_them() -> None:
    files = {path.stem for path in packaged("pipelines").glob("*.yaml")}
    assert files == {*DRAWN, *IMPORTS, "las", "demo"}


@pytest.mark.parametrize("name", DRAWN)
def test_what_a_recipe_names(name: str) -> None:
    subset = read(name).subsets[0]
    assert subset.name == name
    if name in SIX:
        assert {product.name for product in subset.labels} == SIX[name][1]
    assert subset.compare, "nothing to compare a weak label with"
    source = subset.recipe.source
    for thing in (subset.imagery, *subset.labels, *subset.compare):
        assert thing.at("virtual") is not None
        if source == "earth-engine":
            assert thing.at("earth-engine") is not None, thing.name
    used = {product.name for product in (*subset.labels, *subset.compare)}
    assert "dynamic-world" not in used or source == "earth-engine"
    # Squares of any turn are apart if their centres are √2 sides apart; a grid moves by half a
    # cell along each axis, and a metre of UTM is up to 0.1 % off.
    patch, lattice = subset.recipe.patch, subset.imagery.lattice
    pixel = patch.gsd or lattice.pixel
    least = math.sqrt(2) * (patch.size * pixel + (lattice.cell or pixel)) * 1.001
    assert subset.recipe.sites.spacing_km * 1000 >= least
    period = subset.recipe.dates.period
    first, last = subset.imagery.extent.interval
    assert first is None or first <= period.start
    assert last is None or period.end.toordinal() - 1 <= last.toordinal()
    for product in subset.labels:
        year = product.epoch.year_for(period.start.year)
        assert period.start.year <= year < period.end.year + (period.end.month > 1)


@pytest.mark.parametrize("name", DRAWN)
def test_the_virtual_earth_has_all_of_it(name: str) -> None:
    subset = read(name, source="virtual", count=4).subsets[0]
    assert subset.access.name == "virtual"
    assert subset.recipe.sites.count == 4


def test_labels_that_a_provider_lacks_come_from_another(tmp_path: Path) -> None:
    """NLCD is in no public API, so a copy of one's own goes with open imagery."""
    with pytest.raises(SourceError, match=r"planetary-computer.*for nlcd: .*CATALOGUE"):
        read("las-l89-nlcd", source="planetary-computer")
    said = read("las-l89-nlcd", source="planetary-computer,nlcd/catalog.json").subsets[0]
    assert said.recipe.source == recipe.Sources(
        imagery="planetary-computer", labels=["planetary-computer", "nlcd/catalog.json"]
    )
    with pytest.raises(SourceError, match=r"earth-search, planetary-computer.*for dynamic-world"):
        read("las-s2-dw", source="earth-search,planetary-computer")
    assert read("las-s2-dw", source="earth-search,virtual").subsets[0].synthetic


@pytest.mark.parametrize("name", ["las-s2-dw", "las-hr-ortho"])
def test_without_credentials_one_line_says_what_to_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("HOME", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(key, str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    subset = read(name).subsets[0]
    with pytest.raises(SourceError, match="earthengine authenticate") as said:
        _ = subset.access
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("region", "left"),
    [
        ("USA", {"las-s2-dw", "las-s2-worldcover", "las-l89-nlcd", "las-l89-glcfcs", "las-hr-naip"}),
        ("UKR", {"las-s2-dw", "las-s2-worldcover", "las-l89-glcfcs"}),
        ("[-60,82.8,-20,83.7]", {"las-s2-dw"}),  # north of WorldCover and of Landsat
    ],
)  # fmt: skip
def test_a_region_leaves_the_subsets_that_reach_it(region: str, left: set[str]) -> None:
    corpus = read("las", region=region)
    assert {subset.name for subset in corpus.subsets} == left
    named = {line.partition(":")[0] for line in corpus.passed_over}
    assert named == set(SIX) - left | {"las-hr-oem", "las-hr-dynamicearthnet"}
    assert all(s.recipe.sites.count <= SIX[s.name][0] for s in corpus.subsets)


PLACES = {
    "Kansas": (-98.5, 38.5), "Ontario, in the box of NLCD": (-80.0, 46.5),
    "Chihuahua, in it too": (-106.0, 28.6), "Alaska": (-150.0, 65.0), "Hawaii": (-155.5, 19.6),
    "Puerto Rico": (-66.5, 18.2), "Bonn": (7.1, 50.73), "Canaries": (-15.6, 27.95),
    "Kaliningrad, in the box of CORINE": (21.0, 54.7), "Svalbard": (16.0, 78.5),
    "French Guiana": (-53.0, 4.0), "Lapland": (27.0, 68.0), "Sweden, in the box of Finland":
    (20.5, 65.5), "Peary Land": (-35.0, 83.0), "Tierra del Fuego": (-69.0, -54.0),
    "Antarctic Peninsula": (-64.0, -71.0), "Antarctic plateau": (0.0, -79.0),
}  # fmt: skip
WHERE = {
    "las-s2-dw": {*PLACES} - {"Antarctic Peninsula", "Antarctic plateau"},
    "las-s2-clc": {"Bonn", "Canaries", "Lapland", "Sweden, in the box of Finland"},
    "las-l89-nlcd": {"Kansas"},
    "las-hr-naip": {"Kansas"},
    "las-hr-ortho": {"Lapland"},
}
WHERE["las-s2-worldcover"] = WHERE["las-l89-glcfcs"] = WHERE["las-s2-dw"] - {"Peary Land"}


@pytest.mark.parametrize("name", DRAWN)
def test_sites_are_drawn_where_imagery_and_labels_are(name: str) -> None:
    corpus = read(name)
    subset = corpus.subsets[0]
    strata = Strata.load(corpus.catalogs)
    region = covered(
        subset.recipe.sites, subset.imagery, subset.labels, strata, "recipe.yaml"
    )  # as `Draft.of` draws
    assert strata.is_land(*np.array([*PLACES.values()]).T).all()
    inside = region.contains(*np.array([*PLACES.values()]).T)
    assert {place for place, yes in zip(PLACES, inside, strict=True) if yes} == WHERE[name]


# ---- labels that cannot be together


def recipe_of(tmp_path: Path, **changes: object) -> str:
    """The recipe of WorldCover with other keys; `dates` are merged."""
    content = yaml.safe_load((packaged("pipelines") / "las-s2-worldcover.yaml").read_text())
    dates = {**content["dates"], **changes.pop("dates", {})}  # type: ignore[dict-item]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, "compare": [], **changes, "dates": dates}))
    return str(path)


def test_two_versions_are_compared_and_never_one_label(tmp_path: Path) -> None:
    two = ["esa-worldcover-v100", "esa-worldcover-v200"]
    with pytest.raises(
        RecipeError, match=r"labels.1.*v200.*esa-worldcover-v100 is another"
    ) as said:
        recipe.read(recipe_of(tmp_path, labels=two, dates={"label_years": 1}))
    assert "compare" in str(said.value)
    drift = recipe_of(tmp_path, labels=two[1:], compare=two[:1], source="virtual")
    assert [p.name for p in recipe.read(drift).subsets[0].compare] == two[:1]


@pytest.mark.parametrize(
    ("label", "period", "label_years", "words"),
    [
        ("esa-worldcover-v200", "2018-01-01/2019-01-01", 0, ["(2021)", "label_years: 3"]),
        ("esa-worldcover-v200", "2021-07-01/2022-07-01", 0, ["(2021)", "label_years: 1"]),
        ("esa-worldcover-v200", "2019-01-01/2022-01-01", 1, ["and 1 around", "label_years: 2"]),
        ("chesapeake-lc7", "2016-01-01/2017-01-01", 0, ["(2013 to 2014)", "label_years: 2"]),
        ("nlcd", "2020-01-01/2021-01-01", 0, ["2016, 2019, 2021)", "label_years: 1"]),
        ("esa-worldcover-v200", "2021-01-01/2022-01-01", 0, []),
        ("esa-worldcover-v200", "2018-01-01/2019-01-01", 3, []),
        ("nlcd", "2019-06-01/2019-09-01", 0, []),
        ("nlcd-annual", "2018-01-01/2020-01-01", 0, []),
    ],
)
def test_images_of_years_that_the_label_does_not_speak_of(
    tmp_path: Path, label: str, period: str, label_years: int, words: list[str]
) -> None:
    path = recipe_of(
        tmp_path, labels=[label], source="virtual",
        dates={"period": period, "label_years": label_years},
    )  # fmt: skip
    if not words:
        assert recipe.read(path).subsets[0].labels[0].name == label
        return
    with pytest.raises(RecipeError, match=r"`dates.period` is") as said:
        recipe.read(path)
    assert all(word in str(said.value) for word in words), str(said.value)


def test_how_far_off_a_label_may_be_does_not_lock(tmp_path: Path) -> None:
    one = recipe.read(recipe_of(tmp_path, source="virtual")).lock()
    assert (
        one == recipe.read(recipe_of(tmp_path, source="virtual", dates={"label_years": 9})).lock()
    )
    assert one != recipe.read(recipe_of(tmp_path, source="virtual", dates={"per_site": 3})).lock()


def test_a_taxonomy_whose_classes_the_label_cannot_tell(tmp_path: Path) -> None:
    with pytest.raises(LegendError, match=r"mine.yaml: `taxonomy` is 'worldcover-11'.*mangroves"):
        recipe.read(
            recipe_of(tmp_path, labels=["nlcd"], taxonomy="worldcover-11", source="virtual")
        )
    assert recipe.read(recipe_of(tmp_path, taxonomy="worldcover-11", source="virtual"))
    assert recipe.read(recipe_of(tmp_path, taxonomy="level-1", source="virtual"))


# ---- imports


@pytest.fixture
def imported(tmp_path: Path) -> dict[str, Any]:
    """A recipe of an import, whose copy is not there."""
    return {
        "kind": "import", "name": "theirs", "dataset": "landcover-ai", "folder": "copy",
        "patch": {"size": 32},
    }  # fmt: skip


def corpus_of(tmp_path: Path, content: object, **part: object) -> str:
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "ours.yaml").write_text(
        (packaged("pipelines") / "las-s2-worldcover.yaml").read_text()
    )
    parts = [{"recipe": "ours"}, {"recipe": "theirs", **part}]
    (tmp_path / "both.yaml").write_text(
        yaml.safe_dump({"name": "both", "subsets": parts, "splits": {}})
    )
    return str(tmp_path / "both.yaml")


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_an_import_alone_says_what_it_waits_for(name: str) -> None:
    with pytest.raises(SourceError, match=r"waiting for data/.*--folder DIR") as said:
        recipe.read(name)
    assert "npack" in str(said.value)  # how to get a copy
    assert "\n" not in str(said.value)


def test_a_folder_that_is_there_is_a_subset(tmp_path: Path, imported: dict[str, Any]) -> None:
    path = corpus_of(tmp_path, imported)
    assert read(path).passed_over == ("theirs: waiting for copy",)
    lock = read(path).lock()
    (tmp_path / "copy").mkdir()
    both = read(path)
    assert not both.passed_over
    assert [s.name for s in both.subsets] == ["las-s2-worldcover", "theirs"]
    assert both.lock() != lock
    assert read(path, source="virtual").passed_over == (
        "theirs: an import, which virtual does not have",
    )
    assert "--region" in read(path, region="europe").passed_over[0]


def test_a_folder_of_the_command_line(tmp_path: Path, imported: dict[str, Any]) -> None:
    path = corpus_of(tmp_path, imported)
    other = tmp_path / "elsewhere"
    with pytest.raises(SourceError, match="--folder"):
        read(path, folders={"": other})
    other.mkdir()
    for name in ("", "theirs"):
        assert read(path, folders={name: other}).subsets[1].recipe.source == str(other)
    with pytest.raises(UnknownNameError, match="Did you mean 'theirs'"):
        read(path, folders={"their": other})
    with pytest.raises(RecipeError, match="NAME=DIR"):
        read("las-s2-worldcover", folders={"": other})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kind", "borrow", "`kind` is 'borrow'"),
        ("folder", None, "`folder`"),
        ("patch", {"size": 32, "remainder": "stretch"}, "`patch.remainder`"),
        ("foldr", "copy", "Did you mean 'folder'"),
        ("name", "Their Own", "`name`"),
        ("only", [], "`only`"),
        ("dataset", "landcover.ai", "Did you mean 'landcover-ai'"),
        ("bands", ["X"], "band of landcover-ai"),
    ],
)
def test_imports_that_are_wrong(
    tmp_path: Path, imported: dict[str, Any], key: str, value: object, words: str
) -> None:
    path = corpus_of(tmp_path, {**imported, key: value})
    (tmp_path / "copy").mkdir()
    with pytest.raises(InputError) as said:
        recipe.read(path)
    assert words in str(said.value)
    assert "theirs.yaml" in str(said.value)


def test_what_a_corpus_may_say_of_an_import(tmp_path: Path, imported: dict[str, Any]) -> None:
    (tmp_path / "copy").mkdir()
    found = read(corpus_of(tmp_path, imported, count=5, samples=7)).subsets[1]
    assert found.recipe.sites.count == 5
    assert found.recipe.shards.samples == 7
    path = corpus_of(tmp_path, imported, period="2020-01-01/2021-01-01")
    with pytest.raises(RecipeError, match=r"subsets.1.period.*drawn subsets only"):
        recipe.read(path)


def test_a_corpus_of_imports_alone(tmp_path: Path, imported: dict[str, Any]) -> None:
    path = Path(corpus_of(tmp_path, imported))
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "subsets": content["subsets"][1:]}))
    with pytest.raises(RecipeError, match="at least one that is drawn"):
        recipe.read(str(path))


def test_two_of_one_name(tmp_path: Path, imported: dict[str, Any]) -> None:
    path = corpus_of(tmp_path, {**imported, "name": "las-s2-worldcover"})
    with pytest.raises(RecipeError, match="subsets of different names"):
        recipe.read(path)


def test_the_demo_has_what_it_needs() -> None:
    """Few sites of recipes that are made for many: what a newcomer types first."""
    corpus = read("demo")
    said = run.check(corpus)
    for subset, count in zip(corpus.subsets, (60, 50, 40), strict=True):
        assert f"{subset.name}: {count} sites" in said
    assert said.splitlines()[-1].startswith(f"{corpus.file}: declarations")
    assert "las sample --dry-run" in said.splitlines()[-1]
