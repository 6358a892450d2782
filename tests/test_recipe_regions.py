"""Recipes where they are cut: REGION and COUNT, codes as numbers, files in the lock."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import yaml

from las_builder import recipe
from las_builder.catalogs import Catalogs, Strata
from las_builder.core.options import Sites
from las_builder.core.workspace import Workspace
from las_builder.errors import LasWarning, RecipeError, RegionError, WorkspaceError
from las_builder.plan import Draft, resolve
from las_builder.recipe import Overrides

STRATA = Strata.load(Catalogs.load())
MIXED = [{"share": 0.6, "near": "cities", "sigma_km": 50}, {"share": 0.4, "uniform": "land"}]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a recipe with these `sites`; its path."""

    def call(name: str = "tiny", **sites: object) -> str:
        content = {
            "name": name, "imagery": "sentinel-2-l2a", "labels": ["esa-worldcover-v200"],
            "source": "virtual", "patch": {"size": 64}, "sites": {"count": 4000, **sites},
            "dates": {"period": "2021-01-01/2022-01-01"},
        }  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return call


def sites_of(path: str, region: str | None = None, **more: Any) -> Sites:
    corpus = recipe.read(path, overrides=Overrides(region=region, **more))
    return corpus.subsets[0].recipe.sites


# ---- what two regions share

EUROPE = "europe"
BOX = "[-10,35,20,60]"
PAIRS = [
    (EUROPE, "DEU"),
    ("DEU, FRA, MAR", EUROPE),
    (EUROPE, BOX),
    (BOX, "[10,50,40,70]"),
    ("[170,-25,-170,-10]", "[175,-20,-150,0]"),
    (f"{BOX}, [30,0,40,10]", "[0,-5,35,45], [15,50,16,51]"),
    ("32UPU", BOX),
    ("32UPU, 32UPV", "[11,47,12,50], 32UQV"),
    ("global", "FJI"),
    ("60KXF, 01KAA", "[179.5,-19,-179.5,-15], 60KXG"),
    (f"{BOX} & FRA, ESP", "[0,40,5,45] & global"),
]


