"""Licences: what each asks, and what a corpus made of several may be given on under.

A corpus is taken as one work: its shards hold pixels of all ingredients, cut and harmonised. This
is bookkeeping, not legal advice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from las_builder.errors import LicenceError

OTHER = "other"
"""STAC's word for a licence that has no SPDX identifier; here: nobody has said what it asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What one licence asks of whoever passes on something made from it."""

    id: str
    """SPDX identifier where there is one."""

    by: bool = True
    """Name the source."""

    nc: bool = False
    """No commercial use."""

    sa: str | None = None
    """Share alike: the licence that what is made from it must have; None: any."""

    nd: bool = False
    """No changes: what is made from it must not be passed on."""

    redistribute: bool = True
    """May be passed on at all."""

    known: bool = True
    """Whether its terms are known."""

    spdx: bool = True
    """Whether `id` is an SPDX identifier, which STAC takes as `license`."""

    source: str = ""

    @property
    def needs_consent(self) -> bool:
        """Whether a user has to accept it by name before anything is built."""
        return self.nc or self.nd or not self.redistribute or not self.known


_CC = "https://creativecommons.org/licenses/"
_CODE = "https://spdx.org/licenses/"
_LICENCES = (
    Licence(id="CC0-1.0", by=False, source="https://creativecommons.org/publicdomain/zero/1.0/"),
    Licence(id="PDDL-1.0", by=False, source="https://opendatacommons.org/licenses/pddl/1-0/"),
    Licence(id="CC-BY-3.0", source=f"{_CC}by/3.0/"),
    Licence(id="CC-BY-4.0", source=f"{_CC}by/4.0/"),
    Licence(id="CC-BY-SA-3.0", sa="CC-BY-SA-4.0", source=f"{_CC}by-sa/3.0/ (4b: or a later version)"),
    Licence(id="CC-BY-SA-4.0", sa="CC-BY-SA-4.0", source=f"{_CC}by-sa/4.0/"),
    Licence(id="CC-BY-NC-3.0", nc=True, source=f"{_CC}by-nc/3.0/"),
    Licence(id="CC-BY-NC-4.0", nc=True, source=f"{_CC}by-nc/4.0/"),
    Licence(id="CC-BY-NC-SA-3.0", nc=True, sa="CC-BY-NC-SA-4.0", source=f"{_CC}by-nc-sa/3.0/"),
    Licence(id="CC-BY-NC-SA-4.0", nc=True, sa="CC-BY-NC-SA-4.0", source=f"{_CC}by-nc-sa/4.0/"),
    Licence(id="CC-BY-ND-4.0", nd=True, source=f"{_CC}by-nd/4.0/"),
    Licence(id="CC-BY-NC-ND-4.0", nc=True, nd=True, source=f"{_CC}by-nc-nd/4.0/"),
    Licence(id="ODbL-1.0", sa="ODbL-1.0", source="https://opendatacommons.org/licenses/odbl/1-0/ (4.4)"),
    Licence(id="ODC-By-1.0", source="https://opendatacommons.org/licenses/by/1-0/"),
    Licence(id="CDLA-Permissive-1.0", source=f"{_CODE}CDLA-Permissive-1.0.html"),
    Licence(id="CDLA-Permissive-2.0", source=f"{_CODE}CDLA-Permissive-2.0.html"),
    Licence(id="etalab-2.0", source="https://www.etalab.gouv.fr/licence-ouverte-open-licence/"),
    Licence(id="OGL-UK-3.0", source=f"{_CODE}OGL-UK-3.0.html"),
    Licence(id="MIT", source=f"{_CODE}MIT.html"),
    Licence(id="Apache-2.0", source=f"{_CODE}Apache-2.0.html"),
    # Terms that have no SPDX identifier: `license: other` with `terms: <id>` in a declaration.
    Licence(id="public-domain-us", by=False, spdx=False,
            source="17 U.S.C. 105: works of the United States government"),
    Licence(id="copernicus", spdx=False,
            source="Regulations (EU) 1159/2013 and 377/2014: free, full and open, source to be named"),
    Licence(id="attribution", spdx=False, source="open with attribution, in the provider's own words"),
    Licence(id="research-only", nc=True, redistribute=False, spdx=False,
            source="academic use by who obtained it; not to be passed on"),
)  # fmt: skip
LICENCES = {licence.id: licence for licence in _LICENCES}
"""By id, in the order of the table of `docs/imports.md`."""


