"""The shape of every file in `catalogs/`.

Field names are those of STAC 1.1 and its extensions wherever STAC has one, so that what is
declared is published verbatim. Unknown keys are refused.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from las_builder.core.grid import Lattice
from las_builder.core.options import Strict
from las_builder.core.types import Period, Scene
from las_builder.errors import StacError

PROVIDERS = ("earth-search", "planetary-computer", "earth-engine", "virtual")
"""What `source:` may name, besides the path or URL of a STAC catalogue."""

Provider = Literal["earth-search", "planetary-computer", "earth-engine", "virtual", "stac"]
"""`stac` in a `where` entry: how a static catalogue made by `las index` or others names things."""

DataType = Literal["uint8", "uint16", "int16", "int32", "uint32", "float32"]
Value = str | float | int | bool


class Declared(Strict):
    """A declaration with STAC names as aliases."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Extent(Declared):
    """Where and when a thing exists."""

    bbox: tuple[float, float, float, float] = (-180.0, -90.0, 180.0, 90.0)
    """West, south, east, north; west > east crosses the antimeridian."""

    countries: list[str] | None = None
    """ISO codes or names of the countries it covers, where a box says too much; None: all."""

    interval: tuple[date | None, date | None] = (None, None)
    """First day, last day; None is open."""


class Where(Declared):
    """One provider of a thing."""

    provider: Provider
    collection: str | None = None
    """STAC collection or Earth Engine asset id."""

    auth: Literal["none", "sign", "requester-pays", "ee"] = "none"
    assets: Mapping[str, str] = Field(default_factory=dict)
    """Our band name to the provider's asset or band, where they differ. The classes of a label
    product are called `codes`, its evidence by its own names. Bands that share one asset are told
    apart by their common name, else by their order here."""

    match: Mapping[str, Value | list[Value]] = Field(default_factory=dict)
    """Item properties that must hold, e.g. the version of a product that shares a collection;
    of several values, one. See `holds`."""

    region: str = "us-west-2"
    """AWS region of its buckets (s3://...), where items do not say."""

    cloud: str | None = None
    """Earth Engine: property of an image that has its percent of cloud."""

    sun_elevation: str | None = None
    """Earth Engine: property of an image that has what `Imagery.sun_elevation` asks for."""

    years: Mapping[int, str] | None = None
    """Earth Engine: year to band, where one image holds the maps of several years."""

    unused_zero: list[str] = Field(default_factory=list)
    """Earth Engine, where masked pixels come as 0: bands of ours in which 0 is never a value, though
    it is not their nodata, so that their mask need not be asked for."""

    harmonised: bool = False
    """The provider has already removed the radiometric offset."""

    errors: bool = True
    """Virtual Earth only: whether a product errs as `virtual/products.yaml` says; false: its codes
    are the truth's at the centres of its pixels."""

    note: str = ""
    verified: bool = True

    def holds(self, properties: Mapping[str, Any]) -> bool:
        """Whether an item with these properties is one of ours."""
        return all(
            properties.get(key) in (want if isinstance(want, list) else [want])
            for key, want in self.match.items()
        )


class HostDeclaration(Declared):
    """What is known of the hosts of a provider whose names match a pattern."""

    host: str
    """Name or pattern, as in file names: *.amazonaws.com; the longest that matches counts."""

    per_second: float = Field(gt=0)
    """Requests a second that one user may send."""

    in_flight: int = Field(ge=1)
    """Requests at once."""

    auth: Literal["none", "sign", "requester-pays"] = "none"
    verified: bool = True


class StacProvider(Declared):
    """A STAC API: `catalogs/providers/<name>.yaml`."""

    name: str
    """The file's name; not written in the file."""

    title: str
    api: str
    """URL of its landing page."""

    page: int = Field(default=100, ge=1)
    """Items asked for at once."""

    hosts: list[HostDeclaration] = Field(default_factory=list)
    verified: bool
    sources: list[str]


class Band(Declared):
    """One band of an imagery source; the names are STAC's."""

    name: str
    common_name: str | None = Field(default=None, alias="eo:common_name")
    center_wavelength: float | None = Field(default=None, alias="eo:center_wavelength")
    """Micrometres."""

    full_width_half_max: float | None = Field(default=None, alias="eo:full_width_half_max")
    """Micrometres."""

    gsd: float
    """Metres."""

    scale: float = Field(default=1.0, alias="raster:scale")
    offset: float = Field(default=0.0, alias="raster:offset")
    unit: str = "1"


