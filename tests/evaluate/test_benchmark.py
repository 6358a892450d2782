"""Benchmarks as a user has them: what is read is what the files hold, in classes of the legend."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from kit_benchmarks import IMPORTED, WRITERS, release, squares
from kit_imports import image

from las_builder.catalogs import Catalogs
from las_builder.errors import CatalogError, ImportFolderError, InputError, LasWarning, LegendError
from las_builder.evaluate.benchmark import Task, tiles_of

CATALOGS = Catalogs.load()
SCORED = [name for name in CATALOGS.names("benchmarks") if CATALOGS.benchmark(name).scored]


def read(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


def expected(task: Task, codes: np.ndarray) -> np.ndarray:
    """One code at a time, by the declaration's prompts."""
    out = np.full(codes.shape, 255)
    for i, code in enumerate(sorted(task.scored.prompts)):
        out[codes == code] = i
    return out


def test_all_are_there() -> None:
    assert set(SCORED) == set(WRITERS) | set(IMPORTED)


@pytest.mark.parametrize("name", SCORED)
def test_words_of_a_declaration(name: str) -> None:
    task = Task.of(name, CATALOGS)
    assert 2 <= len(task.classes) <= 254
    assert len(task.bands) == len(task.wavelengths) >= 3
    assert all(0.3 <= wave <= 3 for wave in task.wavelengths)
    toa = {"ssl4eo-s12-dw", "ssl4eo-s12-osm"}  # Sentinel-2 L1C
    surface = {"multisenge", "dynamicearthnet"}
    assert task.level == ("toa" if name in toa else "surface" if name in surface else "display")
    # A code in, a class out, and back; what is not scored stays out.
    codes = np.array([*sorted(task.product.codes)])
    back = [255 if i == 255 else task.codes[i] for i in task.indices(codes)]
    assert back == [code if code in task.scored.prompts else 255 for code in codes]
    for names in task.classes:
        assert all(name == name.lower() and "_" not in name for name in names)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_folders_of_publishers(name: str, tmp_path: Path) -> None:
    truth = WRITERS[name](tmp_path)
    task = Task.of(name, CATALOGS)
    tiles = tiles_of(task, tmp_path)
    assert tiles.names == sorted(truth)
    for i, (scene, codes) in enumerate(sorted(truth.items())):
        tile = tiles.read(i)
        np.testing.assert_array_equal(tile.truth, expected(task, codes))
        [file] = [path for path in tmp_path.glob(f"{scene}.*") if path.suffix != ".xml"]
        numbers = read(file)[[task.order.index(band) for band in task.bands]]
        factor = 1 / 255 if task.level == "display" else 1e-4
        np.testing.assert_allclose(tile.image, numbers * factor, rtol=1e-6, atol=1e-7)
        assert tile.image.dtype == np.float32


@pytest.mark.parametrize("name", sorted(IMPORTED))
def test_folders_that_are_imported_too(name: str, tmp_path: Path) -> None:
    IMPORTED[name](tmp_path)
    task = Task.of(name, CATALOGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LasWarning)  # those without masks
        if name == "chesapeake":  # the kit has train and val
            for path in sorted(tmp_path.glob("*-val_tiles")):
                path.rename(path.with_name(path.name.replace("val", "test")))
        tiles = tiles_of(task, tmp_path)
        assert tiles.names
        for i in range(len(tiles.names)):
            tile = tiles.read(i)
            assert tile.image.shape == (len(task.bands), *tile.truth.shape)
            assert set(np.unique(tile.truth)) <= {*range(len(task.classes)), 255}
            assert (tile.truth != 255).any()
    if name == "loveda":
        assert all("Val/" in scene for scene in tiles.names)
        mask = read(tmp_path / f"{tiles.names[0].replace('images', 'masks')}.png")[0]
        np.testing.assert_array_equal(tiles.read(0).truth, np.where(mask == 0, 255, mask - 1))


