"""What is asked of Earth Engine for each recipe, as kept in tests/golden/ee and read by people.

LAS_GOLDEN=1 pytest tests/earth_engine/test_golden.py    # writes them anew
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import yaml
from affine import Affine
from ee_kit import anew, write
from ee_replica import CASES, CATALOGS, PIPELINES, home
from kit_loopback import Loopback, serve

from las_builder.access import LabelRequest, ReadRequest, SearchRequest
from las_builder.access.earth_engine import EarthEngine
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.grid import Grid, from_lonlat, mgrs_zone
from las_builder.core.types import Period, Scene

GOLDEN = Path(__file__).parents[1] / "golden" / "ee"
SIZE = 120


def place(crs: str, pixel: float, lon: float, lat: float, cell: float) -> Affine:
    """Pixels around a place, on a lattice."""
    x, y = from_lonlat(crs, np.array([lon]), np.array([lat]))
    west = round(float(x[0] - SIZE / 2 * pixel) / cell) * cell
    north = round(float(y[0] + SIZE / 2 * pixel) / cell) * cell
    return Affine(pixel, 0, west, 0, -pixel, north)


def tiny(root: Path, name: str) -> None:
    """An Earth Engine with two images a collection of imagery and a map a product, all alike."""
    said = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text())
    lon, lat = CASES[name].place
    imagery, assets = CATALOGS.imagery(said["imagery"]), {}
    start = Period.parse(CASES[name].period).start
    crs = imagery.lattice.crs_at(lon, lat)
    at = place(crs, imagery.lattice.pixel, lon, lat, imagery.lattice.cell or imagery.lattice.pixel)
    write(root / "image.tif", np.full((SIZE, SIZE), 7, imagery.dtype), crs, at, imagery.nodata)
    for where in imagery.where:
        if where.provider != "earth-engine":
            continue
        assets[where.collection] = {"type": "IMAGE_COLLECTION"}
        names = [*(b.name for b in imagery.bands), *imagery.validity.reads]
        for k in range(2):
            when = start + timedelta(days=40 + k)
            stamp = 1000.0 * (when - Period.parse("1970-01-01/1970-01-02").start).days * 86400
            assets[f"{where.collection}/{when:%Y%m%d}_TILE"] = {
                "type": "IMAGE",
                "bands": [{"id": where.assets.get(n, n), "file": "image.tif"} for n in names],
                "properties": {
                    "system:time_start": stamp,
                    **({where.cloud: 5} if where.cloud else {}),
                },
            }
    for product in (CATALOGS.label(p) for p in [*said["labels"], *CASES[name].compare]):
        for where in product.where:
            if where.provider == "earth-engine":
                list_product(root, product, where, (lon, lat), start.year, assets)
    done = {"assets": assets, "projects": {"good": ""}}
    (root / "earth_engine.json").write_text(json.dumps(done))


def list_product(root: Path, product: LabelProduct, where: Any, at: tuple[float, float], year: int, assets: dict[str, Any]) -> None:  # fmt: skip
    assert product.lattice is not None
    crs = product.lattice.crs
    crs = f"EPSG:326{mgrs_zone(*at):02d}" if crs == "mgrs-utm" else crs
    file = f"{product.name}.tif"
    code = min(c for c in product.codes if c != product.nodata)
    data = np.full((SIZE, SIZE), code, product.dtype)
    pixel = product.lattice.pixel
    write(root / file, data, crs, place(crs, pixel, *at, pixel), product.nodata)
    bands = [where.assets.get(n, n) for n in ("codes", *product.evidence)]
    bands = list(where.years.values()) if where.years else bands
    one = {
        "type": "IMAGE", "bands": [{"id": b, "file": file} for b in bands],
        "properties": {
            "system:time_start": 1000.0 * 86400 * 365.25 * (product.epoch.year_for(year) - 1970 + 0.3)
        },
    }  # fmt: skip
    if "HRLC" in where.collection:
        assets[where.collection] = one | {"properties": {}}
        return
    assets[where.collection] = {"type": "IMAGE_COLLECTION"}
    names = [k.rpartition("/")[2] for k in assets if k.endswith("_TILE")]
    for key in names if product.epoch.rule == "same-scene" else ["map"]:
        assets[f"{where.collection}/{key}"] = one


@pytest.fixture(scope="module", params=list(CASES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Loopback]]:  # fmt: skip
    root = tmp_path_factory.mktemp(request.param)
    tiny(root, request.param)
    server = serve(root)
    yield request.param, server
    server.stop()


def plain(expression: dict[str, Any]) -> Any:
    """An expression without its references: what a person reads, whatever its client's version."""
    nodes = expression["values"]

    def of(said: dict[str, Any]) -> Any:
        ((kind, what),) = said.items()
        if kind == "valueReference":
            return of(nodes[what])
        if kind == "arrayValue":
            return [of(one) for one in what.get("values", [])]
        if kind == "dictionaryValue":
            return {key: of(one) for key, one in sorted(what["values"].items())}
        if kind == "functionInvocationValue":
            given = {key: of(one) for key, one in sorted(what["arguments"].items())}
            return {f"{what['functionName']}()": given}
        return what

    return of(nodes[expression["result"]])


