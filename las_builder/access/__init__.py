"""Where pixels come from. The only room with `ee`, `pystac_client` or a raster reader in it."""

from las_builder.access.protocol import Access, LabelRequest, ReadRequest, SearchRequest

__all__ = ["Access", "LabelRequest", "ReadRequest", "SearchRequest"]
