"""Labels: the product's own codes of the truth, on the product's own lattice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pyproj import CRS, Transformer

from las_builder.access import LabelRequest
from las_builder.access.virtual import LEAVES, VirtualEarth
from las_builder.access.virtual.products import codes_of_leaves
from las_builder.catalogs import Catalogs, LabelProduct, Where
from las_builder.core.types import Gap, GapReason, LabelSource

Visit = Callable[..., Any]  # the fixture of conftest.py


def code_by_hand(product: LabelProduct, leaf: str, catalogs: Catalogs) -> int:
    """The rule again, in its own words: fewest leaves, lowest value, climbing."""
    leaves = catalogs.ontology.leaves
    parts = leaf.split(".")
    for depth in range(len(parts), 0, -1):
        node = ".".join(parts[:depth])
        kin = {x for x in leaves if (x + ".").startswith(node + ".")}
        best = None
        for entry in sorted(product.classes, key=lambda c: c.value):
            mapped = [m for m in entry.means if m not in entry.ours]
            meant = {x for x in leaves for m in mapped if (x + ".").startswith(m + ".")}
            if (
                entry.value != product.nodata
                and meant & kin
                and (best is None or len(meant) < best[0])
            ):
                best = (len(meant), entry.value)
        if best is not None:
            return best[1]
    return product.nodata


def exact(product: LabelProduct) -> LabelProduct:
    """The product without errors."""
    return product.model_copy(update={"where": [Where(provider="virtual", errors=False)]})


def ask(earth: VirtualEarth, product: LabelProduct, place: Any, scene: Any = None) -> LabelSource:
    request = LabelRequest(site="a", grid=place.grid, scene=scene or place.scenes[0])
    found = earth.labels(product, [request])[0]
    assert isinstance(found, LabelSource)
    return found


def clearest(earth: VirtualEarth, product: LabelProduct, place: Any) -> tuple[Any, LabelSource]:
    """The scene over which the product says most, and what it says."""
    requests = [LabelRequest(site="a", grid=place.grid, scene=scene) for scene in place.scenes]
    pairs = zip(place.scenes, earth.labels(product, requests), strict=True)
    found = [(s, x) for s, x in pairs if isinstance(x, LabelSource)]
    return max(found, key=lambda pair: (pair[1].codes != product.nodata).sum())


def test_every_legend_has_codes_for_the_leaves(catalogs: Catalogs) -> None:
    for name in catalogs.names("labels"):
        product = catalogs.label(name)
        table = codes_of_leaves(product, catalogs.ontology)
        assert table.dtype == product.dtype
        assert list(table) == [code_by_hand(product, leaf, catalogs) for leaf in LEAVES]
        mapped = {frozenset(c.means) - frozenset(c.ours) for c in product.classes} - {frozenset()}
        assert len(set(table.tolist())) >= min(5, len(mapped)), name


PLACES = [
    ("sentinel-2-l2a", 11.5, 48.2, ["esa-worldcover-v200", "dynamic-world"]),
    ("sentinel-2-l2a", 18.6, -33.5, ["esa-worldcover-v200", "dynamic-world"]),
    ("sentinel-2-l2a", 179.999, 66.5, ["esa-worldcover-v200"]),
    ("sentinel-2-l2a", -179.999, -16.6, ["esa-worldcover-v200"]),
    ("sentinel-2-l2a", -77.9, 39.2, ["nlcd", "chesapeake-lc7"]),
    ("landsat-c2-l2", -93.5, 42.1, ["nlcd"]),
    ("landsat-c2-l2", 145.0, -37.0, ["esa-worldcover-v200"]),
    ("naip", -77.9, 39.2, ["nlcd", "chesapeake-lc7"]),
]


@pytest.mark.parametrize(("name", "lon", "lat", "products"), PLACES)
def test_codes_are_the_truth_at_the_products_pixels(
    earth: VirtualEarth,
    catalogs: Catalogs,
    visit: Visit,
    name: str,
    lon: float,
    lat: float,
    products: list[str],
) -> None:
    period = "2018-01-01/2022-01-01" if name == "naip" else "2021-05-01/2021-07-01"
    place = visit(name, lon, lat, pixel=1.0 if name == "naip" else None, period=period)
    for product in map(exact, map(catalogs.label, products)):
        scene, found = clearest(earth, product, place)
        assert found.codes.dtype == product.dtype
        assert set(np.unique(found.codes)) <= product.codes

        # On the product's lattice.
        lattice, t = product.lattice, found.grid.transform
        assert t.a == -t.e == pytest.approx(lattice.pixel, rel=1e-12)
        for edge, origin in ((t.c, lattice.origin[0]), (t.f, lattice.origin[1])):
            steps = (edge - origin) / lattice.pixel
            assert steps == pytest.approx(round(steps), abs=1e-4)

        # Around the patch, with a pixel to spare.
        x, y = place.grid.xy()
        edge_x, edge_y = x + (x - x.mean()) / 65, y + (y - y.mean()) / 65
        there = Transformer.from_crs(place.grid.crs, found.grid.crs, always_xy=True)
        px, py = there.transform(*np.meshgrid(edge_x, edge_y))
        if CRS.from_user_input(found.grid.crs).is_geographic:
            px = np.where(px < 0, px + 360, px) if found.grid.bounds[2] > 180 else px
        west, south, east, north = found.grid.bounds
        assert west + t.a <= px.min()
        assert px.max() <= east - t.a
        assert south + t.a <= py.min()
        assert py.max() <= north - t.a

        # Its codes, pixel by pixel.
        back = Transformer.from_crs(found.grid.crs, "EPSG:4326", always_xy=True)
        by_hand = [code_by_hand(product, leaf, catalogs) for leaf in LEAVES]
        rng = np.random.default_rng(0)
        rows, columns = (rng.integers(0, n, 400) for n in found.codes.shape)
        points = [
            back.transform(t.c + (j + 0.5) * t.a, t.f + (i + 0.5) * t.e)
            for i, j in zip(rows, columns, strict=True)
        ]
        same_scene = product.epoch.rule == "same-scene"
        year = scene.datetime.year if same_scene else product.epoch.year_for(scene.datetime.year)
        want = np.array(by_hand)[earth.truth(*np.array(points).T, product.gsd, year)]
        codes = found.codes[rows, columns]
        masked = (codes == product.nodata) & (product.epoch.rule == "same-scene")
        assert np.array_equal(codes[~masked], want[~masked])
        assert masked.sum() < 200


def test_windows_join_at_the_antimeridian(
    earth: VirtualEarth, catalogs: Catalogs, visit: Visit
) -> None:
    product = catalogs.label("esa-worldcover-v200")  # with its errors
    for lon in (179.9999, -179.9999):
        found = ask(earth, product, visit("sentinel-2-l2a", lon, 66.5))
        west, _, east, _ = found.grid.bounds
        assert west < 180 < east
        assert east - west < 0.1
    # The same pixels, whoever asks for them.
    a, b = (
        ask(earth, product, visit("sentinel-2-l2a", lon, -16.75, size=264))
        for lon in (179.99, -179.99)
    )
    shift = round((b.grid.transform.c - a.grid.transform.c) * 12000)
    down = round((a.grid.transform.f - b.grid.transform.f) * 12000)
    n = min(a.codes.shape[1] - shift, b.codes.shape[1])
    assert n > 10
    height = min(a.codes.shape[0], b.codes.shape[0]) - abs(down)
    left = a.codes[max(down, 0) :, shift:][:height, :n]
    assert np.array_equal(left, b.codes[max(-down, 0) :][:height, :n])


def test_truth_codes_are_the_noise_free_product(
    earth: VirtualEarth, catalogs: Catalogs, visit: Visit
) -> None:
    product = catalogs.label("esa-worldcover-v200")
    place = visit("sentinel-2-l2a", 11.5, 48.2, size=264)
    for variant in (product, exact(product)):
        found = ask(earth, variant, place)
        same = found.codes == earth.truth_codes(product, *found.grid.lonlat())
        assert same.all() == (variant is not product)
        assert same.mean() > 0.4


def test_dynamic_world_goes_with_its_scene(
    earth: VirtualEarth, catalogs: Catalogs, visit: Visit
) -> None:
    product = catalogs.label("dynamic-world")
    place = visit("sentinel-2-l2a", 11.5, 48.2, size=264)
    shares = []
    for scene in place.scenes[:20]:
        request = LabelRequest(site="a", grid=place.grid, scene=scene)
        found = earth.labels(product, [request])[0]
        if isinstance(found, Gap):
            assert found.reason == GapReason.NO_LABEL
            shares.append(0.0)
            continue
        assert scene.id in found.version
        assert found.grid.crs == scene.grid.crs
        seen = found.codes != product.nodata
        shares.append(seen.mean())
        layers = np.stack([found.evidence[name] for name in product.evidence])
        assert layers.dtype == np.float32
        assert layers.sum(axis=0)[seen] == pytest.approx(1, abs=1e-6)
        assert not layers[:, ~seen].any()
        assert np.array_equal(layers.argmax(axis=0)[seen], found.codes[seen])  # its codes are 0-8
    assert min(shares) < 0.5
    assert max(shares) > 0.9


def test_gaps_outside_the_extent(earth: VirtualEarth, catalogs: Catalogs, visit: Visit) -> None:
    place = visit("sentinel-2-l2a", 11.5, 48.2)
    for name in ("nlcd", "usda-cdl", "chesapeake-lc7"):
        request = LabelRequest(site="a", grid=place.grid, scene=place.scenes[0])
        assert earth.labels(catalogs.label(name), [request]) == [Gap("a", GapReason.NO_LABEL, name)]
    grid = catalogs.imagery("landsat-c2-l2").lattice.grid_at(0.0, -81.0, 66)
    request = LabelRequest(site="a", grid=grid, scene=place.scenes[0])
    assert isinstance(earth.labels(catalogs.label("esa-worldcover-v200"), [request])[0], Gap)