def licence_of(stated: str, terms: str | None = None) -> Licence:
    """What a declaration states; unknown terms where the table has neither name.

    Args:
        stated: As STAC has it: an SPDX identifier or "other".
        terms: Id of the table, where it is "other".
    """
    found = LICENCES.get(terms or stated)
    if found is not None:
        return found
    return Licence(id=terms or stated, known=False, spdx=False)


@dataclass(frozen=True, slots=True)
class Ingredient:
    """Something whose pixels are in a corpus."""

    name: str
    """Of the imagery or label product."""

    licence: Licence

    consent: str = ""
    """What `--accept-licence` calls it; "": its licence need not be accepted."""

    def __str__(self) -> str:
        return f"{self.name} ({self.licence.id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusLicence:
    """What a corpus may be passed on under."""

    id: str
    """SPDX identifier, or "other"."""

    by: bool
    nc: bool
    sa: bool
    redistribute: bool
    unknown: tuple[str, ...]
    """Ingredients whose terms nobody has said."""

    because: tuple[str, ...]
    """The ingredients that decide it."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for manifest and catalogue."""
        return {
            "id": self.id, "attribution": self.by, "non_commercial": self.nc,
            "share_alike": self.sa, "redistribution": self.redistribute,
            "unknown": list(self.unknown), "because": list(self.because),
        }  # fmt: skip

    def __str__(self) -> str:
        words = [
            *(["name the sources"] if self.by else []),
            *(["no commercial use"] if self.nc else []),
            *(["share alike"] if self.sa else []),
            *([] if self.redistribute else ["not to be passed on"]),
        ]
        text = f"licence of the corpus: {self.id}"
        text += f" ({', '.join(words)})" if words else ""
        text += f", because of {', '.join(self.because)}" if self.because else ""
        if self.unknown:
            text += f"; nobody has said what these ask: {', '.join(self.unknown)}"
        return text


def combined(ingredients: Iterable[Ingredient], *, where: object) -> CorpusLicence:
    """The licence of what is made of all ingredients together.

    Share-alike decides it where there is one; else the strictest of non-commercial, attribution and
    none. "other" where something must not be passed on, or nobody has said what it asks.

    Args:
        ingredients: Of every subset; one may be named twice.
        where: The recipe, for the message.

    Raises:
        LicenceError: Two of them cannot be kept at once: share-alike with another share-alike or
            with non-commercial terms that it does not have.
    """
    parts = sorted(dict.fromkeys(ingredients), key=lambda part: (part.name, part.licence.id))
    for one, other in itertools.permutations(parts, 2):
        if _clash(one.licence, other.licence):
            raise LicenceError(
                where, "licences", f"{one} with {other}",
                f"licences that can be kept at once; {one.licence.id} wants all under {one.licence.sa}",
                f"Leave out {one.name} or {other.name}, or build two corpora.",
            )  # fmt: skip
    all_of = [part.licence for part in parts]
    nc, shut = any(x.nc for x in all_of), any(x.nd or not x.redistribute for x in all_of)
    alike = next((x.sa for x in all_of if x.sa), None)
    by = any(x.by for x in all_of if x.known)
    unknown = tuple(str(part) for part in parts if not part.licence.known)
    if shut or unknown:
        name = OTHER
    else:
        name = alike or ("CC-BY-NC-4.0" if nc else "CC-BY-4.0" if by else "CC0-1.0")
    decides = [
        str(part)
        for part in parts
        if (part.licence.nd or not part.licence.redistribute) or (part.licence.sa and not shut)
        or (part.licence.nc and not alike and not shut)
    ]  # fmt: skip
    return CorpusLicence(
        id=name, by=by, nc=nc, sa=alike is not None, redistribute=not shut, unknown=unknown,
        because=tuple(decides),
    )  # fmt: skip


def _clash(one: Licence, other: Licence) -> bool:
    """Whether the first is share-alike in a way that the second does not allow."""
    if one.sa is None:
        return False
    return (other.sa is not None and other.sa != one.sa) or (other.nc and not one.nc) or other.nd
