"""`las predict`: a raster, a checkpoint and class names to a map."""

from __future__ import annotations

import colorsys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from las_builder.catalogs import Catalogs, Imagery
from las_builder.core.types import IGNORE
from las_builder.core.workspace import writing
from las_builder.errors import InputError, RasterError
from las_builder.evaluate.windows import Say, blended
from las_builder.models import checkpoint
from las_builder.models.config import LEVELS, Level
from las_builder.models.inputs import DISPLAY_WAVELENGTHS, LONGEST, SHORTEST
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import Prompter, encoder
from las_builder.train.data import level_of, usable

_BRIGHT = 3.0  # reflectance that no median of a scene has


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Which bands of a raster the model is given, and what their numbers are."""

    indices: tuple[int, ...]
    """From 1, as GDAL counts."""

    wavelengths: tuple[float, ...]
    """Micrometres."""

    level: Level
    scale: tuple[float, ...]
    """Value given to the model = number * scale + offset."""

    offset: tuple[float, ...]


def parse_classes(text: str) -> list[tuple[str, ...]]:
    """Class names from "water, tree cover|forest": a comma between classes, "|" between synonyms.

    Raises:
        InputError: No class, an empty name, or more than 254 classes.
    """
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise InputError("las predict", "--classes", text, 'names like "water, tree cover"')
    if len(parts) > IGNORE - 1:
        raise InputError("las predict", "--classes", len(parts), f"at most {IGNORE - 1} classes")
    return [tuple(name.strip() for name in part.split("|")) for part in parts]


def bands_of(
    raster: Path,
    *,
    imagery: Imagery | None = None,
    bands: Sequence[str] = (),
    wavelengths: Sequence[float] = (),
    level: str | None = None,
) -> Bands:
    """What the bands of a raster are.

    By an imagery source: the raster's band names (or `bands`, in the raster's order) are looked up in
    its declaration. By wavelengths and a level. Else it has to be a photograph: 3 or 4 bands
    of bytes that are red, green, blue (and near infrared).

    A scale or offset that the raster states goes before the declaration's.

    Raises:
        RasterError: Not a raster, or bands that nothing says what they are.
    """
    with opened(raster) as file:
        count, kind = file.count, np.dtype(file.dtypes[0])
        named = tuple(bands) or tuple(name or "" for name in file.descriptions)
        scale, offset = tuple(file.scales), tuple(file.offsets)
    stated = any(s != 1 for s in scale) or any(o != 0 for o in offset)
    if imagery is not None:
        known = {band.name for band in imagery.bands}
        if len(named) != count or not set(named) <= known:
            raise RasterError(
                raster, "bands", ", ".join(named), f"{count} of {', '.join(sorted(known))}",
                "Name them in the raster's order: --bands B02,B03,B04.",
            )  # fmt: skip
        places, waves = usable(imagery, named)
        if level_of(imagery) == "display":
            low, high = imagery.stretch
            scale, offset = (1 / (high - low),) * count, (-low / (high - low),) * count
        elif not stated:
            declared = [imagery.band(name) for name in named]
            scale, offset = tuple(b.scale for b in declared), tuple(b.offset for b in declared)
        return Bands(
            indices=tuple(i + 1 for i in places), wavelengths=waves, level=level_of(imagery),
            scale=tuple(scale[i] for i in places), offset=tuple(offset[i] for i in places),
        )  # fmt: skip
    if wavelengths or level:
        if level not in LEVELS or len(wavelengths) != count:
            raise RasterError(
                raster,
                "wavelengths",
                list(wavelengths),
                f"{count}, with --level {'|'.join(LEVELS)}",
            )
        kept = [i for i, wave in enumerate(wavelengths) if SHORTEST <= wave <= LONGEST]
        if not kept:
            raise RasterError(
                raster, "wavelengths", list(wavelengths), f"{SHORTEST} to {LONGEST} micrometres"
            )
        return Bands(
            indices=tuple(i + 1 for i in kept), wavelengths=tuple(wavelengths[i] for i in kept),
            level=level, scale=tuple(scale[i] for i in kept), offset=tuple(offset[i] for i in kept),
        )  # fmt: skip
    if kind == np.uint8 and count in (3, 4):
        waves = tuple(DISPLAY_WAVELENGTHS.values())[:count]
        with opened(raster) as file:  # a fourth band that is an alpha is no near infrared
            if count == 4 and file.colorinterp[3].name == "alpha":
                waves = waves[:3]
        return Bands(
            indices=tuple(range(1, len(waves) + 1)), wavelengths=waves, level="display",
            scale=(1 / 255,) * len(waves), offset=(0.0,) * len(waves),
        )  # fmt: skip
    raise RasterError(
        raster, "bands", f"{count} of {kind}", "bands that are known",
        "Say --imagery sentinel-2-l2a, or --wavelengths 0.49,0.56,0.665 --level surface.",
    )  # fmt: skip


def predict(
    weights: Path,
    raster: Path,
    classes: Sequence[Sequence[str]],
    out: Path,
    bands: Bands,
    *,
    catalogs: Catalogs,
    text_file: Path | None = None,
    window: int = 512,
    overlap: float = 0.5,
    batch: int = 4,
    device: str = "cpu",
) -> Path:
    """Write a map: band 1 class index with colours and names, band 2 confidence.

    Confidence is the blended probability of the class, percent. Both bands are 255 where the raster
    has no data. CRS and transform are the raster's.

    Args:
        weights: A model of `las train`.
        raster: Any that GDAL opens.
        classes: Names of each class, the usual one first.
        out: GeoTIFF, written whole or not at all.
        bands: Of the raster, see `bands_of`.
        catalogs: Whose colours are taken.
        text_file: Checkpoint of a GeoRSCLIP text tower, where the model wants one.
        window: Side of the windows, pixels.
        overlap: Share of a window that the next one repeats.
        batch: Windows at once.
        device: cpu, cuda.

    Raises:
        CheckpointError: Not a model.
        RasterError: Not a raster, or numbers that are no reflectance.
        InputError: Class names that no model can answer.
        WorkspaceError: The disk is full or read-only.
    """
    model = checkpoint.load(weights)
    say = asker(model, classes, bands.wavelengths, bands.level, text_file=text_file, device=device)
    usual = [names[0] for names in classes]
    return write_map(
        raster, out, bands, say, usual, colours(usual, catalogs),
        window=window, overlap=overlap, batch=batch,
    )  # fmt: skip


def asker(
    model: LandSegmenter,
    classes: Sequence[Sequence[str]],
    wavelengths: Sequence[float],
    level: Level,
    *,
    text_file: Path | None = None,
    device: str = "cpu",
) -> Say:
    """A model as what windows are asked of: pixels in, probabilities of the classes out.

    Raises:
        InputError: Class names that no model can answer.
    """
    place = torch.device(device)
    model = model.eval().to(place)
    text = Prompter(encoder(model.config.text, text_file))([tuple(names) for names in classes])
    text = text.to(place)

    @torch.inference_mode()
    def say(images: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(images).to(place)
        with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
            logits = model(tensor, wavelengths, text, level)
        p: NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
        return p

    return say


def write_map(
    raster: Path,
    out: Path,
    bands: Bands,
    say: Say,
    names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    **more: Any,
) -> Path:
    """Write the map that `say` makes of a raster: see `predict`; `more` is for `blended`."""
    import rasterio
    from rasterio.windows import Window

    scale = np.array(bands.scale, np.float32).reshape(-1, 1, 1)
    offset = np.array(bands.offset, np.float32).reshape(-1, 1, 1)
    indices = list(bands.indices)
    # Room for two rows of blocks of both files; GDAL's own choice is a share of the machine.
    with rasterio.Env(GDAL_CACHEMAX=128), opened(raster) as file:
        # Photographs are written with near infrared tagged as alpha: dark there is not absent.
        tagged = any(file.colorinterp[i - 1].name == "alpha" for i in indices)

        def known(row: int, column: int, rows: int, columns: int) -> NDArray[np.bool_]:
            if tagged and file.nodata is None:
                return np.ones((rows, columns), bool)
            where = Window(column, row, columns, rows)
            seen: NDArray[np.bool_] = file.dataset_mask(window=where) > 0
            return seen

        def read(row: int, column: int, rows: int, columns: int) -> NDArray[np.float32]:
            numbers = file.read(indices, window=Window(column, row, columns, rows))
            seen = known(row, column, rows, columns)
            values = np.where(seen, numbers * scale + offset, np.float32(np.nan))
            _check_values(raster, values[:, seen], bands.level)
            return values

        shape = {
            "driver": "GTiff", "width": file.width, "height": file.height, "count": 2,
            "dtype": "uint8", "nodata": IGNORE, "compress": "deflate", "tiled": True,
            "blockxsize": 256, "blockysize": 256, "BIGTIFF": "IF_SAFER",
            "crs": file.crs, "transform": file.transform, "photometric": "palette",
        }  # fmt: skip
        with writing(out) as part, _quiet(), rasterio.open(part, "w", **shape) as written:
            written.write_colormap(1, {i: (*c, 255) for i, c in enumerate(palette)})
            written.update_tags(1, **{f"class_{i}": name for i, name in enumerate(names)})
            written.set_band_description(1, "class")
            written.set_band_description(2, "confidence")
            for piece in blended(read, say, file.height, file.width, classes=len(names), **more):
                rows, columns = piece.probability.shape[1:]
                best = piece.probability.argmax(axis=0)
                sure = np.take_along_axis(piece.probability, best[None], axis=0)
                both = np.stack([best, np.rint(sure[0] * 100)]).astype(np.uint8)
                both[:, ~known(piece.row, piece.column, rows, columns)] = IGNORE
                written.write(both, window=Window(piece.column, piece.row, columns, rows))
    return out


def colours(names: Sequence[str], catalogs: Catalogs) -> list[tuple[int, int, int]]:
    """A colour for each class: that of a declared class of this name, else one that nobody has."""
    declared: dict[str, str] = {}
    for name in catalogs.names("taxonomies", declared=True):
        for entry in catalogs.taxonomy(name).classes:
            for prompt in (entry.title, *entry.prompts):
                declared.setdefault(prompt.casefold(), entry.color_hint)
    out: list[tuple[int, int, int]] = []
    for i, name in enumerate(names):
        found = declared.get(name.casefold())
        colour = tuple(bytes.fromhex(found)) if found else None
        if colour is None or colour in out:
            turned = colorsys.hsv_to_rgb(i * 0.618 % 1, 0.55 + 0.15 * (i % 3), 0.85)
            colour = tuple(round(255 * x) for x in turned)
        out.append((colour[0], colour[1], colour[2]))
    return out


def _check_values(raster: Path, values: NDArray[np.float32], level: Level) -> None:
    """Refuse numbers, (band, pixel), that were never turned into reflectance."""
    middle = float(np.median(values[:, ::101])) if values.size else 0.0
    if level != "display" and middle > _BRIGHT:
        raise RasterError(
            raster, "values", f"{middle:.4g} in the middle", "reflectance, 0 to 1",
            "State scale and offset in the raster (gdal_edit.py -scale 0.0001), or --imagery.",
        )  # fmt: skip


@contextmanager
def opened(raster: Path) -> Iterator[Any]:
    """A raster as rasterio opens it, with a place or without.

    Raises:
        RasterError: It is not there, or not a raster.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    with _quiet():
        try:
            file = rasterio.open(raster)
        except RasterioIOError as error:
            raise RasterError(raster, "file", str(error), "a raster that GDAL opens") from None
        with file:
            yield file


@contextmanager
def _quiet() -> Iterator[None]:
    """Pictures without a place are welcome."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
