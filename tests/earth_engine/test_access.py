"""Our code and Google's client against the emulator: pixels, masks, composites, sizes, refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from ee_kit import CLEAR, ORIGIN, SIZE, UTM, Small
from kit import Las
from pyproj import Transformer

from las_builder.access import LabelRequest, ReadRequest, SearchRequest, raster
from las_builder.access.composite import composed
from las_builder.access.counts import counts
from las_builder.access.earth_engine import EarthEngine, client, eecu, images, pixels, sizes
from las_builder.access.items import map_of
from las_builder.catalogs import Catalogs, Imagery, LabelProduct, Validity, Where
from las_builder.core.grid import Grid
from las_builder.core.types import Chip, Gap, LabelSource, Period, Scene
from las_builder.errors import AccessError, SourceError

Strain = Callable[..., None]
WHOLE = Grid(UTM, ORIGIN, SIZE, SIZE)
PERIOD = Period.parse("2020-09-01/2020-10-01")


def imagery(**more: Any) -> Imagery:
    """Two bands of Sentinel-2 and its scene classification."""
    real = Catalogs.load().imagery("sentinel-2-l2a")
    where = Where(
        provider="earth-engine", collection="T/S2", auth="ee", cloud="CLOUDY",
        assets={"B04": "B4", "B05": "B5"}, harmonised=True,
    )  # fmt: skip
    said = {
        "bands": [b for b in real.bands if b.name in ("B04", "B05")], "where": [where],
        "validity": Validity(band="SCL", clear_values=list(CLEAR), nodata=0, gsd=20),
    }  # fmt: skip
    return real.model_copy(update={**said, **more})


def scenes(engine: EarthEngine, one: Imagery | None = None) -> list[Scene]:
    asked = SearchRequest(site="s", grid=WHOLE, period=PERIOD, max_cloud=100)
    return engine.search(one or imagery(), [asked])[0]


def read(
    engine: EarthEngine,
    scene: Scene,
    grid: Grid,
    bands: tuple[str, ...],
    one: Imagery | None = None,
) -> Chip:
    asked = ReadRequest(
        site="s", scene=scene, grid=grid, bands=bands, categorical=bands == ("SCL",)
    )
    (chip,) = engine.read(one or imagery(), [asked])
    assert isinstance(chip, Chip)
    return chip


def asked(small: Small) -> list[str]:
    return [line[1].rpartition("/")[2] for line in small.server.ask("log")["log"]]


def moved(dx: float, dy: float, size: int = 20, pixel: float = 10, crs: str = UTM) -> Grid:
    return Grid(crs, Affine(pixel, 0, ORIGIN.c + dx, 0, -pixel, ORIGIN.f - dy), size, size)


def test_a_search_is_one_request_for_all_sites(engine: EarthEngine, small: Small) -> None:
    boxes = [moved(i * 50, i * 20) for i in range(8)]
    requests = [
        SearchRequest(site=str(i), grid=g, period=PERIOD, max_cloud=25) for i, g in enumerate(boxes)
    ]
    far = SearchRequest(site="far", grid=moved(90_000, 0), period=PERIOD, max_cloud=25)
    found = engine.search(imagery(), [*requests, far])
    assert [[s.id for s in some] for some in found] == [["0", "1", "2"]] * 8 + [[]]
    assert asked(small).count("value:compute") == 1
    scene = found[0][1]
    assert scene.grid == WHOLE
    assert scene.cloud_cover == 10
    assert scene.datetime == datetime.fromtimestamp(1.6e9 + 86_400, UTC)
    assert scene.assets["B05"].href == "ee://T/S2/1#B5"
    assert scene.assets["B05"].shape == (30, 30)
    assert imagery().radiometry(scene, "B04") == (0.0001, 0.0), "harmonised: no offset"


def test_scenes_without_all_bands_are_passed_over(engine: EarthEngine) -> None:
    real = Catalogs.load().imagery("sentinel-2-l2a")
    wide = imagery(bands=[b for b in real.bands if b.name in ("B04", "B05", "B08")])
    assert scenes(engine, wide) == []
    assert len(scenes(engine)) == 5


def test_stored_pixels_all_bands_in_one_request(engine: EarthEngine, small: Small) -> None:
    scene, grid = scenes(engine)[2], moved(100, 50)
    small.server.ask("reset")
    requests = [
        ReadRequest(site="s", scene=scene, grid=grid, bands=("B04", "B05")),
        ReadRequest(site="s", scene=scene, grid=grid, bands=("SCL",), categorical=True),
    ]
    chip, qa = engine.read(imagery(), requests)
    assert asked(small).count("2:getPixels") == 1 == len(asked(small))
    window = {"y": slice(5, 25), "x": slice(10, 30)}
    there = small.stack.isel(time=2, **window)
    assert isinstance(chip, Chip)
    assert isinstance(qa, Chip)
    np.testing.assert_array_equal(chip.data, [there.B4, there.B5])
    np.testing.assert_array_equal(chip.inside, there.B4 != 0)
    np.testing.assert_array_equal(qa.data[0], there.SCL)
    assert not chip.resampled
    assert chip.data.dtype == np.uint16


def next_door() -> Grid:
    """Of the neighbouring zone, around the middle of the images."""
    x, y = Transformer.from_crs(UTM, "EPSG:32633", always_xy=True).transform(
        ORIGIN.c + 300, ORIGIN.f - 300
    )
    return Grid("EPSG:32633", Affine(10, 0, round(x) - 120, 0, -10, round(y) + 120), 24, 24)


@pytest.mark.parametrize(
    "grid",
    [
        moved(103.3, 54.1), moved(40, 40, 10, 30), moved(35, 15, 20, 5), moved(-60, -60),
        next_door(),
    ],
)  # fmt: skip
def test_any_grid_is_read_as_a_file_is(engine: EarthEngine, small: Small, grid: Grid) -> None:
    scene = scenes(engine)[1]
    for name, theirs in (("B04", "B4"), ("B05", "B5"), ("SCL", "SCL")):
        qa = name == "SCL"
        file = str(small.server.root / f"1-{theirs}.tif")
        want = raster.read_on(
            grid, file, categorical=qa, nodata=0, dtype=None if qa else np.dtype("uint16")
        )
        chip = read(engine, scene, grid, (name,))
        np.testing.assert_array_equal(chip.inside, want.inside, err_msg=name)
        np.testing.assert_array_equal(
            chip.data[0][want.inside], want.data[want.inside], err_msg=name
        )
        assert chip.resampled == want.resampled
        assert want.inside.any()


def test_where_nothing_is_there_is_a_gap(engine: EarthEngine) -> None:
    scene = scenes(engine)[1]
    request = ReadRequest(site="s", scene=scene, grid=moved(9000, 9000), bands=("B04",))
    (gap,) = engine.read(imagery(), [request])
    assert isinstance(gap, Gap)


def test_masks_come_along_where_zero_is_a_value(engine: EarthEngine, small: Small) -> None:
    one = imagery(nodata=None)
    scene = scenes(engine, one)[3]
    small.server.ask("reset")
    chip = read(engine, scene, WHOLE, ("B04", "B05"), one)
    assert asked(small) == ["image:computePixels"]
    b4 = small.stack.B4[3].to_numpy()
    np.testing.assert_array_equal(chip.inside, b4 != 0)
    np.testing.assert_array_equal(chip.data[0], b4)
    spare = one.model_copy(
        update={"where": [one.where[0].model_copy(update={"unused_zero": ["B04", "B05"]})]}
    )
    small.server.ask("reset")
    again = read(engine, scene, WHOLE, ("B04", "B05"), spare)
    assert asked(small) == ["3:getPixels"]
    np.testing.assert_array_equal(again.inside, chip.inside)


@pytest.mark.parametrize("how", ["median", "best"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_composites_are_those_of_xarray_and_of_ours(
    engine: EarthEngine, small: Small, how: Any, count: int
) -> None:
    members = scenes(engine)[:count]
    whole = Scene.of(how, members)
    small.server.ask("reset")
    chip = read(engine, whole, WHOLE, ("B04", "B05"))
    assert asked(small) == ["image:computePixels"]
    stack = small.stack.isel(time=slice(0, count))
    seen = stack.SCL.isin(CLEAR) & (stack.B4 != 0) & (stack.B5 != 0)
    np.testing.assert_array_equal(chip.inside, seen.any("time"))
    inside = chip.inside
    for k, name in enumerate(("B4", "B5")):
        kept = stack[name].where(seen)
        want = (
            kept.median("time") if how == "median" else stack[name].isel(time=seen.argmax("time"))
        )
        off = np.abs(chip.data[k].astype(float) - want.to_numpy())[inside]
        # To the bit where the count of what was seen is odd; else halves go up, by half a number.
        odd = (seen.sum("time") % 2 == 1).to_numpy()[inside]
        assert (off[odd | (how == "best")] == 0).all()
        assert off.max(initial=0) <= 0.5
    plain = composed(
        lambda i, r: pixels._read_images(engine.service, i, r), imagery(),
        [ReadRequest(site="s", scene=whole, grid=WHOLE, bands=("B04", "B05"))],
    )[0]  # fmt: skip
    assert isinstance(plain, Chip)
    np.testing.assert_array_equal(chip.data, plain.data)
    np.testing.assert_array_equal(chip.inside, plain.inside)


@pytest.mark.parametrize("how", ["median", "best"])
def test_a_number_that_is_nodata_is_in_no_composite_though_it_is_not_masked(
    engine: EarthEngine, small: Small, how: Any
) -> None:
    """As it is in none that is composed of files, and in no single scene."""
    real = imagery()
    where = real.where[0].model_copy(update={"assets": {"B04": "Q"}})
    one = imagery(
        bands=real.bands[:1], data_type="uint8", nodata=0, validity=Validity(), where=[where]
    )
    members = scenes(engine, one)[:3]
    small.server.ask("reset")
    chip = read(engine, Scene.of(how, members), WHOLE, ("B04",), one)
    assert asked(small) == ["image:computePixels"]
    stack = small.stack.Q.isel(time=slice(0, 3))
    seen = stack != 0
    assert not seen.all()
    np.testing.assert_array_equal(chip.inside, seen.any("time"))
    want = (
        np.floor(stack.where(seen).median("time") + 0.5)
        if how == "median"
        else stack.isel(time=seen.argmax("time"))
    )
    np.testing.assert_array_equal(chip.data[0][chip.inside], want.to_numpy()[chip.inside])


def test_a_composite_that_must_be_warped_is_composed_here(
    engine: EarthEngine, small: Small
) -> None:
    whole = Scene.of("median", scenes(engine)[:3])
    chip = read(engine, whole, moved(103.3, 54.1), ("B04",))
    assert chip.resampled
    assert "image:computePixels" not in asked(small)


def product(**more: Any) -> LabelProduct:
    real = Catalogs.load().label("dynamic-world")
    where = Where(provider="earth-engine", collection="T/DW", auth="ee", assets={"codes": "label"})
    return real.model_copy(update={"where": [where], "evidence": [], **more})


def test_maps_of_the_same_scene(engine: EarthEngine, small: Small) -> None:
    found = scenes(engine)
    requests = [LabelRequest(site="s", grid=moved(100, 100), scene=s) for s in found]
    small.server.ask("reset")
    assert engine.labelled(product(), requests) == [True, False, True, False, True]
    assert asked(small).count("value:compute") == 1
    answers = engine.labels(product(), requests)
    assert [isinstance(a, LabelSource) for a in answers] == [True, False, True, False, True]
    source = answers[2]
    assert isinstance(source, LabelSource)
    assert source.version == "2"
    assert source.grid.shape == (24, 24), "two pixels to spare on each side"
    import rasterio

    with rasterio.open(small.server.root / "2-dw.tif") as file:
        np.testing.assert_array_equal(source.codes, file.read(1)[8:32, 8:32])
    assert (source.codes == 0).any(), "0 is water, not nothing"


def test_water_outside_of_a_map_is_nothing(engine: EarthEngine) -> None:
    scene = scenes(engine)[0]
    edge = engine.labels(product(), [LabelRequest(site="s", grid=moved(-100, -100), scene=scene)])[
        0
    ]
    assert isinstance(edge, LabelSource)
    assert edge.codes.shape == (12, 12), "what the image has, no more"


def codes() -> LabelProduct:
    real = Catalogs.load().label("esa-worldcover-v200")
    where = Where(provider="earth-engine", collection="T/CODES", auth="ee", assets={"codes": "Map"})
    return real.model_copy(update={"where": [where]})


def test_an_image_that_is_no_collection_is_a_map(engine: EarthEngine, small: Small) -> None:
    grid = Grid("EPSG:32632", Affine(10, 0, 600_300, 0, -10, 5_299_900), 12, 12)
    scene = scenes(engine)[0]
    (source,) = engine.labels(codes(), [LabelRequest(site="s", grid=grid, scene=scene)])
    assert isinstance(source, LabelSource)
    col = round((source.grid.transform.c - small.place.c) / 1e-4)
    row = round((small.place.f - source.grid.transform.f) / 1e-4)
    h, w = source.codes.shape
    np.testing.assert_array_equal(source.codes, small.codes[row : row + h, col : col + w])
    assert source.grid.crs == "EPSG:4326"


@pytest.mark.parametrize("few", [images.FEW, 1])
def test_products_that_share_a_collection_have_maps_of_their_own(
    engine: EarthEngine, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of WorldCereal do: what one was answered is no answer to the next."""
    monkeypatch.setattr(images, "FEW", few)
    found = []
    for cloudy in (0, 10, 20):
        where = Where(
            provider="earth-engine", collection="T/S2", auth="ee", match={"CLOUDY": cloudy}
        )
        one = codes().model_copy(update={"where": [where]})
        found.append(
            [e.item.id for e in images.map_entries(engine.service, one, [(10, 47, 11, 48)])]
        )
    assert found == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize(
    ("crs", "x"), [("EPSG:32660", 826_000), ("EPSG:32701", 158_000), ("EPSG:4326", 179.7)]
)
def test_maps_join_over_the_antimeridian(
    engine: EarthEngine, small: Small, crs: str, x: float
) -> None:
    belt = codes()
    belt = belt.model_copy(
        update={"where": [belt.where[0].model_copy(update={"collection": "T/BELT"})]}
    )
    step, y = (0.01, 0.3) if crs == "EPSG:4326" else (1000, 40_000 if crs[7] == "6" else 9_990_000)
    grid = Grid(crs, Affine(step, 0, x, 0, -step, y), 40, 30)
    (source,) = engine.labels(belt, [LabelRequest(site="s", grid=grid, scene=scenes(engine)[0])])
    assert isinstance(source, LabelSource)
    windows = raster.read_around(grid, str(small.server.root / "belt.tif"))
    assert len(windows) == 2, "on either side"
    together = np.concatenate(
        [w.data for w in sorted(windows, key=lambda w: w.grid.bounds[0])], axis=1
    )
    np.testing.assert_array_equal(source.codes, together)


