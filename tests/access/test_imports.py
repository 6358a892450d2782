"""Annotated sets in the layouts of their publishers: what is packed is what the files hold."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kit_imports
import numpy as np
import pytest
import rasterio
import yaml
from kit import raster
from kit_imports import SETS, at, codes, image

from las_builder import recipe, run
from las_builder.access.imports import ImportedFolder
from las_builder.catalogs import Catalogs
from las_builder.core.workspace import Workspace
from las_builder.errors import (
    InputError,
    LasWarning,
    LegendError,
    LicenceError,
    SourceError,
    StageError,
)
from las_builder.pack import open_shards

SIZES = {"bigearthnet": 120, "landcover-ai": 64, "kuro-siwo": 56, "meter-ml": 64}
CATALOGS = Catalogs.load()


def read(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


def recipe_of(home: Path, dataset: str, **more: Any) -> Path:
    said = {
        "kind": "import", "name": f"i-{dataset}", "dataset": dataset, "folder": "copy",
        "patch": {"size": SIZES.get(dataset, 32)}, **more,
    }  # fmt: skip
    (home / "r.yaml").write_text(yaml.safe_dump(said))
    return home / "r.yaml"


def corpus_of(home: Path, dataset: str, *, count: int | None = None, **more: Any) -> recipe.Corpus:
    over = recipe.Overrides(accepted=frozenset([dataset]), count=count)
    return recipe.read(str(recipe_of(home, dataset, **more)), overrides=over)


class Built:
    def __init__(self, home: Path, dataset: str, **more: Any) -> None:
        (home / "copy").mkdir()
        self.copy = SETS[dataset](home / "copy")
        self.corpus = corpus_of(home, dataset, **more)
        self.subset = self.corpus.subsets[0]
        self.space = Workspace(home / "work")
        with warnings.catch_warnings(), run.Engine(workers=1) as engine:
            warnings.simplefilter("ignore", LasWarning)
            run.build(self.corpus, self.space, engine)
        self.shards = open_shards(self.space.shards, self.space.index)
        self.samples = [self.shards.read(entry) for entry in self.shards.entries]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    done: dict[str, Built] = {}

    def of(dataset: str) -> Built:
        if dataset not in done:
            done[dataset] = Built(tmp_path_factory.mktemp(dataset), dataset)
        return done[dataset]

    return of


def images_of(dataset: str, root: Path, scene: str) -> np.ndarray:
    """The bands of a picture by its first file, read straight."""
    if dataset == "bigearthnet":
        home = (root / scene).parent
        files = [read(home / f"{home.name}_{band}.tif")[0] for band in kit_imports.BANDS]
        return np.stack([b.repeat(120 // len(b), 0).repeat(120 // len(b), 1) for b in files])
    if dataset == "agriculture-vision":
        rgb = root / f"{scene}.jpg"
        return np.concatenate([read(rgb), read(rgb.parents[1] / "nir" / rgb.name)])
    if dataset == "kuro-siwo":
        return np.concatenate(
            [read(root / f"{scene.replace('IVV', b)}.tif") for b in ("IVV", "IVH")]
        )
    found = [path for path in root.glob(f"{scene}.*") if path.suffix != ".xml"]
    return read(found[0])


def codes_of(dataset: str, root: Path, scene: str) -> np.ndarray:
    """The codes of a picture by the publisher's own words, read straight."""
    if dataset == "openearthmap":
        return read(root / f"{scene.replace('images', 'labels')}.tif")[0]
    if dataset == "flair":
        return read(
            root
            / f"{scene.replace('aerial', 'labels').replace('img', 'msk').replace('IMG', 'MSK')}.tif"
        )[0]
    if dataset == "loveda":
        return read(root / f"{scene.replace('images', 'masks')}.png")[0]
    if dataset == "landcover-ai":
        return read(root / f"{scene.replace('images', 'masks')}.tif")[0]
    if dataset == "chesapeake":
        return read(root / f"{scene.replace('naip-new', 'lc')}.tif")[0]
    if dataset == "oam-tcd":
        return (read(root / f"{scene.replace('images', 'masks')}.png")[0] > 0).astype(int)
    if dataset == "fusu":
        return read(root / f"{scene.replace('/', '_label/', 1)}.png")[0]
    if dataset == "kuro-siwo":
        return read(root / f"{scene.replace('MS1_IVV', 'MK0_MLU')}.tif")[0]
    if dataset == "bigearthnet":
        home = (root / scene.replace("BigEarthNet-S2", "Reference_Maps")).parent
        return read(home / f"{home.name}_reference_map.tif")[0]
    if dataset == "dynamicearthnet":
        cube, day = scene.split("/")[3], scene.rsplit("/", maxsplit=1)[-1]
        (home,) = (root / "labels").glob(f"{cube}_*/Labels/Raster/*")
        (file,) = [f for f in home.iterdir() if f.stem.replace("_", "-").endswith(day)]
        hot = read(file)
        return np.where(hot.any(axis=0), hot.argmax(axis=0), 255)
    if dataset == "agriculture-vision":
        home, tile = root / scene.split("/", maxsplit=1)[0], scene.rsplit("/", maxsplit=1)[-1]
        on = np.stack(
            [read(home / "labels" / k / f"{tile}.png")[0] > 0 for k in kit_imports.PATTERNS]
        )
        one = np.where(on.any(axis=0), on.argmax(axis=0) + 1, 0)
        return np.where(on.sum(axis=0) > 1, 255, one)
    assert dataset == "meter-ml"
    division, folder = (
        scene.split("/", maxsplit=1)[0].removesuffix("_images"),
        scene.rsplit("/", 1)[0],
    )
    said = json.loads((root / f"{division}.geojson").read_text())["features"]
    (kind,) = [f["properties"]["Type"] for f in said if f["properties"]["Image_Folder"] == folder]
    names = {"Negative": 0, "CAFOs": 1, "R&Ts": 5}
    return np.full(read(root / f"{scene}.png").shape[1:], names[kind])


