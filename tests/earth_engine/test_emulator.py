"""The emulator against xarray, rasterio and loops, through Google's own client and nothing of ours."""

from __future__ import annotations

from typing import Any

import ee
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from ee_kit import CLEAR, ORIGIN, SIZE, UTM, Small
from google.oauth2.credentials import Credentials
from pyproj import Transformer
from rasterio.io import MemoryFile


@pytest.fixture(autouse=True)
def _client(small: Small) -> None:
    small.server.set(throttled=0.0, unavailable=0.0)
    ee.Initialize(Credentials(token="t"), project="good", url=small.url)
    ee.data.setMaxRetries(0)


def grid(
    place: Affine = ORIGIN, width: int = SIZE, height: int = SIZE, crs: str = UTM
) -> dict[str, Any]:
    return {
        "dimensions": {"width": width, "height": height}, "crsCode": crs,
        "affineTransform": {
            "scaleX": place.a, "shearX": place.b, "translateX": place.c,
            "shearY": place.d, "scaleY": place.e, "translateY": place.f,
        },
    }  # fmt: skip


def pixels(image: ee.Image, where: dict[str, Any] | None = None) -> np.ndarray[Any, Any]:
    asked = {"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": where or grid()}
    return np.asarray(ee.data.computePixels(asked))


def collection() -> ee.ImageCollection:
    return ee.ImageCollection("T/S2")


def clear(small: Small) -> tuple[ee.ImageCollection, xr.Dataset]:
    """Masked by the QA band: in Earth Engine's words, and in xarray's."""

    def masked(image: ee.Image) -> ee.Image:
        scl = image.select("SCL")
        return image.select("B4").updateMask(scl.eq(CLEAR[0]).Or(scl.eq(CLEAR[1])))

    seen = small.stack.SCL.isin(CLEAR) & (small.stack.B4 != 0)
    return collection().map(masked), small.stack.where(seen)


@pytest.mark.parametrize("count", [1, 3, 5, 2, 4])
def test_medians(small: Small, count: int) -> None:
    masked, stack = clear(small)
    ours = stack.B4[:count].median("time").to_numpy()
    made = masked.limit(count).median()
    found = pixels(made.addBands(made.mask().rename("inside")))
    seen = ~np.isnan(ours)
    np.testing.assert_array_equal(found["inside"], seen)
    np.testing.assert_array_equal(found["B4"][seen], ours[seen])
    assert (found["B4"][~seen] == 0).all(), "masked pixels come as 0"
    assert 0.02 < (~seen).mean() < 0.9


def test_a_stored_image_on_its_pixels_is_what_the_file_holds(small: Small) -> None:
    asked = {
        "assetId": "T/S2/1",
        "fileFormat": "NUMPY_NDARRAY",
        "grid": grid(),
        "bandIds": ["B5", "B4"],
    }
    found = np.asarray(ee.data.getPixels(asked))
    assert found.dtype.names == ("B5", "B4")
    for name in found.dtype.names:
        np.testing.assert_array_equal(found[name], small.stack[name][1])
        assert found[name].dtype == np.uint16
    with (
        MemoryFile(ee.data.getPixels(asked | {"fileFormat": "GEO_TIFF"})) as memory,
        memory.open() as tif,
    ):
        np.testing.assert_array_equal(tif.read(2), small.stack.B4[1])
        assert (tif.transform, tif.crs.to_epsg(), tif.descriptions) == (ORIGIN, 32632, ("B5", "B4"))


def test_another_crs_is_nearest_by_the_centres_of_pixels(small: Small) -> None:
    place = Affine(7.3, 0, 600_111.1, 0, -7.3, 5_299_888.8)
    found = pixels(ee.Image("T/CODES"), grid(place, 40, 30))["Map"]
    to = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    for row in range(30):
        for col in range(40):
            lon, lat = to.transform(*(place @ (col + 0.5, row + 0.5)))
            x, y = ~small.place @ (lon, lat)
            inside = 0 <= x < 160 and 0 <= y < 120
            assert found[row, col] == (small.codes[int(y), int(x)] if inside else 0)


