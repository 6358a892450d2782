"""Pieces of the virtual Earth as files of providers: COGs where their items say, in their words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.shutil import copy as copy_raster

from las_builder.access import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.virtual import VirtualEarth
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.core.grid import Grid, from_lonlat, transformer
from las_builder.core.types import Chip, LabelSource, Period, Scene
from las_builder.scenes.choose import settle

HOSTS = {
    ("earth-search", "sentinel-2-l2a"): "https://sentinel-cogs.s3.us-west-2.amazonaws.com/cogs",
    ("earth-search", "landsat-c2-l2"): "https://usgs-landsat.s3.us-west-2.amazonaws.com/c2",
    ("planetary-computer", "sentinel-2-l2a"): "https://sentinel2l2a01.blob.core.windows.net/s2",
    ("planetary-computer", "landsat-c2-l2"): "https://landsateuwest.blob.core.windows.net/c2",
    ("planetary-computer", "naip"): "https://naipeuwest.blob.core.windows.net/naip",
    ("planetary-computer", "esa-worldcover"): "https://ai4edataeuwest.blob.core.windows.net/wc",
    ("planetary-computer", "io-lulc-annual-v02"): "https://ai4edataeuwest.blob.core.windows.net/io",
}
APIS = {
    "earth-search": "earth-search.aws.element84.com/v1",
    "planetary-computer": "planetarycomputer.microsoft.com/api/stac/v1",
    "stac": "stac.example.org/api",
}
EXTENSIONS = {
    "earth-search": ["query", "fields"],
    "planetary-computer": ["filter", "query", "fields"],
    "stac": [],
}


@dataclass
class Replica:
    """Files below ROOT/HOST and the APIs that list them."""

    root: Path
    items: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {k: [] for k in APIS})

    def write_apis(self, page: int = 3) -> None:
        said = {
            place: {
                "items": self.items[name], "extensions": EXTENSIONS[name], "page": page,
                "collections": [
                    {
                        "type": "Collection", "id": c, "stac_version": "1.0.0", "description": c,
                        "license": "other", "links": [],
                        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]},
                                   "temporal": {"interval": [[None, None]]}},
                    }
                    for c in sorted({i["collection"] for i in self.items[name]})
                ],
            }
            for name, place in APIS.items()
        }  # fmt: skip
        (self.root / "apis.json").write_text(json.dumps(said))

    def file(self, href: str) -> Path:
        return self.root / href.removeprefix("https://")

    def put(
        self, href: str, data: np.ndarray, grid: Grid, nodata: float | None, block: int
    ) -> None:
        path = self.file(href)
        path.parent.mkdir(parents=True, exist_ok=True)
        cube = data if data.ndim == 3 else data[None]
        flat = path.with_suffix(".flat.tif")
        with rasterio.open(
            flat, "w", driver="GTiff", count=len(cube), height=grid.height, width=grid.width,
            dtype=cube.dtype, crs=grid.crs, transform=grid.transform, nodata=nodata,
        ) as out:  # fmt: skip
            out.write(cube)
        copy_raster(flat, path, driver="COG", blocksize=block, compress="deflate")
        flat.unlink()


def square(catalogs: Catalogs, imagery: Imagery, lon: float, lat: float, size: int) -> Grid:
    """A grid on the sensor's lattice around a place."""
    crs = imagery.lattice.crs_at(lon, lat)
    x, y = from_lonlat(crs, np.array([lon]), np.array([lat]))
    pixel = imagery.lattice.pixel
    return Grid(crs, Affine(pixel, 0, round(float(x[0])) - size * pixel / 2, 0, -pixel,
                            round(float(y[0])) + size * pixel / 2), size, size)  # fmt: skip