def padded(data: np.ndarray, row: int, col: int, size: int, fill: float) -> np.ndarray:
    out = np.full((*data.shape[:-2], size, size), fill, data.dtype)
    part = data[..., row : row + size, col : col + size]
    out[..., : part.shape[-2], : part.shape[-1]] = part
    return out


@pytest.mark.parametrize("dataset", sorted(SETS))
def test_packed_pixels_and_labels_are_those_of_the_files(
    dataset: str, built: Callable[[str], Built]
) -> None:
    whole = built(dataset)
    product, size = whole.subset.labels[0], whole.subset.recipe.patch.size
    classes = {entry.value for entry in product.classes if entry.means}
    names = {entry.name: entry.value for entry in product.classes}
    seen = 0
    for sample in whole.samples:
        said = sample.metadata
        (scene,) = said["scenes"]
        row, col = (int(part) for part in said["site"].rsplit("-", 2)[1:])
        image_ = images_of(dataset, whole.copy, scene)
        assert np.array_equal(sample.image, padded(image_, row, col, size, 0))
        want = padded(
            codes_of(dataset, whole.copy, scene).astype(int), row, col, size, product.nodata
        )
        index = [names[name] for name in said["classes"]] + [-1] * (256 - len(said["classes"]))
        got = np.array(index)[sample.label]
        labelled = np.isin(want, list(classes - {product.nodata}))
        assert np.array_equal(got, np.where(labelled, want, -1))
        seen += int(labelled.sum())
        inside = padded(np.ones(image_.shape[1:], bool), row, col, size, False)
        if dataset == "agriculture-vision":
            inside &= padded(np.arange(64)[:, None] >= np.full((64, 64), 5), row, col, size, False)
        assert np.array_equal(sample.valid, inside)
        assert said["weight_km2"] is None
        if sample.grid.crs is None:
            assert said["lon"] is None
            assert said["lat"] is None
        else:
            lon, lat = sample.grid.centre_lonlat()
            assert abs(said["lon"] - lon) < 1e-6
            assert abs(said["lat"] - lat) < 1e-6
    assert seen
    assert not json.loads(whole.space.leaks.read_text())["violations"]