def test_mosaics_modes_and_best_pixels(small: Small) -> None:
    masked, stack = clear(small)
    b4, seen = stack.B4.to_numpy(), ~np.isnan(stack.B4.to_numpy())
    last = np.zeros((SIZE, SIZE))
    for layer, mask in zip(b4, seen, strict=True):
        last[mask] = layer[mask]
    np.testing.assert_array_equal(pixels(masked.mosaic())["B4"], last)
    first = np.where(
        seen.any(0), np.take_along_axis(np.nan_to_num(b4), seen.argmax(0)[None], 0)[0], 0
    )
    np.testing.assert_array_equal(
        pixels(masked.reduce(ee.Reducer.firstNonNull()))["B4_firstNonNull"], first
    )
    (
        np.testing.assert_array_equal(pixels(masked.sort("CLOUDY", False).mosaic())["B4"], first),
        "sorted the other way round, the first is on top",
    )
    q = small.stack.Q.to_numpy()
    codes = np.array([[np.bincount(q[:, r, c]).argmax() for c in range(SIZE)] for r in range(SIZE)])
    np.testing.assert_array_equal(pixels(collection().select("Q").mode())["Q"], codes)
    at = small.stack.Q.argmax("time")
    best = pixels(collection().select(["B5", "Q"]).qualityMosaic("Q"))
    np.testing.assert_array_equal(best["B5"], small.stack.B5.isel(time=at))


def test_pixelwise(small: Small) -> None:
    image = ee.Image("T/S2/2")
    b4, b5, scl, q = (
        small.stack[n][2].to_numpy().astype(np.int64) for n in ("B4", "B5", "SCL", "Q")
    )
    made = (
        image.select("B5").add(image.select("Q")).rename("sum")
        .addBands(image.select("Q").bitwiseAnd(5).rename("bits"))
        .addBands(image.select("Q").rightShift(1).rename("shift"))
        .addBands(image.select("Q").remap([0, 1, 2], [7, 8, 9], 255).rename("codes"))
        .addBands(image.select("B5").gt(4000).And(image.select("Q").neq(3)).rename("both"))
        .addBands(image.select("B5").divide(7).add(0.5).floor().toUint16().rename("round"))
        .addBands(image.select("B5").subtract(5000).toUint16().rename("clamped"))
        .addBands(image.select("B4").unmask(17, False).rename("filled"))
        .addBands(image.select("B5").updateMask(image.select("Q").gt(2)).rename("hidden"))
    )  # fmt: skip
    found = pixels(made)
    table = np.full(256, 255)
    table[:3] = 7, 8, 9
    wanted = {
        "sum": b5 + q, "bits": q & 5, "shift": q >> 1, "codes": table[q],
        "both": (b5 > 4000) & (q != 3), "round": np.floor(b5 / 7 + 0.5),
        "clamped": np.clip(b5 - 5000, 0, None), "filled": np.where(b4 == 0, 17, b4), "hidden": np.where(q > 2, b5, 0),
    }  # fmt: skip
    for name, want in wanted.items():
        np.testing.assert_array_equal(found[name], want, err_msg=name)
    with np.errstate(invalid="ignore", divide="ignore"):
        want_nd = np.where(b4 > 0, (b4 - b5) / (b4 + b5), 0)
    for names, sign in ((["B4", "B5"], 1), (["B5", "B4"], -1)):
        nd = pixels(image.normalizedDifference(names))["nd"]
        np.testing.assert_allclose(nd, sign * want_nd, atol=1e-15)
    assert scl.max() == 8


def test_coarser_pixels_are_means_and_modes(small: Small) -> None:
    place = ORIGIN @ Affine.translation(3, 6) @ Affine.scale(4)
    image = ee.Image("T/S2/0").select("B4").reduceResolution(ee.Reducer.mean())
    found = pixels(image, grid(place, 12, 12))["B4"]
    b4 = small.stack.B4[0].to_numpy()[6:54, 3:51].astype(float)
    b4[b4 == 0] = np.nan
    want = np.nanmean(b4.reshape(12, 4, 12, 4), axis=(1, 3))
    np.testing.assert_allclose(found, want, rtol=1e-12)
    third = pixels(
        ee.Image("T/S2/0").select("Q").reduceResolution(ee.Reducer.mode()), grid(place, 12, 12)
    )
    q = (
        small.stack.Q[0]
        .to_numpy()[6:54, 3:51]
        .reshape(12, 4, 12, 4)
        .transpose(0, 2, 1, 3)
        .reshape(12, 12, 16)
    )
    np.testing.assert_array_equal(third["Q"], [[np.bincount(c).argmax() for c in r] for r in q])
    plain = pixels(ee.Image("T/S2/0").select("B5").reproject(UTM, list(place)[:6]), grid())["B5"]
    rows = (np.arange(SIZE) - 6) // 4 * 4 + 6 + 2
    cols = (np.arange(SIZE) - 3) // 4 * 4 + 3 + 2
    b5 = np.pad(small.stack.B5[0].to_numpy(), 8)
    np.testing.assert_array_equal(plain, b5[np.ix_(rows + 8, cols + 8)], "nearest, at the centres")


