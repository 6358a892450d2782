"""Finding and reading declarations: the file's name is the thing's name."""

from __future__ import annotations

import difflib
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from las_builder.catalogs.annotated import AnnotatedSet
from las_builder.catalogs.earth_engine import Assumption, Assumptions, EarthEngineService, Errors
from las_builder.catalogs.levels import LEVELS, level_taxonomy
from las_builder.catalogs.models import (
    NO_LABEL,
    Benchmark,
    CoverAccuracies,
    Imagery,
    LabelClass,
    LabelProduct,
    Ontology,
    Phenology,
    Scored,
    StacProvider,
    StrataLayer,
    Taxonomy,
    VetoRules,
)
from las_builder.errors import CatalogError, InputError, UnknownNameError

M = TypeVar("M", bound=BaseModel)
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def packaged(folder: str) -> Path:
    """A folder of declarations: in the wheel, or at the top of the repository it is run from."""
    package = Path(__file__).parents[1]
    inside = package / "_declared" / folder
    return inside if inside.is_dir() else package.parent / folder


@dataclass(frozen=True)
class Catalogs:
    """All declarations that a run can name: ours, and the user's own folder before them."""

    folders: tuple[Path, ...]

    @classmethod
    def load(cls, extra: Path | None = None) -> Catalogs:
        """Ours, preceded by `extra` (`--catalogs DIR`).

        Raises:
            CatalogError: `extra` is not a folder.
        """
        if extra is not None and not extra.is_dir():
            raise CatalogError(extra, "--catalogs", str(extra), "a folder of declarations")
        return cls((*((extra,) if extra else ()), packaged("catalogs")))

    def names(self, kind: str, *, declared: bool = False) -> list[str]:
        """What exists of a kind: imagery, labels, taxonomies, strata.

        Args:
            kind: The folder.
            declared: Only what has a file; levels of the ontology are taxonomies without one.
        """
        made = LEVELS if kind == "taxonomies" and not declared else ()
        files = {p.stem for folder in self.folders for p in (folder / kind).glob("*.yaml")}
        return sorted({*files, *made})

    def imagery(self, name: str, *, where: object = "command", key: str = "imagery") -> Imagery:
        """The imagery source of this name; `where` and `key` say who asked, for the message.

        Raises:
            UnknownNameError: No file declares it.
            CatalogError: Its file is wrong.
        """
        return self._read("imagery", "imagery source", name, Imagery, where, key)

    def label(self, name: str, *, where: object = "command", key: str = "labels") -> LabelProduct:
        """The label product of this name; its `means` are checked against the ontology.

        Raises:
            UnknownNameError: No file declares it.
            CatalogError: Its file is wrong.
        """
        product = self._read("labels", "label product", name, LabelProduct, where, key)
        check_meaning(product, self.ontology, self.file("labels", name))
        return product

    def taxonomy(self, name: str, *, where: object = "command", key: str = "taxonomy") -> Taxonomy:
        """The taxonomy of this name; its classes are disjoint sets of ontology leaves.

        Those of `levels.LEVELS` are made from the ontology, unless a file has the name.

        Raises:
            UnknownNameError: No file declares it.
            CatalogError: Its file is wrong.
        """
        if name in LEVELS and name not in self.names("taxonomies", declared=True):
            return level_taxonomy(name, self.ontology)
        taxonomy = self._read("taxonomies", "taxonomy", name, Taxonomy, where, key)
        check_disjoint(taxonomy, self.ontology, self.file("taxonomies", name))
        return taxonomy

    def provider(
        self, name: str, *, where: object = "command", key: str = "source"
    ) -> StacProvider:
        """The STAC API of this name.

        Raises:
            UnknownNameError: No file declares it.
            CatalogError: Its file is wrong.
        """
        return self._read("providers", "provider", name, StacProvider, where, key)

    @functools.cached_property
    def earth_engine(self) -> EarthEngineService:
        """Limits of Earth Engine, and what its errors mean."""
        errors = read_yaml(self.file("earth-engine", "errors"), Errors)
        return read_yaml(self.file("earth-engine", "service"), EarthEngineService, errors=errors)

    @functools.cached_property
    def assumptions(self) -> list[Assumption]:
        """What is taken for granted of Earth Engine, by number."""
        return read_yaml(self.file("earth-engine", "assumptions"), Assumptions).rows

    def strata(self, name: str, *, where: object = "command", key: str = "strata") -> StrataLayer:
        """The strata layer of this name."""
        return self._read("strata", "strata layer", name, StrataLayer, where, key)

    def benchmark(
        self, name: str, *, where: object = "command", key: str = "benchmark"
    ) -> Benchmark:
        """The benchmark of this name.

        Raises:
            UnknownNameError: No file declares it.
            CatalogError: Its file is wrong.
        """
        return self._read("benchmarks", "benchmark", name, Benchmark, where, key)

    def scored(
        self, name: str, *, where: object = "command", key: str = "BENCHMARK"
    ) -> tuple[Scored, AnnotatedSet, LabelProduct]:
        """What of a benchmark is scored, its set with the splits of the benchmark, and its legend.

        Raises:
            UnknownNameError: No file declares it, or its set.
            CatalogError: Its file is wrong, says nothing of scores, or has words for other codes than
                the legend has.
        """
        scored = self.benchmark(name, where=where, key=key).scored
        file = self.file("benchmarks", name)
        if scored is None:
            known = [one for one in self.names("benchmarks") if self.benchmark(one).scored]
            raise CatalogError(
                where, key, name, f"a benchmark that is scored: {', '.join(known)}",
                "Its declaration says where it is, and no more.",
            )  # fmt: skip
        annotated, product = self.annotated(scored.dataset, where=file, key="scored.dataset")
        legend = sorted(entry.value for entry in product.classes)
        worded = sorted([*scored.prompts, *scored.ignore])
        if worded != legend:
            raise CatalogError(
                file, "scored.prompts", worded, f"each code once, in prompts or ignore: {legend}"
            )
        if not set(scored.area) <= set(annotated.common):
            raise CatalogError(
                file,
                "scored.area",
                scored.area,
                f"parts of its paths: {', '.join(annotated.common)}",
            )
        if scored.names:
            splits = annotated.splits.model_copy(update={"names": dict(scored.names)})
            annotated = annotated.model_copy(update={"splits": splits})
        return scored, annotated, product

    def vetoes(self, name: str, *, where: object = "command", key: str = "rules") -> VetoRules:
        """The spectral rules of this name; their classes are checked against the ontology.

        Raises:
            UnknownNameError: No file declares it.
            CatalogError: Its file is wrong.
        """
        rules = self._read("vetoes", "set of spectral rules", name, VetoRules, where, key)
        for i, rule in enumerate(rules.rules):
            for node in rule.classes:
                if node not in self.ontology.by_id:
                    path = self.file("vetoes", name)
                    raise CatalogError(path, f"rules.{i}.classes", node, "an ontology node")
        return rules

    def annotated(
        self, name: str, *, where: object = "command", key: str = "dataset"
    ) -> tuple[AnnotatedSet, LabelProduct]:
        """The annotated set of this name, and its masks as a label product.

        Raises:
            UnknownNameError: No file declares it, or the product that its legend is of.
            CatalogError: Its file is wrong.
        """
        found = self._read("imports", "annotated set", name, AnnotatedSet, where, key)
        file = self.file("imports", name)
        legend = None
        if found.legend is not None:
            legend = self.label(found.legend, where=file, key="legend")
        try:
            product, _ = found.product(legend), found.imagery()
        except ValidationError as problem:
            raise explain(problem, file, LabelProduct, CatalogError) from None
        check_meaning(product, self.ontology, file)
        return found, product

    @functools.cached_property
    def ontology(self) -> Ontology:
        """The one tree of concepts."""
        for folder in self.folders:
            if (folder / "ontology.yaml").is_file():
                return read_yaml(folder / "ontology.yaml", Ontology)
        raise CatalogError(self.folders[-1], "ontology.yaml", None, "a file of this name")

    @functools.cached_property
    def accuracies(self) -> CoverAccuracies:
        """Published accuracies of covers, for products without their own."""
        for folder in self.folders:
            path = folder / "accuracies.yaml"
            if path.is_file():
                found = read_yaml(path, CoverAccuracies)
                for node in found.values:
                    if node not in self.ontology.by_id:
                        raise CatalogError(path, "values", node, "ontology nodes")
                return found
        raise CatalogError(self.folders[-1], "accuracies.yaml", None, "a file of this name")

    @functools.cached_property
    def phenology(self) -> Phenology:
        """Seasons of green by climate."""
        found = [folder / "phenology.yaml" for folder in self.folders]
        return read_yaml(next((p for p in found if p.is_file()), found[-1]), Phenology)

    def file(self, kind: str, name: str) -> Path:
        """The file that declares a thing; the user's folder comes first."""
        found = [folder / kind / f"{name}.yaml" for folder in self.folders]
        return next((path for path in found if path.is_file()), found[-1])

    def _read(self, kind: str, words: str, name: str, model: type[M], where: object, key: str) -> M:
        path = self.file(kind, name)
        if not path.is_file():
            raise UnknownNameError(words, name, self.names(kind), where=where, key=key)
        return read_yaml(path, model, name=name)


