"""Recipes: `pipelines/*.yaml`, typed, names and numbers only, checked whole before the first byte."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from las_builder.access import Access, open_access, open_paired
from las_builder.catalogs import Catalogs, Imagery, LabelProduct, Taxonomy
from las_builder.catalogs.loader import explain, packaged, read_yaml
from las_builder.catalogs.models import PROVIDERS
from las_builder.core.options import Dates, Patch, Shards, Sites, Splits, Strict
from las_builder.errors import RecipeError, SourceError, UnknownNameError
from las_builder.fetch import CubeLayout
from las_builder.harmonise import Crosswalk

NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class Sources(Strict):
    """Imagery from one provider, labels from another."""

    imagery: str
    labels: str


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
    shards: Shards = Shards()
    splits: Splits | None = None
    """Only where the recipe is built alone; a corpus recipe says it for all its subsets."""

    @field_validator("dates")
    @classmethod
    def _enough_dates(cls, dates: Dates) -> Dates:
        if dates.min > dates.per_site:
            raise ValueError(f"dates.min at most dates.per_site, which is {dates.per_site}")
        return dates


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
    seed: int | None = None
    source: str | None = None
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Subset:
    """One recipe with the declarations it names."""

    recipe: Recipe
    file: Path
    imagery: Imagery
    bands: tuple[str, ...]
    labels: tuple[LabelProduct, ...]
    compare: tuple[LabelProduct, ...]
    crosswalk: Crosswalk
    catalogs: Catalogs

    @functools.cached_property
    def access(self) -> Access:
        """The provider, opened when a stage first needs pixels and asked whether it can serve.

        Raises:
            SourceError: It cannot serve the imagery or a product.
            StacError: Its catalogue lacks what reading needs.
        """
        source = self.recipe.source
        if isinstance(source, str):
            access = open_access(source, catalogs=self.catalogs, where=self.file)
        else:
            access = open_paired(
                open_access(source.imagery, catalogs=self.catalogs, where=self.file),
                open_access(source.labels, catalogs=self.catalogs, where=self.file),
            )
        access.check(self.imagery, self.bands, [*self.labels, *self.compare])
        return access

    @property
    def name(self) -> str:
        """The recipe's."""
        return self.recipe.name

    @property
    def layout(self) -> CubeLayout:
        """Of the subset's cube."""
        return CubeLayout(
            imagery=self.imagery,
            bands=self.bands,
            products=(*self.labels, *self.compare),
            height=self.recipe.patch.size,
            width=self.recipe.patch.size,
        )

    @property
    def synthetic(self) -> bool:
        """Whether any of its pixels are made up."""
        source = self.recipe.source
        return "virtual" in (
            [source] if isinstance(source, str) else [source.imagery, source.labels]
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

    @property
    def synthetic(self) -> bool:
        """Whether any pixel is made up."""
        return any(subset.synthetic for subset in self.subsets)

    def lock(self) -> dict[str, Any]:
        """What decides plan, scenes and cube; a workspace is made by exactly one of these.

        The taxonomy and the shard size are not in it: raw codes are stored, so that another
        taxonomy re-packs and never re-fetches.
        """
        return {
            "name": self.name,
            "splits": self.splits.model_dump(mode="json"),
            "subsets": {
                subset.name: subset.recipe.model_dump(
                    mode="json", exclude={"taxonomy", "shards", "splits"}
                )
                for subset in self.subsets
            },
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
    """
    catalogs, overrides = catalogs or Catalogs.load(), overrides or Overrides()
    path = find(name)
    if "subsets" not in _keys(path):
        recipe = read_yaml(path, Recipe, error=RecipeError)
        subset = _resolve(_override(recipe, path, overrides), path, catalogs)
        return Corpus(
            name=recipe.name,
            description="",
            subsets=(subset,),
            splits=recipe.splits or Splits(),
            catalogs=catalogs,
            file=path,
        )
    corpus = read_yaml(path, CorpusRecipe, error=RecipeError)
    subsets = []
    for i, part in enumerate(corpus.subsets):
        file = _beside(part.recipe, path, f"subsets.{i}.recipe")
        recipe = read_yaml(file, Recipe, error=RecipeError)
        changes = _part_changes(part, corpus.source)
        recipe = _validated(recipe, changes, path)
        subsets.append(_resolve(_override(recipe, path, overrides), file, catalogs))
    names = [subset.name for subset in subsets]
    if len(set(names)) < len(names):
        raise RecipeError(path, "subsets", ", ".join(names), "subsets of different names")
    return Corpus(
        name=corpus.name,
        description=corpus.description,
        subsets=tuple(subsets),
        splits=corpus.splits,
        catalogs=catalogs,
        file=path,
    )


def _keys(path: Path) -> set[str]:
    """Top-level keys of a recipe; whatever else is wrong with it is found by its model."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()
    return set(content) if isinstance(content, dict) else set()


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
            ("region", overrides.region),
            ("seed", overrides.seed),
            ("count", overrides.count),
        )
        if value is not None
    }
    changes: dict[str, Any] = {"sites": sites} if sites else {}
    if overrides.source is not None:
        changes["source"] = overrides.source
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
    imagery = catalogs.imagery(recipe.imagery, where=path)
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
    taxonomy: Taxonomy | Literal["native"] = "native"
    if recipe.taxonomy != "native":
        taxonomy = catalogs.taxonomy(recipe.taxonomy, where=path)
    subset = Subset(
        recipe=recipe,
        file=path,
        imagery=imagery,
        bands=tuple(recipe.bands or has),
        labels=labels,
        compare=compare,
        crosswalk=Crosswalk.build(taxonomy, labels, catalogs.ontology, where=path),
        catalogs=catalogs,
    )  # fmt: skip
    _can_serve(recipe.source, imagery, [*labels, *compare], path)
    return subset


def _can_serve(
    source: Source, imagery: Imagery, products: Sequence[LabelProduct], path: Path
) -> None:
    """Refuse pairs that the declarations already rule out, before any provider is asked.

    Raises:
        SourceError: Names who has the thing.
    """
    for_imagery = source if isinstance(source, str) else source.imagery
    for_labels = source if isinstance(source, str) else source.labels
    asked: list[tuple[Imagery | LabelProduct, str, str]] = [
        (imagery, for_imagery, "imagery"),
        *((p, for_labels, "labels") for p in products),
    ]
    for thing, provider, key in asked:
        has = {where.provider for where in thing.where}
        # Imagery from one public catalogue goes with labels from another: both are STAC.
        enough = STAC if provider in STAC and key == "labels" else {provider}
        if provider not in PROVIDERS:  # a static catalogue: it says itself what it holds
            continue
        if not has & enough:
            raise SourceError(
                path,
                "source",
                provider,
                f"for {thing.name}: {', '.join(sorted(has))}",
                "A static STAC catalogue of your own copy works too.",
            )


STAC = {"earth-search", "planetary-computer"}
