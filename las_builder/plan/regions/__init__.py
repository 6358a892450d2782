"""Regions: names, codes, boxes, files, tiles and footprints to one question."""

from las_builder.plan.regions.names import resolve
from las_builder.plan.regions.outline import WORLD, Box, Outline
from las_builder.plan.regions.region import Region, footprints, in_box

__all__ = ["WORLD", "Box", "Outline", "Region", "footprints", "in_box", "resolve"]
