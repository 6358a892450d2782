"""The patches over which products disagree most: to look at, and to open in QGIS."""

from __future__ import annotations

import base64
import io
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.audit.count import PAIR, Counts
from las_builder.audit.population import Level, Population
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.workspace import write_bytes
from las_builder.fetch.cube import open_round
from las_builder.plan.target import Floats

LEAST = 0.25
"""Share of a patch that some two products must both speak of for it to be ranked."""

_NOTHING = (236, 238, 240)


@dataclass(frozen=True, kw_only=True)
class Contested:
    """One site, by how much its products disagree."""

    site: str
    disagreement: float
    """Share of the pixels that two products both speak of on which they cannot both be right: no class
    can be what both say. Averaged over pairs of products."""

    compared: float
    """Share of the pixels that both speak of, averaged over pairs."""

    worst: tuple[str, str, str, str, float] | None
    """Product, what it says (its class, or the classes that it can be), another product, what it says,
    share of the patch: the largest difference."""


def rank(
    counts: Counts, population: Population, products: Sequence[LabelProduct], level: Level,
    most: int,
) -> list[Contested]:  # fmt: skip
    """Sites by disagreement, the most contested first; ties by id. Sites that agree are left out."""
    couples = [
        pair
        for pair in itertools.combinations(range(len(products)), 2)
        if (level.meets(*(products[i] for i in pair)) >= 0).any()
    ]
    n = len(population)
    different, compared, widest = np.zeros(n), np.zeros(n), np.zeros(n)
    for pair in couples:
        both = np.zeros(n)
        for site, _, _, meets, share in _said(counts, population, products, level, pair):
            both += np.bincount(site, share, n)
            different += np.bincount(site, share * (meets == 0), n)
        compared += both
        widest = np.maximum(widest, both)
    if not couples:
        return []
    value = np.where(widest >= LEAST, different / np.maximum(compared, 1e-9), 0.0)
    value = np.round(value, 9)  # what differs by less was added up in another order
    order = sorted(np.flatnonzero(value > 0).tolist(), key=lambda i: (-value[i], population.ids[i]))
    top = order[:most]
    worst = _worst(counts, population, products, level, couples, top)
    return [
        Contested(
            site=population.ids[i], disagreement=float(value[i]),
            compared=float(compared[i]) / len(couples), worst=worst.get(i),
        )
        for i in top
    ]  # fmt: skip


def _said(
    counts: Counts, population: Population, products: Sequence[LabelProduct], level: Level,
    pair: tuple[int, int],
) -> Any:  # fmt: skip
    """Site, place of the code of a in its legend, of b, whether they meet (1 or 0), share of the patch."""
    a, b = (products[i] for i in pair)
    table = level.meets(a, b)
    known = [np.array(sorted(p.codes), np.int64) for p in (a, b)]
    for rows in counts.rows(PAIR, *pair):
        one, two = (
            np.searchsorted(k, rows[name])
            for k, name in zip(known, ("code_a", "code_b"), strict=True)
        )
        meets = table[one, two]
        some = meets >= 0
        site = rows["site"][some]
        share = rows["n"][some] / (population.patches[site] * population.pixels)
        yield site, one[some], two[some], meets[some], share


def _worst(
    counts: Counts, population: Population, products: Sequence[LabelProduct], level: Level,
    couples: Sequence[tuple[int, int]], top: Sequence[int],
) -> dict[int, tuple[str, str, str, str, float]]:  # fmt: skip
    found: dict[int, Counter[tuple[int, int, str, str]]] = {i: Counter() for i in top}
    for pair in couples:
        words = [[_words(level, can) for can in level.can_be(products[i])] for i in pair]
        for site, one, two, meets, share in _said(counts, population, products, level, pair):
            some = np.isin(site, top) & (meets == 0)
            for i, c, d, n in zip(
                site[some].tolist(), one[some].tolist(), two[some].tolist(), share[some].tolist(),
                strict=True,
            ):  # fmt: skip
                found[i][*pair, words[0][c], words[1][d]] += n
    out = {}
    for i, several in found.items():
        if several:
            (a, b, c, d), n = min(several.items(), key=lambda item: (-round(item[1], 9), item[0]))
            out[i] = products[a].name, c, products[b].name, d, float(n)
    return out


def _words(level: Level, can_be: frozenset[int]) -> str:
    """What a code can be: at most three classes by name."""
    names = [level.taxonomy.classes[i].name for i in sorted(can_be)]
    return " or ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} or others"