def test_a_search_over_the_antimeridian_asks_on_either_side(
    engine: EarthEngine, small: Small
) -> None:
    grid = Grid("EPSG:32660", Affine(10, 0, 833_900, 0, -10, 40_000), 64, 64)
    engine.search(imagery(), [SearchRequest(site="s", grid=grid, period=PERIOD, max_cloud=100)])
    said = json.dumps(kept_bodies(small)[-1]["body"])
    assert "-180.0" in said
    assert "180.0" in said.replace("-180.0", "")


def test_a_validity_band_of_another_collection(engine: EarthEngine, small: Small) -> None:
    """Scenes of which it holds none are no candidates; masks and composites are of its images."""
    seen = Validity(band="label", clear_values=[1, 2, 3], joined={"earth-engine": "T/DW"})
    one = imagery(validity=seen)
    small.server.ask("reset")
    found = scenes(engine, one)
    assert [s.id for s in found] == ["0", "2", "4"]
    assert asked(small).count("value:compute") == 2
    assert found[1].assets["label"].href == "ee://T/DW/2#label"
    import rasterio

    masks = []
    for scene in found:
        with rasterio.open(small.server.root / f"{scene.id}-dw.tif") as file:
            masks.append(np.isin(file.read(1), [1, 2, 3]))
    request = ReadRequest(site="s", scene=found[1], grid=WHOLE, bands=("label",), categorical=True)
    (chip,) = engine.read(one, [request])
    assert isinstance(chip, Chip)
    np.testing.assert_array_equal(seen.decode(chip.data[0]) & chip.inside, masks[1])
    whole = read(engine, Scene.of("best", found), WHOLE, ("B04",), one)
    there = [
        m & (small.stack.B4[int(s.id)].to_numpy() != 0) for m, s in zip(masks, found, strict=True)
    ]
    np.testing.assert_array_equal(whole.inside, np.any(there, axis=0))


