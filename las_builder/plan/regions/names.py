"""Names and codes of regions and countries: `catalogs/regions/*.yaml` and the country table."""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from las_builder.catalogs import Catalogs, Strata
from las_builder.catalogs.loader import read_yaml
from las_builder.catalogs.models import Declared
from las_builder.errors import CatalogError, RegionError

GLOBAL = ("global", "world", "001")


class NamedRegion(Declared):
    """One region of a file."""

    name: str
    parts: list[str] = Field(min_length=1)
    """Keys of regions of the same file, and ISO 3166-1 alpha-3 codes."""


class RegionFile(Declared):
    """Regions by name: `catalogs/regions/<name>.yaml`."""

    title: str
    description: str = ""
    license: str
    attribution: str
    verified: bool
    sources: list[str]
    regions: Mapping[str, NamedRegion]
    """By code, or by a short word."""

    codes: Mapping[str, str] = Field(default_factory=dict)
    """ISO 3166-1 alpha-3 to the numeric code of a country."""

    names: Mapping[str, list[str]] = Field(default_factory=dict)
    """ISO 3166-1 alpha-3 to other names of a country."""


@dataclass(frozen=True)
class Words:
    """What every word stands for: indices of `Strata.countries`."""

    of: Mapping[str, frozenset[int]]
    """By folded word."""

    shown: Mapping[str, str]
    """Folded word to the word as it is written."""

    two: Mapping[str, str]
    """Folded words that mean two things, and the codes that tell them apart."""

    @classmethod
    def known(cls, strata: Strata) -> Words:
        """What the declarations of these strata know."""
        return _known(strata.catalogs.folders)

    def meaning(self, word: str, where: object) -> frozenset[int] | None:
        """The countries of a word; None: nobody knows it.

        Raises:
            RegionError: A word that means two things.
        """
        folded = fold(word)
        if folded in self.two:
            raise RegionError(where, "sites.region", word, self.two[folded])
        return self.of.get(folded)

    def nearest(self, word: str) -> str:
        """A question that offers what may have been meant, or ""."""
        codes = len(word.strip()) < 4  # offered for codes only
        offered: dict[str, str] = {}
        for shown in ("global", *self.shown.values()):
            if (len(shown) < 4) == codes and not (shown.isdigit() and not word.isdigit()):
                offered[fold(shown)] = shown
        near = difflib.get_close_matches(fold(word), offered, n=3, cutoff=0.65)
        near = near or difflib.get_close_matches(fold(word), offered, n=1, cutoff=0.5)
        return f"Did you mean {' or '.join(repr(offered[n]) for n in near)}?" if near else ""


def countries_of(words: Sequence[str], strata: Strata, where: object) -> frozenset[int]:
    """The countries, as indices of `Strata.countries`, of codes and names.

    Raises:
        RegionError: One that nobody knows.
    """
    known = Words.known(strata)
    found: set[int] = set()
    for word in words:
        meaning = known.meaning(word, where)
        if meaning is None:
            raise RegionError(
                where, "countries", word, "countries by name or ISO code", known.nearest(word)
            )
        found |= meaning
    return frozenset(found)


def fold(word: str) -> str:
    """Without case, accents and punctuation: "Côte d'Ivoire" is "cote d ivoire"."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^a-z0-9]+", " ", plain.casefold()).split())


@functools.lru_cache(maxsize=8)
def _known(folders: tuple[Path, ...]) -> Words:
    """Codes before continents, continents before countries, countries before regions by name."""
    strata = Strata.load(Catalogs(folders))
    by_code = {country.iso3: country.index for country in strata.countries[1:]}
    of: dict[str, frozenset[int]] = {}
    shown: dict[str, str] = {}
    two: dict[str, str] = {}

    def say(word: str, countries: frozenset[int]) -> None:
        of[fold(word)], shown[fold(word)] = countries, word

    continents: dict[str, frozenset[int]] = {}
    for country in strata.countries[1:]:
        here = continents.get(country.continent, frozenset())
        continents[country.continent] = here | {country.index}
    own = {fold(country.name): country.iso3 for country in strata.countries[1:]}
    codes: dict[str, frozenset[int]] = {}
    for path, file in _files(folders):
        for key in file.regions:
            members = frozenset(_members(key, file, path, by_code))
            name = file.regions[key].name
            codes[key] = members
            if fold(name) in own and name not in continents:
                iso3 = own[fold(name)]
                two[fold(name)] = f"{iso3!r} for the country, or {key!r} for {file.title}"
            say(name, members)
        for iso3, code in file.codes.items():
            codes[code] = frozenset({_country(iso3, path, "codes", by_code)})
        for iso3, names in file.names.items():
            for name in names:
                say(name, frozenset({_country(iso3, path, "names", by_code)}))
    for country in strata.countries[1:]:
        say(country.name, frozenset({country.index}))
    for name, members in continents.items():
        say(name, members)
    for country in strata.countries[1:]:
        codes[country.iso2] = codes[country.iso3] = frozenset({country.index})
    for code, members in codes.items():
        say(code, members)
    return Words(of, shown, two)


def _files(folders: tuple[Path, ...]) -> Iterator[tuple[Path, RegionFile]]:
    """Every file of regions; the user's last, so that theirs count."""
    for folder in reversed(folders):
        for path in sorted((folder / "regions").glob("*.yaml")):
            yield path, read_yaml(path, RegionFile)


def _members(
    key: str, file: RegionFile, path: Path, by_code: Mapping[str, int], above: tuple[str, ...] = ()
) -> Iterator[int]:
    for part in file.regions[key].parts:
        if part in (*above, key):
            raise CatalogError(path, f"regions.{key}.parts", part, "no region that holds itself")
        if part in file.regions:
            yield from _members(part, file, path, by_code, (*above, key))
        else:
            yield _country(part, path, f"regions.{key}.parts", by_code)


def _country(iso3: str, path: Path, key: str, by_code: Mapping[str, int]) -> int:
    if iso3 not in by_code:
        raise CatalogError(path, key, iso3, "regions of this file and ISO 3166-1 alpha-3 codes")
    return by_code[iso3]
