"""What a recipe can ask of each stage: names and numbers only, checked where they are read."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from las_builder.core.types import Composite, Period


class Strict(BaseModel):
    """A frozen declaration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OF_PRODUCT = Period(date.min, date.max)
"""`period: product`: the days that the label products speak of; resolved when a recipe is read."""


def _period(value: Any) -> Period:
    if isinstance(value, Period):
        return value
    if not isinstance(value, str):
        raise ValueError("a period is written like 2021-01-01/2022-01-01, or `product`")
    return OF_PRODUCT if value == "product" else Period.parse(value)


PeriodField = Annotated[Period, BeforeValidator(_period), PlainSerializer(str, return_type=str)]


def _region(value: Any) -> Any:
    """Codes of UN M49 that YAML reads as numbers; four numbers are a box."""
    if isinstance(value, list):
        box = len(value) == 4 and not any(isinstance(part, str) for part in value)
        return value if box else [_region(part) for part in value]
    number = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:03d}" if number else value


RegionField = Annotated[str | list[float] | list[str], BeforeValidator(_region)]


class Patch(Strict):
    """What one sample covers."""

    size: int = Field(ge=8, le=4096)
    """Columns and rows."""

    gsd: float | None = Field(default=None, gt=0)
    """Metres a pixel where it differs from the lattice's finest; high-resolution recipes state it."""

    lattice: Literal["declared", "source"] = "declared"
    """source: the raster's own pixels, for patches that were cut before (with region: catalogue)."""


class Component(Strict):
    """One part of a sampling design: `uniform`, `near` or `strata`."""

    share: float = Field(gt=0, le=1)
    """Of the count."""

    uniform: Literal["land"] | None = None
    """Uniform on the land of the region, per km2."""

    near: Literal["cities"] | None = None
    """A Gaussian of geodesic distance around each of the largest cities, on land."""

    top: int = Field(default=10_000, ge=1)
    """near: how many cities of the world, the largest first."""

    sigma_km: float | None = Field(default=None, ge=5, le=1000)
    """near: of the Gaussian; a land cell is 5.5 km."""

    weight: Literal["equal", "population"] = "equal"
    """near: what a city counts for."""

    strata: list[str] | None = Field(default=None, min_length=1)
    """Layers of `catalogs/strata`, the broadest first: a stratum is a combination of their classes,
    "Cfb/Europe"; its parent, with which it merges when it stays empty, leaves the last one out."""

    allocation: (
        Literal["proportional", "equal", "sqrt", "neyman"]
        | dict[str, Annotated[float, Field(ge=0)]]
    ) = "proportional"
    """strata: in proportion to area, to 1, to the root of the area, to area times spread (Neyman),
    or to given numbers; a stratum that a given table leaves out gets no sites."""

    spread: str | dict[str, Annotated[float, Field(ge=0)]] | None = None
    """strata, neyman: standard deviation in each stratum, or the layer of class fractions
    from which it is computed."""

    merge_km2: float = Field(default=500.0, ge=0)
    """strata: a smaller stratum is drawn with the other small ones of its parent, as "other"; so
    are the smallest of the rest where `count` does not suffice for two sites in each."""

    @model_validator(mode="after")
    def _one_kind(self) -> Component:
        kinds = {"uniform": self.uniform, "near": self.near, "strata": self.strata}
        named = [key for key, value in kinds.items() if value is not None]
        if len(named) != 1:
            raise ValueError("exactly one of the keys uniform, near, strata")
        belongs = {
            "near": {"top", "sigma_km", "weight"},
            "strata": {"allocation", "spread", "merge_km2"},
        }
        for kind, keys in belongs.items():
            odd = sorted(keys & self.model_fields_set)
            if kind != named[0] and any(getattr(self, k) != _default(self, k) for k in odd):
                raise ValueError(f"{odd[0]} only beside `{kind}`")
        if self.near is not None and self.sigma_km is None:
            raise ValueError("sigma_km beside `near`")
        if (self.allocation == "neyman") != (self.spread is not None):
            raise ValueError("spread with `allocation: neyman`, and only there")
        return self


def _default(model: BaseModel, key: str) -> Any:
    return type(model).model_fields[key].get_default()


class Select(Strict):
    """A second phase: of more candidates than wanted, those whose labels are wanted more."""

    candidates: float = Field(default=4.0, gt=1, le=50)
    """Candidates for each site wanted, reserves included."""

    classes: Literal["equal", "sqrt"] | dict[str, Annotated[float, Field(ge=0)]] = "sqrt"
    """What the classes are to be in the sample, in proportion: alike, the root of what they are
    among the candidates, or given numbers; by class of the taxonomy."""

    floor: float = Field(default=0.1, gt=0, le=1)
    """A candidate's chance is at least this part of the mean one: no weight explodes."""


class Sites(Strict):
    """Where the samples are."""

    count: int = Field(ge=1)
    region: RegionField = "global"
    """global, continents, UN M49 regions, countries by name or code, [west, south, east, north],
    files, MGRS tiles; several are their union, and "A & B" is what A and B share: see
    `plan.resolve`. Or `catalogue`: where the scenes of a static catalogue are."""

    seed: int = Field(default=0, ge=0)
    spacing_km: float = Field(default=0.0, ge=0, le=1000)
    """No two sites of the subset are nearer than this."""

    rule: Literal["matern", "cells"] = "matern"
    """How they are kept apart: Matérn's second rule, or one site at most at a random place of each
    cell of a randomly rotated partition into equal areas, which spreads them more evenly."""

    design: list[Component] = Field(
        default_factory=lambda: [Component(share=1.0, uniform="land")], min_length=1
    )
    """Components superpose; their shares add up to 1."""

    select: Select | None = None
    """Sites are chosen by their labels, with known chances."""

    capacity: int | None = Field(default=None, ge=1)
    """Sites that the plan may be extended to: it is drawn for so many from the start, and `count`
    of them are primaries; None: for `count`, and its reserves are all that there is to extend."""

    @property
    def drawn(self) -> int:
        """Sites that the draw is made for, before reserves."""
        return self.capacity or self.count

    @model_validator(mode="after")
    def _room(self) -> Sites:
        if self.capacity is not None and self.capacity < self.count:
            raise ValueError(f"a capacity of at least count, which is {self.count}")
        if self.capacity is not None and self.select is not None:
            raise ValueError("capacity or select, not both: chances of a selection fix its count")
        return self

    @field_validator("design")
    @classmethod
    def _whole(cls, design: list[Component]) -> list[Component]:
        total = sum(component.share for component in design)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares that add up to 1, not {total:g}")
        return design


