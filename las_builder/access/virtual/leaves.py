"""The ontology leaves of this world, and the letters that its parameters write them with."""

from __future__ import annotations

from collections.abc import Mapping

LETTERS: Mapping[str, str] = {
    "~": "water.marine.ocean",
    "L": "water.inland_permanent.lake",
    "=": "water.inland_permanent.river",
    "o": "water.artificial.swimming_pool",
    "B": "tree.broadleaf.deciduous",
    "E": "tree.broadleaf.evergreen",
    "N": "tree.needleleaf.evergreen",
    "F": "tree.needleleaf.deciduous",
    "Q": "tree.mixed",
    "A": "tree.open_woodland",
    "O": "tree.plantation.oil_palm",
    "S": "shrub.open",
    "H": "shrub.heath_moor",
    "G": "grass.natural.savanna",
    "T": "grass.natural.tundra",
    "P": "grass.managed.pasture_hay",
    "U": "grass.managed.turf",
    "M": "crop.annual.maize",
    "C": "crop.annual.wheat",
    "Y": "crop.annual.soy",
    "I": "crop.flooded",
    "V": "crop.permanent.olive",
    "b": "built.building",
    "r": "built.transport.road",
    "i": "built.impervious_other",
    "d": "built.urban_fabric.dense",
    "s": "built.urban_fabric.sparse",
    "n": "built.industrial_commercial.industrial",
    "D": "bare.soil_sand.sand_beach",
    "Z": "bare.soil_sand.saline",
    "R": "bare.rock",
    "J": "bare.lichen_moss",
    "W": "wetland.herbaceous",
    "w": "wetland.coastal.saltmarsh",
    "X": "wetland.woody.swamp_forest",
    "m": "wetland.mangrove",
    "K": "snow_ice.permanent",
}
"""Letter to leaf. The three of urban fabric stand for towns where no house can be told apart."""

LEAVES: tuple[str, ...] = tuple(LETTERS.values())
"""Ontology leaves; the truth is an index into them."""

INDEX: Mapping[str, int] = {letter: i for i, letter in enumerate(LETTERS)}
"""Letter to index."""


def branch(leaf: str, level: int) -> str:
    """The ontology node of a level (1 is the top) that holds a leaf; the leaf if it is higher."""
    return ".".join(leaf.split(".")[:level])


COLOURS: Mapping[str, str] = {
    "~": "1f4e79", "L": "2f79b5", "=": "4a96cf", "o": "5fd0e8",
    "B": "2f8f3a", "E": "0f6b2c", "N": "1d5c3f", "F": "5f9a62", "Q": "2a7a45", "A": "86b35a",
    "O": "6fae2b", "S": "b59a4a", "H": "9c7f86", "G": "d8d27c", "T": "c2cf9a", "P": "b7e07a",
    "U": "8fd96b", "M": "f2b632", "C": "f6dd7a", "Y": "d99a3c", "I": "8fc7b8", "V": "c7a65f",
    "b": "b3262e", "r": "55565a", "i": "9a9a9f", "d": "cf4a4f", "s": "e79a93", "n": "9b5f9e",
    "D": "ead9b5", "Z": "f5eef2", "R": "9b9087", "J": "cfd3b0", "W": "5fb6a5", "w": "7fb3b8",
    "X": "2f7f78", "m": "1fa085", "K": "f7fbff",
}  # fmt: skip
"""Letter to the colour of its leaf on a map, RRGGBB."""