def add_scenes(
    replica: Replica, provider: str, earth: VirtualEarth, imagery: Imagery, around: Grid,
    period: Period, *, clear: int = 3, cloudy: int = 1, block: int = 128, **more: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Cut scenes of the virtual Earth and list them as a provider does."""
    request = SearchRequest(site="all", grid=around, period=period, max_cloud=100)
    found = [s for s in earth.search(imagery, [request])[0] if s.grid.crs == around.crs]
    found = [s for s in found if s.grid.contains(settle(around, s.grid), slack=0.5)]
    by_cloud = sorted(found, key=lambda s: (s.cloud_cover or 0, s.id))
    taken = [*by_cloud[:clear], *(by_cloud[-cloudy:] if cloudy else [])]
    assert taken, "no scene of the virtual Earth holds the square"
    return [_add_scene(replica, provider, earth, imagery, around, s, block, more) for s in taken]


def _add_scene(
    replica: Replica, provider: str, earth: VirtualEarth, imagery: Imagery, around: Grid,
    scene: Scene, block: int, more: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    where = imagery.at(provider)
    assert where is not None
    grid = settle(around, scene.grid)
    cell = imagery.lattice.cell or imagery.lattice.pixel
    step = round(cell / grid.pixel[0])
    off_x = round((grid.transform.c - scene.grid.transform.c) / grid.pixel[0]) % step
    off_y = round((scene.grid.transform.f - grid.transform.f) / grid.pixel[1]) % step
    moved = Affine(
        grid.pixel[0], 0, grid.transform.c + (step - off_x) % step * grid.pixel[0], 0,
        -grid.pixel[1], grid.transform.f - (step - off_y) % step * grid.pixel[1],
    )  # fmt: skip
    n = grid.width // 6 * 6 - 12
    grid = Grid(grid.crs, moved, n, n)
    name = where.collection or imagery.name
    host = HOSTS.get((provider, name), f"https://files.example.org/{name}")
    names = [band.name for band in imagery.bands]
    assets: dict[str, Any] = {}
    written: dict[str, list[np.ndarray]] = {}
    qa = imagery.validity.band
    for name in [*names, *([qa] if qa else [])]:
        request = ReadRequest(
            site="all", scene=scene, grid=grid, bands=(name,), categorical=name == qa
        )
        (chip,) = earth.read(imagery, [request])
        assert isinstance(chip, Chip), chip
        gsd = imagery.validity.gsd if name == qa else imagery.band(name).gsd
        k = max(1, round((gsd or imagery.lattice.pixel) / grid.pixel[0]))
        key = where.assets.get(name, name)
        written.setdefault(key, []).append(chip.data[0][k // 2 :: k, k // 2 :: k])
        own = Grid(grid.crs, Affine(grid.pixel[0] * k, 0, grid.transform.c, 0, -grid.pixel[1] * k,
                                    grid.transform.f), n // k, n // k)  # fmt: skip
        assets[key] = {
            "href": f"{host}/{scene.id}/{key}.tif", "type": "image/tiff", "roles": ["data"],
            "proj:shape": list(own.shape), "proj:transform": list(own.transform)[:6],
        }  # fmt: skip
        if provider == "earth-search" and name != qa:
            band = imagery.band(name)
            assets[key]["raster:bands"] = [
                {"nodata": 0, "scale": band.scale, "offset": more.get("stated_offset", 0)}
            ]
    for key, layers in written.items():
        own = Grid(
            grid.crs, Affine(*assets[key]["proj:transform"]), *assets[key]["proj:shape"][::-1]
        )
        nodata = imagery.nodata if len(layers) == 1 else None
        replica.put(assets[key]["href"], np.stack(layers), own, nodata, block)
    properties: dict[str, Any] = {
        **scene.properties, "datetime": scene.datetime.isoformat().replace("+00:00", "Z"),
        "proj:epsg": int(grid.crs.split(":")[1]), **more.get("properties", {}),
    }  # fmt: skip
    if scene.cloud_cover is not None:
        properties["eo:cloud_cover"] = scene.cloud_cover
    said = item(scene.id, where.collection or imagery.name, grid, properties, assets)
    replica.items[provider].append(said)
    return said


def add_labels(
    replica: Replica, provider: str, earth: VirtualEarth, product: LabelProduct, around: Grid,
    scene: Scene, block: int = 128,
) -> dict[str, Any]:  # fmt: skip
    """Cut a label product of the virtual Earth and list it."""
    where = product.at(provider)
    assert where is not None
    (source,) = earth.labels(product, [LabelRequest(site="all", grid=around, scene=scene)])
    assert isinstance(source, LabelSource), source
    collection = where.collection or product.name
    host = HOSTS.get((provider, collection), f"https://files.example.org/{product.name}")
    key = where.assets.get("codes", "codes")
    year = product.epoch.year_for(scene.datetime.year)
    id_ = f"{product.name}-{year}"
    href = f"{host}/{id_}.tif"
    replica.put(href, source.codes, source.grid, product.nodata, block)
    asset = {"href": href, "type": "image/tiff", "roles": ["data"]}
    properties = {
        "datetime": None, "start_datetime": f"{year}-01-01T00:00:00Z",
        "end_datetime": f"{year}-12-31T23:59:59Z", "proj:shape": list(source.grid.shape),
        "proj:transform": list(source.grid.transform)[:6],
        **{k: v[0] if isinstance(v, list) else v for k, v in where.match.items()},
    }  # fmt: skip
    crs = source.grid.crs
    if crs.startswith("EPSG:"):
        properties["proj:epsg"] = int(crs.split(":")[1])
    else:
        properties["proj:wkt2"] = crs
    said = item(id_, collection, source.grid, properties, {key: asset})
    replica.items[provider].append(said)
    return said


def item(
    id_: str, collection: str, grid: Grid, properties: dict[str, Any], assets: dict[str, Any]
) -> dict[str, Any]:
    west, south, east, north = grid.bounds
    there = transformer(grid.crs or "", "EPSG:4326")
    x, y = there.transform([west, west, east, east], [south, north, north, south])
    ring = [[float(a), float(b)] for a, b in zip(x, y, strict=True)]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": id_, "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "bbox": [min(x), min(y), max(x), max(y)], "properties": properties, "links": [],
        "assets": assets, "stac_extensions": [],
    }  # fmt: skip


def inner_box(around: Grid, margin: float) -> list[float]:
    """West, south, east, north in degrees of the middle of a square, `margin` (0-0.5) left out."""
    west, south, east, north = around.bounds
    dx, dy = (east - west) * margin, (north - south) * margin
    there = transformer(around.crs or "", "EPSG:4326")
    x, y = there.transform(
        [west + dx, west + dx, east - dx, east - dx],
        [south + dy, north - dy, north - dy, south + dy],
    )
    return [round(float(v), 5) for v in (max(x[:2]), max(y[0], y[3]), min(x[2:]), min(y[1:3]))]