class OffsetRule(Declared):
    """An offset that holds from some value of an item property on (baseline 04.00 of Sentinel-2)."""

    property: str
    at_least: str
    """Compared as dotted numbers: "04.00" <= "05.09"."""

    unless: Mapping[str, Value] = Field(default_factory=dict)
    """Item properties that say that it has been applied already."""

    doubtful: Mapping[str, Value] = Field(default_factory=dict)
    """Item properties that are known to be wrong at times: scenes to which the rule applies and
    that say so are passed over, since nothing tells whether it has been applied."""

    offset: float = Field(alias="raster:offset")


class Validity(Declared):
    """How to tell that the surface was seen."""

    band: str | None = None
    """QA band; None: valid is what is not nodata."""

    clear_values: list[int] | None = None
    """Values of the QA band that mean a clear view."""

    clear_when_zero: list[int] | None = None
    """Bits of the QA band that must all be 0 for a clear view."""

    clear_at_least: float | None = None
    """Of a band that scores how clear the view is: from this number on it is."""

    nodata: int | None = None
    """Value of the QA band outside the swath."""

    gsd: float | None = None

    silent: list[tuple[date, date]] = Field(default_factory=list)
    """First and last days between which the band says nothing: scenes of then are no candidates."""

    joined: Mapping[Provider, str] = Field(default_factory=dict)
    """Provider to the collection that holds the band, where it is not that of the scenes; its images
    have their ids. Other providers do not have the band."""

    computed: Literal["omnicloudmask"] | None = None
    """The band is in no file: this model makes it of `of`; see `access.cloudmask`."""

    of: list[str] = Field(default_factory=list)
    """Bands of the imagery, in the order that the model expects."""

    source: str = ""
    verified: bool = True
    """Whether values, bits or thresholds were read in a primary source."""

    @model_validator(mode="after")
    def _one_way(self) -> Validity:
        ways = [self.clear_values, self.clear_when_zero, self.clear_at_least]
        if (self.band is not None) != (sum(way is not None for way in ways) == 1):
            raise ValueError(
                "give `band` with one of clear_values, clear_when_zero and clear_at_least, or neither"
            )
        if (self.computed is not None) != bool(self.of):
            raise ValueError("`computed` and `of` go together")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        """Bands that must be read to tell."""
        return tuple(self.of) or ((self.band,) if self.band is not None else ())

    def speaks_of(self, when: datetime) -> bool:
        """Whether the band says anything of that day (UTC)."""
        day = when.astimezone(UTC).date()
        return not any(first <= day <= last for first, last in self.silent)

    def decode(self, qa: NDArray[np.generic]) -> NDArray[np.bool_]:
        """QA numbers, any shape, to True where the surface was seen."""
        if self.clear_at_least is not None:
            clear = np.asarray(
                qa.astype(np.float64) >= self.clear_at_least
            )  # what is no number is not clear
        elif self.clear_values is not None:
            clear = np.isin(qa, self.clear_values)
        else:
            bits = sum(1 << bit for bit in self.clear_when_zero or [])
            clear = (qa.astype(np.int64) & bits) == 0
        return clear if self.nodata is None else clear & (qa != self.nodata)


class LatticeDeclaration(Declared):
    """See `core.grid.Lattice`."""

    crs: Literal["mgrs-utm", "utm-north", "utm-nad83", "source"]
    pixel: float = Field(gt=0)
    cell: float | None = None
    origin_north: tuple[float, float] = (0.0, 0.0)
    origin_south: tuple[float, float] = (0.0, 0.0)
    polar: str | None = None