def test_times_of_maps() -> None:
    """The end that Earth Engine states is no more part of a map; bands may be years."""
    band = {"id": "b1", "crs": UTM, "crs_transform": list(ORIGIN)[:6], "dimensions": [6, 6]}
    year = 31_536_000_000
    said = {
        "id": "T/Y/2021", "bands": [band, {**band, "id": "b2"}],
        "properties": {"system:time_start": 51 * year + 13 * 86_400_000, "system:time_end": 52 * year + 13 * 86_400_000},
    }  # fmt: skip
    product = Catalogs.load().label("io-lulc-annual")
    where = Where(provider="earth-engine", collection="T/Y", assets={"codes": "b1"})
    product = product.model_copy(update={"where": [where]})
    (entry,) = images.entries_of(said, product, where)
    one = map_of(entry, product)
    assert [y for y in range(2019, 2025) if one.speaks_of(y)] == [2021]
    years = Where(provider="earth-engine", collection="T/Y", years={2005: "b1", 2006: "b2"})
    product = product.model_copy(update={"where": [years]})
    maps = [map_of(e, product) for e in images.entries_of(said, product, years)]
    assert [(m.id, m.asset.href) for m in maps] == [
        ("2021-2005", "ee://T/Y/2021#b1"), ("2021-2006", "ee://T/Y/2021#b2"),
    ]  # fmt: skip
    assert [m.speaks_of(2006) for m in maps] == [False, True]
    named = Where(provider="earth-engine", collection="T/LC_{year}", assets={"codes": "b2"})
    product = product.model_copy(update={"where": [named]})
    wheres = images.wheres_of(product)
    assert [w.collection for w in wheres][:2] == ["T/LC_2017", "T/LC_2018"]
    (entry,) = images.entries_of({**said, "properties": {}}, product, wheres[1])
    one = map_of(entry, product)
    assert [y for y in range(2016, 2021) if one.speaks_of(y)] == [2018]
    assert one.asset.href == "ee://T/Y/2021#b2"


