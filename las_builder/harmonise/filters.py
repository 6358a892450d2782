"""Filters: declared steps between a harmonised label and its shard.

    filters:
      - {step: spectral_veto}             # pixels whose reflectance contradicts their class
      - {step: temporal_stability}        # pixels whose class changes between maps of the site
      - {step: erode_edges, pixels: 1}    # pixels beside another class
      - {step: soften_edges, factor: 0.5} # pixels that a coarse product puts near another class
      - {step: void_share, max: 0.3}      # patches with too little label
      - {step: min_classes, n: 2}         # patches with too few classes

Pixel steps set classes to ignore (255), or lower a confidence; patch steps reject the sample. They
run in the order of the list, each on what the one before left; what each has done goes into the
sample's JSON. They never see an audit: audits estimate from the cube.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from las_builder.catalogs import Catalogs, Imagery, LabelProduct, Ontology, Taxonomy, VetoRules
from las_builder.core.grid import Grid
from las_builder.core.options import Dates, Strict
from las_builder.core.types import IGNORE, NO_CONFIDENCE, Harmonised
from las_builder.errors import RecipeError
from las_builder.harmonise.crosswalk import candidates, native_codes


class VoidShare(Strict):
    """Reject patches with too little label."""

    step: Literal["void_share"]
    max: float = Field(ge=0, lt=1)
    """Of the patch's pixels that are ignored."""


class MinClasses(Strict):
    """Reject patches with too few classes."""

    step: Literal["min_classes"]
    n: int = Field(ge=1, le=254)
    min_share: float = Field(default=0.0, ge=0, lt=1)
    """Of the labelled pixels: a class with less does not count."""


class ErodeEdges(Strict):
    """Ignore pixels near another class: there maps and images are least aligned."""

    step: Literal["erode_edges"]
    pixels: int = Field(default=1, ge=1, le=64)
    """A pixel is ignored if one of another class is at most so many columns and rows away. Ignored
    pixels are no class, and nothing is known beyond the patch."""


class SoftenEdges(Strict):
    """Trust pixels near another class less, where a product pixel is larger than four of the patch:
    where in it the edge runs, the product does not say.

    Sizes are declared metres on the ground; of several products the finest counts, because it can
    draw the edge.
    """

    step: Literal["soften_edges"]
    factor: float = Field(ge=0, lt=1)
    """What the confidence is multiplied by."""

    pixels: int | None = Field(default=None, ge=1, le=64)
    """As of `erode_edges`; None: half a product pixel, rounded up, and 64 at most."""

    def reach(self, gsd: float, grid: Grid) -> int:
        """How many pixels from another class confidence is lowered; 0: nowhere.

        Args:
            gsd: Of the product, metres.
            grid: Of the patch.
        """
        # Rounded, so that no noise of an ellipsoid or of floats decides between two numbers.
        wide = round(gsd / math.sqrt(grid.pixel_area()), 6)
        if wide * wide <= LARGE:
            return 0
        return self.pixels or min(64, math.ceil(wide / 2))


LARGE = 4
"""Pixels of the patch that a product pixel is larger than, by area, for edges to be softened."""


class SpectralVeto(Strict):
    """Ignore valid pixels whose reflectance their class cannot have."""

    step: Literal["spectral_veto"]
    rules: str = "spectral"
    """A file of `catalogs/vetoes`."""

    indices: list[str] | None = Field(default=None, min_length=1)
    """Only the rules that need no other index, for imagery without the bands; None: all."""


class TemporalStability(Strict):
    """Ignore, or trust less, pixels whose class another label map of the site contradicts."""

    step: Literal["temporal_stability"]
    then: Literal["ignore", "lower"] = "ignore"
    factor: float | None = Field(default=None, ge=0, lt=1)
    """lower: what the confidence is multiplied by."""

    @model_validator(mode="after")
    def _factor(self) -> TemporalStability:
        if (self.then == "lower") != (self.factor is not None):
            raise ValueError("factor with `then: lower`, and only there")
        return self


