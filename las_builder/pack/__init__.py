"""Shards: WebDataset tars of GeoTIFFs, their index and their manifest."""

from las_builder.pack.encode import MEMBERS, Sample, encode, sample_key
from las_builder.pack.look import contact_sheet
from las_builder.pack.read import (
    Decoded,
    Entry,
    Shards,
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
    "Decoded",
    "Entry",
    "Member",
    "Rejected",
    "Sample",
    "SampleRecord",
    "ShardReport",
    "Shards",
    "SubsetInfo",
    "contact_sheet",
    "decode",
    "encode",
    "manifest",
    "open_shards",
    "read_member",
    "reflectance",
    "sample_key",
    "shard_name",
    "write_index",
    "write_rejected",
    "write_shard",
]