EXPECTED = {
    "openearthmap": {"train": 10, "val": 10}, "flair": {"train": 8, "test": 4},
    "loveda": {"train": 8}, "landcover-ai": {"train": 8}, "dynamicearthnet": {"train": 16},
    "chesapeake": {"train": 4, "val": 4}, "oam-tcd": {"train": 4, "test": 4},
    "bigearthnet": {"train": 2, "val": 1}, "fusu": {"train": 8},
    "agriculture-vision": {"train": 4, "val": 4}, "meter-ml": {"train": 2, "val": 1},
    "kuro-siwo": {"train": 1, "val": 1},
}  # fmt: skip


@pytest.mark.parametrize("dataset", sorted(SETS))
def test_the_publishers_splits(dataset: str, built: Callable[[str], Built]) -> None:
    whole = built(dataset)
    found: dict[str, int] = {}
    for sample in whole.samples:
        found[sample.metadata["split"]] = found.get(sample.metadata["split"], 0) + 1
    assert found == EXPECTED[dataset]
    leaks = json.loads(whole.space.leaks.read_text())
    placed = dataset not in ("loveda", "fusu", "agriculture-vision", "meter-ml")
    assert (leaks["checked"] > 0) == placed
    assert (leaks["unchecked"] > 0) == (not placed)


def test_dates(built: Callable[[str], Built]) -> None:
    days = {s.metadata["datetime"][:10] for s in built("dynamicearthnet").samples}
    assert days == {"2018-01-01", "2018-02-01"}
    assert {s.metadata["datetime"][:10] for s in built("bigearthnet").samples} == {
        "2017-06-13", "2017-08-13", "2017-09-24",
    }  # fmt: skip
    assert {s.metadata["datetime"][:4] for s in built("flair").samples} == {"2018", "2019"}


def test_a_date_that_nobody_says_is_an_interval(built: Callable[[str], Built]) -> None:
    (said, *_) = [s.metadata for s in built("loveda").samples]
    assert said["datetime"] == "2016-07-01T12:00:00Z"
    assert said["start_datetime"] == "2016-07-01T00:00:00Z"
    assert said["end_datetime"] == "2016-07-31T23:59:59Z"
    assert "start_datetime" not in built("kuro-siwo").samples[0].metadata
    import pyarrow.parquet as pq

    items = pq.read_table(built("loveda").space.catalog / "items.parquet")
    assert str(items["end_datetime"][0])[:10] == "2016-07-31"


def test_the_page_says_whose_splits_they_are(built: Callable[[str], Built]) -> None:
    text = built("loveda").space.plan_page.read_text()
    assert "8 windows of the pictures of an annotated set" in text
    assert "8 without a place" in text
    assert "drawn with seed" not in text


def test_licence_in_the_lock_the_manifest_and_the_catalogue(built: Callable[[str], Built]) -> None:
    space = built("landcover-ai").space
    assert json.loads(space.lock.read_text())["accepted_licences"] == ["landcover-ai"]
    assert json.loads(space.manifest.read_text())["license"]["id"] == "CC-BY-NC-SA-4.0"
    (path,) = space.catalog.glob("*/collection.json")
    said = json.loads(path.read_text())
    assert said["license"] == "CC-BY-NC-SA-4.0"
    assert json.loads(built("flair").space.lock.read_text()).get("accepted_licences") is None
    assert not json.loads(built("loveda").space.manifest.read_text())["license"]["redistribution"]


