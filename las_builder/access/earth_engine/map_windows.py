"""Windows of label maps, on the pixels of their images."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from affine import Affine

from las_builder.access.earth_engine import client
from las_builder.access.earth_engine.asking import INSIDE, Layers, computed, stored, with_mask
from las_builder.access.earth_engine.images import place_of
from las_builder.access.earth_engine.sizes import Piece, in_pieces
from las_builder.access.items import Map
from las_builder.access.meet import windows_around
from las_builder.access.raster import Window
from las_builder.catalogs import LabelProduct
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.core.grid import Grid
from las_builder.core.types import AssetRef


@dataclass(slots=True)
class MapReader:
    """Windows of the maps of one product: codes and evidence of an image are one request."""

    service: EarthEngineService
    product: LabelProduct
    seen: dict[Hashable, Layers] = field(default_factory=dict)

    def around(self, grid: Grid, one: Map, ref: AssetRef) -> list[Window]:
        """See `maps.Around`; what the same image is asked for next comes along."""
        own, t = one.grid, one.grid.transform
        bands = [place_of(str(one.entry.item.assets[k].href))[1] for k in self._evidence(one)]
        codes = place_of(one.asset.href)[1]
        windows = []
        for piece in windows_around(grid, own, 2):
            part = Piece(own, tuple(dict.fromkeys([codes, *bands])), piece.rows, piece.cols)
            data = self._read(place_of(ref.href)[0], part)[place_of(ref.href)[1]]
            west = t.c + piece.turn + piece.cols[0] * t.a
            place = Affine(t.a, 0.0, west, 0.0, t.e, t.f + piece.rows[0] * t.e)
            there = Grid(own.crs, place, part.width, part.height)
            windows.append(Window(data, there, 0 if self._zero_is_nothing else None))
        return windows

    def _evidence(self, one: Map) -> list[str]:
        """Bands of the declared extras that an image has, by their names."""
        names = {
            where.assets.get(name, name)
            for where in self.product.where if where.provider == client.NAME
            for name in self.product.evidence
        }  # fmt: skip
        return sorted(names & one.entry.item.assets.keys())

    @property
    def _zero_is_nothing(self) -> bool:
        """Whether 0, as which a masked pixel comes, is no code but perhaps nodata."""
        product = self.product
        return product.nodata == 0 or 0 not in product.codes | set(product.recode)

    def _read(self, image: str, piece: Piece) -> Layers:
        key = (image, piece)
        if key in self.seen:
            return self.seen[key]
        codes, *others = piece.bands
        kinds = {codes: self.product.dtype, **dict.fromkeys(others, np.dtype("float64"))}
        what = (self.product.name, "map")
        if self._zero_is_nothing:
            found = in_pieces(
                piece, kinds, self.service, partial(stored, self.service, image), what
            )
        else:
            make = partial(with_mask, image, (codes,))
            more = Piece(piece.grid, (*piece.bands, INSIDE), piece.rows, piece.cols)
            kinds[INSIDE] = np.dtype("uint8")
            read = partial(computed, self.service, image, make)
            found = in_pieces(more, kinds, self.service, read, what)
            inside = found.pop(INSIDE) != 0
            found[codes] = np.where(inside, found[codes], self.product.nodata).astype(
                self.product.dtype
            )
        self.seen[key] = found
        return found
