"""Tiny annotated sets, laid out exactly as their publishers do: files written, and what is in them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from kit import raster

CODES = {
    "openearthmap": range(9), "flair": range(1, 20), "loveda": range(8), "landcover-ai": range(5),
    "chesapeake": [0, 1, 2, 3, 4, 5, 6, 15], "fusu": range(18), "kuro-siwo": range(4),
    "bigearthnet": [112, 211, 231, 312, 512],
}  # fmt: skip


def rng(name: str) -> np.random.Generator:
    return np.random.default_rng(sum(name.encode()))


def image(name: str, bands: int, side: tuple[int, int], dtype: str = "uint8") -> np.ndarray:
    high = {"uint8": 256, "uint16": 10_000, "int16": 10_000}.get(dtype, 1)
    values = rng(name).random((bands, *side)) * high
    values = np.maximum(values, 1) if high > 1 else values + 0.01
    return values.astype(dtype)


def codes(dataset: str, name: str, side: tuple[int, int], dtype: str = "uint8") -> np.ndarray:
    choice = np.array(list(CODES[dataset]))
    blocks = rng("m" + name).choice(choice, ((side[0] + 7) // 8, (side[1] + 7) // 8))
    return blocks.repeat(8, 0).repeat(8, 1)[: side[0], : side[1]].astype(dtype)


def picture(path: Path, data: np.ndarray) -> Path:
    """PNG or JPEG: no place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data if data.ndim == 3 else data[None]
    driver = {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, count=len(data), height=data.shape[1], width=data.shape[2],
            dtype=data.dtype,
        ) as file:  # fmt: skip
            file.write(data)
    return path


def at(x: float, y: float, pixel: float, crs: str = "EPSG:32633") -> dict[str, object]:
    return {"crs": crs, "transform": Affine(pixel, 0, x, 0, -pixel, y)}


def openearthmap(root: Path) -> Path:
    for i, (region, lists) in enumerate({"aachen": "train", "tokyo": "val"}.items()):
        names = []
        for k in range(2):
            tile, place = f"{region}_{k + 1}", at(300_000 + 400_000 * i, 5_600_000 - 40 * k, 0.25)
            side = (64, 80) if k else (64, 64)
            raster(root / region / "images" / f"{tile}.tif", image(tile, 3, side), **place)
            raster(
                root / region / "labels" / f"{tile}.tif", codes("openearthmap", tile, side), **place
            )
            names.append(f"{tile}.tif")
        (root / f"{lists}.txt").write_text("\n".join(names) + "\n")
    # A mask of xBD, whose image others publish; a test image, whose mask is kept back.
    raster(root / "xbd" / "labels" / "joplin_1.tif", codes("openearthmap", "j", (64, 64)))
    with (root / "train.txt").open("a") as file:
        file.write("joplin_1.tif\n")
    raster(root / "lima" / "images" / "lima_1.tif", image("lima", 3, (64, 64)))
    (root / "test.txt").write_text("lima_1.tif\n")
    return root


def flair(root: Path) -> Path:
    for edition, division, domain, n in (
        ("", "train", "D033_2018", 2), ("1_", "test", "D012_2019", 1),
    ):  # fmt: skip
        for k in range(n):
            tile, zone = f"{k:06d}", f"Z{k + 1}_UU"
            place = at(600_000 + 200 * k, 6_600_000 + 100_000 * n, 0.2, "EPSG:2154")
            aerial = root / f"flair_{edition}aerial_{division}" / domain / zone / "img"
            labels = root / f"flair_{edition}labels_{division}" / domain / zone / "msk"
            raster(aerial / f"IMG_{tile}.tif", image(domain + tile, 5, (64, 64)), **place)
            raster(labels / f"MSK_{tile}.tif", codes("flair", domain + tile, (64, 64)), **place)
    return root


def loveda(root: Path) -> Path:
    for division, scene, tile in (
        ("Train", "Urban", "1366"),
        ("Train", "Rural", "0"),
        ("Val", "Urban", "3514"),
    ):
        home = root / division / scene
        picture(home / "images_png" / f"{tile}.png", image(tile, 3, (64, 64)))
        picture(home / "masks_png" / f"{tile}.png", codes("loveda", tile, (64, 64)))
    picture(root / "Test" / "Urban" / "images_png" / "5167.png", image("t", 3, (64, 64)))
    return root