# ---- how much at once


def test_a_request_is_split_before_it_is_refused(engine: EarthEngine, small: Small) -> None:
    scene = scenes(engine)[1]
    for limit in ({"max_bytes": 1500}, {"max_side": 17}, {"max_bands": 1}, {"max_bytes": 200}):
        tight = EarthEngine(engine.service.model_copy(update=limit))
        small.server.ask("reset")
        chip = read(tight, scene, moved(100, 50), ("B04", "B05"))
        np.testing.assert_array_equal(chip.data[0], small.stack.B4[1][5:25, 10:30])
        np.testing.assert_array_equal(chip.data[1], small.stack.B5[1][5:25, 10:30])
        sent = asked(small).count("1:getPixels")
        bodies = [b["body"] for b in kept_bodies(small) if b["path"].endswith("getPixels")][-sent:]
        for body in bodies:
            w, h = body["grid"]["dimensions"]["width"], body["grid"]["dimensions"]["height"]
            assert w * h * len(body["bandIds"]) * 3 <= limit.get("max_bytes", 1e9)
            assert max(w, h) <= limit.get("max_side", 1e9)
            assert len(body["bandIds"]) <= limit.get("max_bands", 1e9)
        assert len(bodies) > 1


def kept_bodies(small: Small) -> list[dict[str, Any]]:
    from urllib.request import urlopen

    with urlopen(f"{small.url}/asked", timeout=10) as answer:
        said: list[dict[str, Any]] = json.loads(answer.read())
    return said


