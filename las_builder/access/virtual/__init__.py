"""The virtual Earth: the embedded default, where the true land cover is known everywhere.

Land and climate are real, from the packaged strata; below them truth, scenes and label products
are drawn, the same on every machine. What it makes is synthetic and says so.
"""

from las_builder.access.virtual.leaves import LEAVES
from las_builder.access.virtual.provider import VirtualEarth

__all__ = ["LEAVES", "VirtualEarth"]