def test_real_chips(shared_data: Path, tmp_path: Path) -> None:
    home = tmp_path / "va_1m_2014_extended-debuffered-test_tiles"
    home.mkdir()
    chips = shared_data / "chesapeake_1m_chips"
    for chip in ("id_000051", "id_000184"):
        shutil.copy(chips / f"{chip}_naip.tif", home / f"{chip}_naip-new.tif")
        shutil.copy(chips / f"{chip}_lc.tif", home / f"{chip}_lc.tif")
    task = Task.of("chesapeake", CATALOGS)
    tiles = tiles_of(task, tmp_path)
    assert [name.rpartition("/")[2] for name in tiles.names] == [
        "id_000051_naip-new", "id_000184_naip-new"
    ]  # fmt: skip
    for i, chip in enumerate(("id_000051", "id_000184")):
        tile = tiles.read(i)
        codes, numbers = read(chips / f"{chip}_lc.tif")[0], read(chips / f"{chip}_naip.tif")
        np.testing.assert_array_equal(tile.truth, codes - 1)  # 1 to 6 in both
        np.testing.assert_allclose(tile.image, numbers / 255, rtol=1e-6)
    # A beach with sea in its lower right corner, as anybody sees.
    assert task.classes[tiles.read(0).truth[-1, -1]][0] == "water"


def test_declarations_of_real_patches(shared_data: Path) -> None:
    """Those of `benchmarks/real_patches`, as a user gives them by --catalogs."""
    catalogs = Catalogs.load(Path(__file__).parents[2] / "benchmarks" / "real_patches")
    for name, folder, ending, mask, n in (
        ("terramesh", "s2_lulc_pairs", "S2L2A.tif", "LULC.tif", 3),
        ("west-virginia-nlcd", "chesapeake_naip_wv", "_landsat-leaf-on.tif", "_nlcd.tif", 1),
        ("west-virginia-lc", "chesapeake_naip_wv", "_landsat-leaf-on.tif", "_lc.tif", 1),
    ):
        task = Task.of(name, catalogs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LasWarning)  # Slovenia has another layout
            tiles = tiles_of(task, shared_data / folder)
            assert len(tiles.names) == n
        for i, tile_name in enumerate(tiles.names):
            tile, file = tiles.read(i), shared_data / folder / f"{tile_name}.tif"
            codes = read(Path(str(file).replace(ending, mask)))[0]
            np.testing.assert_array_equal(tile.truth, expected(task, codes))
            numbers = read(file)[: len(task.bands)]
            np.testing.assert_allclose(tile.image, numbers * 1e-4, rtol=1e-6, atol=1e-7)
    assert Task.of("slovenia", catalogs).level == "toa"


# ---- the release of LAS


def arrays(kind: str, n: int = 3) -> list[np.ndarray]:
    high = {"dw": 11, "osm": 14}[kind]
    return [squares(f"{kind}{i}", list(range(high))) for i in range(n)]


@pytest.mark.parametrize(("name", "kind"), [("ssl4eo-s12-dw", "dw"), ("ssl4eo-s12-osm", "osm")])
@pytest.mark.parametrize("inside", [True, False])
def test_lmdb_of_the_release(name: str, kind: str, inside: bool, tmp_path: Path) -> None:
    pictures = [image(f"i{i}", 13, (48, 48), "uint16") for i in range(3)]
    radar = [image(f"r{i}", 2, (48, 48), "float32") for i in range(3)]
    path = release(
        tmp_path / f"{kind}_test_lmdb", {"s2": pictures, "s1": radar, kind: arrays(kind)}
    )
    task = Task.of(name, CATALOGS)
    tiles = tiles_of(task, path if inside else tmp_path)
    assert tiles.names == [f"{kind}_{i}" for i in range(3)]
    for i, codes in enumerate(arrays(kind)):
        tile = tiles.read(i)
        np.testing.assert_array_equal(tile.truth, expected(task, codes))
        np.testing.assert_allclose(tile.image, pictures[i] * 1e-4, rtol=1e-6)


@pytest.mark.parametrize("last", [False, True])
def test_keys_and_axes_that_nobody_told_are_found(last: bool, tmp_path: Path) -> None:
    picture = image("p", 3, (48, 40))
    codes = squares("p", list(range(8)))[:, :40]
    stored = picture.transpose(1, 2, 0) if last else picture
    release(tmp_path / "loveda_val_lmdb", {"img": [stored], "mask": [codes]})
    task = Task.of("loveda", CATALOGS)
    tile = tiles_of(task, tmp_path).read(0)
    np.testing.assert_allclose(tile.image, picture / 255, rtol=1e-6)
    np.testing.assert_array_equal(tile.truth, expected(task, codes))