def landcover_ai(root: Path) -> Path:
    for k, tile in enumerate(("M-33-20-D-c-4-2", "N-33-60-D-c-4-2")):
        side, place = (96, 72), at(300_000 + 50_000 * k, 500_000, 0.25, "EPSG:2180")
        raster(root / "images" / f"{tile}.tif", image(tile, 3, side), **place)
        raster(root / "masks" / f"{tile}.tif", codes("landcover-ai", tile, side), **place)
    return root


def dynamicearthnet(root: Path) -> Path:
    for cube, zone, scene, x in (
        ("1311_3077_13", "10N", "10N-122W-40N-L3H-SR", 500_000), ("1700_3100_13", "13N", "13N-104W-41N-L3H-SR", 600_000),
    ):  # fmt: skip
        place = at(x, 4_500_000, 3, f"EPSG:326{zone[:2]}")
        for month in ("01", "02"):
            day, sep = f"2018-{month}-01", "_" if month == "01" else "-"
            name = f"{cube}{day}"
            home = root / "planet" / zone / "26E-183N" / cube / "PF-SR"
            raster(home / f"{day}.tif", image(name, 4, (64, 64), "int16"), **place)
            raster(home / f"2018-{month}-02.tif", image(name + "b", 4, (64, 64), "int16"), **place)
            truth = rng(name).integers(0, 8, (64, 64))  # 7: no class
            hot = np.stack([(truth == k) * 255 for k in range(7)]).astype("uint8")
            labels = root / "labels" / f"{cube}_{zone}" / "Labels" / "Raster" / scene
            raster(labels / f"{scene}-{day.replace('-', sep)}.tif", hot, **place)
    # Labels of this one are kept back.
    raster(root / "planet" / "17N" / "9E-42N" / "2196_3885_13" / "PF-SR" / "2018-01-01.tif",
           image("k", 4, (64, 64), "int16"), **at(500_000, 4_000_000, 3, "EPSG:32617"))  # fmt: skip
    return root


def chesapeake(root: Path) -> Path:
    for k, division in enumerate(("train", "val")):
        home, tile = (
            root / f"de_1m_2013_extended-debuffered-{division}_tiles",
            f"m_390750{k}_ne_18_1",
        )
        place = at(450_000, 4_300_000 + 100_000 * k, 1, "EPSG:26918")
        raster(home / f"{tile}_naip-new.tif", image(tile, 4, (64, 64)), **place)
        raster(home / f"{tile}_naip-old.tif", image(tile + "o", 4, (64, 64)), **place)
        raster(home / f"{tile}_lc.tif", codes("chesapeake", tile, (64, 64)), **place)
    return root


def oam_tcd(root: Path) -> Path:
    for k, division in enumerate(("train", "test")):
        tile, place = f"oam_{k}", at(500_000, 2_000_000 + 100_000 * k, 0.1)
        raster(root / "images" / f"{tile}.tif", image(tile, 3, (64, 64)), **place)
        picture(
            root / "masks" / f"{tile}.png",
            (codes("landcover-ai", tile, (64, 64)) > 2) * np.uint8(255),
        )
        said = {"images": [{"id": 0, "file_name": f"images/{tile}.tif"}], "annotations": []}
        (root / "holdout").mkdir(exist_ok=True)
        (root / "holdout" / f"{division}.json").write_text(json.dumps(said))
    return root


PATCHES = {
    "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57": ("train", 400_000),
    "S2A_MSIL2A_20170813T101031_N9999_R022_T33UUP_26_57": ("train", 400_000),
    "S2B_MSIL2A_20170924T093020_N9999_R136_T35VNK_69_24": ("validation", 700_000),
}
SIDES = {"B01": 20, "B05": 60, "B06": 60, "B07": 60, "B8A": 60, "B09": 20, "B11": 60, "B12": 60}
BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