Step = Annotated[
    VoidShare | MinClasses | ErodeEdges | SoftenEdges | SpectralVeto | TemporalStability,
    Field(discriminator="step"),
]
PATCH_STEPS = (VoidShare, MinClasses)
"""Steps that reject: a sample that passed them was selected by its label."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What steps look at beside the label."""

    grid: Grid
    image: NDArray[np.generic]
    """(band, y, x), the provider's numbers."""

    valid: NDArray[np.bool_]
    """(y, x)."""

    scale: tuple[float, ...]
    """Of each band: reflectance = number * scale + offset."""

    offset: tuple[float, ...]
    others: Sequence[Harmonised] = ()
    """The site at its other dates, where those come from other maps; on the same grid."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one step did to one sample."""

    step: str
    ignored: int = 0
    """Pixels whose class became ignore."""

    lowered: int = 0
    """Pixels whose confidence was lowered."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filtered:
    """A label after all steps, or up to the one that rejected it."""

    label: Harmonised
    effects: tuple[Effect, ...] = ()
    rejected: str | None = None
    """The step that rejected the sample; None: it is kept."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A veto for one taxonomy and one imagery."""

    classes: tuple[int, ...]
    when: tuple[tuple[int, int, float | None, float | None], ...]
    """(band that adds, band that subtracts, above, below)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The steps of one subset, checked against what it has."""

    steps: tuple[Step, ...] = ()
    rules: Mapping[int, tuple[_Rule, ...]] = field(default_factory=dict)
    """Place of a spectral veto among the steps to its rules."""

    gsd: float = 0.0
    """Metres, of the finest product that makes the label."""

    @classmethod
    def build(
        cls, steps: Sequence[Step], *, taxonomy: Taxonomy, products: Sequence[LabelProduct],
        imagery: Imagery, bands: Sequence[str], dates: Dates, catalogs: Catalogs, where: object,
    ) -> Filters:  # fmt: skip
        """Check steps against taxonomy, products, bands and dates of a subset.

        Args:
            steps: As declared.
            taxonomy: Of the labels; native ones too.
            products: That make the label.
            imagery: Of the subset.
            bands: Of the packed image, in its order.
            dates: Of the recipe.
            catalogs: For the rules of vetoes and the ontology.
            where: File that asked, for the message.

        Raises:
            RecipeError: A band role that the imagery lacks, bands that are no reflectances, rules
                that fit no class, one label map where several are compared, more classes than
                there are, edges to soften of a product that is not coarse.
            UnknownNameError: No such rules or index.
        """
        rules = {}
        finest = min(products, key=lambda product: product.gsd)
        for i, step in enumerate(steps):
            key = f"filters.{i}"
            if isinstance(step, SpectralVeto):
                declared = catalogs.vetoes(step.rules, where=where, key=f"{key}.rules")
                leaves = class_leaves(taxonomy, products, catalogs.ontology)
                rules[i] = _fitted(
                    step, declared, leaves, imagery, bands, catalogs.ontology, where, key
                )
            elif isinstance(step, TemporalStability):
                _several_maps(products, dates, where, key)
            elif isinstance(step, SoftenEdges) and finest.gsd**2 <= LARGE * imagery.gsd**2:
                raise RecipeError(
                    where, key, step.step,
                    f"a product with pixels larger than {LARGE} of {imagery.name} "
                    f"({imagery.gsd:g} m); those of {finest.name} have {finest.gsd:g} m",
                    "erode_edges is for products of any size.",
                )  # fmt: skip
            elif isinstance(step, MinClasses) and step.n > len(taxonomy.classes):
                raise RecipeError(
                    where, f"{key}.n", step.n,
                    f"at most the {len(taxonomy.classes)} classes of {taxonomy.name}",
                )  # fmt: skip
        return cls(steps=tuple(steps), rules=rules, gsd=finest.gsd)

    @property
    def select(self) -> bool:
        """Whether which samples there are depends on their labels: then no weight is known."""
        return any(isinstance(step, PATCH_STEPS) for step in self.steps)

    @property
    def compare_maps(self) -> bool:
        """Whether a step looks at the label maps of the site's other dates."""
        return any(isinstance(step, TemporalStability) for step in self.steps)

    def said(self) -> list[dict[str, Any]]:
        """All that decides what the steps do, as plain values."""
        return [
            {
                **step.model_dump(mode="json"),
                **({"rules": [list(dataclasses.astuple(r)) for r in self.rules[i]]}
                   if i in self.rules else {}),
                **({"gsd": self.gsd} if isinstance(step, SoftenEdges) else {}),
            }
            for i, step in enumerate(self.steps)
        ]  # fmt: skip

    def apply(self, label: Harmonised, seen: Seen, *, keep: bool = False) -> Filtered:
        """All steps in their order; the first that rejects ends it.

        Args:
            label: Of the patch; not changed.
            seen: Image and other maps of the patch.
            keep: A reviewer keeps the patch: steps that reject are passed over.
        """
        effects: list[Effect] = []
        for i, step in enumerate(self.steps):
            if isinstance(step, PATCH_STEPS):
                if not keep and rejects(step, label.classes):
                    return Filtered(label=label, effects=tuple(effects), rejected=step.step)
                continue
            if isinstance(step, TemporalStability) and step.then == "lower":
                doubted = unstable(label.classes, [other.classes for other in seen.others])
                after = lower(label, doubted, step.factor or 0.0)
            elif isinstance(step, TemporalStability):
                doubted = unstable(label.classes, [other.classes for other in seen.others])
                after = ignore(label, doubted)
            elif isinstance(step, SoftenEdges):
                pixels = step.reach(self.gsd, seen.grid)
                near = near_edges(label.classes, pixels) if pixels else np.bool_(False)
                after = lower(label, np.broadcast_to(near, label.classes.shape), step.factor)
            elif isinstance(step, ErodeEdges):
                after = ignore(label, near_edges(label.classes, step.pixels))
            else:
                after = ignore(label, contradicted(label.classes, seen, self.rules[i]))
            gone = int(((after.classes == IGNORE) & (label.classes != IGNORE)).sum())
            fewer = (after.confidence < label.confidence) & (after.classes != IGNORE)
            effects.append(Effect(step.step, gone, int(fewer.sum())))
            label = after
        return Filtered(label=label, effects=tuple(effects))