def test_what_counts_is_what_the_service_counts() -> None:
    """A byte is two, and every band has a byte of mask."""
    kinds = [np.dtype(k) for k in ("uint8", "uint16", "float32", "float64")]
    assert sizes.counted(10, kinds) == 10 * (3 + 3 + 5 + 9)


@pytest.mark.parametrize("fault", ["memory", "timeout"])
def test_the_split_that_worked_is_remembered(
    engine: EarthEngine, small: Small, strain: Strain, fault: str
) -> None:
    found = scenes(engine)
    strain(**{fault: 450})
    small.server.ask("reset")
    chip = read(engine, found[0], moved(100, 50), ("B04", "B05"))
    np.testing.assert_array_equal(chip.data[1], small.stack.B5[0][5:25, 10:30])
    assert len(asked(small)) == 3, "800 numbers were too many; two bands one by one"
    small.server.ask("reset")
    for scene in found[1:]:
        read(engine, scene, moved(100, 50), ("B04", "B05"))
    assert len(asked(small)) == 8, "never the whole again"


def test_what_is_too_much_for_a_single_pixel_fails(engine: EarthEngine, strain: Strain) -> None:
    scene = scenes(engine)[0]
    strain(memory=0)
    with pytest.raises(AccessError, match="memory limit exceeded") as caught:
        read(engine, scene, moved(0, 0, 2), ("B04",))
    assert caught.value.kind == "out-of-memory"


