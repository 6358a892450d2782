"""What is known of a subset and of a sample beside its pixels: plain values, JSON and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from affine import Affine

from las_builder.catalogs import Imagery, LabelProduct, Taxonomy
from las_builder.core.grid import Grid
from las_builder.core.licence import Ingredient, licence_of
from las_builder.core.types import Composite, ConfidenceKind

Interval = tuple[datetime, datetime]
"""First and last moment, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetInfo:
    """One subset: the declarations that its recipe names."""

    name: str
    imagery: Imagery

    bands: tuple[str, ...]
    """Of the packed image, in its order."""

    taxonomy: Taxonomy
    products: tuple[LabelProduct, ...]
    """That make the label."""

    synthetic: bool
    """Whether any of its pixels are made up."""

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """What the licence of the corpus is made of."""
        things: tuple[Imagery | LabelProduct, ...] = (self.imagery, *self.products)
        return tuple(Ingredient(t.name, licence_of(t.license, t.terms)) for t in things)

    @property
    def licenses(self) -> dict[str, str]:
        """Name of imagery or product to its licence."""
        return {
            self.imagery.name: self.imagery.license,
            **{product.name: product.license for product in self.products},
        }

    @property
    def attributions(self) -> dict[str, str]:
        """Name of imagery or product to whom to name."""
        return {
            self.imagery.name: self.imagery.attribution,
            **{product.name: product.attribution for product in self.products},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """One sample beside its pixels: what its JSON member and its STAC item say."""

    key: str
    subset: str
    split: str
    site: str
    grid: Grid

    datetime: datetime
    """UTC, of the scene; of a composite, of the middle one."""

    scenes: tuple[str, ...]
    """Ids of the provider's scenes that the pixels come from."""

    composite: Composite | None = None
    """How several scenes were made one image; `best` prefers the first."""

    products: Mapping[str, str]
    """Label product to the item or image that was read."""

    taxonomy: str
    scale: tuple[float, ...]
    """Of each band: physical = number * scale + offset."""

    offset: tuple[float, ...]
    """Of each band."""

    synthetic: bool
    lon: float | None = None
    """Degrees; None for a picture without a place."""

    lat: float | None = None
    """Degrees; likewise."""

    cloud_cover: float | None = None
    """Percent of the whole scene, where the provider says it."""

    clear: float | None = None
    """Share of the patch in which the surface was seen, 0-1."""

    resampled: bool = False
    """Whether any band was warped."""

    confidence_kind: ConfidenceKind | None = None
    consensus: Mapping[str, Any] | None = None
    """Method, products with versions, stratum and hash of the parameters that made the label of
    several products; None: of one."""

    weight_km2: float | None = None
    """Area the sample's site stands for, gaps accounted for; None: selected with no known chance."""

    weight_km2_design: float | None = None
    """The same by the design alone."""

    component: str = ""
    """Of the design."""

    stratum: str = ""
    """Of the design."""

    decisions: Sequence[Mapping[str, Any]] = ()
    """What reviewers decided about the site: action, class, to, pixels."""

    filters: Sequence[Mapping[str, Any]] = ()
    """What each filter did to the label: step, ignored (pixels), lowered (pixels)."""

    between: Interval | None = None
    """First and last moment of the scenes of a composite; or that the scene can be of, where nobody
    says the day: `datetime` is then the noon of the first."""

    scene: Mapping[str, Any] = field(default_factory=dict)
    """What the scene says of satellite, sun and view, by the names of STAC: see `scene_facts`."""

    sources: tuple[str, ...] = ()
    """URLs of the items of the scenes, where they have any."""

    caption: str | None = None
    """What is seen, in words (`pack.caption`), where the recipe asks for it."""

    shard: str = ""
    """File name of the shard, once packed."""

    members: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Member to its byte offset and length in the shard, once packed."""

    def metadata(self, subset: SubsetInfo) -> dict[str, Any]:
        """The JSON member; where it is packed is the index's to say."""
        bands = zip(subset.bands, self.scale, self.offset, strict=True)
        return {
            "key": self.key,
            "subset": self.subset,
            "split": self.split,
            "site": self.site,
            "datetime": stac_time(self.datetime),
            **self.interval(),
            "lon": self.lon,
            "lat": self.lat,
            **projection(self.grid),
            "bands": [
                {"name": name, "raster:scale": scale, "raster:offset": offset}
                for name, scale, offset in bands
            ],
            "scenes": list(self.scenes),
            **({"composite": self.composite} if self.composite is not None else {}),
            **({"scene": dict(self.scene)} if self.scene else {}),
            **({"sources": list(self.sources)} if self.sources else {}),
            "eo:cloud_cover": self.cloud_cover,
            "clear": self.clear,
            "resampled": self.resampled,
            "products": dict(self.products),
            "taxonomy": self.taxonomy,
            "taxonomy_version": subset.taxonomy.version,
            "classes": [entry.name for entry in subset.taxonomy.classes],
            "confidence_kind": self.confidence_kind,
            **({"consensus": dict(self.consensus)} if self.consensus is not None else {}),
            "licenses": subset.licenses,
            "attributions": subset.attributions,
            "weight_km2": self.weight_km2,
            "weight_km2_design": self.weight_km2_design,
            "component": self.component,
            "stratum": self.stratum,
            "decisions": list(self.decisions),
            "filters": list(self.filters),
            **({"caption": self.caption} if self.caption is not None else {}),
            "synthetic": self.synthetic,
        }

    def interval(self) -> dict[str, str]:
        """`between` in the words of STAC; nothing where the day is known."""
        if self.between is None:
            return {}
        first, last = self.between
        return {"start_datetime": stac_time(first), "end_datetime": stac_time(last)}

    @classmethod
    def from_metadata(
        cls, said: Mapping[str, Any], *, shard: str, members: Mapping[str, tuple[int, int]]
    ) -> SampleRecord:
        """From a JSON member and the place of its sample in a shard."""
        height, width = said["proj:shape"]
        return cls(
            key=said["key"],
            subset=said["subset"],
            split=said["split"],
            site=said["site"],
            grid=Grid(
                said.get("proj:code") or said.get("proj:wkt2"),
                Affine(*said["proj:transform"][:6]),
                width,
                height,
            ),
            datetime=datetime.fromisoformat(said["datetime"]),
            between=between(said),
            scenes=tuple(said["scenes"]),
            composite=said.get("composite"),
            products=said["products"],
            taxonomy=said["taxonomy"],
            scale=tuple(band["raster:scale"] for band in said["bands"]),
            offset=tuple(band["raster:offset"] for band in said["bands"]),
            synthetic=said["synthetic"],
            lon=said["lon"],
            lat=said["lat"],
            cloud_cover=said["eo:cloud_cover"],
            clear=said["clear"],
            resampled=said["resampled"],
            confidence_kind=said["confidence_kind"],
            consensus=said.get("consensus"),
            weight_km2=said["weight_km2"],
            weight_km2_design=said["weight_km2_design"],
            component=said["component"],
            stratum=said["stratum"],
            decisions=said["decisions"],
            filters=said["filters"],
            scene=said.get("scene", {}),
            sources=tuple(said.get("sources", ())),
            caption=said.get("caption"),
            shard=shard,
            members=members,
        )


SCENE_FACTS = (
    "platform", "constellation", "view:sun_azimuth", "view:sun_elevation", "view:off_nadir",
    "view:azimuth", "view:incidence_angle",
)  # fmt: skip
"""What a sample keeps of what its scene says."""


def scene_facts(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Satellite, sun and view of a scene in the words of STAC and its view extension 1.0.

    Sentinel-2 items of the Planetary Computer say the mean zenith angle of the sun instead of its
    elevation. Sun azimuths are degrees clockwise from north, 0-360; off-nadir 0-90.
    """
    found = {name: properties[name] for name in SCENE_FACTS if properties.get(name) is not None}
    zenith, azimuth = (properties.get(f"s2:mean_solar_{part}") for part in ("zenith", "azimuth"))
    if zenith is not None:
        found.setdefault("view:sun_elevation", round(90 - float(zenith), 6))
    if azimuth is not None:
        found.setdefault("view:sun_azimuth", float(azimuth))
    return {k: found[k] for k in SCENE_FACTS if k in found}


def between(said: Mapping[str, Any]) -> Interval | None:
    """The interval that metadata or properties state; None: none."""
    ends = [said.get(key) for key in ("start_datetime", "end_datetime")]
    if None in ends:
        return None
    first, last = (datetime.fromisoformat(str(end)) for end in ends)
    return first, last


def projection(grid: Grid) -> dict[str, Any]:
    """A grid in the words of the STAC projection extension 2.0; no CRS where there is none."""
    crs: dict[str, Any] = {}
    if grid.crs is not None:
        is_code = len(grid.crs) < 24 and ":" in grid.crs
        crs = {"proj:code": grid.crs} if is_code else {"proj:code": None, "proj:wkt2": grid.crs}
    transform = [float(v) for v in tuple(grid.transform)[:6]]
    return {**crs, "proj:shape": [grid.height, grid.width], "proj:transform": transform}


def stac_time(when: datetime) -> str:
    """RFC 3339 in UTC with a Z; whole seconds without a fraction."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