def rejects(step: VoidShare | MinClasses, classes: NDArray[np.uint8]) -> bool:
    """Whether a patch step rejects a label, (y, x), class indices with 255 = ignore."""
    counts = np.bincount(classes.ravel(), minlength=256)
    void, labelled = int(counts[IGNORE]), classes.size - int(counts[IGNORE])
    if isinstance(step, VoidShare):
        return void > step.max * classes.size
    counted = counts[:IGNORE]
    enough = (counted > 0) & (counted >= step.min_share * labelled)
    return int(enough.sum()) < step.n


def near_edges(classes: NDArray[np.uint8], pixels: int) -> NDArray[np.bool_]:
    """True where a labelled pixel has one of another class at most `pixels` columns and rows off.

    Args:
        classes: (y, x), 255 = ignore, which is no class.
        pixels: Chebyshev distance.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    labelled = classes != IGNORE
    wide = classes.astype(np.int16)
    side = 2 * pixels + 1
    # Beyond the patch its own last pixels are seen again, which makes no edge.
    high = maximum_filter(np.where(labelled, wide, -1), size=side, mode="nearest")
    low = minimum_filter(np.where(labelled, wide, 256), size=side, mode="nearest")
    near: NDArray[np.bool_] = np.logical_and(labelled, high != low)
    return near


def unstable(
    classes: NDArray[np.uint8], others: Sequence[NDArray[np.uint8]]
) -> NDArray[np.bool_]:  # fmt: skip
    """True where another map names another class; where it names none, it says nothing."""
    found = np.zeros(classes.shape, bool)
    for other in others:
        found |= (other != IGNORE) & (other != classes)
    doubted: NDArray[np.bool_] = found & (classes != IGNORE)
    return doubted


def contradicted(
    classes: NDArray[np.uint8], seen: Seen, rules: Sequence[_Rule]
) -> NDArray[np.bool_]:  # fmt: skip
    """True where a valid pixel's reflectances are ones that its class cannot have.

    An index is defined where the sum of its two reflectances is positive; elsewhere no rule that
    asks for it holds.
    """
    found = np.zeros(classes.shape, bool)
    known: dict[tuple[int, int], NDArray[np.float64]] = {}
    for rule in rules:
        holds = np.isin(classes, rule.classes) & seen.valid
        for plus, minus, above, below in rule.when:
            if not holds.any():
                break
            if (plus, minus) not in known:
                known[plus, minus] = _index(seen, plus, minus)
            index = known[plus, minus]
            holds &= np.isfinite(index)
            if above is not None:
                holds &= index > above
            if below is not None:
                holds &= index < below
        found |= holds
    return found


def _index(seen: Seen, plus: int, minus: int) -> NDArray[np.float64]:
    a, b = (
        seen.image[band].astype(np.float64) * seen.scale[band] + seen.offset[band]
        for band in (plus, minus)
    )
    out = np.full(a.shape, np.nan)
    np.divide(a - b, a + b, out=out, where=(a + b) > 0)
    return out


def ignore(label: Harmonised, where: NDArray[np.bool_]) -> Harmonised:
    """The label without the pixels that `where` marks, (y, x)."""
    if not where.any():
        return label
    return relabelled(
        label,
        np.where(where, np.uint8(IGNORE), label.classes),
        np.where(where, np.uint8(NO_CONFIDENCE), label.confidence),
    )


def lower(label: Harmonised, where: NDArray[np.bool_], factor: float) -> Harmonised:
    """The label with confidence times factor, to the nearest percent, where marked and known."""
    known = where & (label.confidence != NO_CONFIDENCE)
    less = np.floor(label.confidence * np.float64(factor) + 0.5).astype(np.uint8)
    return relabelled(label, label.classes, np.where(known, less, label.confidence))


def relabelled(
    label: Harmonised, classes: NDArray[np.uint8], confidence: NDArray[np.uint8]
) -> Harmonised:  # fmt: skip
    """The label with other classes and confidences; without any confidence, it has no kind."""
    said = bool((confidence != NO_CONFIDENCE).any())
    return dataclasses.replace(
        label, classes=classes, confidence=confidence,
        confidence_kind=label.confidence_kind if said else None,
    )  # fmt: skip


def class_leaves(
    taxonomy: Taxonomy, products: Sequence[LabelProduct], ontology: Ontology
) -> list[frozenset[str]]:
    """The ontology leaves that can be seen where a class is, one set a class.

    A class of a cover taxonomy is what it looks like; of a use taxonomy, what can be seen there; of
    a native legend, what its code can be seen as.
    """

    def seen(leaf: str) -> frozenset[str]:
        cover = ontology.cover_of(leaf) if taxonomy.basis == "use" else None
        return frozenset().union(*(ontology.below(node) for node in cover or [leaf]))

    codes = {
        entry.name: candidates(entry, product, "cover", ontology)
        for product in products
        for entry in native_codes(product)
    }
    return [
        frozenset().union(*(seen(leaf) for node in entry.members for leaf in ontology.below(node)))
        if entry.members
        else codes.get(entry.name, frozenset())
        for entry in taxonomy.classes
    ]


def _fitted(
    step: SpectralVeto, declared: VetoRules, leaves: Sequence[frozenset[str]], imagery: Imagery,
    bands: Sequence[str], ontology: Ontology, where: object, key: str,
) -> tuple[_Rule, ...]:  # fmt: skip
    for name in step.indices or []:
        if name not in declared.indices:
            raise RecipeError(
                where, f"{key}.indices", name,
                f"an index of {declared.name}: {', '.join(declared.indices)}",
            )  # fmt: skip
    wanted = set(step.indices or declared.indices)
    rules = []
    for rule in declared.rules:
        if not set(rule.when) <= wanted:
            continue
        refuted = frozenset().union(*(ontology.below(node) for node in rule.classes))
        fits = tuple(i for i, found in enumerate(leaves) if found and found <= refuted)
        if not fits:
            continue
        when = []
        for name, bound in rule.when.items():
            index = declared.indices[name]
            plus, minus = (
                _band(roles, name, imagery, bands, where, key)
                for roles in (index.plus, index.minus)
            )
            when.append((plus, minus, bound.above, bound.below))
        rules.append(_Rule(fits, tuple(when)))
    if not rules:
        raise RecipeError(
            where, f"{key}.rules", declared.name,
            "rules of which one names every leaf of a class of the taxonomy",
            "Leave the step out, or declare rules of your own in catalogs/vetoes.",
        )  # fmt: skip
    return tuple(rules)


def _band(
    roles: Sequence[str], index: str, imagery: Imagery, bands: Sequence[str], where: object,
    key: str,
) -> int:  # fmt: skip
    """Place among `bands` of the first role there is."""
    for role in roles:
        for i, name in enumerate(bands):
            band = imagery.band(name)
            if band.common_name != role:
                continue
            if band.scale == 1.0 and np.dtype(imagery.data_type).kind in "iu":
                raise RecipeError(
                    where, key, "spectral_veto",
                    f"imagery of reflectances; {name} of {imagery.name} has no raster:scale",
                )  # fmt: skip
            return i
    raise RecipeError(
        where, key, "spectral_veto",
        f"bands with a {' or '.join(roles)}, which {index} needs; of {imagery.name} the recipe has "
        + ", ".join(f"{n} ({imagery.band(n).common_name})" for n in bands),
        "Add the band, or name `indices` that do without it.",
    )  # fmt: skip


def _several_maps(
    products: Sequence[LabelProduct], dates: Dates, where: object, key: str
) -> None:  # fmt: skip
    """Refuse a comparison of maps where a site has one.

    Raises:
        RecipeError: Says which products have one map and what would give several.
    """
    if dates.per_site > 1:
        last = dates.period.end.year - (dates.period.end.timetuple().tm_yday == 1)
        years = range(dates.period.start.year, last + 1)
        for product in products:
            rule = product.epoch.rule
            if rule == "same-scene":
                return
            if rule == "image-year" and len({product.epoch.year_for(y) for y in years}) > 1:
                return
    raise RecipeError(
        where, key, "temporal_stability",
        f"more than one label map of a site; {', '.join(p.name for p in products)} has one for "
        f"{dates.per_site} dates in {dates.period}",
        "It takes dates.per_site above 1 and a product with a map of each year or scene.",
    )  # fmt: skip