def test_the_licence_has_to_be_accepted(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    kit_imports.landcover_ai(tmp_path / "copy")
    corpus = recipe.read(str(recipe_of(tmp_path, "landcover-ai")))
    with pytest.raises(LicenceError, match="--accept-licence landcover-ai"):
        run.sample(corpus, Workspace(tmp_path / "work"))
    assert not (tmp_path / "work").exists()
    corpus = corpus_of(tmp_path, "landcover-ai")
    run.sample(corpus, Workspace(tmp_path / "work"))
    # What was accepted once is not asked again.
    run.consented(
        recipe.read(str(recipe_of(tmp_path, "landcover-ai"))), Workspace(tmp_path / "work")
    )


# ---- cutting


@pytest.mark.parametrize(("remainder", "windows"), [("pad", 6), ("drop", 2)])
def test_windows_from_the_upper_left(tmp_path: Path, remainder: str, windows: int) -> None:
    raster(tmp_path / "copy/images/a.tif", image("a", 3, (70, 50)), **at(500_000, 500_000, 0.25))
    raster(
        tmp_path / "copy/masks/a.tif",
        codes("landcover-ai", "a", (70, 50)),
        **at(500_000, 500_000, 0.25),
    )
    corpus = corpus_of(tmp_path, "landcover-ai", patch={"size": 32, "remainder": remainder})
    sites = run.sample(corpus, Workspace(tmp_path / "work"))
    corners = {tuple(int(p) for p in s.id.rsplit("-", 2)[1:]) for s in sites}
    rows, cols = ((0, 32, 64), (0, 32)) if remainder == "pad" else ((0, 32), (0,))
    assert len(sites) == windows
    assert corners == {(r, c) for r in rows for c in cols}
    for site in sites:
        row, col = (int(p) for p in site.id.rsplit("-", 2)[1:])
        assert site.grid.bounds[0] == 500_000 + col * 0.25
        assert site.grid.bounds[3] == 500_000 - row * 0.25


def test_a_count_leaves_the_others_in_reserve(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    kit_imports.landcover_ai(tmp_path / "copy")
    sites = run.sample(corpus_of(tmp_path, "landcover-ai", count=3), Workspace(tmp_path / "a"))
    assert (sum(s.primary for s in sites), len(sites)) == (3, 8)
    every = corpus_of(tmp_path, "landcover-ai")
    assert "fewer" not in run.summary(every, run.sample(every, Workspace(tmp_path / "c")))
    again = run.sample(corpus_of(tmp_path, "landcover-ai", count=3), Workspace(tmp_path / "b"))
    assert list(sites) == list(again)


# ---- bad input


def tiles(home: Path, dataset: str) -> list[Any]:
    corpus = corpus_of(home, dataset)
    return corpus.subsets[0].folder.tiles()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "copy").mkdir()
    return kit_imports.landcover_ai(tmp_path / "copy")


def refused(home: Path, dataset: str = "landcover-ai") -> str:
    with pytest.raises(InputError) as said:
        tiles(home, dataset)
    assert "\n" not in str(said.value)
    return str(said.value)


def test_missing_masks_are_counted_and_the_first_ten_named(tmp_path: Path, copy: Path) -> None:
    for k in range(12):
        raster(copy / "images" / f"bare-{k:02d}.tif", image("x", 3, (64, 64)))
    said = refused(tmp_path)
    assert "12 of 14 missing" in said
    assert said.count("masks/bare-") == 10
    assert "masks/bare-10" not in said


def test_masks_of_another_size(tmp_path: Path, copy: Path) -> None:
    raster(copy / "masks/N-33-60-D-c-4-2.tif", codes("landcover-ai", "x", (95, 72)))
    said = refused(tmp_path)
    assert "sizes of masks" in said
    assert "1 of 2 wrong: masks/N-33-60-D-c-4-2.tif (72 x 95, its image 72 x 96)" in said


def test_images_of_other_bands(tmp_path: Path, copy: Path) -> None:
    raster(copy / "images/N-33-60-D-c-4-2.tif", image("x", 4, (96, 72)))
    assert "images/N-33-60-D-c-4-2.tif (4, not 3)" in refused(tmp_path)
    raster(copy / "images/N-33-60-D-c-4-2.tif", image("x", 3, (96, 72), "uint16"))
    assert "(uint16, not uint8)" in refused(tmp_path)


def test_no_file_like_the_layout(tmp_path: Path, copy: Path) -> None:
    shutil.move(copy / "images", copy / "pictures")
    said = refused(tmp_path)
    assert "no file like images/{tile}.tif" in said
    assert "pictures/M-33-20-D-c-4-2.tif" in said
    assert "landcover.ai.v1.zip" in said


def test_two_pictures_of_one_place_and_day(tmp_path: Path) -> None:
    kit_imports.dynamicearthnet(tmp_path / "copy")
    one = tmp_path / "copy/planet/10N/26E-183N"
    shutil.copytree(one, one.parent / "elsewhere")
    assert "one file of planet/" in refused(tmp_path, "dynamicearthnet")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    kit_imports.openearthmap(tmp_path / "copy")
    (tmp_path / "copy/val.txt").unlink()
    assert "no val.txt" in refused(tmp_path, "openearthmap")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"waiting for copy.*landcover\.ai\.v1\.zip"):
        corpus_of(tmp_path, "landcover-ai")


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    kit_imports.openearthmap(tmp_path / "copy")
    with pytest.warns(LasWarning, match="1 pictures without masks or images"):
        tiles(tmp_path, "openearthmap")