def told(request: dict[str, Any]) -> dict[str, Any]:
    body = dict(request["body"])
    if "expression" in body:
        body["expression"] = plain(body["expression"])
    return {"path": request["path"], **body}


def ask(engine: EarthEngine, imagery: Imagery, name: str, said: dict[str, Any]) -> None:
    """Two sites: scenes, a patch, its labels, and a composite."""
    case = CASES[name]
    crs = imagery.lattice.crs_at(*case.place)
    pixel = said["patch"].get("gsd") or imagery.lattice.pixel
    at = place(crs, imagery.lattice.pixel, *case.place, imagery.lattice.cell or pixel)
    grids = [
        Grid(crs, Affine(pixel, 0, at.c + 10 * k * pixel, 0, -pixel, at.f - 20 * pixel), 16, 16)
        for k in (1, 3)
    ]
    period, cloud = Period.parse(case.period), said["dates"].get("max_cloud", 100)
    requests = [
        SearchRequest(site=str(k), grid=g, period=period, max_cloud=cloud)
        for k, g in enumerate(grids)
    ]
    found = engine.search(imagery, requests)
    scene, grid = found[0][0], grids[0]
    bands = tuple(b.name for b in imagery.bands)
    qa = imagery.validity.band
    both = [ReadRequest(site="0", scene=scene, grid=grid, bands=bands)]
    if qa is not None:
        both.append(ReadRequest(site="0", scene=scene, grid=grid, bands=(qa,), categorical=True))
    engine.read(imagery, both)
    whole = Scene.of("median", found[0][:2])
    engine.read(imagery, [ReadRequest(site="0", scene=whole, grid=grid, bands=imagery.rgb)])
    for product in [*said["labels"], *case.compare]:
        engine.labels(
            CATALOGS.label(product),
            [LabelRequest(site="0", grid=grid, scene=s) for s in found[0][:1]],
        )


def test_requests_are_those_that_were_read(
    world: tuple[str, Loopback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, server = world
    monkeypatch.setenv("HOME", str(home(tmp_path)))
    monkeypatch.setenv("LAS_MIRRORS", server.mirrors)
    monkeypatch.setenv("LAS_EE_PROFILE", "0")
    for key in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(key, raising=False)
    anew()
    said = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text())
    ask(EarthEngine(CATALOGS.earth_engine), CATALOGS.imagery(said["imagery"]), name, said)
    anew()
    url = f"http://127.0.0.1:{server.port}/earthengine-highvolume.googleapis.com/asked"
    with urlopen(url, timeout=10) as answer:
        found = [told(one) for one in json.loads(answer.read()) if one["body"]]
    file = GOLDEN / f"{name}.json"
    if os.environ.get("LAS_GOLDEN"):
        file.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(file.read_text())
    paths = [one["path"].rpartition(":")[2] for one in found]
    assert paths.count("compute") <= 8
    for one in found:
        assert one["workloadTag"] == "las-builder"
        assert ("grid" in one) == one["path"].endswith("Pixels")
