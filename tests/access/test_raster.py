"""Windows of rasters against rasterio, pyproj and brute force."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject

from las_builder.access import raster, wire
from las_builder.access.meet import overlap, windows_around
from las_builder.access.raster import open_raster, read_around, read_blocks, read_on
from las_builder.core.grid import Grid, crs_name
from las_builder.errors import AccessError, RasterError, StacError

W, N = 600000.0, 5000040.0


def grid_at(
    west: float, north: float, pixel: float, width: int, height: int, crs: str = "EPSG:32632"
) -> Grid:
    return Grid(crs, Affine(pixel, 0, west, 0, -pixel, north), width, height)


def lookup(path: str, grid: Grid) -> np.ndarray:
    """The number of the pixel under each centre of a grid in the same CRS; 0 outside."""
    out = np.zeros(grid.shape, np.int64)
    with rasterio.open(path) as file:
        data = file.read(1)
        for r, y in enumerate(grid.xy()[1]):
            for c, x in enumerate(grid.xy()[0]):
                row, col = file.index(x, y)
                if 0 <= row < file.height and 0 <= col < file.width:
                    out[r, c] = data[row, col]
    return out


@pytest.mark.parametrize(("crs", "north"), [("EPSG:32632", N), ("EPSG:32718", 5700040.0)])
@pytest.mark.parametrize(
    ("pixel", "start"), [(10, (0, 0)), (20, (1, 3)), (60, (5, 2)), (60, (4, 7))]
)
def test_numbers_are_repeated_never_smoothed(write_tif, distinct, crs, north, pixel, start) -> None:
    path = write_tif("a.tif", distinct(50, 40), W, north, pixel, crs=crs)
    grid = grid_at(W + start[0] * 10, north - start[1] * 10, 10, 33, 41, crs)
    got = read_on(grid, path)
    assert not got.resampled
    assert got.inside.all()
    assert got.data.dtype == np.uint16
    np.testing.assert_array_equal(got.data, lookup(path, grid))


def test_an_equal_grid_is_the_window_of_rasterio(write_tif, distinct) -> None:
    path = write_tif("a.tif", distinct(100, 120))
    grid = grid_at(W + 170, N - 230, 10, 64, 48)
    with rasterio.open(path) as file:
        window = rasterio.windows.from_bounds(*grid.bounds, transform=file.transform)
        want = file.read(1, window=window)
    np.testing.assert_array_equal(read_on(grid, path).data, want)


def test_outside_the_raster_is_outside(write_tif, distinct) -> None:
    path = write_tif("a.tif", distinct(20, 20), pixel=20)
    grid = grid_at(W - 70, N + 30, 10, 60, 60)
    got = read_on(grid, path, nodata=65535)
    want = lookup(path, grid)
    np.testing.assert_array_equal(got.inside, want > 0)
    np.testing.assert_array_equal(got.data, np.where(want > 0, want, 65535))
    far = read_on(grid_at(W + 90000, N, 10, 8, 8), path)
    assert not far.inside.any()
    assert not far.resampled


@pytest.mark.parametrize("k", [2, 3, 5])
def test_finer_bands_are_averaged_over_valid_pixels(write_tif, k) -> None:
    rng = np.random.default_rng(k)
    data = rng.integers(1, 1000, (60, 60)).astype("uint16")
    data[rng.random((60, 60)) < 0.4] = 60000
    path = write_tif("a.tif", data, nodata=60000)
    grid = grid_at(W + 70, N - 50, 10 * k, 9, 8)
    got = read_on(grid, path)
    assert not got.resampled
    for r in range(8):
        for c in range(9):
            block = data[5 + r * k : 5 + (r + 1) * k, 7 + c * k : 7 + (c + 1) * k]
            valid = block[block < 60000]
            assert got.inside[r, c] == bool(valid.size)
            if valid.size:
                assert abs(float(got.data[r, c]) - valid.mean()) <= 0.5


def test_blocks_that_the_edge_cuts_are_averaged_over_what_is_there(write_tif) -> None:
    path = write_tif("a.tif", np.arange(1, 17, dtype="uint16").reshape(4, 4))
    got = read_on(grid_at(W - 10, N + 10, 20, 3, 3), path)
    np.testing.assert_array_equal(got.data[0], [1, round(2.5), 4])
    assert got.inside.all()


@pytest.mark.parametrize("k", [2, 3, 4])
def test_categories_are_never_mixed(write_tif, distinct, k) -> None:
    path = write_tif("a.tif", distinct(60, 60))
    grid = grid_at(W + 30, N - 20, 10 * k, 12, 12)
    # An even block has its centre on a corner: the pixel south-east of it, as GDAL's nearest has.
    x, y = 1e-6, -1e-6
    shifted = grid_at(grid.transform.c + x, grid.transform.f + y, 10 * k, 12, 12)
    got = read_on(grid, path, categorical=True)
    np.testing.assert_array_equal(got.data, lookup(path, shifted))


def test_half_a_pixel_off_is_warped_once(write_tif) -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(1, 60000, (40, 40)).astype("uint16")
    path = write_tif("a.tif", data)
    got = read_on(grid_at(W + 105, N - 105, 10, 20, 20), path)
    assert got.resampled
    d = data.astype(float)
    want = (d[10:30, 10:30] + d[11:31, 10:30] + d[10:30, 11:31] + d[11:31, 11:31]) / 4
    assert np.abs(got.data - want).max() <= 0.5
    assert read_on(grid_at(W + 100.2, N - 100, 10, 20, 20), path).resampled
    assert not read_on(grid_at(W + 100.002, N - 100, 10, 20, 20), path).resampled


def _positions(grid: Grid, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Column and row (of pixel corners) in a file of every centre of a grid, by pyproj alone."""
    x, y = np.meshgrid(*grid.xy())
    with rasterio.open(path) as file:
        to = Transformer.from_crs(grid.crs, file.crs.to_wkt(), always_xy=True)
        inv, (px, py) = ~file.transform, to.transform(x, y)
        return inv.a * px + inv.c, inv.e * py + inv.f