def read_yaml(
    path: Path, model: type[M], *, error: type[InputError] = CatalogError, **more: Any
) -> M:
    """One YAML file as one model.

    Raises:
        InputError: (of the class given) The file is not YAML, or says what the model refuses;
            the message names file, key, value and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)  # noqa: S506 - the safe loader, in C
    except OSError as problem:
        raise error(
            path, "file", str(path), f"a file that can be read ({problem.strerror})"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise error(path, "yaml", str(problem), "valid YAML") from None
    if not isinstance(content, dict):
        raise error(path, "yaml", type(content).__name__, "a mapping of keys to values")
    try:
        return model.model_validate({**content, **more})
    except ValidationError as problem:
        raise explain(problem, path, model, error) from None


def explain(
    problem: ValidationError, path: object, model: type[BaseModel], error: type[InputError]
) -> InputError:
    """The first thing a model refused, as one line of ours."""
    first = problem.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "file"
    found = first.get("input")
    if first["type"].startswith("union_tag_"):  # one of several models, told apart by a key
        about = first["ctx"]
        tag, allowed = about["discriminator"].strip("'"), about.get("expected_tags", "")
        return error(path, f"{key}.{tag}", about.get("tag"), allowed or "a value: it is required")
    if first["type"] == "extra_forbidden":
        return UnknownKey.of(path, key, first["loc"], model, error)
    if first["type"] == "missing":
        return error(path, key, None, "a value: the key is required")
    allowed = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    shown = found if isinstance(found, str | int | float | bool | None) else type(found).__name__
    return error(path, key, shown, allowed)


class UnknownKey:
    """Wording for a key that a model does not have."""

    @staticmethod
    def of(
        path: object,
        key: str,
        loc: tuple[int | str, ...],
        model: type[BaseModel],
        error: type[InputError],
    ) -> InputError:
        """Name the keys that exist, and the nearest."""
        known = _keys_at(model, loc[:-1])
        near = UnknownNameError("key", str(loc[-1]), known, where=path, key=key)
        return error(path, key, str(loc[-1]), f"the keys {', '.join(near.known)}", near.way_out)


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    current = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        fields = [f for m in current for n, f in m.model_fields.items() if part in (n, f.alias)]
        if fields:
            current = [found for field in fields for found in _models_in(field.annotation)]
        else:  # the tag of one of several models, or a key of a mapping to models
            current = [m for m in current if part in _tags(m)] or current
    return sorted({field.alias or n for m in current for n, field in m.model_fields.items()})


def _tags(model: type[BaseModel]) -> set[Any]:
    return {
        value
        for field in model.model_fields.values()
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    }


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def check_meaning(product: LabelProduct, ontology: Ontology, path: Path) -> None:
    """Every code means existing nodes or is declared as no label, and words agree with the sets.

    Raises:
        CatalogError: A node that does not exist, or that is no statement of cover or use; a code
            that means nothing and is not said to be `special`; a SKOS word that the sets
            contradict; weights of what the code cannot be.
    """
    for entry in product.classes:
        key = f"classes[{entry.value}]"
        for node in [*entry.means, *([entry.node] if entry.node else [])]:
            if node not in ontology.by_id:
                raise CatalogError(
                    path, f"{key}.means", node, "an ontology node", _near(node, ontology)
                )
        no_label = (entry.node or "").split(".")[0] == NO_LABEL
        if not entry.means and not no_label and entry.value != product.nodata:
            raise CatalogError(
                path, f"{key}.means", [], "at least one ontology node",
                f"A code that is never a label has a `node` below {NO_LABEL}.",
            )  # fmt: skip
        if entry.means and (no_label or any(n.split(".")[0] == NO_LABEL for n in entry.means)):
            raise CatalogError(
                path, f"{key}.means", entry.means, f"no nodes together with one below {NO_LABEL}"
            )
        if strange := sorted(set(entry.ours) - set(entry.means)):
            raise CatalogError(path, f"{key}.ours", strange[0], "nodes of `means`")
        _check_word(entry, ontology, path, key)
        _check_weights(entry, ontology, path, key)


def _check_word(entry: LabelClass, ontology: Ontology, path: Path, key: str) -> None:
    """exact: the same leaves; broader: the class lies inside the node; narrower: it holds the node;
    partial: they share leaves, and `means` names what else there is.
    """
    if entry.node is None or entry.relation is None or not entry.means:
        return
    meant = frozenset().union(*(ontology.below(node) for node in entry.means))
    near = ontology.below(entry.node)
    agrees = {
        "exact": meant == near,
        "broader": meant <= near,
        "narrower": meant >= near,
        "partial": bool(meant & near) and len(entry.means) > 1,
    }
    if not agrees[entry.relation]:
        raise CatalogError(
            path,
            f"{key}.relation",
            entry.relation,
            f"a word that fits means={entry.means} and node={entry.node}",
        )


def _check_weights(entry: LabelClass, ontology: Ontology, path: Path, key: str) -> None:
    if entry.weights is None:
        return
    seen = [node for meant in entry.means for node in ontology.cover_of(meant) or []]
    can_be = frozenset().union(*(ontology.below(node) for node in [*entry.means, *seen]))
    for node, weight in entry.weights.items():
        if node not in ontology.by_id or not ontology.below(node) <= can_be:
            raise CatalogError(
                path, f"{key}.weights", node, "nodes that the code can be: at or below its `means`, "
                "or what can be seen there",
            )  # fmt: skip
        if not 0 < weight < math.inf:
            raise CatalogError(path, f"{key}.weights.{node}", weight, "a number above 0")


def check_disjoint(taxonomy: Taxonomy, ontology: Ontology, path: Path) -> None:
    """Every class is a set of leaves, and no leaf belongs to two classes.

    Raises:
        CatalogError: A class without members; a member is no node, or no statement of cover or
            use; two classes share a leaf.
    """
    owner: dict[str, str] = {}
    names: set[str] = set()
    for entry in taxonomy.classes:
        key = f"classes.{entry.name}.members"
        if entry.name in names:
            raise CatalogError(path, "classes", entry.name, "classes of different names")
        names.add(entry.name)
        if not entry.members:
            raise CatalogError(path, key, [], "at least one ontology node")
        for node in entry.members:
            if node not in ontology.by_id:
                raise CatalogError(path, key, node, "an ontology node", _near(node, ontology))
            if node.split(".")[0] == NO_LABEL:
                raise CatalogError(path, key, node, f"nodes outside {NO_LABEL}")
            for leaf in sorted(ontology.below(node)):
                if owner.setdefault(leaf, entry.name) != entry.name:
                    raise CatalogError(
                        path, key, node,
                        f"nodes that no other class has; {owner[leaf]} has {leaf}",
                        f"{owner[leaf]} and {entry.name} share {leaf}: name the nodes below that "
                        "belong to each.",
                    )  # fmt: skip


def _near(node: str, ontology: Ontology) -> str:
    near = difflib.get_close_matches(node, ontology.by_id, n=1, cutoff=0.4)
    return f"Did you mean {near[0]!r}?" if near else ""