class Dates(Strict):
    """When the scenes are from."""

    period: PeriodField
    """First day / first day after; `product`: what all label products speak of."""

    per_site: int = Field(default=1, ge=1, le=64)
    min: int = Field(default=1, ge=1)
    """A site with fewer dates is a gap."""

    choose: Literal["seasons", "four-seasons", "phenology", "clearest"] = "seasons"
    """seasons: the clearest of each of `per_site` equal parts of the period; clearest: of all.
    four-seasons: of each quarter of the year around the equinoxes and solstices (SSL4EO-S12);
    phenology: around green-up, maturity, senescence and dormancy at the place (after SSL4Eco, but
    by `catalogs/phenology.yaml`), or those quarters where there is no such season. In periods of
    several years a season is that of any of them."""

    composite: Composite | None = None
    """One image of several scenes for each date instead of one scene: median, or the pixel of the
    best scene; see `core.types.Composite`. None: one scene."""

    composite_scenes: int = Field(default=8, ge=1, le=32)
    """Scenes of a composite, at most: the clearest."""

    validity: str | None = None
    """How it is told that the surface was seen: one of the `validities` of the imagery's declaration;
    None: as it says itself."""

    max_cloud: float = Field(default=100.0, ge=0, le=100)
    """Percent of the whole scene."""

    patch_min_clear: float = Field(default=0.0, ge=0, le=1)
    """Share of the patch in which the surface is seen; of a composite, in any of its scenes."""

    label_years: int = Field(default=0, ge=0, le=100)
    """How many years the map that labels an image may be older or younger than it."""

    @model_validator(mode="after")
    def _four(self) -> Dates:
        if self.choose in ("four-seasons", "phenology") and self.per_site != 4:
            raise ValueError(f"choose: {self.choose} with per_site: 4")
        return self

    @model_validator(mode="after")
    def _composites(self) -> Dates:
        if self.composite is None and self.composite_scenes != _default(self, "composite_scenes"):
            raise ValueError("composite_scenes only beside `composite`")
        if self.composite is not None and self.choose == "clearest" and self.per_site > 1:
            raise ValueError("one composite of the whole period: per_site 1, or choose: seasons")
        return self


class Shards(Strict):
    """How the samples are packed."""

    samples: int = Field(default=256, ge=1)
    """In one shard, at most."""


class Splits(Strict):
    """How a corpus is divided so that nothing leaks."""

    train: int = Field(default=18, ge=1)
    val: int = Field(default=1, ge=0)
    test: int = Field(default=1, ge=0)
    block_km: float = Field(default=100.0, gt=0)
    """Side of the equal-area blocks."""

    buffer_km: float = Field(default=10.0, ge=0)
    """Sites of different splits are at least so far apart."""

    seed: int = Field(default=0, ge=0)

    benchmarks: list[str] = Field(default_factory=list)
    """Names in `catalogs/benchmarks`: sites near their footprints are set aside as `benchmark`."""

    footprints: list[str] = Field(default_factory=list)
    """Files of `las footprints`, beside the recipe: exact, instead of the box of that benchmark."""


class Dependent(Strict):
    """Products that do not err independently."""

    products: list[str] = Field(min_length=2)
    rho: float = Field(ge=0, le=1)
    """Correlation of their errors: n of them count for n / (1 + (n - 1) rho) votes."""


class Witness(Strict):
    """A layer that says more than a product's code."""

    product: str
    layer: str
    """share (of the pixel that has the code), stability (over the site's dates), probabilities (of
    all classes), or a layer that the product declares as evidence, which is a fraction of `node`."""

    node: str | None = None
    """Ontology node; for fractions only."""


class ConsensusOptions(Strict):
    """How several products become one label."""

    method: Literal["single", "vote", "bayes", "dawid-skene"] = "dawid-skene"
    """single: the product with the best published overall accuracy; vote: weighted by accuracy;
    bayes: published accuracies are believed; dawid-skene: they are where learning starts."""

    strata: list[str] = Field(default_factory=lambda: ["climate-group"])
    """Layers of `catalogs/strata`, the broadest first: what is learnt differs between their
    combinations, as far as sites allow."""

    strength: float = Field(default=15.0, gt=0)
    """Of what is known beforehand of each class, in sites."""

    min_sites: float = Field(default=30.0, ge=1)
    """A stratum with fewer uses what is known of the one above it."""

    rho: float = Field(default=0.1, ge=0, le=1)
    """Correlation of errors within the lineages that products declare."""

    groups: list[Dependent] | None = None
    """Instead of declared lineages."""

    evidence: list[Witness] = Field(default_factory=list)

    reference: str | None = None
    """Points of known class that confidences are calibrated on: a file beside the recipe, or
    `virtual`, the truth of the virtual Earth."""

    reference_sites: int = Field(default=500, ge=1)
    """virtual: at so many sites."""
