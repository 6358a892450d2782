"""The real rasters, indexed and built: what comes out of the tar is what is in the source file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import webdataset
from pyproj import Transformer
from rasterio.windows import Window, from_bounds

from las_builder.pack import Decoded, reflectance

pytestmark = pytest.mark.real


def window_of(path: Path, sample: Decoded) -> Window:
    with rasterio.open(path) as file:
        return (
            from_bounds(*sample.grid.bounds, transform=file.transform)
            .round_offsets()
            .round_lengths()
        )


def read(path: Path, sample: Decoded) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(window=window_of(path, sample))


PAIRS = {
    "2017-10-30": "637U_59R_1_3_denmark",
    "2020-04-08": "433D_629L_3_1_chile",
    "2020-01-11": "609U_541L_3_0_hudson_bay_canada",
}


def test_the_pairs_come_out_pixel_for_pixel(build, shared_data: Path) -> None:
    built = build("denmark-chile-hudson")
    samples = built.samples()
    assert len(samples) == 3
    for sample in samples:
        folder = shared_data / "s2_lulc_pairs" / PAIRS[sample.metadata["datetime"][:10]]
        with rasterio.open(folder / "LULC.tif") as file:
            source = file.read(1)
            assert sample.grid.transform == file.transform
            assert sample.grid.crs == f"EPSG:{file.crs.to_epsg()}"
        codes = built.codes(sample)
        kept = sample.label != 255
        np.testing.assert_array_equal(codes[kept], source[kept])
        assert set(np.unique(source[~kept])) <= {0, 8}
        with rasterio.open(folder / "S2L2A.tif") as file:
            np.testing.assert_array_equal(sample.image, file.read())
        if len(np.unique(source)) > 1:  # a shift by one pixel would be seen
            assert (codes != np.roll(source, 1, axis=1)).any()
            assert (codes != np.roll(source, 1, axis=0)).any()


def test_members_open_out_of_the_tar(build) -> None:
    built = build("denmark-chile-hudson")
    for entry in built.shards.entries:
        for member in ("image.tif", "label.tif", "valid.tif", "confidence.tif"):
            with rasterio.open(
                f"/vsitar/{built.space.shards / entry.shard}/{entry.key}.{member}"
            ) as file:
                grid = built.shards.read(entry).grid
                assert file.transform == grid.transform
                assert f"EPSG:{file.crs.to_epsg()}" == grid.crs


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_every_sample(build) -> None:
    built = build("denmark-chile-hudson")
    shards = sorted(str(p) for p in built.space.shards.glob("*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert sorted(s["__key__"] for s in found) == sorted(e.key for e in built.shards.entries)
    for sample in found:
        with rasterio.open(io.BytesIO(sample["label.tif"])) as file:
            assert file.count == 1
        assert json.loads(sample["json"])["key"] == sample["__key__"]


def test_slovenia_passes_the_cloudy_dates_over(build, shared_data: Path) -> None:
    built = build("slovenia")
    samples = built.samples()
    days = sorted(s.metadata["datetime"][:10] for s in samples)
    assert days == ["2015-07-11", "2015-08-30", "2015-09-09"]
    folder = shared_data / "s2_lulc_pairs" / "eolearn_slovenia"
    for sample in samples:
        path = folder / f"S2L1C_{sample.metadata['datetime'][:10]}.tif"
        with rasterio.open(path) as file:
            assert sample.grid.transform == file.transform
        assert sample.image.dtype == np.float32
        np.testing.assert_array_equal(sample.image, read(path, sample))
        source = read(folder / "LULC.tif", sample)[0]
        kept = sample.label != 255
        np.testing.assert_array_equal(built.codes(sample)[kept], source[kept])
        assert set(np.unique(source[~kept])) <= {0}
        assert sample.metadata["resampled"] is False


def test_west_virginia_has_two_dates_and_two_products_on_one_grid(build, shared_data: Path) -> None:
    built = build("west-virginia")
    samples = built.samples()
    assert len(samples) == 8
    folder = shared_data / "chesapeake_naip_wv"
    for sample in samples:
        age = "old" if sample.metadata["datetime"].startswith("2011") else "new"
        name = folder / f"m_3907833_nw_17_1_naip-{age}.tif"
        np.testing.assert_array_equal(sample.image, read(name, sample))
        lc = read(folder / "m_3907833_nw_17_1_lc.tif", sample)[0]
        np.testing.assert_array_equal(built.codes(sample), lc)
    cube = built.cube()
    year = cube["time"].dt.year.values
    assert set(year) == {2011, 2014}
    for i in np.flatnonzero(year == 2011):
        bounds = cube["transform"].values[i]
        with rasterio.open(folder / "m_3907833_nw_17_1_nlcd.tif") as file:
            col = round((bounds[2] - file.transform.c) / file.transform.a)
            row = round((bounds[5] - file.transform.f) / file.transform.e)
            want = file.read(1, window=Window(col, row, 130, 130))
        np.testing.assert_array_equal(cube["labels/nlcd"].values[i], want)
    cube.close()


@pytest.mark.parametrize(("version", "year"), [("v200", 2021), ("v100", 2020)])
def test_worldcover_versions_are_never_mixed(
    build, shared_data: Path, version: str, year: int
) -> None:
    built = build("worldcover")
    cube = built.cube()
    assert int(cube["stored"].sum()) >= 4
    path = shared_data / "worldcover" / f"ESA_WorldCover_10m_{year}_{version}_N00E006_Map.tif"
    with rasterio.open(path) as file:
        for i in np.flatnonzero(cube["stored"].values):
            a, _, c, _, e, f = cube["transform"].values[i]
            x, y = np.meshgrid(c + (np.arange(264) + 0.5) * a, f + (np.arange(264) + 0.5) * e)
            crs = str(cube["crs"].values[i])
            lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
            west, north, pixel = file.transform.c, file.transform.f, file.transform.a
            cols, rows = (lon - west) / pixel, (north - lat) / pixel
            cols, rows = np.floor(cols).astype(int), np.floor(rows).astype(int)
            window = Window(cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)
            source = file.read(1, window=window)
            want = source[rows - rows.min(), cols - cols.min()]
            got = cube[f"labels/esa-worldcover-{version}"].values[i]
            np.testing.assert_array_equal(got, want)
            assert (np.roll(got, 1, axis=1) != want).any()
    cube.close()


def test_the_two_worldcovers_differ(build) -> None:
    built = build("worldcover")
    cube = built.cube()
    a, b = (cube[f"labels/esa-worldcover-{v}"].values for v in ("v100", "v200"))
    assert (a != b).any()
    cube.close()
    for entry in built.shards.entries:
        said = json.loads(built.shards.member(entry, "json"))
        assert "2021" in said["products"]["esa-worldcover-v200"]
        assert said["synthetic"] is True  # the imagery above it is made up


def test_the_offset_of_baseline_0400_is_applied_once(build, shared_data: Path) -> None:
    built = build("t29unu")
    samples = built.samples()
    assert samples
    path = shared_data / "s2_l2a_t29unu_baseline0400" / "T29UNU_20221005T115411_BOA_60m_crop.tif"
    for sample in samples:
        numbers = read(path, sample)
        np.testing.assert_array_equal(sample.image, numbers)
        assert sample.offset == (-0.1,) * 11
        assert sample.scale == (0.0001,) * 11
        want = (numbers.astype(np.float64) - 1000) / 10000
        np.testing.assert_allclose(reflectance(sample), want, atol=1e-7)
        scl = read(path.with_name("T29UNU_20221005T115411_SCL_60m_crop.tif"), sample)[0]
        np.testing.assert_array_equal(
            sample.valid, np.isin(scl, [4, 5, 6, 7, 11]) & (numbers != 0).all(axis=0)
        )
