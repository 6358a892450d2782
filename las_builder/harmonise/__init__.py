"""From a product's own codes on its own lattice to classes of a taxonomy on the patch."""

from las_builder.harmonise.crosswalk import Crosswalk, harmonise
from las_builder.harmonise.regrid import regrid

__all__ = ["Crosswalk", "harmonise", "regrid"]