@pytest.mark.parametrize(("one", "two"), PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_what_regions_share_is_in_both(one: str, two: str, turned: bool) -> None:
    if turned:
        one, two = two, one
    first, second = (resolve(text, STRATA, "x.yaml") for text in (one, two))
    both = resolve(f"{one} & {two}", STRATA, "x.yaml")
    chance = np.random.default_rng(4)
    lon, lat = [chance.uniform(-180, 180, 20000)], [chance.uniform(-90, 90, 20000)]
    for centre, middle in ((5, 47), (11, 48.5), (180, -17), (-180, -18), (10, 50)):
        lon.append(centre + chance.uniform(-3, 3, 4000))
        lat.append(middle + chance.uniform(-3, 3, 4000))
    x, y = np.concatenate(lon), np.concatenate(lat)
    want = first.contains(x, y) & second.contains(x, y)
    assert want.any()
    assert (both.contains(x, y) == want).all()
    assert (first.within_region(second).contains(x, y) == want).all()


def test_sides_of_several_kinds_are_refused() -> None:
    with pytest.raises(RegionError, match="one side as a file of polygons") as refused:
        resolve(f"FRA, 32UPU & DEU, {BOX}", STRATA, "x.yaml")
    assert "x.yaml" in str(refused.value)
    with pytest.raises(RegionError, match="Did you mean 'Germany'"):
        resolve("europe & Germny", STRATA, "x.yaml")


# ---- REGION


def test_uniform_sites_shrink_with_the_area(write: Any) -> None:
    chance = np.random.default_rng(9)
    n = 2_000_000
    lon, lat = chance.uniform(-180, 180, n), np.degrees(np.arcsin(chance.uniform(-1, 1, n)))
    land = STRATA.is_land(lon, lat) & (lat >= -56) & (lat <= 82.75)  # Sentinel-2, WorldCover
    code = {c.iso3: c.index for c in STRATA.countries[1:]}
    share = (land & (STRATA.country(lon, lat) == code["BRA"])).sum() / land.sum()
    path = write()
    sites = sites_of(path, "BRA")
    assert sites.region == "BRA"
    assert sites.count == pytest.approx(4000 * share, rel=0.02)
    assert sites_of(write(region="south america"), "BRA").region == "south america & BRA"
    assert sites_of(path, "global") == sites_of(path)
    assert sites_of(path, "BRA", count=77).count == 77
    assert sites_of(path, "BRA", seed=5).seed == 5
    assert sites.capacity is None
    room = sites_of(write("roomy", capacity=12000), "BRA")
    assert (room.count, room.capacity) == (sites.count, 3 * sites.count)


def test_a_mixture_keeps_the_densities_of_every_component(write: Any) -> None:
    """As many primaries as the whole draw has there, on average, of each component."""
    path = write(region="europe", design=MIXED)
    sites = sites_of(path, "FRA, NOR")
    subset = recipe.read(path).subsets[0]
    wanted = resolve("FRA, NOR", STRATA, path)
    found = []
    for seed in range(5):
        table = Draft.of(
            subset="tiny", sites=subset.recipe.sites.model_copy(update={"seed": seed}),
            patch=subset.recipe.patch, imagery=subset.imagery, products=subset.labels,
            strata=STRATA, where=path,
        ).draw()  # fmt: skip
        inside = table.primary & wanted.contains(table.lon, table.lat)
        found.append([(inside & (table.component == name)).sum() for name in ("cities", "uniform")])
    mean = np.mean(found, axis=0)
    have = np.array([c.share * sites.count for c in sites.design])
    assert (np.abs(have - mean) < 4 * np.sqrt(mean / 5)).all(), (have, mean)
    assert abs(have[0] / have[1] - 1.5) > 0.1, "the components do not shrink alike"


def test_a_component_that_has_nothing_there_is_left_out(write: Any) -> None:
    sites = sites_of(write(design=MIXED), "[-45,70,-35,75]")  # Greenland's ice
    assert [component.uniform for component in sites.design] == ["land"]
    assert sites.design[0].share == 1
    tiny = sites_of(write(design=MIXED), "LIE")
    assert tiny.count == 1
    assert len(tiny.design) == 1


def test_nothing_left_is_one_line(write: Any) -> None:
    with pytest.raises(RegionError, match=r"`--region` is 'africa'.*shares land"):
        sites_of(write(region="USA"), "africa")
    with pytest.raises(RegionError, match="Did you mean 'Africa'"):
        sites_of(write(), "Afrika")


def test_where_the_scenes_are_is_not_cut(write: Any) -> None:
    with pytest.raises(RecipeError, match=r"sites.region.*cut the catalogue"):
        sites_of(write(region="catalogue"), "FRA")


def test_a_corpus_names_what_it_passes_over(write: Any, tmp_path: Path) -> None:
    write("here", region="FRA")
    write("there", region="USA")
    corpus = tmp_path / "both.yaml"
    content = {"name": "both", "subsets": [{"recipe": "here"}, {"recipe": "there"}], "splits": {}}
    corpus.write_text(yaml.safe_dump(content))
    with pytest.warns(LasWarning, match="there: nothing of it lies in europe; passed over"):
        found = recipe.read(str(corpus), overrides=Overrides(region="europe"))
    assert [subset.name for subset in found.subsets] == ["here"]
    assert found.passed_over == ("there: nothing of it lies in europe",)
    with pytest.raises(RegionError, match=r"both.yaml: `--region` is 'africa'"):
        recipe.read(str(corpus), overrides=Overrides(region="africa"))


# ---- codes that YAML reads as numbers


@pytest.mark.parametrize(
    ("said", "means"),
    [("155", "155"), ("4", "004"), ("004", "004"), ("[155, 34]", ["155", "034"]),
     ("[africa, 155]", ["africa", "155"]), ("[1, 2, 3, 4]", [1.0, 2.0, 3.0, 4.0])],
)  # fmt: skip
def test_codes_may_be_numbers(said: str, means: object) -> None:
    assert Sites(count=1, region=yaml.safe_load(said)).region == means


def test_a_code_as_a_number_is_the_region(write: Any) -> None:
    path = write(region=155)
    subset = recipe.read(path).subsets[0]
    assert resolve(subset.recipe.sites.region, STRATA, path).contains(2.3, 48.9).all()


@pytest.mark.parametrize("bad", [True, 1.5, {"a": 1}, [[1, 2], 3], -5])
def test_what_is_no_region(write: Any, bad: object) -> None:
    with pytest.raises((RecipeError, RegionError), match=r"sites.region"):
        sites_of(write(region=bad), "FRA")


# ---- files


def _polygons(path: Path, east: float) -> Path:
    import geopandas

    frame = geopandas.GeoDataFrame(geometry=[shapely.box(2, 44, east, 46)], crs=4326)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        frame.to_file(path)
    return path


@pytest.mark.parametrize("name", ["area.geojson", "area.gpkg", "area.shp"])
def test_what_a_file_holds_is_in_the_lock(write: Any, tmp_path: Path, name: str) -> None:
    _polygons(tmp_path / name, 5.0)
    path = write(region=[name, "CHE"])
    before = recipe.read(path).lock()
    assert list(before["region_files"]) == [name]
    assert recipe.read(path).lock() == before
    space = Workspace(tmp_path / "work")
    space.claim(before)
    _polygons(tmp_path / name, 6.0)
    with pytest.raises(WorkspaceError):
        space.verify(recipe.read(path).lock())


def test_the_file_of_the_command_line_too(write: Any, tmp_path: Path) -> None:
    _polygons(tmp_path / "area.geojson", 5.0)
    corpus = recipe.read(write(), overrides=Overrides(region="area.geojson & FRA"))
    assert list(corpus.lock()["region_files"]) == ["area.geojson"]


def test_a_projection_beside_a_shapefile_belongs_to_it(write: Any, tmp_path: Path) -> None:
    _polygons(tmp_path / "area.shp", 5.0)
    path = write(region="area.shp")
    before = recipe.read(path).lock()
    (tmp_path / "area.prj").write_text((tmp_path / "area.prj").read_text() + " ")
    assert recipe.read(path).lock() != before


def test_what_footprints_of_benchmarks_hold_is_in_the_lock(write: Any, tmp_path: Path) -> None:
    _polygons(tmp_path / "potsdam.gpkg", 5.0)
    path = Path(write())
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "splits": {"footprints": ["potsdam.gpkg"]}}))
    before = recipe.read(str(path)).lock()
    assert list(before["footprint_files"]) == ["potsdam.gpkg"]
    assert recipe.read(str(path)).lock() == before
    space = Workspace(tmp_path / "work")
    space.claim(before)
    _polygons(tmp_path / "potsdam.gpkg", 6.0)
    with pytest.raises(WorkspaceError):
        space.verify(recipe.read(str(path)).lock())
    (tmp_path / "potsdam.gpkg").unlink()
    with pytest.raises(RecipeError, match=r"potsdam\.gpkg"):
        recipe.read(str(path)).lock()
    assert "footprint_files" not in recipe.read(write()).lock()


def test_names_are_no_files(write: Any) -> None:
    path = write(region=["africa", "MDG", "32UPU"])
    assert "region_files" not in recipe.read(path).lock()


def test_a_file_that_is_not_there(write: Any) -> None:
    with pytest.raises(RegionError, match=r"missing\.gpkg"):
        recipe.read(write(region="missing.gpkg")).lock()
