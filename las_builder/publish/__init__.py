"""The catalogue: what was built, for those who look for data with STAC tools."""

from las_builder.publish.stac import CorpusInfo, publish

__all__ = ["CorpusInfo", "publish"]
