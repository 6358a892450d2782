"""The packaged strata, against facts from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pyproj import Geod

from las_builder.catalogs import Catalogs, Strata
from las_builder.catalogs.loader import packaged
from las_builder.catalogs.strata import band_area, cell_area, cell_centres
from las_builder.errors import CatalogError

LAYERS = ("cities", "climate", "continent", "country", "land")


@pytest.fixture(scope="module")
def strata() -> Strata:
    return Strata.load(Catalogs.load())


def test_one_object_for_one_set_of_folders(strata: Strata) -> None:
    assert Strata.load(Catalogs.load()) is strata


def test_every_layer_is_declared_with_whom_to_name() -> None:
    catalogs = Catalogs.load()
    assert set(catalogs.names("strata")) >= set(LAYERS)
    for name in catalogs.names("strata"):
        layer = catalogs.strata(name)
        assert layer.license
        assert layer.attribution
        assert layer.sources
    assert sum(p.stat().st_size for p in packaged("catalogs").glob("strata/*")) < 4e6
    assert max(p.stat().st_size for p in packaged("catalogs").glob("strata/*")) < 1.5e6


@pytest.mark.parametrize(
    ("place", "lon", "lat", "land", "iso3", "continent", "climates"),
    [
        ("Paris", 2.35, 48.85, True, "FRA", "Europe", "Cfb"),
        ("Kehl, over the river", 7.83, 48.57, True, "DEU", "Europe", "Cfb"),
        ("Strasbourg", 7.75, 48.57, True, "FRA", "Europe", "Cfb"),
        ("Cayenne", -52.3, 4.9, True, "GUF", "South America", "Af Am"),
        ("Manaus", -60.02, -3.1, True, "BRA", "South America", "Af Am"),
        ("Suva", 178.44, -18.14, True, "FJI", "Oceania", "Af"),
        ("Taveuni, beyond 180", -179.99 + 360, -16.8, True, "FJI", "Oceania", "Af"),
        ("Singapore", 103.82, 1.35, True, "SGP", "Asia", "Af"),
        ("Wrangel", -179.5, 71.2, True, "RUS", "Europe", "ET"),
        ("Tamanrasset", 5.52, 22.79, True, "DZA", "Africa", "BWh"),
        ("Yakutsk", 129.7, 62.03, True, "RUS", "Europe", "Dfc Dfd Dwc Dwd"),
        ("Longyearbyen", 15.63, 78.22, True, "SJM", "Europe", "ET"),
        ("South Pole", 0.0, -90.0, True, "ATA", "Antarctica", "EF"),
        ("Summit of Greenland", -38.5, 72.6, True, "GRL", "North America", "EF"),
        ("Lake Victoria", 33.0, -1.0, True, "UGA TZA KEN", "Africa", ""),
        ("North Pole", 0.0, 90.0, False, "", "", ""),
        ("Null Island", 0.0, 0.0, False, "", "", ""),
        ("Point Nemo", -123.4, -48.9, False, "", "", ""),
    ],
)
def test_known_places(
    strata: Strata, place: str, lon: float, lat: float, land: bool, iso3: str, continent: str,
    climates: str,
) -> None:  # fmt: skip
    assert bool(strata.is_land(lon, lat)) is land, place
    country = strata.countries[int(strata.country(lon, lat))]
    assert country.iso3 in iso3.split() or (not land and country.iso3 == "")
    assert country.continent == continent
    name = {0: "", **strata.continents}[int(strata.continent(lon, lat))]
    assert name == continent
    if climates:
        assert strata.climate_name(int(strata.climate(lon, lat))) in climates.split()


def test_lookups_take_any_shape_and_any_turn(strata: Strata) -> None:
    lon, lat = np.array([[2.35, 178.44]]), np.array([[48.85], [-18.14]])
    for look in (strata.land, strata.is_land, strata.climate, strata.country, strata.continent):
        here = look(lon, lat)
        assert here.shape == (2, 2)
        np.testing.assert_array_equal(look(lon + 360, lat), here)
        np.testing.assert_array_equal(look(lon - 720, lat), here)
        np.testing.assert_array_equal(look(180.0, lat), look(-180.0, lat))
    assert strata.land(lon, lat).dtype == np.float32
    assert strata.country(lon, lat).dtype == np.uint16


def test_share_of_a_cell_is_the_share_of_its_mask(strata: Strata) -> None:
    rng = np.random.default_rng(0)
    mixed = np.argwhere((strata.land_cells > 0) & (strata.land_cells < 1))
    pixel = (np.arange(6) + 0.5) / 120
    for row, column in mixed[rng.integers(0, len(mixed), 200)]:
        lon, lat = column / 20 - 180 + pixel, 90 - row / 20 - pixel
        inside = strata.is_land(lon[None, :], lat[:, None])
        assert inside.mean() == pytest.approx(strata.land_cells[row, column], abs=1e-6)


def test_land_has_a_country_a_continent_and_a_climate(strata: Strata) -> None:
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, 300_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 300_000)))
    land = strata.is_land(lon, lat)
    assert 0.28 < land.mean() < 0.30  # 29.2 % of the Earth, less the great ice shelves
    assert (strata.country(lon, lat)[land] > 0).all()
    assert (strata.continent(lon, lat)[land] > 0).all()
    assert (strata.climate(lon, lat)[land] > 0).all()


def test_areas_are_those_of_the_ellipsoid() -> None:
    geod = Geod(ellps="WGS84")
    whole = 510_065_621.7  # km2, NIMA TR8350.2
    assert float(band_area(-90, 90)) == pytest.approx(whole, rel=1e-8)
    area = cell_area(3600, 7200)
    assert area.sum() * 7200 == pytest.approx(whole, rel=1e-8)
    for row in (1, 700, 1799, 1800, 2600, 3598):
        north = 90 - row * 0.05
        x = np.linspace(0, 0.05, 200)  # parallels are no geodesics: many short sides
        lon = np.concatenate([x, x[::-1]])
        lat = np.concatenate([0 * x + north - 0.05, 0 * x + north])
        want = abs(geod.polygon_area_perimeter(lon, lat)[0]) / 1e6
        assert area[row] == pytest.approx(want, rel=2e-5)
    lon, lat = cell_centres(1800, 3600)
    assert (lon[0], lat[0], lon[-1], lat[-1]) == pytest.approx((-179.95, 89.95, 179.95, -89.95))


def test_cities_are_where_their_countries_are(strata: Strata) -> None:
    cities = strata.cities
    assert (np.diff(cities.population) <= 0).all()
    tokyo = np.hypot(cities.lon - 139.69, cities.lat - 35.69) < 0.1
    assert cities.population[tokyo].max() > 8_000_000
    assert (strata.country(cities.lon, cities.lat) == cities.country).mean() > 0.99
    assert strata.is_land(cities.lon, cities.lat).mean() > 0.985


def test_country_table(strata: Strata) -> None:
    table = strata.countries
    assert table[0].iso3 == table[0].name == table[0].continent == ""
    assert [c.index for c in table] == list(range(len(table)))
    assert len({c.iso2 for c in table}) == len(table) == 251
    by_code = {c.iso2: c for c in table}
    assert (by_code["TZ"].iso3, by_code["TZ"].name) == ("TZA", "Tanzania")


@pytest.mark.real
def test_land_agrees_with_natural_earth(strata: Strata, shared_data: Path) -> None:
    import shapely

    text = (shared_data / "natural_earth" / "ne_50m_land.geojson").read_text()
    land = shapely.from_geojson(text)
    shapely.prepare(land)
    rng = np.random.default_rng(2)
    lon, lat = rng.uniform(-180, 180, 60_000), np.degrees(np.arcsin(rng.uniform(-1, 0.99, 60_000)))
    lon, lat = lon[lat > -62], lat[lat > -62]  # ice shelves are land there, and sea in the mask
    # Its lakes are land, the Caspian alone is not.
    caspian = (lon > 46) & (lon < 55.5) & (lat > 36) & (lat < 48)
    agree = shapely.intersects_xy(land, lon, lat) == strata.is_land(lon, lat)
    assert agree[~caspian].mean() > 0.995


@pytest.mark.real
def test_countries_agree_with_natural_earth(strata: Strata, shared_data: Path) -> None:
    import shapely

    path = shared_data / "natural_earth" / "ne_110m_admin_0_countries.geojson"
    rng = np.random.default_rng(3)
    right = total = 0
    for feature in json.loads(path.read_text())["features"]:
        code = feature["properties"].get("ISO_A3_EH") or feature["properties"]["ADM0_A3"]
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        inner = shape.buffer(-0.5)  # its borders are good to some tenths of a degree
        if inner.is_empty or code in ("-99", "ATA"):
            continue
        w, s, e, n = inner.bounds
        lon, lat = rng.uniform(w, e, 400), rng.uniform(s, n, 400)
        hit = shapely.contains_xy(inner, lon, lat) & strata.is_land(lon, lat)
        found = [strata.countries[i].iso3 for i in strata.country(lon[hit], lat[hit])]
        right += sum(iso3 == code for iso3 in found)
        total += len(found)
    assert total > 5000
    assert right / total > 0.985


def test_a_layer_that_lies_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "strata"
    folder.mkdir()
    shutil.copy(packaged("catalogs") / "strata" / "land.yaml", folder)
    with pytest.raises(CatalogError, match=r"land\.npz"):
        Strata.load(Catalogs.load(tmp_path)).land(0, 0)
    (folder / "land.npz").write_bytes(b"no zip")
    with pytest.raises(CatalogError, match=r"NumPy \.npz without pickles"):
        Strata.load(Catalogs.load(tmp_path)).land(0, 0)
    np.savez(folder / "land2.npz", other=np.zeros(3, np.uint8))
    text = (folder / "land.yaml").read_text().replace("land.npz", "land2.npz")
    (folder / "land.yaml").write_text(text)
    with pytest.raises(CatalogError, match="`array` is 'share'; allowed: one of"):
        Strata(Catalogs.load(tmp_path)).land(0, 0)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "strata"
    folder.mkdir()
    shutil.copy(packaged("catalogs") / "strata" / "land.yaml", folder)
    np.savez(folder / "land.npz", share=np.array([{}], dtype=object))
    with pytest.raises(CatalogError, match="without pickles"):
        Strata(Catalogs.load(tmp_path)).land(0, 0)
