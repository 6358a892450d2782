"""What a recipe calls a region: names, codes, boxes."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

from las_builder.catalogs import Strata
from las_builder.errors import RegionError
from las_builder.plan.regions.outline import WORLD, Box
from las_builder.plan.regions.region import Region


def countries_of(words: Sequence[str], strata: Strata, where: object) -> frozenset[int]:
    """The countries, as indices of `Strata.countries`, of codes and names.

    Raises:
        RegionError: A country that nobody knows.
    """
    return resolve(words, strata, where).countries


def resolve(spec: str | Sequence[float] | Sequence[str], strata: Strata, where: object) -> Region:
    """What a recipe's `sites.region` means.

    Args:
        spec: "global"; continents, ISO 3166 codes (two or three letters) or names of countries,
            in any case, alone, comma-joined or in a list; or [west, south, east, north] in
            degrees, as a list or "w,s,e,n", where west > east crosses ±180°.
        strata: Knows the countries.
        where: The file that asks, for messages.

    Raises:
        RegionError: An unknown name, or a box that is none.
    """
    text = spec if isinstance(spec, str) else ",".join(str(part) for part in spec)
    numbers = _numbers(text)
    if numbers is not None:
        return Region(text, strata, boxes=(_box(numbers, text, where),))
    names = {_fold(word): codes for word, codes in _known(strata).items()}
    parts = [spec] if isinstance(spec, str) and _fold(spec) in names else text.split(",")
    boxes: list[Box] = []
    countries: set[int] = set()
    for part in parts:
        word = _fold(part)
        if word in ("global", "world"):
            boxes.append(WORLD)
        elif word in names:
            countries |= names[word]
        else:
            raise _unknown(part.strip(), strata, where)
    return Region(text, strata, boxes=tuple(boxes), countries=frozenset(countries))


def _known(strata: Strata) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for country in strata.countries[1:]:
        found.setdefault(country.continent, set()).add(country.index)
        for word in (country.name, country.iso2, country.iso3):
            found[word] = {country.index}
    return found


def _unknown(part: str, strata: Strata, where: object) -> RegionError:
    shown = {_fold(word): word for word in ("global", *_known(strata)) if len(word) > 2}
    near = difflib.get_close_matches(_fold(part), shown, n=1, cutoff=0.5)
    return RegionError(
        where,
        "sites.region",
        part,
        "global, a continent, a country by name or ISO code, or [west, south, east, north]",
        f"Did you mean {shown[near[0]]!r}?" if near else "",
    )


def _fold(word: str) -> str:
    """Without case, accents and punctuation: "Côte d'Ivoire" is "cote d ivoire"."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[^a-z0-9]+", " ", plain.casefold()).split())


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.strip("[] ").split(",")]
    except ValueError:
        return None


def _box(numbers: list[float], text: str, where: object) -> Box:
    allowed = "[west, south, east, north] in degrees, south < north, west ≠ east"
    if len(numbers) != 4:
        raise RegionError(where, "sites.region", text, allowed)
    west, south, east, north = numbers
    longitudes = -360 <= west <= 360 and -360 <= east <= 360 and west != east
    if not (longitudes and -90 <= south < north <= 90):
        raise RegionError(where, "sites.region", text, allowed)
    return west, south, east, north
