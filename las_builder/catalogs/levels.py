"""Levels of the ontology as taxonomies, for audits: made from it, never written out."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Literal

from las_builder.catalogs.models import Ontology, Taxonomy, TaxonomyClass

LEVELS: Mapping[str, tuple[int, Literal["cover", "use"]]] = {
    "level-1": (1, "cover"),
    "level-2": (2, "cover"),
    "level-3": (3, "cover"),
    "level-1-use": (1, "use"),
    "level-2-use": (2, "use"),
    "level-3-use": (3, "use"),
}
"""Name of a taxonomy to the level of its classes (1 is the highest) and its basis."""


def level_taxonomy(name: str, ontology: Ontology) -> Taxonomy:
    """A level of the ontology as a taxonomy; a leaf above the level is a class of its own.

    Args:
        name: One of `LEVELS`.
        ontology: Its titles are the classes' titles and prompts; its version is theirs.
    """
    level, basis = LEVELS[name]
    classes = []
    for id_ in ontology.at_level(level):
        node = ontology.by_id[id_]
        classes.append(
            TaxonomyClass(
                name=id_.replace(".", "_"),
                title=node.title,
                color_hint=colour(id_),
                members=[id_],
                prompts=[prompt(node.title)],
            )
        )
    return Taxonomy(
        name=name,
        title=f"Level {level} of the ontology, land {basis}",
        version=ontology.version,
        basis=basis,
        classes=classes,
        verified=ontology.verified,
        sources=[f"ours: catalogs/ontology.yaml, version {ontology.version}"],
    )


HUES = {
    "water": 0x0064C8, "tree": 0x006400, "shrub": 0xFFBB22, "grass": 0xFFFF4C, "crop": 0xF096FF,
    "built": 0xFA0000, "bare": 0xB4B4B4, "wetland": 0x0096A0, "snow_ice": 0xF0F0F0,
}  # fmt: skip
"""Colour of a branch, that of ESA WorldCover where it has the class; its nodes are shades of it."""


def colour(id_: str) -> str:
    """The colour of a node: that of its branch, shifted by the node's name, always the same."""
    hue = HUES.get(id_.split(".", maxsplit=1)[0], 0x808080)
    if "." not in id_:
        return f"{hue:06X}"
    shift = [zlib.crc32(f"{id_}{i}".encode()) % 111 - 55 for i in range(3)]
    parts = [hue >> 16, hue >> 8 & 255, hue & 255]
    return "".join(f"{max(0, min(255, c + s)):02X}" for c, s in zip(parts, shift, strict=True))


def prompt(title: str) -> str:
    """A title as words for a text encoder: "Lake / pond (large)" is "lake or pond"."""
    words = re.sub(r"\([^)]*\)", "", title.lower()).replace("/", " or ").replace(",", " or ")
    return " ".join(words.split())
