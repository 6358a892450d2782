"""Recipes: `pipelines/*.yaml`, typed, names and numbers only, checked whole before the first byte."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from las_builder.access import Access, may_have, open_access, open_paired
from las_builder.access.imports import ImportedFolder
from las_builder.catalogs import AnnotatedSet, Catalogs, Imagery, LabelProduct, Strata, Taxonomy
from las_builder.catalogs.loader import explain, packaged, read_yaml
from las_builder.catalogs.models import PROVIDERS
from las_builder.core.licence import CorpusLicence, Ingredient, combined, licence_of
from las_builder.core.options import (
    OF_PRODUCT,
    ConsensusOptions,
    Dates,
    Patch,
    Shards,
    Sites,
    Splits,
    Strict,
)
from las_builder.core.types import Period
from las_builder.core.workspace import YEARS, Workspace
from las_builder.errors import (
    LasWarning,
    RecipeError,
    RegionError,
    SourceError,
    UnknownNameError,
)
from las_builder.fetch import CubeLayout
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.consensus import Design, published_overall
from las_builder.harmonise.crosswalk import check_told
from las_builder.harmonise.filters import Filters, Step
from las_builder.plan.footprints import footprint_files
from las_builder.plan.regions.names import GLOBAL, fold
from las_builder.plan.regions.resolve import files_in
from las_builder.plan.restrict import restricted

NOT_LOCKED: Any = {
    "taxonomy": True, "filters": True, "captions": True, "shards": True, "splits": True, "dates": {"label_years"},
}  # fmt: skip
"""Of a recipe, what decides neither plan nor scenes nor cube."""

NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class Sources(Strict):
    """Imagery from one provider, labels from others: each product from the first that has it."""

    imagery: str
    labels: str | list[str] = Field(min_length=1)

    @property
    def products(self) -> tuple[str, ...]:
        """Who is asked for labels, in order."""
        return (self.labels,) if isinstance(self.labels, str) else tuple(self.labels)

    @classmethod
    def said(cls, text: str) -> str | Sources:
        """As the command line says it: PROVIDER, or PROVIDER,OTHER,... for what it lacks."""
        first, *others = text.split(",")
        return cls(imagery=first, labels=[first, *others]) if others else text


Source = str | Sources


class Recipe(Strict):
    """One subset."""

    name: str = Field(pattern=NAME, max_length=60)
    imagery: str
    bands: list[str] | None = Field(default=None, min_length=1)
    """None: every band of the imagery."""

    labels: list[str] = Field(min_length=1)
    compare: list[str] = Field(default_factory=list)
    """Fetched and audited, never part of the label."""

    taxonomy: str = "native"
    source: Source
    patch: Patch
    sites: Sites
    dates: Dates
    filters: list[Step] = Field(default_factory=list)
    """Steps between the harmonised label and the shard, in order: see `harmonise.filters`."""

    consensus: ConsensusOptions | None = None
    """How several products become one label; None with several: as the options are by default."""

    captions: bool = False
    """Whether each sample says what is seen, in words: see `pack.caption`."""

    shards: Shards = Shards()
    splits: Splits | None = None
    """Only where the recipe is built alone; a corpus recipe says it for all its subsets."""

    @field_validator("dates")
    @classmethod
    def _enough_dates(cls, dates: Dates) -> Dates:
        if dates.min > dates.per_site:
            raise ValueError(f"dates.min at most dates.per_site, which is {dates.per_site}")
        return dates


class Cut(Strict):
    """How the pictures of an import become patches."""

    size: int = Field(ge=8, le=4096)
    """Columns and rows: windows that do not overlap, from the upper left corner of each picture."""

    remainder: Literal["pad", "drop"] = "pad"
    """What of a picture that is no multiple of it: windows that reach beyond its right and lower
    edge, invalid and without a label there; or no window."""


class Import(Strict):
    """A subset that its publisher has drawn, cut and labelled: read from the user's own copy."""

    kind: Literal["import"]
    name: str = Field(pattern=NAME, max_length=60)
    dataset: str
    """Name of a declaration in `catalogs/imports`."""

    folder: str
    """Where the copy is looked for: beside the recipe, then here."""

    bands: list[str] | None = Field(default=None, min_length=1)
    """None: every band of the images."""

    taxonomy: str = "native"
    filters: list[Step] = Field(default_factory=list)
    patch: Cut
    only: list[Literal["train", "val", "test"]] = Field(
        default=["train", "val", "test"], min_length=1
    )
    """Splits of the publisher that are imported."""

    split: Literal["publisher", "corpus"] = "publisher"
    """publisher: its own stays, and what is too near to another split's is set aside; corpus: the
    blocks of the corpus divide the pictures that have a place."""

    per_site: int = Field(default=64, ge=1, le=64)
    """Dates of a place, at most."""

    count: int | None = Field(default=None, ge=1)
    """Sites, at most; None: all."""

    seed: int = Field(default=0, ge=0)
    """Of their order."""

    captions: bool = False
    shards: Shards = Shards()
    splits: Splits | None = None
    """Only where the recipe is built alone."""

    def found(self, file: Path) -> Path | None:
        """The copy, if it is there."""
        places = (base / self.folder for base in (file.parent, Path()))
        return next((path for path in places if path.is_dir()), None)

    def drawn(self, imagery: Imagery, folder: Path) -> Recipe:
        """The same as a recipe whose sites are where the pictures are."""
        always = Period(date(1900, 1, 1), date(2200, 1, 1))
        return Recipe(
            name=self.name,
            imagery=imagery.name,
            bands=self.bands,
            labels=[self.dataset],
            taxonomy=self.taxonomy,
            filters=self.filters,
            source=str(folder),
            patch=Patch(size=self.patch.size, lattice="source"),
            sites=Sites(count=self.count or EVERY, region="catalogue", seed=self.seed),
            dates=Dates(period=always, per_site=self.per_site, choose="clearest"),
            captions=self.captions,
            shards=self.shards,
            splits=self.splits,
        )


