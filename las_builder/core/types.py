"""What flows through the pipeline. Read this file first.

    Site ──search──▶ Scene ──read──▶ Chip | Gap ─┐
      └────labels──▶ LabelSource ──regrid──▶ LabelMap | Gap ──harmonise──▶ Harmonised ──▶ shard

All are frozen: a stage makes new values, it never edits what it was given.
Array axes are always (patch, band, y, x); y runs north to south. True in a mask means valid.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from las_builder.core.grid import Grid
from las_builder.errors import GridMismatchError

IGNORE = 255
"""Class index of a pixel that has no label."""

NO_CONFIDENCE = 255
"""Confidence of a pixel about which nothing is said."""

Split = Literal["train", "val", "test", "buffer", "benchmark"]
ConfidenceKind = Literal["calibrated", "uncalibrated", "prior"]


@dataclass(frozen=True, slots=True)
class Period:
    """Days from `start` up to, not including, `end`."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"a period must end after it starts, got {self.start}/{self.end}")

    @classmethod
    def parse(cls, text: str) -> Period:
        """From "2021-01-01/2022-01-01"; the second day is not in it."""
        first, _, last = text.partition("/")
        return cls(date.fromisoformat(first), date.fromisoformat(last))

    def __str__(self) -> str:
        return f"{self.start.isoformat()}/{self.end.isoformat()}"

    def slots(self, n: int) -> list[Period]:
        """`n` periods of equal length (to the day) that follow each other."""
        days = (self.end - self.start).days
        marks = [self.start.toordinal() + days * i // n for i in range(n + 1)]
        return [
            Period(date.fromordinal(a), date.fromordinal(b)) for a, b in itertools.pairwise(marks)
        ]

    def holds(self, when: datetime) -> bool:
        """Whether the moment (UTC) lies in the period."""
        return self.start <= when.astimezone(UTC).date() < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One sampled place: the unit of planning and of splitting."""

    id: str
    """Stable across runs; derived from the nominal grid, never from row order."""

    subset: str
    """The recipe that drew it."""

    lon: float | None
    """Centre, degrees east, quantised to 1e-7 before any decision; None: a picture without a place."""

    lat: float | None
    """Centre, degrees north, quantised likewise."""

    grid: Grid
    """Nominal: `scenes` may move it by less than a pixel onto the scene's lattice."""

    component: str
    """Which component of the design drew it."""

    stratum: str
    """Which stratum it lies in; (component, stratum) is its cell."""

    density: float | None
    """Sites per km2 of target population that the draw expects here; None: unknown."""

    weight_km2: float | None
    """1 / density: the area this site stands for. None where selection has no known chance."""

    rank: int
    """Order within the cell by a random number of its own; primaries first, then reserves."""

    primary: bool
    """False for a reserve, which is searched only when a site of its cell is a gap."""

    block: int
    """Equal-area block of the splits."""

    split: Split
    """train, val, test; or buffer, benchmark: fetched and audited, never packed."""

    @property
    def cell(self) -> tuple[str, str]:
        """(component, stratum): where its reserves come from."""
        return self.component, self.stratum


PUBLISHED = "published"
"""Component of sites that somebody else has chosen and whose split stays that of the publisher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A place of an annotated set: pictures of one or several dates on the same pixels."""

    code: str
    """Its name in ids of sites; from the parts of its path."""

    grid: Grid
    """Of whole patches, from the upper left corner on. Without CRS it counts pixels."""

    split: Split
    """The publisher's."""


class GapReason(enum.StrEnum):
    """Why a site has no pixels. Gaps are ordinary: counted, recorded, replaced."""

    NO_SCENE = "no-scene"
    """The catalogue has no scene of the period that covers the patch."""

    TOO_CLOUDY = "too-cloudy"
    """Scenes there are, but too few clear enough over the patch."""

    TOO_COARSE = "too-coarse"
    """The scenes are coarser than the ground sample distance the recipe states."""

    NO_FILE = "no-file"
    """The catalogue lists a file that is not there."""

    NO_LABEL = "no-label"
    """A label product has nothing here."""

    NOT_COVERED = "not-covered"
    """The pixels read do not cover the patch."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A provider was asked about a site and has nothing to give."""

    site: str
    reason: GapReason
    detail: str = ""
    """What was missing, in words: a product, a scene id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRef:
    """Where the pixels of one band are: a file without its signature, and a band in it."""

    href: str
    index: int = 1
    """Band number in the file, from 1."""

    scale: float | None = None
    """As the provider states it; None: not stated. The declaration decides (`Imagery.radiometry`)."""

    offset: float | None = None
    """Likewise."""

    shape: tuple[int, int] | None = None
    """Rows and columns of the file as its item states them for it; None: it does not."""

    size: int | None = None
    """Bytes of the file when the scene was pinned; None: not known, or on disk."""

    etag: str | None = None
    """What its server called this state of the file; likewise."""


Composite = Literal["median", "best"]
"""How several scenes become one image, pixel by pixel, of those in which the surface was seen.
median: of each band, over scenes; of an even number the mean of the middle two, halves of whole
numbers upwards. best: all bands of the first scene, in the order of `Scene.members`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One acquisition as a provider lists it, or a composite of several."""

    id: str
    datetime: datetime
    """UTC."""

    cloud_cover: float | None
    """Percent of the whole scene; None: the provider does not say."""

    grid: Grid
    """The grid of its finest band: what a patch must lie in."""

    assets: Mapping[str, AssetRef]
    """Band name of the declaration to where it is."""

    properties: Mapping[str, str | float | int | bool] = field(default_factory=dict)
    """What the declaration's rules ask for: platform, processing baseline, product version."""

    href: str = ""
    """Where its item can be read, http(s) without a signature; "": nowhere by a link."""

    composite: Composite | None = None
    """How `members` are composed; None: one acquisition."""

    members: tuple[Scene, ...] = ()
    """Of a composite: acquisitions on one lattice, the best first. It has no assets of its own."""

    @property
    def parts(self) -> tuple[Scene, ...]:
        """The acquisitions that its pixels come from: itself, or its members."""
        return self.members or (self,)

    @classmethod
    def of(cls, composite: Composite, members: Sequence[Scene]) -> Scene:
        """A composite: of the time of its middle member, with the properties in which all agree
        and the interval that they span.

        Args:
            composite: How they are composed.
            members: At least one, on one lattice; `best` prefers the first.
        """
        times = sorted(scene.datetime for scene in members)
        first = members[0]
        agreed = {
            key: value
            for key, value in first.properties.items()
            if all(scene.properties.get(key) == value for scene in members)
        }
        span = {"start_datetime": times[0].isoformat(), "end_datetime": times[-1].isoformat()}
        return cls(
            id="+".join(scene.id for scene in members),
            datetime=times[(len(times) - 1) // 2],
            cloud_cover=None,
            grid=first.grid,
            assets={},
            properties={**agreed, **span},
            composite=composite,
            members=tuple(members),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedMap:
    """A map of a label product that goes with a pinned scene: what its file was then."""

    id: str
    href: str
    """Without signature."""

    size: int | None = None
    """Bytes; None: on disk, or not known."""

    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedScene:
    """A scene chosen for one date slot of one site: a row of `scenes/<round>.parquet`."""

    site: str
    slot: int
    """Which of the recipe's dates, from 0."""

    scene: Scene
    grid: Grid
    """The final grid: one for all dates of the site."""

    clear: float
    """Share of the patch in which the surface was seen, 0-1."""

    maps: Mapping[str, tuple[PinnedMap, ...]] = field(default_factory=dict)
    """Label product to its maps here, none if it had none; products that are missing were not
    pinned: they are made, or joined later."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chip:
    """Imagery of one site at one date, in the provider's own numbers."""

    grid: Grid
    bands: tuple[str, ...]

    data: NDArray[np.generic]
    """(band, y, x) in the provider's type; scale and offset are metadata."""

    inside: NDArray[np.bool_]
    """(y, x); True where every band had a pixel to give (inside the file, not its nodata)."""

    resampled: bool
    """Whether any band was warped (bilinear); False means every number is the provider's."""

    def __post_init__(self) -> None:
        want = (len(self.bands), *self.grid.shape)
        if self.data.shape != want or self.inside.shape != self.grid.shape:
            raise GridMismatchError(
                f"a chip of bands {self.bands} has data {self.data.shape} and mask "
                f"{self.inside.shape}; its grid asks for {want}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelSource:
    """A window of a label product, on the product's own lattice, as it was read."""

    product: str
    version: str
    """Item or image id, so that a reader can check us."""

    grid: Grid
    """The window; its CRS and pixels are the product's, not the patch's."""

    codes: NDArray[np.integer]
    """(y, x), the product's own codes."""

    nodata: int | None
    """Code that says nothing, as declared (or as the file says where the file overrules)."""

    evidence: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """Declared extras on the same window, name to (y, x): probabilities, fractions."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """One label product on the grid of a patch, in the product's own codes."""

    product: str
    version: str
    grid: Grid

    codes: NDArray[np.integer]
    """(y, x); the declaration's nodata where the product says nothing."""

    share: NDArray[np.uint8]
    """(y, x) percent of the pixel's area that has the code; 100 where nearest was enough, 0 = none."""

    evidence: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.shape != self.grid.shape or self.share.shape != self.grid.shape:
            raise GridMismatchError(
                f"{self.product}: codes {self.codes.shape} and share {self.share.shape} do not "
                f"lie on a grid of {self.grid.shape}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Harmonised:
    """What the label products say of one patch, in the taxonomy's classes."""

    taxonomy: str

    classes: NDArray[np.uint8]
    """(y, x); index into the taxonomy's classes, 255 = ignore."""

    confidence: NDArray[np.uint8]
    """(y, x); 0-100 = probability in percent that the class is right, 255 = nothing is said."""

    confidence_kind: ConfidenceKind | None
    """None when no pixel carries a confidence."""

    voters: NDArray[np.uint8]
    """(y, x); how many products spoke."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring patches of one subset: the unit of work, of commit and of resuming.

    Rows `start` to `stop` of one round of the cube. Written by exactly one task; done if and only
    if its manifest is there.
    """

    round: int
    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The stem of its manifest, like r0-00012."""
        return f"r{self.round}-{self.number:05d}"
