"""`las predict`: the map lies where the raster lies, and says what the model says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from kit import Las

from las_builder.catalogs import Catalogs
from las_builder.errors import InputError, RasterError
from las_builder.evaluate.predict import Bands, bands_of, colours, parse_classes, write_map
from las_builder.models import checkpoint
from las_builder.models.config import ModelConfig
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import OntologyText, Prompter

PLACE = {"crs": "EPSG:32755", "transform": Affine(10, 0, 499_980, 0, -10, 6_100_020)}
CLASSES = "water, tree cover|forest, moon dust"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny: ModelConfig) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = LandSegmenter(tiny)
    with torch.no_grad():  # a random model hardly tells pixels apart
        for p in model.decoder.head.parameters():
            p.mul_(8)
    checkpoint.save(model, file)
    return file


def scene(path: Path, bands: int = 3, size: tuple[int, int] = (70, 90), **more: object) -> Path:
    chance = np.random.default_rng(1)
    numbers = np.kron(chance.integers(200, 4000, (bands, 10, 10)), np.ones((9, 9)))
    numbers = numbers[:, : size[0], : size[1]].astype(np.uint16)
    profile = {"driver": "GTiff", "width": size[1], "height": size[0], "count": bands,
               "dtype": "uint16", "nodata": 0, **PLACE, **more}  # fmt: skip
    numbers[:, 5:9, 80:] = 0
    with rasterio.open(path, "w", **profile) as file:
        file.write(numbers)
        file.descriptions = ("B02", "B03", "B08")[:bands]
    return path


def test_a_map(las: Las, tmp_path: Path, weights: Path) -> None:
    raster, out = scene(tmp_path / "in.tif"), tmp_path / "maps" / "out.tif"
    said = las(
        "predict", weights, raster, "--classes", CLASSES, "-o", out,
        "--imagery", "sentinel-2-l2a", "--window", 128, "--device", "cpu",
    )  # fmt: skip
    assert said.code == 0, said
    with rasterio.open(raster) as file:
        numbers, seen = file.read(), file.dataset_mask() > 0
    image = torch.from_numpy(numbers.astype(np.float32) * np.float32(1e-4))
    model = checkpoint.load(weights).eval()
    text = Prompter(OntologyText())(["water", ("tree cover", "forest"), "moon dust"])
    with torch.inference_mode():  # one window holds it all
        p = model(image[None], (0.49, 0.56, 0.842), text, "surface").softmax(dim=1)[0].numpy()
    with rasterio.open(out) as file:
        got, sure = file.read()
        assert (file.crs, file.transform) == (PLACE["crs"], PLACE["transform"])
        assert file.descriptions == ("class", "confidence")
        assert file.tags(1)["class_1"] == "tree cover"
        table = file.colormap(1)
        assert file.nodata == 255
        assert "alpha" not in [band.name for band in file.colorinterp]
    tree = next(
        c for c in Catalogs.load().taxonomy("worldcover-11").classes if c.name == "tree_cover"
    )
    assert table[1][:3] == tuple(bytes.fromhex(tree.color_hint))
    assert len({table[i] for i in range(3)}) == 3
    assert (got[~seen] == 255).all()
    assert (sure[~seen] == 255).all()
    assert (~seen).sum() == 40
    clear = np.sort(p, axis=0)[-1] - np.sort(p, axis=0)[-2] > 1e-4
    assert np.array_equal(got[seen & clear], p.argmax(axis=0)[seen & clear])
    assert np.abs(sure[seen] - p.max(axis=0)[seen] * 100).max() <= 0.51
    assert len(np.unique(got[seen])) > 1


def test_windows_meet_without_a_seam(tmp_path: Path) -> None:
    """The map of many windows is that of one canvas: pixels' own values decide, whatever window."""
    raster, out = scene(tmp_path / "in.tif", size=(90, 90)), tmp_path / "out.tif"
    bands = bands_of(raster, wavelengths=(0.49, 0.56, 0.842), level="surface")
    bands = replace(bands, scale=(1e-4,) * 3)

    def say(images: np.ndarray) -> np.ndarray:
        first = np.clip(np.nan_to_num(images[:, 0]) * 2, 0, 1)
        return np.stack([first, 1 - first], axis=1).astype(np.float32)

    write_map(raster, out, bands, say, ["a", "b"], [(1, 2, 3), (4, 5, 6)], window=32, memory=1)
    with rasterio.open(raster) as file, rasterio.open(out) as made:
        want = np.where(file.read(1) * 1e-4 * 2 >= 0.5, 0, 1)
        want[file.read(1) == 0] = 255
        assert np.array_equal(made.read(1), want)