EVERY = 10**9
"""Count of an import without one: more than there are."""


class Part(Strict):
    """One subset of a corpus, with the few things a corpus may say differently."""

    recipe: str
    count: int | None = Field(default=None, ge=1)
    period: str | None = None
    samples: int | None = Field(default=None, ge=1)


class CorpusRecipe(Strict):
    """Several subsets with one division into splits."""

    name: str = Field(pattern=NAME, max_length=60)
    description: str = ""
    subsets: list[Part] = Field(min_length=1)
    source: Source | None = None
    """For all subsets; None: each its own."""

    splits: Splits


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line says instead of the recipe."""

    region: str | None = None
    """Cuts the region of every subset; densities stay, so counts shrink with what is left."""

    seed: int | None = None
    source: str | None = None
    count: int | None = None
    accepted: frozenset[str] = frozenset()
    """Names whose licence the user accepts."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    """Import to the folder of its copy; "": of the only one."""


@dataclass(frozen=True, kw_only=True)
class Subset:
    """One recipe with the declarations it names."""

    recipe: Recipe
    file: Path
    imagery: Imagery
    bands: tuple[str, ...]
    labels: tuple[LabelProduct, ...]
    compare: tuple[LabelProduct, ...]
    crosswalk: Crosswalk | Design
    """What labels its patches; a design: once a consensus is fitted to it."""

    filters: Filters
    catalogs: Catalogs
    first: tuple[tuple[LabelProduct, ...], tuple[LabelProduct, ...]] | None = None
    """`labels` and `compare` of the recipe that made the workspace; None: these."""
    imported: tuple[Import, AnnotatedSet] | None = None
    """The recipe of an import and the set; None: its sites are drawn."""

    sites_of: str | None = None
    """The subset whose sites it has, in another period; None: its own."""

    @functools.cached_property
    def access(self) -> Access:
        """The provider, opened when a stage first needs pixels and asked whether it can serve.

        Raises:
            SourceError: It cannot serve the imagery or a product.
            StacError: Its catalogue lacks what reading needs.
        """
        source = self.recipe.source
        if self.imported is not None:
            access: Access = self.folder
        elif isinstance(source, str):
            access = open_access(source, catalogs=self.catalogs, where=self.file)
        else:
            scenes, *maps = (
                open_access(one, catalogs=self.catalogs, where=self.file)
                for one in (source.imagery, *source.products)
            )
            access = open_paired(scenes, *maps)
        access.check(self.imagery, self.bands, [*self.labels, *self.compare])
        return access

    @property
    def folder(self) -> ImportedFolder:
        """The copy of an import.

        Raises:
            ValueError: Its sites are drawn.
        """
        if self.imported is None:
            raise ValueError(f"{self.name} is no import")
        recipe, declared = self.imported
        return ImportedFolder(
            declared, str(self.recipe.source), recipe.patch.size, recipe.patch.remainder,
            frozenset(recipe.only),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The recipe's."""
        return self.recipe.name

    def lock(self) -> dict[str, Any]:
        """What of the recipe decides plan, scenes and cube."""
        drawn = self.recipe.model_dump(mode="json", exclude=NOT_LOCKED)
        if self.imported is None:
            return {**drawn, **self.first_products()}
        less = {
            "taxonomy",
            "filters",
            "captions",
            "shards",
            "splits",
            "count",
            "seed",
        }  # the last are in sites
        said = self.imported[0].model_dump(mode="json", exclude=less)
        return {**said, "folder": drawn["source"], "sites": drawn["sites"]}

    def region_files(self) -> dict[Path, str]:
        """The files that its region names, and the SHA-256 of what they hold."""
        region = self.recipe.sites.region
        if region == "catalogue":
            return {}
        found = files_in(region, Strata.load(self.catalogs), self.file)
        return {path: _digest(path) for path in found}

    @property
    def layout(self) -> CubeLayout:
        """Of the subset's cube: that of the recipe that made the workspace, and what joined it."""
        labels, compare = self.first or (self.labels, self.compare)
        known = {product.name for product in (*labels, *compare)}
        return CubeLayout(
            imagery=self.imagery,
            bands=self.bands,
            products=(*labels, *compare),
            height=self.recipe.patch.size,
            width=self.recipe.patch.size,
            added=tuple(p for p in (*self.labels, *self.compare) if p.name not in known),
        )

    @property
    def required(self) -> frozenset[str]:
        """Products without which a patch is a gap: the labels of the recipe that made the workspace."""
        labels, _ = self.first or (self.labels, self.compare)
        return frozenset(product.name for product in labels)

    def first_products(self) -> dict[str, list[str]]:
        """`labels` and `compare` of the recipe that made the workspace, by name; or nothing."""
        if self.first is None:
            return {}
        labels, compare = self.first
        return {"labels": [p.name for p in labels], "compare": [p.name for p in compare]}

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """What is in its shards, with the licence of each."""
        found = []
        things: tuple[Imagery | LabelProduct, ...] = (self.imagery, *self.labels)
        for thing in things:
            licence = licence_of(thing.license, thing.terms)
            # Of drawn products with unknown terms it is only said that they are unknown.
            asks = licence.needs_consent and (licence.known or self.imported is not None)
            name = thing.name if self.imported is None else self.imported[1].name
            found.append(Ingredient(thing.name, licence, name if asks else ""))
        return tuple(found)

    @property
    def synthetic(self) -> bool:
        """Whether any of its pixels are made up."""
        source = self.recipe.source
        return "virtual" in (
            [source] if isinstance(source, str) else [source.imagery, *source.products]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Everything a build needs, checked."""

    name: str
    description: str
    subsets: tuple[Subset, ...]
    splits: Splits
    catalogs: Catalogs
    file: Path
    passed_over: tuple[str, ...] = ()
    """Subsets that the recipe lists and nothing is drawn of, each with the reason."""

    accepted: frozenset[str] = frozenset()
    """What `--accept-licence` named."""

    @property
    def synthetic(self) -> bool:
        """Whether any pixel is made up."""
        return any(subset.synthetic for subset in self.subsets)

    def licence(self) -> CorpusLicence:
        """What it may be passed on under.

        Raises:
            LicenceError: Two ingredients whose licences contradict each other.
        """
        parts = (part for subset in self.subsets for part in subset.ingredients)
        return combined(parts, where=self.file)

    def resuming(self, space: Workspace) -> Corpus:
        """This corpus in a workspace that was made with other products.

        The plan and which patches are stored rest on the first products, and so does the
        layout of the cube. Products may join and leave `labels` and `compare` at any time: those
        that join are fetched alone, those that leave are not read any more.

        Raises:
            UnknownNameError: A first product has no declaration any more.
        """
        made = space.locked().get("subsets", {})
        subsets = []
        for subset in self.subsets:
            names = made.get(subset.name, {})
            first = tuple(
                tuple(self.catalogs.label(name, where=space.lock) for name in names[key])
                for key in ("labels", "compare")
                if key in names
            )
            subsets.append(dataclasses.replace(subset, first=first) if len(first) == 2 else subset)
        known = {subset.name for subset in subsets}
        for name, said in space.locked().get(YEARS, {}).items():
            if name not in known:
                subsets.append(self.in_period(said["of"], said["period"]))
        return dataclasses.replace(self, subsets=tuple(subsets))

    def in_period(self, name: str | None, period: str) -> Subset:
        """A subset with the sites of another one and images of another period.

        Args:
            name: Of the subset that has the sites; None: the only one that was drawn.
            period: Days, as in a recipe.

        Raises:
            UnknownNameError: No such subset, or an import; or none is named and there are several.
            RecipeError: Label products do not speak of then, or it is there with other days.
        """
        found = {subset.name: subset for subset in self.subsets}
        drawn = [s.name for s in self.subsets if s.imported is None]
        own = [n for n in drawn if found[n].sites_of is None]
        if name is None:
            name = own[0] if len(own) == 1 else ""
        if name not in drawn:
            raise UnknownNameError("subset", name, drawn, where=self.file, key="--subset")
        base = found[name]
        changes: dict[str, Any] = {"dates": {"period": period}}
        recipe = _validated(base.recipe, changes, self.file)
        start = recipe.dates.period.start
        recipe = _validated(recipe, {"name": f"{name}-{start.year}"}, self.file)
        there = found.get(recipe.name)
        if there is not None and there.recipe.dates.period != recipe.dates.period:
            raise RecipeError(
                self.file, "--period", period, f"another year: {recipe.name} is there already"
            )
        return dataclasses.replace(_resolve(recipe, base.file, self.catalogs), sites_of=name)

    def lock(self) -> dict[str, Any]:
        """What decides plan, scenes and cube; a workspace is made by exactly one of these.

        Taxonomy, filters and shard size are not in it: raw codes are stored, so that another
        taxonomy re-packs and never re-fetches. Files that regions name are in it by content, and
        so are those of benchmark footprints. Products that joined later are not (`resuming`).

        Raises:
            RegionError: A file that a region names is not there.
            RecipeError: A file of benchmark footprints is not there.
        """
        files = {
            path.name: digest
            for subset in self.subsets
            for path, digest in subset.region_files().items()
        }
        away = {
            path.name: _digest(path)
            for path in footprint_files(self.splits, self.catalogs, where=self.file)
        }
        return {
            "name": self.name,
            "splits": self.splits.model_dump(mode="json"),
            "subsets": {subset.name: subset.lock() for subset in self.subsets},
            **({"region_files": dict(sorted(files.items()))} if files else {}),
            **({"footprint_files": dict(sorted(away.items()))} if away else {}),
        }


def find(name: str) -> Path:
    """A recipe by path, or by name among ours.

    Raises:
        UnknownNameError: Neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    ours = packaged("pipelines")
    if (ours / f"{name}.yaml").is_file():
        return ours / f"{name}.yaml"
    known = [p.stem for p in ours.glob("*.yaml")]
    raise UnknownNameError("recipe", name, known, where="command", key="RECIPE")


def read(
    name: str, *, catalogs: Catalogs | None = None, overrides: Overrides | None = None
) -> Corpus:
    """Read a recipe, or a corpus of recipes, and check all of it; nothing is built.

    Args:
        name: Path of a recipe, or its name among ours.
        catalogs: Declarations; None: ours alone.
        overrides: From the command line.

    Raises:
        InputError: The first thing that is wrong, as one line.

    Warns:
        LasWarning: A subset of a corpus is passed over: an import, or nothing of it lies in the
            region of the command line.
    """
    catalogs, overrides = catalogs or Catalogs.load(), overrides or Overrides()
    path = find(name)
    if "subsets" not in _content(path):
        recipe = _one(path)
        if isinstance(recipe, Import):
            _check_folders([recipe.name], overrides, path)
            copy = _imported(recipe, path, path, overrides, catalogs, {})
            if isinstance(copy, str):
                said = catalogs.annotated(recipe.dataset, where=path)[0]
                raise SourceError(
                    path, "folder", recipe.folder, f"the folder of {said.title}; {copy}",
                    f"{said.obtain} Name it by --folder DIR.",
                )  # fmt: skip
        else:
            _check_folders([], overrides, path)
            subset = _resolve(_override(recipe, path, overrides), path, catalogs)
            cut = _within(subset, overrides, path)
            if cut is None:
                raise _nothing(path, overrides)
            copy = cut
        return Corpus(
            name=recipe.name,
            description="",
            subsets=(copy,),
            splits=recipe.splits or Splits(),
            catalogs=catalogs,
            file=path,
            accepted=overrides.accepted,
        )
    corpus = read_yaml(path, CorpusRecipe, error=RecipeError)
    subsets, passed, names, imports = [], [], [], []
    for i, part in enumerate(corpus.subsets):
        file = _beside(part.recipe, path, f"subsets.{i}.recipe")
        recipe = _one(file)
        names.append(recipe.name)
        if isinstance(recipe, Import):
            if part.period is not None:
                raise RecipeError(
                    path, f"subsets.{i}.period", part.period, "said of drawn subsets only"
                )
            imports.append(recipe.name)
            changes = _part_changes(part, None)
            copy = _imported(recipe, file, path, overrides, catalogs, changes)
            if isinstance(copy, str):
                passed.append(f"{recipe.name}: {copy}")
            else:
                subsets.append(copy)
            continue
        recipe = _validated(recipe, _part_changes(part, corpus.source), path)
        subset = _resolve(_override(recipe, path, overrides), file, catalogs)
        cut = _within(subset, overrides, path)
        if cut is None:
            passed.append(f"{recipe.name}: nothing of it lies in {overrides.region}")
        else:
            subsets.append(cut)
    if len(set(names)) < len(names):
        raise RecipeError(path, "subsets", ", ".join(names), "subsets of different names")
    _check_folders(imports, overrides, path)
    if not subsets and overrides.region is not None:
        raise _nothing(path, overrides)
    if not subsets:
        raise RecipeError(path, "subsets", ", ".join(names), "at least one that is drawn or there")
    for line in passed:
        warnings.warn(f"{line}; passed over", LasWarning, stacklevel=2)
    return Corpus(
        name=corpus.name,
        description=corpus.description,
        subsets=tuple(subsets),
        splits=corpus.splits,
        catalogs=catalogs,
        file=path,
        passed_over=tuple(passed),
        accepted=overrides.accepted,
    )


def _one(path: Path) -> Recipe | Import:
    """One subset, drawn or imported."""
    if "kind" in _content(path):
        return read_yaml(path, Import, error=RecipeError)
    return read_yaml(path, Recipe, error=RecipeError)


def _imported(
    recipe: Import, file: Path, asked: Path, overrides: Overrides, catalogs: Catalogs,
    changes: Mapping[str, Any],
) -> Subset | str:  # fmt: skip
    """An import as a subset; or why it is passed over, in a few words."""
    declared, product = catalogs.annotated(recipe.dataset, where=file)
    given = overrides.folders.get(recipe.name, overrides.folders.get(""))
    if given is not None and not given.is_dir():
        raise SourceError(
            asked, "--folder", str(given), f"a folder with {declared.title}", declared.obtain
        )
    folder = given or recipe.found(file)
    if folder is None:
        return f"waiting for {recipe.folder}"
    if overrides.source is not None:
        return f"an import, which {overrides.source} does not have"
    if overrides.region is not None and fold(overrides.region) not in GLOBAL:
        return "an import, which --region does not cut"
    imagery = declared.imagery()
    has = [band.name for band in imagery.bands]
    for i, band in enumerate(recipe.bands or []):
        if band not in has:
            raise UnknownNameError(
                f"band of {declared.name}", band, has, where=file, key=f"bands.{i}"
            )
    drawn = _validated(recipe.drawn(imagery, folder), changes, asked)
    counted = Overrides(count=overrides.count, seed=overrides.seed)
    drawn = _override(drawn, asked, counted)
    subset = _subset(drawn, imagery, (product,), (), catalogs, file)
    return dataclasses.replace(subset, imported=(recipe, declared))


def _check_folders(imports: Sequence[str], overrides: Overrides, path: Path) -> None:
    """Refuse a `--folder` that is nobody's."""
    for name, folder in overrides.folders.items():
        if name and name not in imports:
            raise UnknownNameError("import", name, imports, where=path, key="--folder")
        if not name and len(imports) != 1:
            raise RecipeError(
                path, "--folder", str(folder),
                f"NAME=DIR, of the imports {', '.join(imports) or '(none)'}",
            )  # fmt: skip


def _within(subset: Subset, overrides: Overrides, path: Path) -> Subset | None:
    """The subset in the region of the command line; None: nothing of it lies there."""
    if overrides.region is None:
        return subset
    sites = subset.recipe.sites
    if sites.region == "catalogue":
        raise RecipeError(
            path, "sites.region", "catalogue", "a region, if another one is to cut it",
            "Its sites are where the catalogue has scenes; cut the catalogue.",
        )  # fmt: skip
    if fold(overrides.region) in GLOBAL:
        return subset
    found = restricted(
        sites, overrides.region, count=overrides.count, imagery=subset.imagery,
        products=subset.labels, strata=Strata.load(subset.catalogs), where=subset.file,
    )  # fmt: skip
    if found is None:
        return None
    recipe = subset.recipe.model_copy(update={"sites": found})
    return dataclasses.replace(subset, recipe=recipe)


def _nothing(path: Path, overrides: Overrides) -> RegionError:
    return RegionError(
        path, "--region", overrides.region,
        "a region that shares land with the recipe's own and with what its imagery and labels cover",
    )  # fmt: skip


def _digest(path: Path) -> str:
    """SHA-256 of a file with what belongs to it: the parts of a shapefile, the files of a data set
    that is a folder, the documents below a STAC catalogue.
    """
    parts = [path]
    if path.is_dir():
        parts = [part for part in path.rglob("*") if part.is_file()]
    elif path.suffix.lower() == ".shp":
        parts = [part for part in path.parent.iterdir() if part.stem == path.stem]
    elif path.name in ("catalog.json", "collection.json"):
        parts = list(path.parent.rglob("*.json"))
    whole = hashlib.sha256()
    for part in sorted(parts):
        content = part.read_bytes()
        whole.update(f"{part.relative_to(path.parent).as_posix()} {len(content)} ".encode())
        whole.update(content)
    return whole.hexdigest()


def _content(path: Path) -> Mapping[str, Any]:
    """What a recipe holds; whatever is wrong with it is found by its model."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _beside(name: str, corpus: Path, key: str) -> Path:
    here = corpus.parent / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if here.is_file():
        return here
    known = [p.stem for p in corpus.parent.glob("*.yaml") if p != corpus]
    raise UnknownNameError("recipe", name, known, where=corpus, key=key)


def _part_changes(part: Part, source: Source | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if source is not None:
        changes["source"] = source if isinstance(source, str) else source.model_dump()
    if part.count is not None:
        changes["sites"] = {"count": part.count}
    if part.period is not None:
        changes["dates"] = {"period": part.period}
    if part.samples is not None:
        changes["shards"] = {"samples": part.samples}
    return changes


def _override(recipe: Recipe, path: Path, overrides: Overrides) -> Recipe:
    sites = {
        key: value
        for key, value in (
            ("seed", overrides.seed),
            ("count", overrides.count),
        )
        if value is not None
    }
    changes: dict[str, Any] = {"sites": sites} if sites else {}
    if overrides.source is not None:
        said = Sources.said(overrides.source)
        changes["source"] = said if isinstance(said, str) else said.model_dump()
    return _validated(recipe, changes, path)


def _validated(recipe: Recipe, changes: Mapping[str, Any], path: Path) -> Recipe:
    if not changes:
        return recipe
    content = recipe.model_dump(mode="json")
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(content[key], dict):
            content[key] = {**content[key], **value}
        else:
            content[key] = value
    try:
        return Recipe.model_validate(content)
    except ValidationError as problem:
        raise explain(problem, path, Recipe, RecipeError) from None


def _resolve(recipe: Recipe, path: Path, catalogs: Catalogs) -> Subset:
    imagery = _seen_by(catalogs.imagery(recipe.imagery, where=path), recipe.dates, path)
    has = [band.name for band in imagery.bands]
    for i, band in enumerate(recipe.bands or []):
        if band not in has:
            raise UnknownNameError(
                f"band of {imagery.name}", band, has, where=path, key=f"bands.{i}"
            )
    labels = tuple(
        catalogs.label(name, where=path, key=f"labels.{i}") for i, name in enumerate(recipe.labels)
    )
    compare = tuple(
        catalogs.label(name, where=path, key=f"compare.{i}")
        for i, name in enumerate(recipe.compare)
    )
    both = sorted(set(recipe.labels) & set(recipe.compare))
    if both:
        raise RecipeError(path, "compare", both[0], "products that are not among `labels` too")
    if recipe.patch.lattice == "source" and recipe.sites.region != "catalogue":
        raise RecipeError(
            path, "patch.lattice", "source", "declared, unless sites.region is catalogue"
        )
    _one_voice(labels, path)
    recipe = _of_products(recipe, imagery, labels, path)
    _of_the_time(recipe.dates, labels, path)
    _of_one_scene(recipe.dates, imagery, [*labels, *compare], path)
    subset = _subset(recipe, imagery, labels, compare, catalogs, path)
    _can_serve(recipe.source, imagery, [*labels, *compare], path)
    return subset


def _seen_by(imagery: Imagery, dates: Dates, path: Path) -> Imagery:
    """The imagery with the validity that the recipe names.

    Raises:
        UnknownNameError: Its declaration has none of this name.
    """
    if dates.validity is None:
        return imagery
    if dates.validity not in imagery.validities:
        raise UnknownNameError(
            f"validity of {imagery.name}", dates.validity, list(imagery.validities),
            where=path, key="dates.validity",
        )  # fmt: skip
    return imagery.seen_by(dates.validity)


def _subset(
    recipe: Recipe, imagery: Imagery, labels: tuple[LabelProduct, ...],
    compare: tuple[LabelProduct, ...], catalogs: Catalogs, path: Path,
) -> Subset:  # fmt: skip
    """A recipe with its declarations: what its classes are, and what is filtered."""
    taxonomy: Taxonomy | Literal["native"] = "native"
    if recipe.taxonomy != "native":
        taxonomy = catalogs.taxonomy(recipe.taxonomy, where=path)
        makers = _makers(recipe, taxonomy, labels)
        check_told(taxonomy, makers, catalogs.ontology, where=path)
    crosswalk = _labelled_by(recipe, taxonomy, labels, catalogs, path)
    bands = tuple(recipe.bands or [band.name for band in imagery.bands])
    return Subset(
        recipe=recipe,
        file=path,
        imagery=imagery,
        bands=bands,
        labels=labels,
        compare=compare,
        crosswalk=crosswalk,
        filters=Filters.build(
            recipe.filters, taxonomy=crosswalk.taxonomy, products=labels, imagery=imagery,
            bands=bands, dates=recipe.dates, catalogs=catalogs, where=path,
        ),
        catalogs=catalogs,
    )  # fmt: skip


def _one_voice(labels: Sequence[LabelProduct], path: Path) -> None:
    """Refuse a label of two versions of one product: where they differ is not evidence.

    Raises:
        RecipeError: Names both.
    """
    first: dict[str, str] = {}
    for i, product in enumerate(labels):
        if product.family is None:
            continue
        other = first.setdefault(product.family, product.name)
        if other != product.name:
            raise RecipeError(
                path, f"labels.{i}", product.name,
                f"one version of {product.family}, and {other} is another",
                "Name it under `compare`, where two versions show their drift.",
            )  # fmt: skip


def _of_products(
    recipe: Recipe, imagery: Imagery, labels: Sequence[LabelProduct], path: Path
) -> Recipe:
    """The recipe with the days that all its label products speak of, where it asks for those: of
    years with holes between them the last ones without, and none before the imagery begins.

    Raises:
        RecipeError: A product does not say its years, or they have none in common.
    """
    if recipe.dates.period != OF_PRODUCT:
        return recipe
    first, last = imagery.extent.interval
    open_end = Period(first or date.min, (last + timedelta(days=1)) if last else date.max)
    spans, common = [open_end], set(range(open_end.start.year, open_end.end.year + 1))
    for product in labels:
        years, days = product.epoch.spoken()
        if not years:
            raise RecipeError(
                path, "dates.period", "product",
                f"a period: {product.name} does not say which years it speaks of",
            )  # fmt: skip
        common &= years
        spans += [days] if days is not None else []
    run = sorted(year for year in common if all(y in common for y in range(year, max(common))))
    if run:
        spans.append(Period(date(run[0], 1, 1), date(run[-1] + 1, 1, 1)))
    start, end = max(span.start for span in spans), min(span.end for span in spans)
    if not run or start >= end:
        said = "; ".join(
            f"{p.name} {', '.join(map(str, sorted(p.epoch.spoken()[0])))}" for p in labels
        )
        raise RecipeError(
            path, "dates.period", "product",
            f"label products that speak of one time in which there is {imagery.name}: {said}",
            "Write a period, and `dates.label_years`.",
        )  # fmt: skip
    dates = recipe.dates.model_copy(update={"period": Period(start, end)})
    return recipe.model_copy(update={"dates": dates})


def _of_the_time(dates: Dates, labels: Sequence[LabelProduct], path: Path) -> None:
    """Refuse images of years that a product does not speak of, nearly enough.

    Raises:
        RecipeError: Names the years that there are.
    """
    last = dates.period.end - timedelta(days=1)
    for product in labels:
        epoch = product.epoch
        off = {y: epoch.years_off(y) for y in range(dates.period.start.year, last.year + 1)}
        if max(off.values()) <= dates.label_years:
            continue
        there = [epoch.start.year, (epoch.end or epoch.start).year] if epoch.start else epoch.years
        years = ", ".join(map(str, dict.fromkeys(there or [])))
        if epoch.rule == "fixed":
            years = years.replace(", ", " to ")
        raise RecipeError(
            path, "dates.period", str(dates.period),
            f"the years of {product.name} ({years})"
            + (f", and {dates.label_years} around them" if dates.label_years else ""),
            f"Or say how far off a label may be: `dates.label_years: {max(off.values())}`.",
        )  # fmt: skip


def _of_one_scene(
    dates: Dates, imagery: Imagery, products: Sequence[LabelProduct], path: Path
) -> None:
    """Refuse composites beside maps of single scenes, and of numbers that need each scene's sun.

    Raises:
        RecipeError: Names the product or the imagery.
    """
    if dates.composite is not None and imagery.sun_elevation is not None:
        raise RecipeError(
            path, "dates.composite", dates.composite,
            f"single scenes: numbers of {imagery.name} are of each scene's own scale",
            "Leave `composite` out, or take surface reflectance.",
        )  # fmt: skip
    for product in products:
        if dates.composite is not None and product.epoch.rule == "same-scene":
            raise RecipeError(
                path, "dates.composite", dates.composite,
                f"single scenes: {product.name} is a map of each scene",
                "Leave `composite` or the product out.",
            )  # fmt: skip


def _labelled_by(
    recipe: Recipe,
    taxonomy: Taxonomy | Literal["native"],
    labels: Sequence[LabelProduct],
    catalogs: Catalogs,
    path: Path,
) -> Crosswalk | Design:
    """A crosswalk of one product, or what a consensus of several is fitted to.

    Raises:
        RecipeError: Products that cannot be brought together, in this way or in this taxonomy.
        LegendError: No code of the only product is a class.
    """
    options = recipe.consensus or ConsensusOptions()
    makers = _makers(recipe, taxonomy, labels)
    if len(makers) == 1 and (options.method == "single" or recipe.consensus is None):
        return Crosswalk.build(taxonomy, makers, catalogs.ontology, where=path)
    if isinstance(taxonomy, str):
        raise RecipeError(
            path, "taxonomy", taxonomy, "a taxonomy for the consensus of the products",
            f"One of {', '.join(catalogs.names('taxonomies'))}.",
        )  # fmt: skip
    return Design.of(
        options, taxonomy, labels, catalogs.ontology, catalogs.accuracies.values, where=path
    )


def _makers(
    recipe: Recipe, taxonomy: Taxonomy | Literal["native"], labels: Sequence[LabelProduct]
) -> Sequence[LabelProduct]:
    """The products that make the label: all, or with `method: single` the best by its published
    overall accuracy, the first of equals.
    """
    if taxonomy == "native" or recipe.consensus is None or recipe.consensus.method != "single":
        return labels
    return [max(labels, key=lambda product: published_overall(product) or 0.0)]


def _can_serve(
    source: Source, imagery: Imagery, products: Sequence[LabelProduct], path: Path
) -> None:
    """Refuse pairs that the declarations already rule out, before any provider is asked.

    Raises:
        SourceError: Names who has the thing.
    """
    for_imagery = source if isinstance(source, str) else source.imagery
    for_labels = (source,) if isinstance(source, str) else source.products
    asked: list[tuple[Imagery | LabelProduct, tuple[str, ...]]] = [
        (imagery, (for_imagery,)),
        *((p, for_labels) for p in products),
    ]
    joined = imagery.validity.joined
    if joined and for_imagery in PROVIDERS and for_imagery not in (*joined, "virtual"):
        name = next(n for n, way in imagery.validities.items() if way == imagery.validity)
        raise SourceError(
            path, "dates.validity", name, f"what {for_imagery} has",
            f"It comes from: {', '.join(sorted(joined))}.",
        )  # fmt: skip
    for thing, providers in asked:
        if not any(may_have(provider, thing) for provider in providers):
            raise SourceError(
                path,
                "source",
                ", ".join(providers),
                f"for {thing.name}: {', '.join(sorted({w.provider for w in thing.where}))}",
                "A static STAC catalogue of your own copy works too: `--source PROVIDER,CATALOGUE`.",
            )