def test_codes_that_the_legend_does_not_list(tmp_path: Path, copy: Path) -> None:
    mask = codes("landcover-ai", "x", (96, 72))
    mask[50, 50] = 77
    raster(copy / "masks/N-33-60-D-c-4-2.tif", mask, **at(350_000, 500_000, 0.25, "EPSG:2180"))
    with run.Engine(workers=1) as engine, pytest.raises((StageError, LegendError)) as said:
        run.build(corpus_of(tmp_path, "landcover-ai"), Workspace(tmp_path / "work"), engine)
    assert "N-33-60-D-c-4-2.tif" in str(said.value)
    assert "77" in str(said.value)


# ---- colours

COLOURS = {0: ["000000"], 1: ["FF0000", "FE0000"], 2: ["00FF00"], 3: ["0000FF"], 4: ["FFFF00"]}


def coloured(home: Path) -> ImportedFolder:
    declared = CATALOGS.annotated("landcover-ai")[0]
    masks = declared.masks.model_copy(update={"encoding": "colours", "colours": COLOURS})
    return ImportedFolder(declared.model_copy(update={"masks": masks}), str(home), 64)


def test_colours_are_decoded_exactly_and_unknown_ones_named(tmp_path: Path) -> None:
    place = at(500_000, 500_000, 0.25)
    truth = codes("landcover-ai", "c", (64, 64))
    table = np.array([[int(COLOURS[k][0][i : i + 2], 16) for i in (0, 2, 4)] for k in range(5)])
    rgb = np.moveaxis(table[truth], -1, 0).astype("uint8")
    rgb[:, 0, 0] = (0xFE, 0, 0)  # the other red
    raster(tmp_path / "images/a.tif", image("a", 3, (64, 64)), **place)
    raster(tmp_path / "masks/a.tif", rgb, **place)
    folder, product = coloured(tmp_path), CATALOGS.annotated("landcover-ai")[1]
    ask = asked(folder)
    (found,) = folder.labels(product, [ask])
    want = truth.copy()
    want[0, 0] = 1
    assert np.array_equal(found.codes, want)
    rgb[:, 3, 4:6], rgb[:, 9, 9] = np.array([1, 2, 3])[:, None], (0, 0xFF, 1)
    raster(tmp_path / "masks/a.tif", rgb, **place)
    with pytest.raises(LegendError) as said:
        folder.labels(product, [ask])
    assert "masks/a.tif" in str(said.value)
    assert "010203 (2 pixels), 00FF01 (1 pixels)" in str(said.value)


def asked(folder: ImportedFolder) -> Any:
    from las_builder.access import LabelRequest

    (scene,) = folder.sites(folder.declared.imagery(), [])
    (tile,) = folder.tiles()
    return LabelRequest(site=f"{tile.code}-0-0", grid=scene.grid, scene=scene)


# ---- beside others


def test_a_publishers_val_tile_sets_others_aside(tmp_path: Path) -> None:
    """Two train tiles: one 5 km from the val tile, one 60 km away."""
    copy = tmp_path / "copy"
    for division, tile, y in (("val", "m_0", 0), ("train", "m_1", 5_000), ("train", "m_2", 60_000)):
        home, place = (
            copy / f"de_1m_2013_extended-debuffered-{division}_tiles",
            at(450_000, 4_300_000 + y, 1, "EPSG:26918"),
        )
        raster(home / f"{tile}_naip-new.tif", image(tile, 4, (32, 32)), **place)
        raster(home / f"{tile}_lc.tif", codes("chesapeake", tile, (32, 32)), **place)
    splits = {"train": 1, "val": 0, "test": 0, "buffer_km": 10}
    sites = run.sample(corpus_of(tmp_path, "chesapeake", splits=splits), Workspace(tmp_path / "a"))
    found = {s.grid.bounds[3] - 4_300_000: s.split for s in sites}
    assert found == {0: "val", 5_000: "buffer", 60_000: "train"}
    # Divided by the corpus, all blocks are train; without val there is nothing to keep away from.
    ours = corpus_of(tmp_path, "chesapeake", splits=splits, split="corpus")
    assert {s.split for s in run.sample(ours, Workspace(tmp_path / "b"))} == {"train"}
    alone = corpus_of(tmp_path, "chesapeake", splits=splits, only=["train"])
    assert [s.split for s in run.sample(alone, Workspace(tmp_path / "c"))] == ["train", "train"]


