"""The shape of `catalogs/imports/<name>.yaml`: an annotated set as its publisher laid it out.

One file holds all of it (images, masks, legend, splits, dates), because the parts mean nothing
without each other; a recipe only says which set, where the copy is and how it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import Field, field_validator, model_validator

from las_builder.catalogs.models import (
    Band,
    DataType,
    Declared,
    Epoch,
    Imagery,
    LabelClass,
    LabelProduct,
    LatticeDeclaration,
    ProductLattice,
    Validity,
)

PART = re.compile(r"\{([a-z_]+)\}")
"""A named part of a path: "{region}/images/{tile}.tif"."""

ImportSplit = Literal["train", "val", "test"]


class FilePattern(Declared):
    """Files of one kind: where they are below the folder."""

    path: str
    """With slashes and named parts; a part matches anything without a slash, or what `parts` says.
    Files whose parts have equal values belong together."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in order."""
        return tuple(dict.fromkeys(PART.findall(self.path)))


class ImageFiles(FilePattern):
    """Images: the bands in each file."""

    bands: list[str | None] = Field(min_length=1)
    """Declared name of each band in the file, in order; null for one that is not used."""


class MaskFiles(FilePattern):
    """Masks."""

    value: int | None = None
    """encoding: boolean: the code of a pixel that is not 0."""


class Images(Declared):
    """The pictures."""

    license: str | None = None
    """Where it differs from the labels'."""

    terms: str | None = None
    attribution: str | None = None
    platforms: list[str]
    data_type: DataType
    level: Literal["toa", "surface", "display"] | None = None
    """As of `Imagery`."""

    nodata: float | None = None
    """A pixel that has it in every band is outside the picture; so is the file's own nodata."""

    rgb: tuple[str, str, str]
    stretch: tuple[float, float] = (0.0, 255.0)
    bands: list[Band] = Field(min_length=1)
    files: list[ImageFiles] = Field(min_length=1)
    validity: Validity = Validity()
    """Its band is one of `files` too."""

    @model_validator(mode="after")
    def _every_band(self) -> Images:
        inside = [name for file in self.files for name in file.bands if name is not None]
        wanted = [band.name for band in self.bands]
        wanted += [self.validity.band] if self.validity.band else []
        if sorted(inside) != sorted(wanted):
            raise ValueError(f"files that hold every band once: {', '.join(wanted)}")
        return self


class Table(Declared):
    """A file of the publisher's that says something of every tile."""

    file: str
    """Below the folder, with named parts where there are several: .csv, .parquet, .geojson, or .json
    that maps a key to a record."""

    key: str
    """What a row is called, of the parts of the path: "{tile}"."""

    key_column: str | None = None
    """Column that holds it; None: the first one, or the keys of a JSON."""

    column: str
    """The one to read."""


