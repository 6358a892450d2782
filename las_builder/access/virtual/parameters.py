"""Parameters of a world: one YAML a part in `catalogs/virtual/`, and worlds that differ from it.

A proof that holds on one world could hold because that world was made for it. So every number can
be turned by up to `spread` of itself, each by its own draw, and the proofs run again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from las_builder.access.virtual.noise import unit
from las_builder.catalogs import Catalogs
from las_builder.catalogs.loader import read_yaml
from las_builder.core.options import Strict

M = TypeVar("M", bound=BaseModel)

PUBLISHED = "published"
"""Marks a number that is somebody else's: it stays as it is in every world."""

Published = Annotated[float, PUBLISHED]
Share = Annotated[float, at.Ge(0), at.Le(1)]

__all__ = ["PUBLISHED", "Published", "Share", "Strict", "parameters", "varied"]


@functools.lru_cache(maxsize=64)
def parameters(
    folders: tuple[Path, ...], name: str, model: type[M], spread: float = 0.0, draw: int = 0
) -> M:
    """The parameters of one part of a world.

    Args:
        folders: Of the declarations; the user's own come first.
        name: Of the file in `virtual/`.
        model: What the file must say.
        spread: Each number is multiplied by something between 1 - spread and 1 + spread.
        draw: Which such world.

    Raises:
        CatalogError: The file is missing or wrong.
    """
    declared = read_yaml(Catalogs(folders).file("virtual", name), model)
    return varied(declared, spread, (draw, name)) if spread else declared


def varied(model: M, spread: float, seed: tuple[object, ...]) -> M:
    """The same declaration with every real number turned; integers and `PUBLISHED` ones stay.

    A number that its field bounds is held within the bounds.
    """
    fields = type(model).model_fields
    changed = {
        name: _turned(getattr(model, name), _marks(field), spread, (*seed, name))
        for name, field in fields.items()
    }
    return model.model_copy(update=changed)


def _marks(field: FieldInfo) -> list[Any]:
    """What annotations say of a field's numbers, those within a mapping or list included."""

    def inside(annotation: Any) -> list[Any]:
        marks = list(getattr(annotation, "__metadata__", ()))
        return marks + [mark for part in get_args(annotation) for mark in inside(part)]

    return [*field.metadata, *inside(field.annotation)]


def _turned(value: Any, marks: list[Any], spread: float, seed: tuple[object, ...]) -> Any:
    if PUBLISHED in marks:
        return value
    if isinstance(value, BaseModel):
        return varied(value, spread, seed)
    if isinstance(value, Mapping):
        return {k: _turned(v, marks, spread, (*seed, k)) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_turned(v, marks, spread, (*seed, i)) for i, v in enumerate(value))
    if not isinstance(value, float):
        return value
    value *= 1 + spread * (2 * unit(*seed) - 1)
    for bound in marks:
        if isinstance(bound, at.Ge):
            value = max(value, float(bound.ge))  # type: ignore[arg-type]
        if isinstance(bound, at.Le):
            value = min(value, float(bound.le))  # type: ignore[arg-type]
    return round(value, 9)
