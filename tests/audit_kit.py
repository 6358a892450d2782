"""Legends, rows and sites of small made-up cubes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from las_builder.audit import Population, Row
from las_builder.catalogs import Catalogs, LabelProduct
from las_builder.plan import Sample

CATALOGS = Catalogs.load()


def legend(name: str, codes: Sequence[int], dtype: str = "uint8", like: str = "") -> LabelProduct:
    """A product with these codes, the first its nodata."""
    product = CATALOGS.label(like or "esa-worldcover-v200")
    if like:
        return product.model_copy(update={"name": name})
    first = product.classes[0]
    return product.model_copy(
        update={
            "name": name, "title": name, "nodata": codes[0], "data_type": dtype, "codes": frozenset(codes),
            "classes": [
                first.model_copy(update={"value": code, "name": f"c{k}", "title": f"class {code}"})
                for k, code in enumerate(codes[1:])
            ],
        }
    )  # fmt: skip


def population(weight: Sequence[float], patches: Sequence[int], pixels: int, **more) -> Population:
    weight = np.asarray(weight, float)
    values = {"area_km2": float(weight.sum()), "refused": "", **more}
    return Population(
        ids=[chr(97 + i) for i in range(len(weight))],
        sample=Sample(weight, np.zeros(len(weight), int)),
        patches=np.asarray(patches, float), pixels=pixels, **values,
    )  # fmt: skip


def row(number: int, site: int, version: Sequence[str] = ("v", "v"), year: int = 2021) -> Row:
    return Row(number, site, tuple(version), year)
