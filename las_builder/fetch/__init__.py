"""Blocks of patches into the cube: imagery, validity and raw product codes."""

from las_builder.fetch.added import AddedResult, AddJob, add_product, read_block
from las_builder.fetch.block import FetchJob, PatchResult, fetch_block, read_manifest
from las_builder.fetch.cube import (
    BLOCK_BYTES,
    CubeLayout,
    add_arrays,
    blocks_of,
    create_round,
    open_cube,
)

__all__ = [
    "BLOCK_BYTES",
    "AddJob",
    "AddedResult",
    "CubeLayout",
    "FetchJob",
    "PatchResult",
    "add_arrays",
    "add_product",
    "blocks_of",
    "create_round",
    "fetch_block",
    "open_cube",
    "read_block",
    "read_manifest",
]
