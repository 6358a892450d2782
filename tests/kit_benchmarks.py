"""Tiny copies of benchmarks, laid out as their publishers do; those of `kit_imports` are not repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import lmdb
import numpy as np
from kit import raster
from kit_imports import SETS, at, image, picture, rng

from las_builder.publish.lmdb import record

ISPRS = {
    0: (255, 0, 0), 1: (255, 255, 255), 2: (0, 0, 255), 3: (0, 255, 255), 4: (0, 255, 0), 5: (255, 255, 0),
}  # fmt: skip
DEEPGLOBE = {
    0: (0, 255, 255), 1: (255, 255, 0), 2: (255, 0, 255), 3: (0, 255, 0), 4: (0, 0, 255),
    5: (255, 255, 255), 6: (0, 0, 0),
}  # fmt: skip
S2 = 13


def squares(name: str, values: list[int], side: int = 48) -> np.ndarray:
    """Squares of 8 pixels; every value is in it."""
    n = side // 8
    some = rng(name).permutation(np.resize(values, n * n))
    return np.kron(some.reshape(n, n), np.ones((8, 8), int)).astype(np.uint8)


def painted(codes: np.ndarray, colours: Mapping[int, tuple[int, int, int]]) -> np.ndarray:
    out = np.zeros((3, *codes.shape), np.uint8)
    for code, colour in colours.items():
        out[:, codes == code] = np.array(colour, np.uint8)[:, None]
    return out


Truth = dict[str, np.ndarray]
"""First file of a picture without suffix to the codes of its mask: what is scored, no more."""


def potsdam(root: Path) -> Truth:
    truth = {}
    for i, (tile, kept) in enumerate((("2_10", False), ("3_13", True), ("7_13", True))):
        codes, place = squares(tile, list(ISPRS)), at(360_000 + 300 * i, 5_800_000, 0.05)
        name = f"4_Ortho_RGBIR/top_potsdam_{tile}_RGBIR"
        raster(root / f"{name}.tif", image(tile, 4, (48, 48)), **place)
        raster(root / f"top_potsdam_{tile}_label.tif", painted(codes, ISPRS), **place)
        truth |= {name: codes} if kept else {}
    return truth


def vaihingen(root: Path) -> Truth:
    truth = {}
    for area, kept in (("1", False), ("38", True)):
        codes, place = squares(area, list(ISPRS)), at(497_000, 5_420_000, 0.09)
        name = f"top/top_mosaic_09cm_area{area}"
        raster(root / f"{name}.tif", image(area, 3, (48, 48)), **place)
        raster(root / f"top_mosaic_09cm_area{area}.tif", painted(codes, ISPRS), **place)
        truth |= {name: codes} if kept else {}
    return truth


def deepglobe(root: Path) -> Truth:
    truth = {}
    for division, tile in (("training", "119"), ("test", "2334")):
        codes, home = squares(tile, list(DEEPGLOBE)), root / "data" / f"{division}_data"
        picture(home / "images" / f"{tile}_sat.jpg", image(tile, 3, (48, 48)))
        # Not pure, as the page of the challenge warns.
        soft = np.where(painted(codes, DEEPGLOBE) > 0, 250, 4).astype(np.uint8)
        picture(home / "masks" / f"{tile}_mask.png", soft)
        truth |= {f"data/test_data/images/{tile}_sat": codes} if division == "test" else {}
    return truth


def enviroatlas(root: Path) -> Truth:
    truth = {}
    for division in ("train", "val5", "test"):
        name = f"enviroatlas_lotp/pittsburgh_pa-2010_1m-{division}_tiles-debuffered/4007925_ne"
        codes = squares(division, [0, 10, 20, 30, 40, 52, 70, 80, 82, 91, 92])
        place = at(580_000, 4_470_000, 1, "EPSG:26917")
        raster(root / f"{name}_a_naip.tif", image(division, 4, (48, 48)), **place)
        raster(root / f"{name}_b_nlcd.tif", codes[None], **place)
        raster(root / f"{name}_h_highres_labels.tif", codes[None], **place)
        truth |= {f"{name}_a_naip": codes} if division == "test" else {}
    return truth


def noldo(kind: str, values: range) -> Callable[[Path], Truth]:
    def write(root: Path) -> Truth:
        tile = "-0p6481384406_6p8231873947-20190226"
        codes, place = squares(kind, list(values)), at(600_000, 760_000, 10)
        name = f"{kind}_test/image_s2/s2_{tile}"
        raster(root / f"{name}.tif", image(kind, S2, (48, 48), "uint16"), **place)
        raster(
            root / f"{kind}_test/image_s1/s1_{tile}.tif",
            image(kind, 2, (48, 48), "float32"),
            **place,
        )
        raster(root / f"{kind}_test/label_{kind}/{kind}_{tile}.tif", codes[None], **place)
        return {name: codes}

    return write


def multisenge(root: Path) -> Truth:
    codes, place = squares("m", list(range(15))), at(400_000, 5_400_000, 10)
    name = "s2/32ULU_20200805_S2_0_256"
    raster(root / f"{name}.tif", image("m", 10, (48, 48), "uint16"), **place)
    raster(root / "ground_reference" / "32ULU_GR_0_256.tif", codes[None], **place)
    return {name: codes}


def new_york_city(root: Path) -> Truth:
    codes, place = squares("n", list(range(9))), at(585_000, 4_510_000, 0.6, "EPSG:26918")
    raster(root / "images" / "987187.tif", image("n", 3, (48, 48)), **place)
    raster(root / "masks" / "987187.tif", codes[None], **place)
    return {"images/987187": codes}


def five_billion_pixels(root: Path) -> Truth:
    codes, name = squares("f", list(range(25))), "GF2_PMS1__L1A0001064454-MSS1"
    raster(root / "Image__8bit_NirRGB" / f"{name}.tif", image("f", 4, (48, 48)), **at(0, 0, 4))
    picture(root / "Annotation__index" / f"{name}_24label.png", codes)
    return {f"Image__8bit_NirRGB/{name}": codes}


WRITERS: Mapping[str, Callable[[Path], Truth]] = {
    "potsdam": potsdam, "vaihingen": vaihingen, "deepglobe": deepglobe, "enviroatlas": enviroatlas,
    "ssl4eo-s12-dw": noldo("dw", range(11)), "ssl4eo-s12-osm": noldo("osm", range(14)),
    "multisenge": multisenge, "new-york-city": new_york_city,
    "five-billion-pixels": five_billion_pixels,
}  # fmt: skip
IMPORTED = {name: SETS[name] for name in (
    "loveda", "openearthmap", "flair", "landcover-ai", "dynamicearthnet", "chesapeake",
)}  # fmt: skip


def release(path: Path, kinds: Mapping[str, list[np.ndarray]]) -> Path:
    """An LMDB as LAS has them: `<kind>_<i>` to a pickled tuple."""
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 26) as store, store.begin(write=True) as batch:
        for kind, arrays in kinds.items():
            for i, array in enumerate(arrays):
                batch.put(f"{kind}_{i}".encode(), record(array, f"{kind}_tile{i}.tif"))
    return path