def test_a_train_tile_in_a_val_block_is_buffer(tmp_path: Path, copy: Path) -> None:
    splits = {"train": 1, "val": 100, "test": 0, "block_km": 50, "buffer_km": 1}
    sites = run.sample(
        corpus_of(tmp_path, "landcover-ai", splits=splits), Workspace(tmp_path / "a")
    )
    assert {s.split for s in sites} == {"buffer"}


# ---- real pieces of such sets


@pytest.mark.real
def test_chips_of_chesapeake(shared_data: Path, tmp_path: Path) -> None:
    home = tmp_path / "copy/de_1m_2013_extended-debuffered-train_tiles"
    home.mkdir(parents=True)
    for chip in ("id_000051", "id_000184"):
        for kind, name in (("naip", "naip-new"), ("lc", "lc")):
            shutil.copy(
                shared_data / "chesapeake_1m_chips" / f"{chip}_{kind}.tif",
                home / f"{chip}_{name}.tif",
            )
    corpus, space = (
        corpus_of(tmp_path, "chesapeake", patch={"size": 256}),
        Workspace(tmp_path / "work"),
    )
    with run.Engine(workers=1) as engine:
        run.build(corpus, space, engine)
    shards = open_shards(space.shards, space.index)
    assert len(shards.entries) == 2
    for entry in shards.entries:
        sample = shards.read(entry)
        chip = sample.metadata["scenes"][0]
        assert np.array_equal(sample.image, read(tmp_path / f"copy/{chip}.tif"))
        lc = read(tmp_path / f"copy/{chip.replace('naip-new', 'lc')}.tif")[0]
        assert np.array_equal(np.where(sample.label == 255, 0, sample.label + 1), lc)
        assert sample.metadata["lon"] is None  # the source has no place either


@pytest.mark.real
def test_patches_of_bigearthnet(shared_data: Path, tmp_path: Path) -> None:
    """Bands of 10, 20 and 60 m as published; the reference map is made up: the first version had none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    home, ids = tmp_path / "copy", []
    for folder in sorted(p for p in (shared_data / "bigearthnet_clc").iterdir() if p.is_dir()):
        mission, _, day, col, row = folder.name.replace("T9", "T09").split("_")
        scene = f"{mission}_MSIL2A_{day}_N9999_R022_T33UUP"
        patch = f"{scene}_{col}_{row}"
        ids.append(patch)
        (home / "BigEarthNet-S2" / scene / patch).mkdir(parents=True)
        for file in folder.glob("*.tif"):
            band = file.stem.rsplit("_", 1)[-1]
            shutil.copy(file, home / "BigEarthNet-S2" / scene / patch / f"{patch}_{band}.tif")
        raster(home / "Reference_Maps" / scene / patch / f"{patch}_reference_map.tif",
               codes("bigearthnet", patch, (120, 120), "uint16"))  # fmt: skip
    pq.write_table(
        pa.table({"patch_id": ids, "split": ["train"] * len(ids)}), home / "metadata.parquet"
    )
    corpus, space = (
        corpus_of(tmp_path, "bigearthnet", patch={"size": 120}),
        Workspace(tmp_path / "work"),
    )
    with run.Engine(workers=1) as engine:
        run.build(corpus, space, engine)
    shards = open_shards(space.shards, space.index)
    assert shards.entries
    for entry in shards.entries:
        sample = shards.read(entry)
        assert np.array_equal(
            sample.image, images_of("bigearthnet", home, sample.metadata["scenes"][0])
        )
        assert sample.grid.crs.startswith("EPSG:326")