def test_another_zone_is_warped_bilinearly(write_tif) -> None:
    rng = np.random.default_rng(2)
    data = rng.integers(1, 10000, (300, 300)).astype("uint16")
    path = write_tif("a.tif", data, 760000.0, 5100040.0)
    x, y = Transformer.from_crs(32632, 32633, always_xy=True).transform(761500, 5098540)
    grid = grid_at(round(x, -1) - 400, round(y, -1) + 400, 10, 80, 80, "EPSG:32633")
    got = read_on(grid, path)
    assert got.resampled
    assert got.inside.all()
    col, row = (v - 0.5 for v in _positions(grid, path))
    c, r = np.floor(col).astype(int), np.floor(row).astype(int)
    u, v, d = col - c, row - r, data.astype(float)
    top = d[r, c] * (1 - u) + d[r, c + 1] * u
    want = top * (1 - v) + (d[r + 1, c] * (1 - u) + d[r + 1, c + 1] * u) * v
    assert np.abs(got.data - want).max() <= 0.51


def test_a_finer_raster_of_another_zone_is_smoothed_as_gdal_smooths_it(write_tif) -> None:
    rng = np.random.default_rng(6)
    data = rng.integers(1, 10000, (400, 400)).astype("uint16")
    path = write_tif("a.tif", data, 760000.0, 5100040.0, 3.0)
    x, y = Transformer.from_crs(32632, 32633, always_xy=True).transform(760600, 5099440)
    grid = grid_at(round(x) - 303, round(y) + 304, 10, 60, 60, "EPSG:32633")
    got = read_on(grid, path)
    want = np.zeros(grid.shape)
    with rasterio.open(path) as file:
        reproject(
            rasterio.band(file, 1), want, dst_transform=grid.transform, dst_crs=grid.crs,
            resampling=Resampling.bilinear,
        )  # fmt: skip
    # GDAL's kernel is a little wider or narrower; white noise shows it most.
    assert abs(float(got.data.mean()) - want.mean()) < 10
    assert np.corrcoef(got.data.ravel(), want.ravel())[0, 1] > 0.97
    assert 0.5 < got.data.std() / want.std() < 1.5


def test_overlapping_patches_agree_about_the_pixels_they_share(write_tif) -> None:
    rng = np.random.default_rng(5)
    data = rng.integers(1, 10000, (400, 400)).astype("uint16")
    path = write_tif("a.tif", data, 760000.0, 5100040.0, 4.0)
    x, y = Transformer.from_crs(32632, 32633, always_xy=True).transform(760800, 5099240)
    a = read_on(grid_at(round(x) - 303, round(y) + 304, 10, 60, 60, "EPSG:32633"), path)
    b = read_on(grid_at(round(x) - 103, round(y) + 204, 10, 30, 40, "EPSG:32633"), path)
    assert a.inside.all()
    np.testing.assert_array_equal(a.data[10:50, 20:50], b.data)
    assert abs(float(a.data.mean()) - data.mean()) < 60