def write_contested(path: Path, ranked: Sequence[Contested], geometry: Mapping[str, Any]) -> None:
    """Write `contested.gpkg`: a polygon a site, the most contested first.

    Args:
        path: To write.
        ranked: See `rank`.
        geometry: Site to its patch as a Shapely geometry in WGS 84 degrees.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    import geopandas

    rows = [one for one in ranked if geometry.get(one.site) is not None]
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(rows) + 1),
        "site": [one.site for one in rows],
        "disagreement": [one.disagreement for one in rows],
        "compared": [one.compared for one in rows],
    }
    for i, name in enumerate(("product_a", "class_a", "product_b", "class_b")):
        columns[name] = [one.worst[i] if one.worst else "" for one in rows]
    columns["share"] = [one.worst[4] if one.worst else 0.0 for one in rows]
    frame = geopandas.GeoDataFrame(
        columns, geometry=[geometry[one.site] for one in rows], crs="EPSG:4326"
    )
    import pyogrio

    file = io.BytesIO()
    # A GeoPackage holds the time at which it was written; equal content, equal bytes.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        frame.to_file(file, driver="GPKG", layer="contested", engine="pyogrio")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    write_bytes(path, file.getvalue())


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A patch as a person sees it."""

    site: str
    where: str
    image: str
    """Base64 of a JPEG."""

    labels: tuple[tuple[str, str], ...]
    """Product, base64 of a PNG in its colours."""

    disagreement: str
    """Base64 of a PNG: red where products cannot both be right, grey where fewer than two speak."""

    codes: Mapping[str, tuple[int, ...]]
    """Product to the codes that occur, the most frequent first."""


def picture(
    site: str, where: str, group: Path, row: int, imagery: Imagery,
    products: Sequence[LabelProduct], level: Level,
) -> Picture:  # fmt: skip
    """Draw one stored patch.

    Args:
        site: Its id.
        where: In words.
        group: `cube.zarr/<round>`.
        row: Of the round.
        imagery: For the bands to look at and their stretch.
        products: In the order in which they are shown.
        level: Classes in which they are compared.
    """
    cube = open_round(group)
    codes = [np.asarray(cube[f"labels/{p.name}"][row]) for p in products]  # type: ignore[index]
    found = []
    for one in codes:
        value, n = np.unique(one, return_counts=True)
        found.append(tuple(value[np.argsort(-n, kind="stable")].tolist()))
    return Picture(
        site=site,
        where=where,
        image=_encoded(_seen(cube, row, imagery), "JPEG", quality=82),
        labels=tuple(
            (p.name, _encoded(coloured(p, one), "PNG"))
            for p, one in zip(products, codes, strict=True)
        ),
        disagreement=_encoded(differences(codes, products, level), "PNG"),
        codes={
            p.name: tuple(code for code in some if code != p.nodata)
            for p, some in zip(products, found, strict=True)
        },
    )


def _seen(cube: Any, row: int, imagery: Imagery) -> NDArray[np.uint8]:
    bands = [str(name) for name in cube["band"][:]]
    names = [name if name in bands else bands[0] for name in imagery.rgb]
    at = [bands.index(name) for name in names]
    image = np.asarray(cube["image"][row])
    low, high = imagery.stretch
    planes = [
        image[i].astype(np.float64) * float(cube["scale"][row, i]) + float(cube["offset"][row, i])
        for i in at
    ]
    shown = np.clip((np.stack(planes, axis=-1) - low) / (high - low), 0, 1) ** 0.7
    valid = np.asarray(cube["valid"][row])
    shown[~valid] = shown[~valid] * 0.35 + 0.65
    return np.asarray(shown * 255, np.uint8)


def coloured(product: LabelProduct, codes: NDArray[Any]) -> NDArray[np.uint8]:
    """Codes in the colours of the legend, (y, x, 3); nodata and codes without a colour are grey."""
    out = np.full((*codes.shape, 3), _NOTHING, np.uint8)
    for entry in product.classes:
        if entry.color_hint and entry.value != product.nodata:
            out[codes == entry.value] = tuple(bytes.fromhex(entry.color_hint))
    return out


def differences(
    codes: Sequence[NDArray[Any]], products: Sequence[LabelProduct], level: Level
) -> NDArray[np.uint8]:
    """From white (all can be right) to red by the share of pairs of products that cannot, (y, x, 3)."""
    number = [
        np.searchsorted(sorted(product.codes), one.astype(np.int64))
        for product, one in zip(products, codes, strict=True)
    ]
    differ, compared = np.zeros(codes[0].shape), np.zeros(codes[0].shape)
    for i, j in itertools.combinations(range(len(products)), 2):
        meets = level.meets(products[i], products[j])[number[i], number[j]]
        compared += meets >= 0
        differ += meets == 0
    share: Floats = differ / np.maximum(compared, 1)
    white, red = np.array([255.0, 255, 255]), np.array([178.0, 24, 43])
    out = white + (red - white) * share[..., None]
    shown = np.where(compared[..., None] == 0, np.array(_NOTHING, np.float64), out)
    return np.asarray(shown, np.uint8)


def _encoded(pixels: NDArray[np.uint8], kind: str, **more: Any) -> str:
    from PIL import Image

    picture_ = Image.fromarray(pixels)
    if max(pixels.shape[:2]) > 400:
        picture_.thumbnail((400, 400), Image.Resampling.NEAREST)
    if kind == "PNG":
        picture_ = picture_.quantize(256, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture_.save(file, kind, optimize=True, **more)
    return base64.b64encode(file.getvalue()).decode()