class Masks(Declared):
    """The labels of every pixel."""

    encoding: Literal["codes", "colours", "one-hot", "boolean", "picture"]
    """codes: a band of codes; colours: red, green, blue (`colours`); one-hot: a band a class, in
    the order of `bands`; boolean: a file a class (`value`); picture: no masks, a class of the whole
    picture (`table`, `names`), which every pixel gets."""

    files: list[MaskFiles] = Field(default_factory=list)
    data_type: DataType = "uint8"
    nodata: int
    """Code of pixels without a label; what is outside the picture gets it."""

    colours: Mapping[int, list[str]] = Field(default_factory=dict)
    """colours: code to RRGGBB; every colour that the masks hold."""

    threshold: int | None = Field(default=None, ge=1, le=255)
    """colours: every channel is 255 from here on and else 0, where the publisher says that the files
    are not pure."""

    bands: list[int] = Field(default_factory=list)
    """one-hot: code of each band."""

    table: Table | None = None
    """picture: where its class is said."""

    names: Mapping[str, int] = Field(default_factory=dict)
    """picture: what the column says to a code."""

    background: int | None = None
    """one-hot, boolean: code of a pixel that no class claims; None: it has no label."""

    overlap: Literal["error", "nodata"] = "error"
    """one-hot, boolean: what becomes of a pixel that several classes claim."""

    @model_validator(mode="after")
    def _whole(self) -> Masks:
        only = {"colours": "colours", "bands": "one-hot", "table": "picture", "names": "picture"}
        for key, encoding in only.items():
            if bool(getattr(self, key)) != (self.encoding == encoding):
                raise ValueError(f"`{key}` with encoding: {encoding}, and only there")
        if self.threshold is not None and self.encoding != "colours":
            raise ValueError("`threshold` with encoding: colours, and only there")
        if any((file.value is None) == (self.encoding == "boolean") for file in self.files):
            raise ValueError("`value` of every file with encoding: boolean, and only there")
        wanted = {"boolean": len(self.files) or 1, "picture": 0}.get(self.encoding, 1)
        if len(self.files) != wanted:
            raise ValueError("one pattern of files; several of boolean masks, none of pictures")
        every = [colour for several in self.colours.values() for colour in several]
        if any(not re.fullmatch("[0-9A-F]{6}", colour) for colour in every):
            raise ValueError("colours like FF00AA")
        if len(set(every)) < len(every):
            raise ValueError("a colour of one code only")
        return self


class SplitRule(Declared):
    """How the publisher divided the set: exactly one way."""

    all: ImportSplit | None = None
    """Every tile is in it: the publisher made no division, or this is one part of a set."""

    part: str | None = None
    """A part of the path says it, by `names`."""

    table: Table | None = None
    """A column says it, by `names`."""

    lists: Mapping[ImportSplit, str] | None = None
    """Text files below the folder with a tile a line."""

    entry: str = ""
    """lists: what a line is, of the parts of the path: "{tile}.tif"."""

    names: Mapping[str, ImportSplit | None] = Field(default_factory=dict)
    """What the part or column says to our word; null: not imported (no masks, or a benchmark)."""

    @model_validator(mode="after")
    def _one_way(self) -> SplitRule:
        ways = [self.all, self.part, self.table, self.lists]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("exactly one of all, part, table, lists")
        if bool(self.names) != (self.part is not None or self.table is not None):
            raise ValueError("`names` with part or table, and only there")
        if bool(self.entry) != (self.lists is not None):
            raise ValueError("`entry` with lists, and only there")
        return self


class DateRule(Declared):
    """When the pictures were taken: exactly one way."""

    day: date | None = None
    """All on one day."""

    text: str | None = None
    """Parts of the path hold it, by `format`: "{year}-{month}"."""

    table: Table | None = None
    """A column holds it, by `format`."""

    format: str = "%Y-%m-%d"
    """As `strptime` has it; where it has no day, the first of the month or year."""

    between: tuple[date, date] | None = None
    """Nobody says; first and last day that it can be. Samples are then named by the first."""

    @model_validator(mode="after")
    def _one_way(self) -> DateRule:
        if sum(way is not None for way in (self.day, self.text, self.table, self.between)) != 1:
            raise ValueError("exactly one of day, text, table, between")
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError("a first day before the last")
        return self


