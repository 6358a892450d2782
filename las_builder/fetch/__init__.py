"""Blocks of patches into the cube: imagery, validity and raw product codes."""

from las_builder.fetch.block import FetchJob, PatchResult, fetch_block, read_manifest
from las_builder.fetch.cube import BLOCK_BYTES, CubeLayout, blocks_of, create_round, open_cube

__all__ = [
    "BLOCK_BYTES",
    "CubeLayout",
    "FetchJob",
    "PatchResult",
    "blocks_of",
    "create_round",
    "fetch_block",
    "open_cube",
    "read_manifest",
]