def test_another_zone_is_nearest_for_categories(write_tif, distinct) -> None:
    path = write_tif("a.tif", distinct(250, 250), 760000.0, 5100040.0)
    x, y = Transformer.from_crs(32632, 32633, always_xy=True).transform(761000, 5099000)
    grid = grid_at(round(x) - 403, round(y) + 404, 10, 80, 80, "EPSG:32633")
    got = read_on(grid, path, categorical=True)
    with rasterio.open(path) as file:
        data = file.read(1)
    col, row = _positions(grid, path)
    clear = (np.abs(col - np.round(col)) > 1e-4) & (np.abs(row - np.round(row)) > 1e-4)
    want = data[np.floor(row).astype(int), np.floor(col).astype(int)]
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(got.data[clear], want[clear])


def test_a_warp_never_mixes_nodata_in(write_tif) -> None:
    data = np.full((60, 60), 1000, "uint16")
    data[20:40, 20:40] = 0
    path = write_tif("a.tif", data, nodata=0)
    got = read_on(grid_at(W + 53, N - 54, 10, 50, 50), path)
    assert set(np.unique(got.data[got.inside])) == {1000}
    assert not got.inside[18:32, 18:32].any()
    assert got.inside[:12].all()


def test_declared_nodata_file_nodata_and_nan_are_outside(write_tif) -> None:
    data = np.array([[1, 2], [3, np.nan]], "float32")
    path = write_tif("f.tif", data, nodata=2)
    got = read_on(grid_at(W, N, 10, 2, 2), path, nodata=3)
    np.testing.assert_array_equal(got.inside, [[True, False], [False, False]])
    assert got.data.dtype == np.float32


def test_the_near_infrared_is_no_alpha(write_tif) -> None:
    data = np.full((4, 8, 8), 90, "uint8")
    data[3, 2:4] = 0
    path = write_tif("naip.tif", data, photometric="RGB", ALPHA="YES")
    with rasterio.open(path) as file:
        assert file.read_masks(1).min() == 0, "GDAL takes the fourth band for an alpha"
    assert read_on(grid_at(W, N, 10, 8, 8), path).inside.all()


def test_the_mask_inside_a_file_is_heeded(write_tif, distinct) -> None:
    mask = np.ones((8, 8), bool)
    mask[1, 2] = False
    path = write_tif("m.tif", distinct(8, 8), mask=mask)
    np.testing.assert_array_equal(read_on(grid_at(W, N, 10, 8, 8), path).inside, mask)


def test_a_crs_is_known_by_what_it_is_not_by_how_it_is_written(write_tif, distinct) -> None:
    albers = "+proj=aea +lat_0=23 +lon_0=-96 +lat_1=29.5 +lat_2=45.5 +ellps=WGS84 +units=m"
    path = write_tif("a.tif", distinct(30, 30), 1500000.0, 1600000.0, 30, crs=albers)
    name = crs_name(albers)
    assert name.startswith("PROJCRS")
    got = read_on(grid_at(1500060.0, 1599940.0, 30, 9, 9, name), path)
    assert not got.resampled
    assert got.data[0, 0] == 2 * 30 + 2 + 1
    other = crs_name(CRS(name).to_wkt("WKT2_2015"))
    assert other != open_raster(path).crs
    assert not read_on(grid_at(1500060.0, 1599940.0, 30, 9, 9, other), path).resampled
    path = write_tif("b.tif", distinct(30, 30), crs=CRS(32632).to_wkt("WKT1_GDAL"))
    assert open_raster(path).crs == "EPSG:32632"
    shifted = 'PROJCS["x",GEOGCS["y",DATUM["d",SPHEROID["GRS80",6378137,298.257222101],' \
        'TOWGS84[0,0,0,0,0,0,0]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],' \
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],' \
        'PARAMETER["central_meridian",-111],PARAMETER["scale_factor",0.9996],' \
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'  # fmt: skip
    path = write_tif("c.tif", distinct(30, 30), crs=shifted)
    assert not read_on(grid_at(W, N, 10, 9, 9, crs_name(open_raster(path).crs)), path).resampled


