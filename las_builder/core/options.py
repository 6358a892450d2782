"""What a recipe can ask of each stage: names and numbers only, checked where they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from las_builder.core.types import Period


class Strict(BaseModel):
    """A frozen declaration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _period(value: Any) -> Period:
    if isinstance(value, Period):
        return value
    if not isinstance(value, str):
        raise ValueError("a period is written like 2021-01-01/2022-01-01")
    return Period.parse(value)


PeriodField = Annotated[Period, BeforeValidator(_period), PlainSerializer(str, return_type=str)]


class Patch(Strict):
    """What one sample covers."""

    size: int = Field(ge=8, le=4096)
    """Columns and rows."""

    gsd: float | None = Field(default=None, gt=0)
    """Metres a pixel where it differs from the lattice's finest; high-resolution recipes state it."""

    lattice: Literal["declared", "source"] = "declared"
    """source: the raster's own pixels, for patches that were cut before (with region: catalogue)."""


class Component(Strict):
    """One part of a sampling design."""

    share: float = Field(gt=0, le=1)
    uniform: Literal["land"]
    """Uniform on the land of the region, per km2."""


class Sites(Strict):
    """Where the samples are."""

    count: int = Field(ge=1)
    region: str | list[float] | list[str] = "global"
    """global, continents, ISO codes or names of countries, [west, south, east, north], or
    `catalogue`: where the scenes of a static catalogue are."""

    seed: int = Field(default=0, ge=0)
    spacing_km: float = Field(default=0.0, ge=0)
    """No two sites of the subset are nearer than this."""

    design: list[Component] = Field(default_factory=lambda: [Component(share=1.0, uniform="land")])


class Dates(Strict):
    """When the scenes are from."""

    period: PeriodField
    """First day / first day after."""

    per_site: int = Field(default=1, ge=1, le=64)
    min: int = Field(default=1, ge=1)
    """A site with fewer dates is a gap."""

    choose: Literal["seasons", "clearest"] = "seasons"
    """seasons: the clearest of each of `per_site` equal parts of the period; clearest: of all."""

    max_cloud: float = Field(default=100.0, ge=0, le=100)
    """Percent of the whole scene."""

    patch_min_clear: float = Field(default=0.0, ge=0, le=1)
    """Share of the patch in which the surface is seen."""


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
