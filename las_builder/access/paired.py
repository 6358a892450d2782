"""Imagery from one provider, labels from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from las_builder.access.protocol import Access, LabelRequest, ReadRequest, SearchRequest
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.types import Chip, Gap, LabelSource, Scene


@dataclass(frozen=True, slots=True)
class Paired:
    """An `Access` that asks two others."""

    imagery: Access
    """Who has the scenes."""

    products: Access
    """Who has the labels."""

    @property
    def name(self) -> str:
        """Of both."""
        return f"{self.imagery.name} with labels of {self.products.name}"

    @property
    def synthetic(self) -> bool:
        """Whether either makes its pixels up."""
        return self.imagery.synthetic or self.products.synthetic

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """See `Access.search`."""
        return self.imagery.search(imagery, requests)

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """See `Access.read`."""
        return self.imagery.read(imagery, requests)

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """See `Access.labels`."""
        return self.products.labels(product, requests)

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """The scenes; where those are endless, the footprints of the maps."""
        scenes = self.imagery.sites(imagery, products)
        return self.products.sites(imagery, products) if scenes is None else scenes

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """See `Access.check`."""
        self.imagery.check(imagery, bands, [])
        self.products.check(None, [], products)