class AnnotatedSet(Declared):
    """An annotated set: `catalogs/imports/<name>.yaml`."""

    name: str
    """The file's name; not written in the file."""

    title: str
    description: str = ""
    version: str
    license: str
    """Of the labels, and of the images where they do not say another."""

    terms: str | None = None
    """Id in `core.licence.LICENCES`, where `license` is "other" and the terms are known."""

    attribution: str
    obtain: str
    """How a user gets a copy, and what to do with it before it is read."""

    gsd: float = Field(gt=0)
    """Metres; the finest where it varies."""

    images: Images
    masks: Masks
    parts: Mapping[str, str] = Field(default_factory=dict)
    """Regular expression of a part, where it is not just anything without a slash."""

    place: list[str] = Field(min_length=1)
    """Parts that name a place: pictures with the same values show the same ground."""

    unlabelled: Literal["error", "skip"] = "error"
    """What of images without a mask: the publisher keeps some back, or the copy is not whole."""

    imageless: Literal["error", "skip"] = "error"
    """What of masks without their image: some publishers leave images of others out."""

    splits: SplitRule
    date: DateRule
    basis: Literal["cover", "use", "mixed", "unknown"]
    legend: str | None = None
    """A label product whose classes these are, instead of `classification:classes`."""

    classes: list[LabelClass] = Field(default_factory=list, alias="classification:classes")
    verified: bool
    """Whether layout, bands, legend and licence were read in a source; what was not is listed."""

    unverified_fields: list[str] = Field(default_factory=list)
    sources: list[str] = Field(min_length=1)

    @field_validator("parts")
    @classmethod
    def _expressions(cls, parts: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in parts.items():
            try:
                groups = re.compile(text).groups
            except re.error as problem:
                raise ValueError(f"a regular expression for {name} ({problem})") from None
            if groups:
                raise ValueError(f"no groups in the expression of {name}")
        return parts

    @model_validator(mode="after")
    def _fits(self) -> AnnotatedSet:
        common = set(self.common)
        for name in self.place:
            if name not in common:
                raise ValueError(f"place of parts that every path has: {', '.join(sorted(common))}")
        if self.splits.part is not None and self.splits.part not in common:
            raise ValueError(f"splits.part of the parts {', '.join(sorted(common))}")
        tables = (self.splits.table, self.date.table, self.masks.table)
        texts = [text for table in tables if table is not None for text in (table.key, table.file)]
        for text in (self.splits.entry, self.date.text or "", *texts):
            if not set(PART.findall(text)) <= common:
                raise ValueError(f"{text} made of the parts {', '.join(sorted(common))}")
        if bool(self.classes) == (self.legend is not None):
            raise ValueError("either `legend` or `classification:classes`")
        return self

    @property
    def patterns(self) -> list[FilePattern]:
        """Every kind of file, images first."""
        return [*self.images.files, *self.masks.files]

    @property
    def common(self) -> tuple[str, ...]:
        """Parts that every path has: what tells that files belong together."""
        first, *rest = (pattern.parts for pattern in self.patterns)
        return tuple(name for name in first if all(name in other for other in rest))

    def imagery(self) -> Imagery:
        """The pictures as an imagery source, "<name>-images"."""
        images = self.images
        return Imagery(
            name=f"{self.name}-images",
            title=f"Images of {self.title}",
            description=self.description,
            license=images.license or self.license,
            terms=images.terms if images.license else self.terms,
            attribution=images.attribution or self.attribution,
            platforms=images.platforms,
            data_type=images.data_type,
            level=images.level,
            nodata=images.nodata,
            rgb=images.rgb,
            stretch=images.stretch,
            lattice_=LatticeDeclaration(crs="source", pixel=self.gsd),
            bands=images.bands,
            validity=images.validity,
            where=[],
            verified=self.verified,
            unverified_fields=self.unverified_fields,
            sources=self.sources,
        )

    def product(self, legend: LabelProduct | None = None) -> LabelProduct:
        """The masks as a label product of the set's name.

        Args:
            legend: The product that `legend` names.
        """
        classes = self.classes if legend is None else legend.classes
        return LabelProduct(
            name=self.name,
            title=self.title,
            description=self.description,
            version=self.version,
            license=self.license,
            terms=self.terms,
            attribution=self.attribution,
            data_type=self.masks.data_type,
            nodata=self.masks.nodata,
            gsd=self.gsd,
            lattice=ProductLattice(crs="source", pixel=self.gsd),
            epoch=Epoch(rule="same-scene"),
            basis=self.basis,
            where=[],
            verified=self.verified,
            unverified_fields=self.unverified_fields,
            sources=self.sources,
            classes=classes,
        )