def test_types_are_widened_never_narrowed(write_tif, distinct) -> None:
    path = write_tif("a.tif", distinct(8, 8, "uint8"))
    grid = grid_at(W, N, 10, 8, 8)
    assert read_on(grid, path, dtype=np.dtype("int16")).data.dtype == np.int16
    signed = write_tif("b.tif", distinct(8, 8, "int16"))
    with pytest.raises(RasterError, match=r"b\.tif.*type of band 1.*int16.*uint16"):
        read_on(grid, signed, dtype=np.dtype("uint16"))


# ---- what is wrong with a file


def test_a_raster_without_crs_is_refused(write_tif, distinct) -> None:
    path = write_tif("nocrs.tif", distinct(8, 8), crs=None)
    with pytest.raises(RasterError, match=r"nocrs\.tif: `crs` is None; allowed: a CRS"):
        open_raster(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.95])
def test_a_truncated_file_is_named(write_tif, tmp_path, share) -> None:
    noise = np.random.default_rng(0).integers(1, 60000, (200, 200)).astype("uint16")
    whole = Path(write_tif("whole.tif", noise)).read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RasterError, match=r"cut\.tif: `pixels`.*truncated") as caught:
        read_on(grid_at(W, N, 10, 200, 200), str(cut))
    assert "\n" not in str(caught.value)
    with pytest.raises(RasterError):
        list(read_blocks(open_raster(str(cut))))


def test_other_faults_are_named(write_tif, distinct, tmp_path) -> None:
    grid = grid_at(W, N, 10, 8, 8)
    with pytest.raises(StacError, match=r"gone\.tif: `href`"):
        read_on(grid, str(tmp_path / "gone.tif"))
    with pytest.raises(RasterError, match=r"`band` is 2; allowed: 1 to 1"):
        read_on(grid, write_tif("a.tif", distinct(8, 8)), 2)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(RasterError, match=r"text\.tif"):
        read_on(grid, str(tmp_path / "text.tif"))
    turned = write_tif("t.tif", distinct(8, 8), transform=Affine(8, 3, W, 3, -8, N))
    with pytest.raises(RasterError, match="north-up"):
        read_around(grid, turned)


# ---- over HTTP


def test_http_reads_what_disk_reads(write_tif, server) -> None:
    data = np.random.default_rng(3).integers(1, 60000, (300, 300)).astype("uint16")
    path = write_tif("a.tif", data, blockxsize=64, blockysize=64)
    grid = grid_at(W + 1000, N - 990, 10, 70, 80)
    here, there = read_on(grid, path), read_on(grid, f"{server.url}/a.tif")
    np.testing.assert_array_equal(here.data, there.data)
    assert server.paths() == {"/a.tif"}, "no request for side files"


def test_bands_that_share_their_pixels_are_fetched_once(write_tif, server) -> None:
    """Also where a window is more than GDAL's cache holds: 18 MB of 16."""
    data = np.random.default_rng(4).integers(1, 60000, (4, 1500, 1500)).astype("uint16")
    write_tif("a.tif", data, blockxsize=256, blockysize=256, tiled=True, interleave="pixel")
    href, grid, asked = f"{server.url}/a.tif", grid_at(W, N, 10, 1500, 1500), []
    for bands in ([3], [1, 2, 3, 4]):
        raster.close_web()
        raster.forget(href)
        server.requests.clear()
        for band in bands:
            np.testing.assert_array_equal(read_on(grid, href, band).data, data[band - 1])
        asked.append(len(server.requests))
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (404, "absent", False),
        (403, "refused", False),
        (429, "throttled", True),
        (503, "server", True),
    ],
)
def test_http_failures_have_our_names(write_tif, distinct, server, status, kind, retryable) -> None:
    write_tif("a.tif", distinct(300, 300, "uint32"))
    href, grid = f"{server.url}/a.tif", grid_at(W, N, 10, 8, 8)
    server.faults["/a.tif"] = [status] * 20
    with pytest.raises(AccessError, match=f"a.tif.*HTTP {status}") as caught:
        read_on(grid, href)
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)
    server.faults.clear()
    assert read_on(grid, href).inside.all(), "the failure is not remembered"


