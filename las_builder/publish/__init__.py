"""The corpus in STAC: one collection, its items as GeoParquet, JSON items on request."""

from las_builder.publish.stac import CorpusInfo, footprint, item, publish

__all__ = ["CorpusInfo", "footprint", "item", "publish"]