def test_lmdb_that_is_not_it(tmp_path: Path) -> None:
    task = Task.of("ssl4eo-s12-dw", CATALOGS)
    good = image("i", 13, (48, 48), "uint16")
    label = arrays("dw", 1)[0]

    def asked(where: str, kinds: dict[str, list[np.ndarray]]) -> None:
        tiles_of(task, release(tmp_path / where, kinds)).read(0)

    with pytest.raises(InputError, match="as many dw_<i> as s2_<i>"):
        asked("a", {"s2": [good, good], "dw": [label]})
    with pytest.raises(InputError, match="as many"):
        asked("b", {"s1": [good], "dw": [label]})
    with pytest.raises(InputError, match="13 bands"):
        asked("c", {"s2": [good[:12]], "dw": [label]})
    with pytest.raises(InputError, match="same size"):
        asked("d", {"s2": [good], "dw": [label[:40]]})
    with pytest.raises(LegendError, match="11"):
        asked("e", {"s2": [good], "dw": [np.full((48, 48), 11, np.uint8)]})
    whole = release(tmp_path / "f", {"s2": [good], "dw": [label]}) / "data.mdb"
    kept = whole.read_bytes()
    for size in (len(kept) // 2, len(kept) - 1):
        whole.write_bytes(kept[:size])
        with pytest.raises(InputError, match=rf"data\.mdb.*{len(kept)}\. Unpack it again"):
            tiles_of(task, whole.parent)
    three = {"a": [good], "b": [good], "c": [label]}
    with pytest.raises(InputError, match=r"scored\.lmdb\.image"):
        tiles_of(Task.of("multisenge", CATALOGS), release(tmp_path / "g", three))


# ---- what is refused


def test_a_copy_that_is_not_whole_names_what_lacks_and_where_it_is(tmp_path: Path) -> None:
    WRITERS["potsdam"](tmp_path)
    task = Task.of("potsdam", CATALOGS)
    (tmp_path / "top_potsdam_3_13_label.tif").unlink()
    with pytest.raises(ImportFolderError, match=r"1 of 2 missing.*3_13_label.*isprs\.org"):
        _ = tiles_of(task, tmp_path).names
    shutil.rmtree(tmp_path / "4_Ortho_RGBIR")
    with pytest.raises(ImportFolderError, match=r"4_Ortho_RGBIR.*isprs\.org"):
        _ = tiles_of(task, tmp_path).names


def test_a_code_that_the_legend_has_not(tmp_path: Path) -> None:
    WRITERS["multisenge"](tmp_path)
    [mask] = tmp_path.glob("ground_reference/*.tif")
    with rasterio.open(mask, "r+") as file:
        file.write(np.full((48, 48), 15, np.uint8), 1)
    with pytest.raises(LegendError, match="15"):
        tiles_of(Task.of("multisenge", CATALOGS), tmp_path).read(0)


def test_declarations_that_do_not_fit(tmp_path: Path) -> None:
    home = tmp_path / "benchmarks"
    home.mkdir()
    ours = CATALOGS.file("benchmarks", "loveda").read_text()
    for old, new, words in (
        ("    6: [forest, tree cover]\n", "", "each code once"),
        ("[forest, tree cover]", "[AnnualCrop_2]", "in words"),
        ("[forest, tree cover]", "[forest, water]", "each name once"),
        ("[forest, tree cover]", "[]", "a name for each code"),
        ("ignore: [0]", "ignore: [0, 6]", "each code once"),
    ):
        assert old in ours
        (home / "loveda.yaml").write_text(ours.replace(old, new))
        with pytest.raises(CatalogError, match=words):
            Task.of("loveda", Catalogs.load(tmp_path))
    with pytest.raises(CatalogError, match="a benchmark that is scored: chesapeake"):
        Task.of("dfc2020", CATALOGS)