def bigearthnet(root: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for patch, (_, x) in PATCHES.items():
        scene = patch.rsplit("_", 2)[0]
        for band in BANDS:
            side = SIDES.get(band, 120)
            raster(root / "BigEarthNet-S2" / scene / patch / f"{patch}_{band}.tif",
                   image(patch + band, 1, (side, side), "uint16"), **at(x, 5_000_000, 1200 / side))  # fmt: skip
        raster(root / "Reference_Maps" / scene / patch / f"{patch}_reference_map.tif",
               codes("bigearthnet", patch, (120, 120), "uint16"), **at(x, 5_000_000, 10))  # fmt: skip
    pq.write_table(
        pa.table({
            "patch_id": list(PATCHES), "labels": [["x"]] * 3,
            "split": [split for split, _ in PATCHES.values()],
        }),
        root / "metadata.parquet",
    )  # fmt: skip
    return root


def fusu(root: Path) -> Path:
    for epoch in "12":
        name = f"6_255-{epoch}"
        picture(root / f"im{epoch}" / "6_255.png", image(name, 3, (64, 64)))
        picture(root / f"im{epoch}_label" / "6_255.png", codes("fusu", name, (64, 64)))
    return root


PATTERNS = [
    "cloud_shadow",
    "double_plant",
    "planter_skip",
    "standing_water",
    "waterway",
    "weed_cluster",
]


def agriculture_vision(root: Path) -> Path:
    for division, tile in (("train", "1DEF_0-0-64-64"), ("val", "2ABC_0-0-64-64")):
        home = root / division
        picture(home / "images" / "rgb" / f"{tile}.jpg", image(tile, 3, (64, 64)))
        picture(home / "images" / "nir" / f"{tile}.jpg", image(tile + "n", 1, (64, 64)))
        field = np.full((64, 64), 255, "uint8")
        field[:5] = 0
        picture(home / "boundaries" / f"{tile}.png", field)
        picture(home / "masks" / f"{tile}.png", np.full((64, 64), 255, "uint8"))
        for k, name in enumerate(PATTERNS):
            mask = np.zeros((64, 64), "uint8")
            mask[8 * k : 8 * k + 12, :40] = 255  # the last four rows are the next one's too
            picture(home / "labels" / name / f"{tile}.png", mask)
    picture(root / "test" / "images" / "rgb" / "3.jpg", image("t", 3, (64, 64)))
    return root


def meter_ml(root: Path) -> Path:
    for division, kinds in {"train": ["CAFOs", "Negative"], "val": ["R&Ts"]}.items():
        features = []
        for k, kind in enumerate(kinds):
            folder = f"{division}_images/{kind[:3].replace('&', '')}_{k}"
            picture(root / folder / "naip.png", image(folder, 3, (64, 64)))
            said = {"Type": kind, "Image_Folder": folder}
            features.append({"type": "Feature", "geometry": None, "properties": said})
        collection = {"type": "FeatureCollection", "features": features}
        (root / f"{division}.geojson").write_text(json.dumps(collection))
    return root


def kuro_siwo(root: Path) -> Path:
    for k, (event, cell) in enumerate({"130": "0a1b", "514": "2c3d", "321": "4e5f"}.items()):
        home, place = (
            root / event / "01" / cell,
            at(1_000_000 + 300_000 * k, 5_000_000, 10, "EPSG:3857"),
        )
        for band in ("IVV", "IVH"):
            raster(
                home / f"MS1_{band}_{event}_01_20191127.tif",
                image(cell + band, 1, (56, 56), "float32"),
                **place,
            )
            raster(
                home / f"SL1_{band}_{event}_01_20191115.tif",
                image(cell + band, 1, (56, 56), "float32"),
                **place,
            )
        if event != "321":  # not labelled
            raster(
                home / f"MK0_MLU_{event}_01_20191127.tif",
                codes("kuro-siwo", cell, (56, 56)),
                **place,
            )
    return root


SETS: Mapping[str, Callable[[Path], Path]] = {
    "openearthmap": openearthmap, "flair": flair, "loveda": loveda, "landcover-ai": landcover_ai,
    "dynamicearthnet": dynamicearthnet, "chesapeake": chesapeake, "oam-tcd": oam_tcd,
    "bigearthnet": bigearthnet, "fusu": fusu, "agriculture-vision": agriculture_vision,
    "meter-ml": meter_ml, "kuro-siwo": kuro_siwo,
}  # fmt: skip
