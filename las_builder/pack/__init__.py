"""Shards: WebDataset tars of GeoTIFFs, their index and their manifest."""

from las_builder.pack.diff import PatchDiff, State, SubsetDiff, compare, totals
from las_builder.pack.encode import MEMBERS, Sample, encode, sample_key
from las_builder.pack.loader import Batch, Damaged, Fetch, Index, Loader, fetcher, open_index
from las_builder.pack.look import contact_sheet
from las_builder.pack.read import (
    Decoded,
    Entry,
    Shards,
    SortedShards,
    decode,
    open_shards,
    read_member,
    reflectance,
)
from las_builder.pack.record import SampleRecord, SubsetInfo
from las_builder.pack.write import (
    BandSums,
    Member,
    Rejected,
    ShardReport,
    manifest,
    shard_name,
    write_index,
    write_rejected,
    write_shard,
)

__all__ = [
    "MEMBERS",
    "BandSums",
    "Batch",
    "Damaged",
    "Decoded",
    "Entry",
    "Fetch",
    "Index",
    "Loader",
    "Member",
    "PatchDiff",
    "Rejected",
    "Sample",
    "SampleRecord",
    "ShardReport",
    "Shards",
    "SortedShards",
    "State",
    "SubsetDiff",
    "SubsetInfo",
    "compare",
    "contact_sheet",
    "decode",
    "encode",
    "fetcher",
    "manifest",
    "open_index",
    "open_shards",
    "read_member",
    "reflectance",
    "sample_key",
    "shard_name",
    "totals",
    "write_index",
    "write_rejected",
    "write_shard",
]
