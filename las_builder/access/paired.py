"""Imagery from one provider, labels from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from las_builder.access.protocol import Access, LabelRequest, ReadRequest, SearchRequest
from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.types import Chip, Gap, LabelSource, Scene


@dataclass(frozen=True, slots=True)
class Paired:
    """An `Access` that asks others."""

    imagery: Access
    """Who has the scenes."""

    products: tuple[Access, ...]
    """Who has the labels: of each product the first that may."""

    @property
    def name(self) -> str:
        """Of all."""
        others = " and ".join(one.name for one in self.products)
        return f"{self.imagery.name} with labels of {others}"

    @property
    def synthetic(self) -> bool:
        """Whether any makes its pixels up."""
        return self.imagery.synthetic or any(one.synthetic for one in self.products)

    def of(self, product: LabelProduct) -> Access:
        """Who is asked for a product."""
        from las_builder.access import may_have

        return next((a for a in self.products if may_have(a.name, product)), self.products[-1])

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
        return self.of(product).labels(product, requests)

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """See `Access.labelled`."""
        return self.of(product).labelled(product, requests)

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """The scenes; where those are endless, the footprints of the maps."""
        found = self.imagery.sites(imagery, products)
        for one in self.products if found is None else ():
            mine = [p for p in products if self.of(p) is one]
            found = one.sites(imagery, mine) if mine else None
            if found is not None:
                break
        return found

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """See `Access.check`."""
        self.imagery.check(imagery, bands, [])
        for one in self.products:
            one.check(None, [], [p for p in products if self.of(p) is one])