class Imagery(Declared):
    """An imagery source: `catalogs/imagery/<name>.yaml`."""

    name: str
    """The file's name; not written in the file."""

    title: str
    description: str = ""
    license: str
    terms: str | None = None
    """Id in `core.licence.LICENCES`, where `license` is "other" and the terms are known."""

    attribution: str
    platforms: list[str]
    data_type: DataType
    level: Literal["toa", "surface", "display"] | None = None
    """What physical values are: reflectance at the top of the atmosphere or of the surface, or
    stretched for display; None: for display where `data_type` is uint8, else of the surface."""

    nodata: float | None = None
    """The value of a pixel outside the scene, in every band."""

    rgb: tuple[str, str, str]
    """Bands to look at."""

    stretch: tuple[float, float] = (0.0, 0.3)
    """Physical values that are black and white when looked at."""

    lattice_: LatticeDeclaration = Field(alias="lattice")
    extent: Extent = Extent()
    bands: list[Band]
    validity: Validity = Validity()
    validities: Mapping[str, Validity] = Field(default_factory=dict)
    """Other ways to tell, by the name that `dates.validity` of a recipe says."""

    sun_elevation: str | None = None
    """Item property, degrees: numbers are of reflectance times the sine of it, by which scale and
    offset are divided (Landsat Level-1); None: of reflectance."""

    offset_rules: list[OffsetRule] = Field(default_factory=list)
    where: list[Where]
    verified: bool
    unverified_fields: list[str] = Field(default_factory=list)
    sources: list[str]

    @property
    def lattice(self) -> Lattice:
        """The grids that the provider delivers without resampling."""
        return Lattice(**self.lattice_.model_dump())

    @property
    def gsd(self) -> float:
        """Of the finest band, metres."""
        return min(band.gsd for band in self.bands)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored image."""
        return np.dtype(self.data_type)

    def band(self, name: str) -> Band:
        """The band of this name; `KeyError` if there is none."""
        return next(band for band in self.bands if band.name == name)

    def at(self, provider: str) -> Where | None:
        """How a provider names it; None if that provider does not have it."""
        return next((w for w in self.where if w.provider == provider), None)

    def seen_by(self, name: str) -> Imagery:
        """The same with another of its validities; `KeyError` if there is none of this name."""
        return self.model_copy(update={"validity": self.validities[name]})

    def trusted(self, scene: Scene) -> bool:
        """Whether what the scene says of its radiometric offset can be believed."""
        return not any(
            rule.property in scene.properties
            and _dotted(str(scene.properties[rule.property])) >= _dotted(rule.at_least)
            and any(
                k in scene.properties and scene.properties[k] == v for k, v in rule.doubtful.items()
            )
            for rule in self.offset_rules
        )

    def radiometry(self, scene: Scene, name: str, *, provider: str = "stac") -> tuple[float, float]:
        """Scale and offset of one band of one scene: physical = number * scale + offset.

        The declared rules decide where the scene carries the property they ask for, because
        providers are known to state the offset of Sentinel-2 wrongly (Element84/earth-search
        issues 66 and 71); then what the provider states; then the declaration.

        Of a composite, those of the member with the lowest offset, to which the numbers of the
        others are raised: see `counts_to`.

        Raises:
            StacError: The scene does not say where the sun was, and its numbers need it.
        """
        if scene.members:
            found = [self.radiometry(one, name, provider=provider) for one in scene.members]
            return min(found, key=lambda said: said[1])
        scale, offset = self._stated(scene, name, provider)
        if self.sun_elevation is None:
            return scale, offset
        above = scene.properties.get(self.sun_elevation)
        if not isinstance(above, int | float) or not 0 < above <= 90:
            raise StacError(
                scene.id, self.sun_elevation, above, "degrees above the horizon",
                f"Without it numbers of {self.name} are no reflectance.",
            )  # fmt: skip
        # Rounded, because sines differ in the last bit between machines.
        return tuple(round(v / math.sin(math.radians(above)), 12) for v in (scale, offset))  # type: ignore[return-value]

    def _stated(self, scene: Scene, name: str, provider: str) -> tuple[float, float]:
        band = self.band(name)
        asset = scene.assets.get(name)
        scale = asset.scale if asset is not None and asset.scale is not None else band.scale
        where = self.at(provider)
        if where is not None and where.harmonised:
            return scale, band.offset
        for rule in self.offset_rules:
            value = scene.properties.get(rule.property)
            if value is None:
                continue
            applied = any(scene.properties.get(k) == v for k, v in rule.unless.items())
            holds = _dotted(str(value)) >= _dotted(rule.at_least) and not applied
            return scale, rule.offset if holds else band.offset
        if asset is not None and asset.offset is not None:
            return scale, asset.offset
        return scale, band.offset

    def counts_to(self, scene: Scene, whole: Scene, name: str, *, provider: str = "stac") -> float:
        """What to add to the numbers of a band of a member to make them those of its composite:
        0 or 1000 where baselines of Sentinel-2 mix. Never negative, so no number is lost.

        Raises:
            StacError: Another scale, or no whole number where numbers are whole.
        """
        scale, offset = self.radiometry(scene, name, provider=provider)
        to_scale, to_offset = self.radiometry(whole, name, provider=provider)
        counts = (offset - to_offset) / scale
        near = round(counts)
        if scale != to_scale or (self.dtype.kind in "iu" and abs(counts - near) > 1e-6):
            raise StacError(
                scene.id, f"raster:scale, raster:offset of {name}", f"{scale}, {offset}",
                f"numbers that become those of its composite ({to_scale}, {to_offset}) by adding",
                "Leave `dates.composite` out.",
            )  # fmt: skip
        return near if self.dtype.kind in "iu" else counts


class Epoch(Declared):
    """Which time a label product speaks of."""

    rule: Literal["fixed", "image-year", "same-scene"]
    """fixed: one map, of the years `start` to `end`; image-year: the map of the image's year,
    or the nearest of `years`; same-scene: a map of each scene."""

    start: date | None = None
    end: date | None = None
    """Last day."""

    years: list[int] | None = None

    max_cloud: float | None = Field(default=None, ge=0, le=100)
    """same-scene: percent of a whole scene above which there is no map of it."""

    def maps(self, scene: Scene) -> bool:
        """Whether a scene is clear enough to have a map; True where nothing is known."""
        return (
            self.max_cloud is None
            or scene.cloud_cover is None
            or scene.cloud_cover <= self.max_cloud
        )

    def spoken(self) -> tuple[set[int], Period | None]:
        """The years that its maps speak of, and of one map the days; no year: it does not say."""
        if self.rule == "fixed" and self.start is not None:
            last = self.end or self.start
            days = Period(self.start, last + timedelta(days=1))
            return set(range(self.start.year, last.year + 1)), days
        return set(self.years or ()) if self.rule == "image-year" else set(), None

    def year_for(self, image_year: int) -> int:
        """The year of the map to use with an image of a year."""
        if self.rule == "fixed":
            if self.start is None:
                raise ValueError("a fixed epoch needs `start`")
            return self.start.year
        if self.years:
            return min(self.years, key=lambda year: (abs(year - image_year), year))
        return image_year

    def years_off(self, image_year: int) -> int:
        """How many years the map that goes with an image is older or younger than it."""
        if self.rule == "fixed" and self.start is not None:
            end = self.end or self.start
            return max(self.start.year - image_year, image_year - end.year, 0)
        if self.rule == "image-year" and self.years:
            return min(abs(year - image_year) for year in self.years)
        return 0


class LabelClass(Declared):
    """One code of a legend; the names are those of the STAC classification extension."""

    value: int
    name: str = Field(pattern=r"^[0-9a-z_]+$")
    title: str
    color_hint: str | None = Field(default=None, pattern=r"^[0-9A-F]{6}$")
    means: list[str]
    """Ontology nodes; the code can mean every leaf below them. Empty: never a label."""

    ours: list[str] = Field(default_factory=list)
    """Of `means`, the nodes that no source names and that are added here."""

    weights: Mapping[str, float] | None = None
    """How much of the class is what, in any unit: nodes that it can be, each above 0. Where a code
    lies across classes, `on_ambiguous: prior` takes the one with the greatest weight."""

    node: str | None = None
    """Documentation: the ontology node that comes nearest."""

    relation: Literal["exact", "broader", "narrower", "partial"] | None = None
    """Documentation, SKOS: how `node` relates to the class; checked against `means`."""

    note: str = ""


class ClassAccuracy(Declared):
    """A published accuracy of one class or of a whole product."""

    value: int | None = None
    """Code; None: the whole product."""

    users: float | None = None
    """Percent."""

    producers: float | None = None
    """Percent."""

    overall: float | None = None
    """Percent."""

    scope: str = ""
    """Who measured, where, against what; numbers of different scopes do not compare."""

    source: str
    verified: bool


class CoverAccuracies(Declared):
    """What maps of a kind are right about, by cover: `catalogs/accuracies.yaml`."""

    title: str
    values: Mapping[str, float]
    """Node at the top of the ontology to the mean accuracy of its class, 0-1."""

    source: str
    verified: bool


class Greening(Declared):
    """Seasons of the vegetation in some climates: days of the year north of the equator."""

    climates: list[str]
    green_up: int | None = Field(default=None, ge=0, lt=365)
    """None: no season that can be told."""

    senescence: int | None = Field(default=None, ge=0, lt=365)
    maturity: float = Field(default=0.5, gt=0, lt=1)
    """Where between green-up and senescence."""

    moves: bool = False
    """With latitude, by `Phenology.days_per_degree`."""

    @model_validator(mode="after")
    def _both(self) -> Greening:
        if (self.green_up is None) != (self.senescence is None):
            raise ValueError("green_up and senescence, or neither")
        return self


class Phenology(Declared):
    """When plants turn green and fade: `catalogs/phenology.yaml`."""

    title: str
    description: str
    days_per_degree: float
    latitude: float
    """Degrees: to which the days of what moves belong."""

    spring: tuple[int, int]
    """Days between which a green-up that moves stays."""

    autumn: tuple[int, int]
    """Likewise, of senescence."""

    south: int
    """Days by which seasons are later south of the equator."""

    two_seasons: float
    """Degrees of latitude up to which there is none of its own."""

    groups: Mapping[str, Greening]
    verified: bool
    sources: list[str]

    def days(self, climate: str, lat: float) -> tuple[int, int, int, int] | None:
        """Green-up, maturity, senescence and dormancy as days of the year, 0-364.

        Args:
            climate: Köppen-Geiger zone.
            lat: Degrees north.

        Returns:
            None where the climate has no season of its own, or a second one.
        """
        group = next((g for g in self.groups.values() if climate in g.climates), None)
        if group is None or group.green_up is None or group.senescence is None:
            return None
        if abs(lat) < self.two_seasons:
            return None
        first, last = group.green_up, group.senescence
        if group.moves:
            later = round(self.days_per_degree * (abs(lat) - self.latitude))
            first = min(max(first + later, self.spring[0]), self.spring[1])
            last = min(max(last - later, self.autumn[0]), self.autumn[1])
        length = (last - first) % 365
        shift = self.south if lat < 0 else 0
        marks = (0, round(length * group.maturity), length, length + (365 - length) // 2)
        green_up, maturity, senescence, dormancy = ((first + m + shift) % 365 for m in marks)
        return green_up, maturity, senescence, dormancy


class ProductLattice(Declared):
    """The pixels a label product comes on."""

    crs: str
    """Authority code, a PROJ string where there is none, or mgrs-utm: the zone of the place."""

    pixel: float
    """In units of the CRS."""

    origin: tuple[float, float] = (0.0, 0.0)


class Feature(Declared):
    """Features of a vector product that mean one code."""

    value: int
    """Code of the legend."""

    layer: str | None = None
    """Layer of a file that has several; None: of every layer."""

    match: Mapping[str, str | list[str]] = Field(default_factory=dict)
    """Attributes that must hold, one value or several; "*": any but null, "" and "no". Numbers are
    compared as they are written. Empty: every feature of the layer."""

    at_least: Mapping[str, float] = Field(default_factory=dict)
    """Numbers that attributes must reach, e.g. a confidence."""

    width: float | None = Field(default=None, gt=0, le=100)
    """Metres that a line is wide; None: lines are passed over."""

    def holds(self, properties: Mapping[str, Any]) -> bool:
        """Whether a feature with these attributes is one of them."""
        for key, want in self.match.items():
            have = properties.get(key)
            if have is None:
                return False
            if str(have) not in ([want] if isinstance(want, str) else want) and (
                want != "*" or str(have) in ("", "no")
            ):
                return False
        for key, least in self.at_least.items():
            have = properties.get(key)
            if not isinstance(have, int | float) or not have >= least:
                return False
        return True


class Vector(Declared):
    """How the features of a vector product become codes on a grid."""

    crs: str
    """Authority code of files that do not say theirs."""

    rule: Literal["centre", "all-touched"]
    """A pixel belongs to a feature that holds its centre, or that covers any of its area."""

    outside: int
    """Code where a file reaches and has no feature: nodata, or one that states absence."""

    features: list[Feature] = Field(min_length=1)
    """In order: where features overlap, that of the first entry wins. A feature is of the first
    entry that holds of it, and of none if none does."""

    def code_of(self, properties: Mapping[str, Any], layer: str | None = None) -> int | None:
        """The code of a feature; None: it is passed over."""
        entry = self.entry_of(properties, layer)
        return None if entry is None else self.features[entry].value

    def entry_of(self, properties: Mapping[str, Any], layer: str | None = None) -> int | None:
        """Which of `features` a feature is; None: it is passed over."""
        for i, entry in enumerate(self.features):
            if entry.layer in (None, layer) and entry.holds(properties):
                return i
        return None


class LabelProduct(Declared):
    """A label product: `catalogs/labels/<name>.yaml`."""

    name: str
    """The file's name; not written in the file."""

    title: str
    description: str = ""
    version: str
    family: str | None = None
    """What it is a version of: products of one family are compared, never one label together."""

    license: str
    terms: str | None = None
    """Id in `core.licence.LICENCES`, where `license` is "other" and the terms are known."""

    attribution: str
    data_type: DataType = "uint8"
    nodata: int
    """The code that says nothing; stored where the product has nothing."""

    recode: Mapping[int, int] = Field(default_factory=dict)
    """Numbers that some of its files hold instead, and the codes that they stand for."""

    gsd: float
    """Metres; of a vector product, how exact its outlines are."""

    geometry: Literal["raster", "vector"] = "raster"
    lattice: ProductLattice | None = None
    """Of a raster."""

    vector: Vector | None = None
    extent: Extent = Extent()
    epoch: Epoch
    basis: Literal["cover", "use", "mixed", "unknown"]
    """What its classes state: what is visible, what it is used for, or both."""

    evidence: list[str] = Field(default_factory=list)
    """Names of extra layers, e.g. class probabilities."""

    lineage: str | None = None
    """Products of one lineage share sensor, method or training, and do not err independently."""

    accuracy: list[ClassAccuracy] = Field(default_factory=list)
    where: list[Where]
    verified: bool
    unverified_fields: list[str] = Field(default_factory=list)
    sources: list[str]
    doi: str | None = None
    classes: list[LabelClass] = Field(alias="classification:classes")

    @model_validator(mode="after")
    def _distinct(self) -> LabelProduct:
        values = [c.value for c in self.classes]
        if len(set(values)) != len(values):
            raise ValueError("two classes have the same value")
        if not set(self.recode.values()) <= self.codes or self.codes & set(self.recode):
            raise ValueError("recode: numbers that are no codes of the legend, to some that are")
        return self

    @model_validator(mode="after")
    def _one_geometry(self) -> LabelProduct:
        is_vector = self.geometry == "vector"
        if is_vector != (self.vector is not None) or is_vector != (self.lattice is None):
            raise ValueError("`vector` with geometry: vector, `lattice` without it")
        if self.vector is not None:
            said = {self.vector.outside, *(entry.value for entry in self.vector.features)}
            if not said <= self.codes:
                raise ValueError(
                    f"codes of the legend in `vector`, not {sorted(said - self.codes)}"
                )
        return self

    def at(self, provider: str) -> Where | None:
        """How a provider names it; None if that provider does not have it."""
        return next((w for w in self.where if w.provider == provider), None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored codes."""
        return np.dtype(self.data_type)

    @functools.cached_property
    def codes(self) -> frozenset[int]:
        """Every code the raster may hold, nodata included."""
        return frozenset({c.value for c in self.classes} | {self.nodata})


NO_LABEL = "special"
"""The branch of the ontology whose nodes are no statement of cover or use: codes that have one of
them as `node` are never a label."""


class OntologyNode(Declared):
    """One concept."""

    id: str
    """Dotted: water.inland_permanent.lake."""

    title: str
    concept: str = ""
    cover: list[str] | None = None
    """For land-use and boundary concepts: the nodes that can be seen there. Inherited by children
    without their own."""


class SemanticNote(Declared):
    """Where codes that look alike do not mean the same."""

    title: str
    about: Mapping[str, list[int]]
    """Label product to the codes it speaks of; none: all of them."""

    text: str


class Ontology(Declared):
    """The tree of concepts that every legend is expressed in: `catalogs/ontology.yaml`."""

    title: str
    version: str
    status: str
    verified: bool
    sources: list[str]
    nodes: list[OntologyNode]
    notes: list[SemanticNote] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rooted(self) -> Ontology:
        known = {node.id for node in self.nodes}
        if len(known) != len(self.nodes):
            raise ValueError("nodes of different ids")
        for node in self.nodes:
            if "." in node.id and node.id.rsplit(".", 1)[0] not in known:
                raise ValueError(f"{node.id} has no parent")
            for seen in node.cover or []:
                if seen not in known:
                    raise ValueError(f"{node.id}: cover names {seen}, which is no node")
        return self

    @functools.cached_property
    def by_id(self) -> Mapping[str, OntologyNode]:
        """Nodes by id."""
        return {node.id: node for node in self.nodes}

    @functools.cached_property
    def leaves(self) -> frozenset[str]:
        """Nodes without children."""
        parents = {node.id.rsplit(".", 1)[0] for node in self.nodes if "." in node.id}
        return frozenset(node.id for node in self.nodes if node.id not in parents)

    def below(self, id_: str) -> frozenset[str]:
        """The leaves at or below a node; `KeyError` if there is no such node."""
        self.by_id[id_]
        return frozenset(x for x in self.leaves if x == id_ or x.startswith(id_ + "."))

    def at_level(self, level: int) -> list[str]:
        """The nodes that divide all that can be labelled: those of a level (1 is the highest), and
        leaves above it; without what is no statement of cover or use (`special`).
        """
        return [
            node.id
            for node in self.nodes
            if node.id.split(".")[0] != NO_LABEL
            and (
                node.id.count(".") == level - 1
                or (node.id.count(".") < level - 1 and node.id in self.leaves)
            )
        ]

    def cover_of(self, id_: str) -> list[str] | None:
        """What can be seen where this (land-use) concept holds; None: the concept itself."""
        for ancestor in _up(id_):
            if self.by_id[ancestor].cover is not None:
                return self.by_id[ancestor].cover
        return None


class TaxonomyClass(Declared):
    """One class of a subset."""

    name: str = Field(pattern=r"^[0-9a-z_]+$")
    title: str
    color_hint: str = Field(pattern=r"^[0-9A-F]{6}$")
    members: list[str]
    """Ontology nodes; every leaf below them belongs to the class. Empty for a native legend."""

    prompts: list[str] = Field(min_length=1)
    """The names a text encoder is given, the usual one first."""


class Taxonomy(Declared):
    """What a subset's classes are: `catalogs/taxonomies/<name>.yaml`."""

    name: str
    title: str
    version: str = "1"
    basis: Literal["cover", "use"]
    on_ambiguous: Literal["ignore", "prior"] = "ignore"
    """What becomes of a code that lies across classes: no label, or the class with the greatest of
    the code's `weights`."""

    classes: list[TaxonomyClass] = Field(min_length=1, max_length=254)
    verified: bool = False
    sources: list[str] = Field(default_factory=list)


class SpectralIndex(Declared):
    """A normalised difference of two bands: (plus - minus) / (plus + minus), of reflectances."""

    title: str
    plus: list[str] = Field(min_length=1)
    """`eo:common_name`: the first that the imagery has."""

    minus: list[str] = Field(min_length=1)
    """Likewise."""

    source: str


class Bound(Declared):
    """What an index must be for a rule to hold; both, where both are given."""

    above: float | None = Field(default=None, ge=-1, le=1)
    below: float | None = Field(default=None, ge=-1, le=1)

    @model_validator(mode="after")
    def _something(self) -> Bound:
        if self.above is None and self.below is None:
            raise ValueError("above, below or both")
        return self


class Veto(Declared):
    """Reflectances that some classes cannot have."""

    classes: list[str] = Field(min_length=1)
    """Ontology nodes: a class all of whose leaves lie below them is contradicted."""

    when: Mapping[str, Bound] = Field(min_length=1)
    """Index to bound; all must hold."""

    why: str
    source: str
    verified: bool


class VetoRules(Declared):
    """Rules of the filter `spectral_veto`: `catalogs/vetoes/<name>.yaml`."""

    name: str
    title: str
    indices: Mapping[str, SpectralIndex]
    rules: list[Veto] = Field(min_length=1)
    verified: bool
    sources: list[str]

    @model_validator(mode="after")
    def _known(self) -> VetoRules:
        for rule in self.rules:
            for index in rule.when:
                if index not in self.indices:
                    raise ValueError(f"an index among {', '.join(self.indices)}, not {index}")
        return self


class Near(Declared):
    """A class of places by their distance to a city."""

    value: int
    people: int = Field(ge=0)
    """Of the city, at least."""

    within_km: float = Field(gt=0, le=500)


class People(Declared):
    """Classes of places by how many people live in the cities around."""

    within_km: float = Field(gt=0, le=500)
    steps: list[float] = Field(min_length=1)
    """Ascending; class 1 is below the first, class 2 from there on, and so forth."""


class Raster(Declared):
    """A raster file that a strata layer is read from, at overview level."""

    path: str
    """Beside the YAML file, absolute, or a URL that GDAL opens. It must say its CRS."""

    band: int = Field(default=1, ge=1)
    nodata: int | None = None
    """Code of no class; None: what the file says, if anything."""


class Cover(Declared):
    """Classes of coarse cells by the shares of land-cover classes in them."""

    cell: float = Field(gt=0, le=5)
    """Side of the coarse cells, degrees; a whole multiple of 0.05."""

    pick: Literal["dominant", "rarest"]
    """The class with the largest share; or the rarest, as listed, with at least `above`."""

    above: float = Field(default=0.05, gt=0, le=1)
    rarest: list[int] | None = None
    """Codes, the rarest first: the order of `pick: rarest`."""

    samples: int = Field(default=4, ge=2, le=64)
    """Places along a side of a coarse cell that are looked at."""

    provider: Literal["virtual"] | None = None
    """virtual: the truth of the virtual Earth, by level-1 cover of the ontology."""

    raster: Raster | None = None
    """A land-cover raster, whose codes are those of `classes`."""

    @model_validator(mode="after")
    def _whole(self) -> Cover:
        if (self.provider is None) == (self.raster is None):
            raise ValueError("either `provider` or `raster`")
        if abs(self.cell * 20 - round(self.cell * 20)) > 1e-9:
            raise ValueError("a whole multiple of 0.05")
        if (self.pick == "rarest") != (self.rarest is not None):
            raise ValueError("`rarest` with `pick: rarest`, and only there")
        return self


class StrataLayer(Declared):
    """A layer that sampling can stratify by: `catalogs/strata/<name>.yaml`.

    It says how to get it: from a packaged array (`file`), by grouping another layer (`of`), from
    distances to cities (`near`), people around (`people`), a raster, or land-cover shares.
    """

    name: str
    title: str
    description: str = ""
    license: str
    attribution: str
    file: str | None = None
    """Beside the YAML file; NumPy .npz, never pickled."""

    array: str | None = None
    """Name of the array in the file."""

    of: str | None = None
    """Another layer."""

    groups: Mapping[str, list[str]] | None = None
    """Name of a class to the classes of `of` that it takes in."""

    near: list[Near] | None = None
    """The first that holds is the class of a place; the last class of `classes` is all the rest."""

    people: People | None = None
    raster: Raster | None = None
    cover: Cover | None = None

    classes: Mapping[int, str] | None = None
    """Code to name; None for a continuous layer. 0 means no class."""

    verified: bool
    sources: list[str]

    @model_validator(mode="after")
    def _one_source(self) -> StrataLayer:
        ways = {
            "file": self.file, "of": self.of, "near": self.near, "people": self.people,
            "raster": self.raster, "cover": self.cover,
        }  # fmt: skip
        if sum(value is not None for value in ways.values()) != 1:
            raise ValueError(f"exactly one of {', '.join(ways)}")
        for key, other in (("file", self.array), ("of", self.groups)):
            if (ways[key] is None) != (other is None):
                raise ValueError("`array` with `file`, `groups` with `of`, and only there")
        if self.file is None and self.of is None and not self.classes:
            raise ValueError("`classes`")
        return self


class Release(Declared):
    """A set as the authors of LAS release it: one LMDB that holds images and labels."""

    file: str
    """Name of the folder that holds data.mdb."""

    image: str | None = None
    """What keys of images begin with; None: nobody says, the records tell by their shape."""

    label: str | None = None
    """Likewise of labels."""


class Scored(Declared):
    """What of a benchmark is scored, and in which words a model is asked for it."""

    dataset: str
    """Annotated set of `catalogs/imports`: layout, bands, legend, licence and how to get it."""

    split: Literal["train", "val", "test"]
    """Of the publisher, the one that is scored."""

    names: Mapping[str, Literal["train", "val", "test"] | None] = Field(default_factory=dict)
    """In place of `splits.names` of the set, which may keep from training what is scored here."""

    prompts: Mapping[int, list[str]]
    """Code to what the class is called in words, the usual name first, then synonyms."""

    ignore: list[int] = Field(default_factory=list)
    """Codes that are not scored; together with those of `prompts`, all of the legend."""

    area: list[str] = Field(default_factory=list)
    """Parts of the layout that say which tiles are of one area; none: the files' own places do, if
    any (`evaluate.places`)."""

    lmdb: Release | None = None
    note: str = ""
    verified: bool
    """Whether a source says that this split is the one; prompts are ours."""

    unverified_fields: list[str] = Field(default_factory=list)
    sources: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _words(self) -> Scored:
        said = [name.casefold() for names in self.prompts.values() for name in names]
        if len(set(said)) < len(said) or not all(self.prompts.values()):
            raise ValueError("`prompts` with a name for each code, and each name once")
        if any(not re.fullmatch(r"[a-z0-9 ,'-]+", name) for name in said):
            raise ValueError("prompts in words, like annual crop")
        return self


class Benchmark(Declared):
    """A public data set that models are tested on: where it is, so that nobody trains there, and what
    of it is scored.
    """

    name: str
    title: str
    kind: Literal["box", "exact", "unlocated"]
    """box: rectangles around the areas it is said to cover; exact: polygons in `file`; unlocated:
    nobody knows without the data."""

    boxes: list[tuple[float, float, float, float]] = Field(default_factory=list)
    """West, south, east, north, degrees; west > east crosses the antimeridian."""

    file: str | None = None
    """Of `las footprints`, beside the declaration."""

    georeferenced: bool
    """Whether its files say where they are, so that `las footprints` can derive exact ones."""

    note: str = ""
    verified: bool
    """Whether a source gives the boxes; the areas alone, named in words, are not enough."""

    sources: list[str]
    scored: Scored | None = None
    """None: models are not scored on it here."""

    @model_validator(mode="after")
    def _located(self) -> Benchmark:
        if bool(self.boxes) != (self.kind == "box") or bool(self.file) != (self.kind == "exact"):
            raise ValueError("`boxes` with kind: box, `file` with kind: exact, and only there")
        for west, south, east, north in self.boxes:
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
                raise ValueError("boxes of west, south, east, north in degrees")
        return self


def _dotted(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _up(id_: str) -> Iterator[str]:
    while True:
        yield id_
        if "." not in id_:
            return
        id_ = id_.rsplit(".", 1)[0]
