"""Regions: names, codes, boxes, files, tiles and footprints to one question."""

from las_builder.plan.regions.outline import WORLD, Box, Outline
from las_builder.plan.regions.region import Region, footprints, in_box
from las_builder.plan.regions.resolve import resolve

__all__ = ["WORLD", "Box", "Outline", "Region", "footprints", "in_box", "resolve"]