def test_statistics_of_regions(small: Small) -> None:
    west, south, east, north = 600_103, 5_299_703, 600_253, 5_299_903
    to = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    ring = [
        list(to.transform(x, y))
        for x, y in ((west, south), (east, south), (east, north), (west, north))
    ]
    area = ee.Geometry.Polygon([[*ring, ring[0]]], None, False)
    image = ee.Image("T/S2/3").select(["B5", "B4"])
    said = image.reduceRegion(
        ee.Reducer.mean(), area, crs=UTM, crsTransform=list(ORIGIN)[:6]
    ).getInfo()
    for name in ("B5", "B4"):
        data = small.stack[name][3].to_numpy()
        total = weight = 0.0
        for row in range(SIZE):
            for col in range(SIZE):
                x, y = ORIGIN @ (col, row)
                share = (
                    max(0, min(x + 10, east) - max(x, west))
                    * max(0, min(y, north) - max(y - 10, south))
                    / 100
                )
                if data[row, col]:
                    total, weight = total + share * data[row, col], weight + share
        assert said[name] == pytest.approx(total / weight, rel=1e-6)
    counted = image.select("B5").reduceRegion(
        ee.Reducer.count(), area, crs=UTM, crsTransform=list(ORIGIN)[:6]
    )
    assert counted.getInfo() == {"B5": 15 * 20}, "pixels whose centre lies inside"
    clipped = pixels(image.select("B5").clip(area))["B5"]
    assert (clipped > 0).sum() == 15 * 20


def test_collections_are_filtered_sorted_linked_and_described(small: Small) -> None:
    days = collection().filterDate("2020-09-14", "2020-09-16").filter(ee.Filter.lte("CLOUDY", 10))
    two = collection().filterDate("2020-09-14", "2020-09-16").aggregate_array("system:index")
    assert two.getInfo() == ["1", "2"]
    said = days.select(["B4", "SCL"]).getInfo()
    assert [f["id"] for f in said["features"]] == ["T/S2/1"]
    (band, qa) = said["features"][0]["bands"]
    assert (band["crs"], band["crs_transform"], band["dimensions"]) == (
        UTM,
        list(ORIGIN)[:6],
        [60, 60],
    )
    assert band["data_type"] == {"type": "PixelType", "precision": "int", "min": 0, "max": 65535}
    assert qa["dimensions"] == [30, 30]
    assert said["features"][0]["properties"]["system:index"] == "1"
    near = ee.Geometry.MultiPolygon(
        [[[[10.34, 47.84], [10.341, 47.84], [10.341, 47.841], [10.34, 47.84]]]], None, False
    )
    far = ee.Geometry.Point([20, 47])
    assert collection().filterBounds(near).size().getInfo() == 5
    assert collection().filterBounds(far).size().getInfo() == 0
    assert collection().sort("CLOUDY", False).first().get("CLOUDY").getInfo() == 40
    linked = collection().linkCollection(ee.ImageCollection("T/DW"), ["label"])
    found = pixels(
        ee.Image(linked.filter(ee.Filter.eq("system:index", "2")).first()).select("label")
    )
    alone = pixels(ee.Image("T/DW/2"))
    np.testing.assert_array_equal(found["label"], alone["label"])
    none = ee.Image(linked.filter(ee.Filter.eq("system:index", "1")).first()).select("label")
    assert not pixels(none.mask().rename("m"))["m"].any(), "an image without its map is masked"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: ee.Image("T/S2/0").focalMax(1).getInfo(), "focalMax is not emulated"),
        (lambda: pixels(ee.Image("T/S2/9")), "'T/S2/9' not found"),
        (lambda: ee.data.getAsset("T/NO"), "does not exist"),
        (lambda: pixels(ee.ImageCollection([]).median()), "no bands"),
        (lambda: pixels(ee.Image("T/S2/0").select("B8")), "did not match any bands"),
        (lambda: pixels(ee.Image("T/S2/0").select("B4"), grid(width=32769, height=1)), "32768"),
        (lambda: pixels(ee.Image("T/S2/0").select("Q"), grid(width=4096, height=4097)), "50331648"),
        (lambda: pixels(ee.Image.constant([0] * 1025), grid(width=1, height=1)), "too many bands"),
    ],
)  # fmt: skip
def test_what_is_refused(small: Small, ask: Any, words: str) -> None:
    with pytest.raises(ee.EEException, match=words):
        ask()


def test_limits_are_met_to_the_byte(small: Small) -> None:
    """Two bytes and one of mask: 16,777,216 pixels are allowed, a row more is not."""
    quiet = ee.Image("T/S2/0").select("B4")
    asked = {"expression": quiet, "fileFormat": "NPY", "grid": grid(width=4096, height=4096)}
    assert len(ee.data.computePixels(asked)) > 2 * 4096 * 4096
    with pytest.raises(ee.EEException, match=r"Total request size \(50343936 bytes\)"):
        ee.data.computePixels(asked | {"grid": grid(width=4096, height=4097)})