# ---- bad days


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("throttled", "throttled"), ("unavailable", "server"), ("truncated", "truncated"), ("page", "not-data")],
)  # fmt: skip
def test_passing_faults_are_asked_again_and_counted(
    engine: EarthEngine, small: Small, strain: Strain, monkeypatch: pytest.MonkeyPatch,
    fault: str, kind: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("las_builder.access.wire.BACKOFF_S", 0.01)
    found = scenes(engine)
    strain()
    small.server.set(**{fault: 0.4}, seed=3)
    before = counts.copy()
    reads = 0
    while not (failed := counts.since(before).failures):
        number = int(found[reads % 5].id)
        chip = read(engine, found[number], moved(100, 50), ("B04", "B05"))
        np.testing.assert_array_equal(chip.data[0], small.stack.B4[number][5:25, 10:30])
        reads += 1
        assert reads < 60
    assert {said for _, said in failed} == {kind}
    sent = counts.since(before)
    assert sum(sent.failures.values()) == sum(sent.requests.values()) - reads > 0


def test_an_answer_that_is_cut_short_is_no_pixels(
    engine: EarthEngine, small: Small, strain: Strain
) -> None:
    scene = scenes(engine)[0]
    strain(garbled=1)
    chip = read(engine, scene, WHOLE, ("B04",))
    np.testing.assert_array_equal(chip.data[0], small.stack.B4[0])
    strain(garbled=99)
    with pytest.raises(AccessError, match=r"no NPY of") as caught:
        read(engine, scene, WHOLE, ("B04",))
    assert caught.value.retryable


def test_a_slow_service_is_waited_for_and_then_not(
    engine: EarthEngine, small: Small, strain: Strain, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scenes(engine)[0]
    strain()
    small.server.set(latency_ms=700)
    assert read(engine, scene, WHOLE, ("B04",)).data.any()
    monkeypatch.setenv("LAS_PATIENCE_S", "0.1")
    hasty = EarthEngine(engine.service.model_copy(update={"read_s": 0.3}))
    with pytest.raises(AccessError, match=r"no answer in 0 s|timeout") as caught:
        read(hasty, scene, WHOLE, ("B04",))
    assert caught.value.kind == "timeout"


# ---- who asks


def test_a_service_account(engine: EarthEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    said = {
        "type": "service_account", "project_id": "good", "private_key_id": "1",
        "private_key": key.decode(), "client_email": "las@good.iam.gserviceaccount.com",
        "client_id": "1", "token_uri": "https://oauth2.googleapis.com/token",
    }  # fmt: skip
    file = tmp_path / "key.json"
    file.write_text(json.dumps(said))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert client.start(engine.service) == "good"
    assert len(scenes(engine)) == 5


def test_application_default_credentials(
    engine: EarthEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "type": "authorized_user", "refresh_token": "r", "client_id": "c", "client_secret": "s",
        "quota_project_id": "good",
    }  # fmt: skip
    folder = tmp_path / "gcloud"
    folder.mkdir()
    (folder / "application_default_credentials.json").write_text(json.dumps(said))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder))
    assert client.start(engine.service) == "good"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "new")
    client.go_on()
    with pytest.raises(SourceError, match=r"`unregistered` is .*'new' is not registered.*register"):
        scenes(engine)