def test_which_bands(tmp_path: Path) -> None:
    catalogs = Catalogs.load()
    s2 = scene(tmp_path / "s2.tif")
    found = bands_of(s2, imagery=catalogs.imagery("sentinel-2-l1c"))
    assert found == Bands(
        indices=(1, 2, 3), wavelengths=(0.49, 0.56, 0.842), level="toa",
        scale=(0.0001,) * 3, offset=(0.0,) * 3,
    )  # fmt: skip
    with rasterio.open(s2, "r+") as file:
        file.scales, file.offsets = (0.0001,) * 3, (-0.1,) * 3
    assert bands_of(s2, imagery=catalogs.imagery("sentinel-2-l2a")).offset == (-0.1,) * 3
    photo = scene(tmp_path / "photo.tif", dtype="uint8", nodata=None)
    assert bands_of(photo).level == "display"
    assert bands_of(photo).wavelengths == (0.665, 0.56, 0.49)
    assert bands_of(photo).scale == (1 / 255,) * 3
    thermal = bands_of(s2, wavelengths=(0.49, 10.9, 0.842), level="toa")
    assert (thermal.indices, thermal.wavelengths) == ((1, 3), (0.49, 0.842))
    with pytest.raises(RasterError, match="Say --imagery"):
        bands_of(s2)
    with pytest.raises(RasterError, match="--bands"):
        bands_of(s2, imagery=catalogs.imagery("landsat-c2-l2"))
    with pytest.raises(RasterError, match="a raster that GDAL opens"):
        bands_of(tmp_path / "none.tif")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("water, Water", "each name once"),
        ("", "names like"),
        (" , ", "names like"),
        ("water, ", "not empty"),
        (",".join(f"a{i}" for i in range(255)), "at most 254"),
    ],
)
def test_class_lists_that_nobody_can_answer(
    las: Las, tmp_path: Path, weights: Path, classes: str, message: str
) -> None:
    raster = scene(tmp_path / "in.tif")
    said = las(
        "predict", weights, raster, "--classes", classes, "-o", tmp_path / "out.tif",
        "--imagery", "sentinel-2-l2a", "--device", "cpu",
    )  # fmt: skip
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out.tif").exists()


def test_numbers_that_are_no_reflectance_and_files_that_are_no_model(
    las: Las, tmp_path: Path, weights: Path
) -> None:
    raster, out = scene(tmp_path / "in.tif"), tmp_path / "out.tif"
    asked = ("--classes", "water,land", "-o", out, "--device", "cpu")
    said = las("predict", weights, raster, *asked, "--wavelengths", "0.49,0.56,0.842",
               "--level", "toa")  # fmt: skip
    assert said.code == 2
    assert "reflectance" in said.err
    said = las("predict", raster, raster, *asked, "--imagery", "sentinel-2-l2a")
    assert (said.code, out.exists()) == (2, False)
    assert "`las train`" in said.err
    said = las("predict", weights, raster, *asked, "--wavelengths", "a,b", "--level", "toa")
    assert said.code == 2
    assert not list(tmp_path.glob(".out*"))


def test_pictures_without_a_place_and_smaller_than_a_window(
    las: Las, tmp_path: Path, weights: Path
) -> None:
    raster, out = tmp_path / "in.png", tmp_path / "out.tif"
    picture = np.random.default_rng(0).integers(0, 255, (3, 21, 17)).astype(np.uint8)
    profile = {"driver": "PNG", "width": 17, "height": 21, "count": 3, "dtype": "uint8"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(raster, "w", **profile) as file,
    ):
        file.write(picture)
    said = las("predict", weights, raster, "--classes", "water,land", "-o", out, "--device", "cpu")
    assert said.code == 0, said
    with rasterio.open(out) as file:
        assert file.shape == (21, 17)
        assert file.crs is None


def test_names_and_colours() -> None:
    assert parse_classes("water, tree cover | forest") == [("water",), ("tree cover", "forest")]
    many = colours([f"thing {i}" for i in range(30)], Catalogs.load())
    assert len(set(many)) == 30
    with pytest.raises(InputError):
        parse_classes(", ,")


@pytest.mark.parametrize("infrared", [True, False])
def test_near_infrared_that_is_tagged_as_alpha(tmp_path: Path, infrared: bool) -> None:
    """As NAIP comes: water is dark there, not absent; of a picture it is what an alpha is."""
    numbers = np.full((4, 40, 40), 90, np.uint8)
    numbers[3, :, 20:] = 0
    more = {**PLACE, "driver": "GTiff", "width": 40, "height": 40, "count": 4, "dtype": "uint8"}
    with rasterio.open(tmp_path / "in.tif", "w", photometric="rgb", alpha="yes", **more) as file:
        file.write(numbers)
    n = 4 if infrared else 3
    bands = Bands(
        indices=tuple(range(1, n + 1)), wavelengths=(0.665, 0.56, 0.49, 0.842)[:n],
        level="display", scale=(1 / 255,) * n, offset=(0.0,) * n,
    )  # fmt: skip
    seen = []

    def say(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.full((len(images), 2, *images.shape[2:]), 0.5, np.float32)

    out = write_map(
        tmp_path / "in.tif", tmp_path / "out.tif", bands, say, ["a", "b"], [(1, 2, 3), (4, 5, 6)]
    )
    with rasterio.open(out) as file:
        assert (file.read(1)[:, 20:] == (0 if infrared else 255)).all()
    assert np.isnan(np.concatenate(seen)[..., 20:]).all() != infrared