def test_a_failure_while_reading_is_not_taken_for_a_broken_file(
    write_tif, server, monkeypatch
) -> None:
    data = np.random.default_rng(3).integers(1, 60000, (400, 400)).astype("uint16")
    write_tif("a.tif", data)
    href, far = f"{server.url}/a.tif", grid_at(W + 3900, N - 3900, 10, 10, 10)
    read_on(grid_at(W, N, 10, 8, 8), href)
    server.faults["/a.tif"] = [503] * 20
    with pytest.raises(AccessError) as caught:
        read_on(far, href)
    assert caught.value.retryable
    server.faults.clear()
    read_on(grid_at(W, N, 10, 8, 8), href)
    monkeypatch.setenv("LAS_PATIENCE_S", "9")
    monkeypatch.setattr(wire, "BACKOFF_S", 0.01)
    server.faults["/a.tif"] = [503] * 3
    np.testing.assert_array_equal(read_on(far, href).data, data[390:, 390:])


def test_a_file_truncated_on_the_server_is_a_broken_file(write_tif, server, tmp_path) -> None:
    data = np.random.default_rng(3).integers(1, 60000, (400, 400)).astype("uint16")
    whole = Path(write_tif("a.tif", data)).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tif").write_text("no raster at all\n" * 100)
    for name in ("cut.tif", "text.tif"):
        with pytest.raises(AccessError, match=f"{name}: no whole, readable raster") as caught:
            read_on(grid_at(W, N, 10, 400, 400), f"{server.url}/{name}")
        assert (caught.value.kind, caught.value.retryable) == ("broken", False)


def test_a_server_that_is_not_there_can_be_asked_again() -> None:
    with pytest.raises(AccessError) as caught:
        read_on(grid_at(W, N, 10, 8, 8), "http://127.0.0.1:9/a.tif")
    assert caught.value.retryable


# ---- keeping files open


def test_few_files_are_open_and_a_replaced_file_is_read_anew(write_tif, distinct) -> None:
    grid = grid_at(W, N, 10, 8, 8)
    paths = [write_tif(f"{i}.tif", distinct(8, 8) + np.uint16(i)) for i in range(40)]

    def work() -> None:
        for i, path in enumerate(paths):
            assert read_on(grid, path).data[0, 0] == 1 + i
        assert len(raster._kept()) == raster.OPEN_AT_ONCE

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    write_tif("39.tif", distinct(8, 8) + np.uint16(500))
    assert read_on(grid, paths[39]).data[0, 0] == 501


# ---- around a grid


def test_a_window_has_two_pixels_to_spare_and_is_cut_at_the_edge(write_tif, distinct) -> None:
    path = write_tif("a.tif", distinct(100, 100))
    (window,) = read_around(grid_at(W + 205, N - 305, 10, 20, 20), path)
    assert window.grid.bounds == (W + 180, N - 530, W + 430, N - 280)
    np.testing.assert_array_equal(window.data, distinct(100, 100)[28:53, 18:43])
    (corner,) = read_around(grid_at(W - 50, N + 50, 10, 10, 10), path)
    assert corner.grid.bounds == (W, N - 70, W + 70, N)
    assert read_around(grid_at(W + 1000, N, 10, 5, 5), path) == []


@pytest.fixture
def world(write_tif) -> str:
    """One degree a pixel, every pixel its own number."""
    data = np.arange(180 * 360, dtype="uint16").reshape(180, 360)
    return write_tif("world.tif", data, -180, 90, 1.0, crs="EPSG:4326")