def one_line(caught: pytest.ExceptionInfo[SourceError], *words: str) -> None:
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    assert caught.value.exit_code == 2, "it ends a run at once"


def test_refusals_say_what_to_do(
    engine: EarthEngine, strain: Strain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    strain(refuse=401)
    with pytest.raises(SourceError) as caught:
        scenes(engine)
    one_line(caught, "401", "earthengine authenticate")
    strain(token=400)
    client.go_on()
    with pytest.raises(SourceError) as caught:
        scenes(engine)
    one_line(caught, "Token has been revoked", "earthengine authenticate")
    strain()
    for project, words in {
        "new": ("is not registered", "code.earthengine.google.com/register"),
        "spent": ("429", "exceeded its monthly", "Go on next month with the same command"),
        "nobodys": ("required permission to use project", "earthengine set_project"),
    }.items():
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
        client.go_on()
        with pytest.raises(SourceError) as caught:
            scenes(engine)
        one_line(caught, *words)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    client.go_on()
    with pytest.raises(SourceError) as caught:
        scenes(engine)
    one_line(
        caught, "credentials", "earthengine authenticate", "gcloud auth application-default login"
    )


def test_a_quota_that_is_used_up_is_not_asked_again(
    engine: EarthEngine, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "spent")
    with pytest.raises(SourceError):
        scenes(engine)
    assert asked(small).count("S2") == 1, "neither by the client nor by us"


WORDS = {
    "unauthenticated": "Request is missing required authentication credential",
    "unregistered": "Project 'p' is not registered to use Earth Engine",
    "service-off": "Earth Engine API has not been used in project 1 before or it is disabled",
    "no-project": "Caller does not have required permission to use project p",
    "absent": "Image.load: Asset 'a' not found (does not exist or caller does not have access).",
    "forbidden": "Permission 'earthengine.computations.create' denied",
    "quota": "Your project has exceeded its monthly noncommercial EECU quota.",
    "throttled": "Too many concurrent aggregations",
    "too-large": "Total request size (50331649 bytes) must be less than or equal to 50331648 bytes",
    "out-of-memory": "User memory limit exceeded",
    "out-of-time": "Computation timed out",
    "too-many": "Collection query aborted after accumulating over 5000 elements",
}


def test_no_rule_of_errors_hides_behind_an_earlier_one() -> None:
    errors = Catalogs.load().earth_engine.errors
    assert {rule.kind for rule in errors.rules} == set(WORDS)
    for rule in errors.rules:
        for status in rule.status:
            found = errors.rule(status, WORDS[rule.kind])
            assert found is not None
            assert (rule.kind, status, found.kind) == (rule.kind, status, rule.kind)


def test_a_missing_asset_is_named_before_anything_is_read(engine: EarthEngine) -> None:
    lost = codes().model_copy(
        update={"where": [Where(provider="earth-engine", collection="T/GONE", auth="ee")]}
    )
    with pytest.raises(SourceError) as caught:
        engine.check(imagery(), ["B04"], [lost])
    one_line(caught, "esa-worldcover-v200", "T/GONE", "does not exist", "may have moved")
    engine.check(imagery(), ["B04"], [codes()])
    with pytest.raises(SourceError, match="comes from: planetary-computer"):
        engine.check(
            None, [], [codes().model_copy(update={"where": [Where(provider="planetary-computer")]})]
        )


# ---- what it costs


def test_eecu_is_read_back_for_every_request(
    engine: EarthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAS_EE_PROFILE", "1")
    found = scenes(engine)
    eecu.read_back(engine.service, least=1)
    before = counts.copy()
    for scene in found:
        read(engine, scene, WHOLE, ("B04", "B05"))
    eecu.read_back(engine.service, least=1)
    spent = counts.since(before).spent
    assert spent[eecu.ASKED] == spent[eecu.READ] == 5
    assert spent[eecu.SPENT] == pytest.approx(5 * (1 + 1e-5 * SIZE * SIZE * 2), abs=1)


def test_profiles_are_read_by_their_column() -> None:
    text = """
      Count  EECU·s  PeakMem  Description
          1   1.250      82k  Loading assets: A B
          -       -        -  a line that goes on
          2   0.750      12k  (plumbing)
    """
    assert eecu.seconds_of(text) == 2.0
    assert eecu.seconds_of("nothing of the kind") is None


def test_a_service_that_tells_no_costs_fails_nothing(
    engine: EarthEngine, strain: Strain, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ee

    monkeypatch.setenv("LAS_EE_PROFILE", "1")
    strain(lacks="Profile.getProfiles")
    ee.Reset()
    try:
        before = counts.copy()
        read(engine, scenes(engine)[0], WHOLE, ("B04",))
        engine.settle()
        spent = counts.since(before).spent
        assert (spent[eecu.ASKED], spent[eecu.READ]) == (1, 0)
    finally:
        ee.Reset()


def test_a_tier_that_is_none_is_told_before_a_run(
    engine: EarthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAS_EE_TIER", "comunity")
    with pytest.raises(SourceError) as caught:
        engine.check(imagery(), ["B04"], [])
    one_line(caught, "LAS_EE_TIER", "comunity", "community, contributor, partner")


def test_threads_share_one_client(engine: EarthEngine, small: Small) -> None:
    found = scenes(engine)
    out: dict[int, np.ndarray[Any, Any]] = {}

    def one(i: int) -> None:
        out[i] = read(engine, found[i % 5], WHOLE, ("B04",)).data[0]

    threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, data in out.items():
        np.testing.assert_array_equal(data, small.stack.B4[i % 5])
    assert len(out) == 12


def test_no_test_replaces_parts_of_the_client() -> None:
    here = Path(__file__).parents[1]
    words = (
        "Magic" + "Mock",
        "mock" + ".patch",
        'setattr("ee' + ".",
        "setattr(ee" + ",",
        "setattr(ee" + ".",
    )
    guilty = [
        f"{file.name}: {word}"
        for file in here.rglob("*.py") for word in words if word in file.read_text()
    ]  # fmt: skip
    assert not guilty


def test_hrefs_hold_image_and_band() -> None:
    href = images.href_of("COPERNICUS/S2/2021_T32UPU", "B4")
    assert images.place_of(href) == ("COPERNICUS/S2/2021_T32UPU", "B4")


def test_the_doctor_asks_for_each_assumption(
    engine: EarthEngine, las: Las, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAS_EE_PROFILE", "1")
    del engine
    small.server.ask("reset")
    done = las("doctor", "--live", "earth-engine")
    assert done.code == 0, done.err
    head, *lines = done.out.strip().splitlines()
    assert "0 of 15 assumptions differ" in head
    rows = Catalogs.load().assumptions
    assert lines == [f"as assumed: {row.number} {row.name}" for row in rows]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert len(asked(small)) <= 20
    assert f"{len(asked(small))} requests" in head


def test_a_row_that_does_not_hold_is_told(
    engine: EarthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from las_builder.access.earth_engine import probe

    # An image whose pixels are not those of the grid that is asked for: nothing lies where it should.
    monkeypatch.setattr(probe, "PLACE", (11.49995, 48.2))
    monkeypatch.setattr(probe, "STEP", 1 / 9000)
    _, lines = probe.probe(engine, Catalogs.load().assumptions)
    told = {line.split()[2].strip(":"): line for line in lines if line.startswith("DIFFERS")}
    assert {"nearest", "pixel-centre"} <= set(told)
    assert "finer pixels" in told["nearest"]
