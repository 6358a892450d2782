"""The one narrow protocol to every provider: `search`, `read`, `labels`, many sites a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from las_builder.catalogs import Imagery, LabelProduct
from las_builder.core.grid import Grid
from las_builder.core.types import (
    Chip,
    Gap,
    LabelSource,
    Period,
    PinnedMap,
    PinnedScene,
    Scene,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """Which scenes see this patch?"""

    site: str
    grid: Grid
    """Nominal grid of the patch."""

    period: Period
    max_cloud: float
    """Percent of the whole scene; scenes that do not say are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """The pixels of one scene over one grid."""

    site: str
    scene: Scene
    grid: Grid
    bands: tuple[str, ...]
    """Names of the declaration, the QA band included where it is wanted."""

    categorical: bool = False
    """QA bands: repeated or nearest, never averaged or interpolated."""

    shared: bool = False
    """Whether requests of one place of one file are answered one after the other, from what the
    first has read: fewer requests for many sites, and later answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRequest:
    """A label product over one grid."""

    site: str
    grid: Grid
    scene: Scene
    """The image it goes with: its year, or the scene itself, may choose the map."""

    maps: tuple[PinnedMap, ...] | None = None
    """Those that were pinned, which are read and no others; None: the product's rule chooses."""


def label_key(product: LabelProduct, patch: PinnedScene) -> tuple[str, str]:
    """Site and map: patches that have both in common are given the same labels."""
    when = {"fixed": "", "same-scene": patch.scene.id}
    return patch.site, when.get(product.epoch.rule, str(patch.scene.datetime.year))


def label_requests(
    product: LabelProduct, patches: Iterable[PinnedScene]
) -> dict[tuple[str, str], LabelRequest]:
    """What patches ask of a label product: one request a key."""
    found: dict[tuple[str, str], LabelRequest] = {}
    for p in patches:
        request = LabelRequest(
            site=p.site, grid=p.grid, scene=p.scene, maps=p.maps.get(product.name)
        )
        found.setdefault(label_key(product, p), request)
    return found


class Access(Protocol):
    """A provider of scenes, pixels and labels.

    Implementations are cheap to make and to pickle (they open nothing until asked), answer in the
    order of the requests, return a `Gap` where there is nothing, raise `AccessError` where the
    provider failed and `InputError` where what it holds is broken.
    """

    @property
    def name(self) -> str:
        """What recipes call it, or the path or URL of its catalogue."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether its pixels are made up."""
        ...

    def search(self, imagery: Imagery, requests: Sequence[SearchRequest]) -> list[list[Scene]]:
        """Scenes whose grid covers (some of) each patch, by (datetime, id)."""
        ...

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        """Pixels on the requested grids, in the provider's own numbers and type.

        Where a band's pixels are a whole multiple of the grid's and edges coincide, numbers are
        repeated; where they are finer, area-averaged; otherwise the band is warped once
        (bilinear over valid pixels; QA nearest) and the chip says `resampled`.

        Of a composite (`Scene.members`) image bands alone are asked for, never its validity band:
        the chip is composed of the members as `core.types.Composite` says, in the numbers that
        `Imagery.radiometry` of the composite goes with, and `inside` where any member saw the
        surface. `access.composite.composed` does it on top of any read.
        """
        ...

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        """Windows of the product on its own lattice that cover each grid, a pixel to spare.

        A vector product has none: it is drawn on the grid, by its declared rule.
        """
        ...

    def labelled(self, product: LabelProduct, requests: Sequence[LabelRequest]) -> list[bool]:
        """Whether there is a map that goes with each scene; reads no pixels.

        Asked of products whose epoch is `same-scene` while scenes are chosen, for all candidates
        at once: a scene without its map is no candidate.
        """
        ...

    def sites(self, imagery: Imagery, products: Sequence[LabelProduct]) -> list[Scene] | None:
        """Every scene of a static catalogue, for `region: catalogue`; None where that is endless."""
        ...

    def check(
        self, imagery: Imagery | None, bands: Sequence[str], products: Sequence[LabelProduct]
    ) -> None:
        """Refuse, before anything is written, what cannot work.

        Args:
            imagery: None where only labels are asked for.
            bands: Of the imagery, those that will be read; its validity band is added.
            products: Label products, those only compared included.

        Raises:
            SourceError: This provider does not have the imagery or a product.
            StacError: An item lacks its projection or an asset.
        """
        ...