def degree(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """The number of `world` at a place."""
    return np.floor(90 - lat).astype(int) * 360 + np.floor((lon + 180) % 360).astype(int)


@pytest.mark.parametrize(
    ("crs", "lon", "lat"),
    [("EPSG:32601", 180.0, 65.0), ("EPSG:32660", 180.0, 65.0), ("EPSG:32701", -179.99, -17.0),
     ("EPSG:32632", 9.0, 48.0), ("EPSG:32733", 15.0, -30.0), ("EPSG:3413", -175.0, 80.0)],
)  # fmt: skip
def test_windows_hold_what_lies_under_a_grid(world, crs, lon, lat) -> None:
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    grid = grid_at(x - 200000, y + 200000, 4000, 100, 100, crs)
    lons, lats = grid.lonlat()
    windows = read_around(grid, world)
    crosses = bool((np.abs(np.diff(np.sort(lons.ravel()))) > 180).any())
    assert len(windows) == (2 if crosses else 1)
    got = np.full(grid.shape, -1)
    for window in windows:
        west = window.grid.bounds[0]
        turned = west + (lons - west) % 360
        col = (turned - west) / window.grid.pixel[0]
        row = (window.grid.bounds[3] - lats) / window.grid.pixel[1]
        row, col = np.floor(row).astype(int), np.floor(col).astype(int)
        here = (row >= 0) & (row < window.grid.height) & (col >= 0) & (col < window.grid.width)
        got[here] = window.data[row[here], col[here]]
    np.testing.assert_array_equal(got, degree(lons, lats))
    if crosses:  # contiguous: one begins where the other ends
        a, b = sorted(w.grid.bounds[::2] for w in windows)
        assert a[1] == pytest.approx(b[0], abs=1e-9)


@pytest.mark.parametrize(("crs", "rows"), [("EPSG:3031", (170, 180)), ("EPSG:3413", (0, 10))])
def test_around_a_pole_the_whole_turn_is_read(world, crs, rows) -> None:
    windows = read_around(grid_at(-300000, 300000, 10000, 60, 60, crs), world)
    assert sum(w.grid.width for w in windows) >= 360
    for window in windows:
        _, south, _, north = window.grid.bounds
        assert (south == -90) if crs == "EPSG:3031" else (north == 90)
        assert 90 - north >= rows[0] - 10


def test_meeting_is_decided_on_the_ground() -> None:
    patch = grid_at(300000, 7200000, 10, 264, 264, "EPSG:32601")
    lon, lat = patch.centre_lonlat()
    for zone in (60, 1, 2):
        x, y = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(lon, lat)
        tile = grid_at(x - 50000, y + 50000, 10, 10000, 10000, f"EPSG:{32600 + zone}")
        assert overlap(patch, tile), zone
    # The same numbers in the other hemisphere, a turn of Mercator away, and next door.
    assert not overlap(patch, grid_at(300000, 7200000, 10, 264, 264, "EPSG:32701"))
    assert not overlap(patch, grid_at(300000, 7200000, 10, 264, 264, "EPSG:32631"))
    assert not overlap(patch, grid_at(302640, 7200000, 10, 264, 264, "EPSG:32601"))
    assert overlap(patch, grid_at(302630, 7200000, 10, 264, 264, "EPSG:32601"))
    beyond = Grid("EPSG:4326", Affine(0.1, 0, 179, 0, -0.1, 66), 30, 30)
    assert overlap(Grid("EPSG:4326", Affine(0.1, 0, -180, 0, -0.1, 65), 5, 5), beyond)
    assert windows_around(grid_at(0, 0, 10, 5, 5, "EPSG:32601"), beyond) == []
    assert math.isfinite(sum(p.turn for p in windows_around(patch, beyond)))


# ---- real files


@pytest.mark.real
def test_real_mixed_resolutions_are_repeated(shared_data) -> None:
    folder = shared_data / "s2_l1c_virginia_mixed_res"
    with (
        rasterio.open(folder / "s2_B05.tif") as twenty,
        rasterio.open(folder / "s2_B01.tif") as sixty,
    ):
        crs, corner = crs_name(twenty.crs.to_wkt()), twenty.transform
        assert twenty.res == (20, 20)
        assert sixty.res == (60, 60)
        coarse = sixty.read(1)
        x, y = sixty.transform.c, sixty.transform.f
    grid = Grid(crs, Affine(10, 0, corner.c + 130, 0, -10, corner.f - 270), 96, 90)
    got = read_on(grid, str(folder / "s2_B01.tif"))
    assert not got.resampled
    xs, ys = grid.xy()
    rows, cols = ((y - ys) // 60).astype(int), ((xs - x) // 60).astype(int)
    np.testing.assert_array_equal(got.data, coarse[np.ix_(rows, cols)])


@pytest.mark.real
@pytest.mark.parametrize("year", ["2020_v100", "2021_v200"])
def test_a_window_of_a_whole_worldcover_tile_is_that_of_rasterio(shared_data, year) -> None:
    path = shared_data / "worldcover" / f"ESA_WorldCover_10m_{year}_N00E006_Map.tif"
    # Príncipe lies near 7.4 E, 1.6 N.
    x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(7.4, 1.6)
    grid = grid_at(x - 1320, y + 1320, 10, 264, 264)
    (window,) = read_around(grid, str(path))
    with rasterio.open(path) as file:
        row, col = file.index(window.grid.bounds[0] + 1e-6, window.grid.bounds[3] - 1e-6)
        want = file.read(
            1, window=((row, row + window.grid.height), (col, col + window.grid.width))
        )
    np.testing.assert_array_equal(window.data, want)
    assert len(np.unique(want)) > 1
    lons, lats = grid.lonlat()
    west, south, east, north = window.grid.bounds
    assert west < lons.min() < lons.max() < east
    assert south < lats.min() < lats.max() < north
