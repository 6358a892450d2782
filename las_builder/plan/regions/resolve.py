"""What a recipe's `sites.region` means."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from las_builder.catalogs import Strata
from las_builder.errors import RegionError
from las_builder.plan.regions import files, mgrs
from las_builder.plan.regions.names import GLOBAL, Words, fold
from las_builder.plan.regions.outline import WORLD, Box, Outline
from las_builder.plan.regions.region import Region

_CODE = re.compile(r"\d{3}")
_BOX = "[west, south, east, north] in degrees, south < north, west ≠ east"


def resolve(spec: str | Sequence[float] | Sequence[str], strata: Strata, where: object) -> Region:
    """The region that a recipe asks for: the union of what it lists.

    Args:
        spec: One thing, several with commas between them, or a list of such:

            - "global";
            - a continent or a country by name, in any case; ISO 3166-1 code of two letters, three
              letters or three digits; UN M49 region by name or code ("western europe", "155");
            - [west, south, east, north] in degrees, where west > east crosses ±180°; among
              other things in one text, with its brackets;
            - a file of polygons with a CRS that GDAL or GeoPandas reads, "file.gpkg:layer" where it
              has several layers; a STAC catalogue, collection, item or item collection on disk:
              the footprints of its items. Looked for beside the recipe, then here;
            - "MGRS:32UPU" or "32UPU", a 100 km square; "T32UPU", the tile of Sentinel-2;
            - "A & B", all of the text: what A and B share, each being one or several of these.
        strata: Knows the countries, and the declarations that name regions.
        where: The file that asks, for messages.

    Raises:
        RegionError: Something unknown (the nearest names are offered), a box, a tile or a file
            that is none.
        StacError: A STAC catalogue that cannot be read.
    """
    words = Words.known(strata)
    shared = _shared(spec, words, where)
    if len(shared) > 1:
        first, *others = (resolve(text, strata, where) for text in shared)
        try:
            return functools.reduce(Region.within_region, others, first)
        except ValueError as problem:
            raise RegionError(
                where, "sites.region", spec, f"regions of one kind on one side of `&`, not {problem}",
                "Write one side as a file of polygons.",
            ) from None  # fmt: skip
    texts = _texts(spec)
    whole = ",".join(texts)
    boxes: list[Box] = []
    countries: frozenset[int] = frozenset()
    polygons: list[Any] = []
    for part in (part for text in texts for part in _parts(text, words, where)):
        if fold(part) in GLOBAL:
            boxes.append(WORLD)
        elif (known := words.meaning(part, where)) is not None:
            countries |= known
        elif part.startswith("[") or (_is_number(part.split(",")[0]) and not _CODE.fullmatch(part)):
            boxes.append(_box(part, where))
        elif mgrs.NAME.fullmatch(part) or fold(part).startswith("mgrs "):
            polygons.append(mgrs.tile(part, where))
        elif (found := files.find(part, where)) is not None:
            polygons.append(files.read(*found).polygons)
        else:
            raise _unknown(part, words, where)
    outline = Outline.of(polygons) if polygons else None
    return Region(whole, strata, boxes=tuple(boxes), countries=countries, outline=outline)


def files_in(
    spec: str | Sequence[float] | Sequence[str], strata: Strata, where: object
) -> list[Path]:
    """The files that a region names.

    Raises:
        RegionError: A path where no file is.
    """
    words = Words.known(strata)
    found = []
    for text in (text for one in _shared(spec, words, where) for text in _texts(one)):
        for part in _parts(text, words, where):
            known = fold(part) in (*GLOBAL, *words.of, *words.two) or part.startswith("[")
            if not (known or mgrs.NAME.fullmatch(part) or fold(part).startswith("mgrs ")):
                file = files.find(part, where)
                found += [] if file is None else [file[0]]
    return found


def _shared(spec: Any, words: Words, where: object) -> list[Any]:
    """The sides of `&`; an ampersand may also be within a name or a path."""
    if not isinstance(spec, str) or fold(spec) in words.of or files.exists(spec, where):
        return [spec]
    return spec.split(" & ")


def _texts(spec: str | Sequence[float] | Sequence[str]) -> list[str]:
    if isinstance(spec, str):
        return [spec]
    texts = [str(part) for part in spec]
    return [",".join(texts)] if all(map(_is_number, texts)) else texts


def _parts(text: str, words: Words, where: object) -> Iterator[str]:
    """What a text lists: a comma may also be within a name, a path or a box."""
    if fold(text) in words.of or (text.strip() and files.exists(text, where)):
        yield text.strip()
        return
    parts = [part.strip() for part in re.findall(r"\[[^\]]*\]?|[^,\[]+", text)]
    parts = [part for part in parts if part] or [text]
    if all(map(_is_number, parts)) and not all(map(_CODE.fullmatch, parts)) and len(parts) % 4:
        yield ",".join(parts)  # no box: said with all its numbers
        return
    while parts:
        four = parts[:4]
        if len(four) == 4 and all(map(_is_number, four)) and not all(map(_CODE.fullmatch, four)):
            yield ",".join(four)
            del parts[:4]
        else:
            yield parts.pop(0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _box(text: str, where: object) -> Box:
    try:
        west, south, east, north = (float(part) for part in text.strip("[] ").split(","))
    except ValueError:
        raise RegionError(where, "sites.region", text, _BOX) from None
    longitudes = -360 <= west <= 360 and -360 <= east <= 360 and west != east
    if not (longitudes and -90 <= south < north <= 90):
        swapped = longitudes and -180 <= south < north <= 180 and abs(west) <= 90 >= abs(east)
        hint = "Is it latitude first? It is longitude first." if swapped else ""
        raise RegionError(where, "sites.region", text, _BOX, hint)
    return west, south, east, north


def _unknown(part: str, words: Words, where: object) -> RegionError:
    return RegionError(
        where,
        "sites.region",
        part,
        "global, a continent, a UN M49 region, a country by name or ISO code, "
        "[west, south, east, north], a file of polygons, or an MGRS tile",
        words.nearest(part),
    )
