"""Accuracy against reference points: what was seen there by people who looked.

Without weights the points are taken as a random sample within each class of the map, as Olofsson et
al. (2014) recommend: the error matrix is in proportions of area, p_ij = W_i n_ij / n_i, with W_i the
area of map class i, and all accuracies and areas follow from it. With weights (the area each point
stands for) the points are taken as a sample of their own: p_ij = Σ w / Σ w.

All of them are ratios of sums over points. Their variances are linearised, centred within map
classes (without weights) or cells of the plan (with), and summed over sites, because points in one
patch are a cluster. With one point a site and no weights that is, term by term, eq. 5, 6, 7, 10 and
11 of Olofsson et al., who know W_i from the whole map. Here sites estimate W_i, as the first phase of
double sampling does, and what that adds is (Cochran 1977, §12.7)

    V = V(W known) + V(Σ_i d_i W_i),    d_i = ∂R / ∂W_i,

the second over sites, as every other variance of an audit.

Source: P. Olofsson, G. M. Foody, M. Herold, S. V. Stehman, C. E. Woodcock, M. A. Wulder (2014), Good
practices for estimating area and assessing accuracy of land change, Remote Sensing of Environment
148, 42-57; W. G. Cochran (1977), Sampling Techniques, 3rd edition, §12.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_builder.audit.population import Estimate
from las_builder.catalogs import Taxonomy
from las_builder.errors import InputError, LegendError, RasterError
from las_builder.plan import Sample
from las_builder.plan.target import Floats

WAY_OUT = "A reference file has the columns lon, lat, class, and if you like date and weight."


@dataclass(frozen=True, eq=False)
class Points:
    """Reference points; arrays of one length."""

    lon: Floats
    lat: Floats
    label: tuple[str, ...]
    """As written."""

    weight: Floats | None
    """What each stands for, in one unit; None: not said."""

    when: tuple[date | None, ...]

    def __len__(self) -> int:
        return self.lon.size

    def of(self, which: NDArray[np.integer[Any]]) -> Points:
        """Some of them."""
        some = which.tolist()
        return Points(
            self.lon[which], self.lat[which], tuple(self.label[i] for i in some),
            None if self.weight is None else self.weight[which],
            tuple(self.when[i] for i in some),
        )  # fmt: skip


def read_points(path: Path) -> Points:
    """Points of a CSV (lon, lat, class; date, weight) or of any vector file of points.

    Raises:
        InputError: No such file, a column that is missing, a number that is none, a place outside
            the globe, a weight that is not positive: names the row.
        RasterError: A vector file without a CRS.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError("las audit", "--reference", str(path), "a file that exists", WAY_OUT)
    if path.suffix.lower() in (".csv", ".txt"):
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
        except (ValueError, UnicodeDecodeError) as problem:
            raise InputError(path, "file", str(problem), "a CSV with a header", WAY_OUT) from None
    else:
        table = _from_vector(path)
    table.columns = [str(name).strip().lower() for name in table.columns]
    for name in ("lon", "lat", "class"):
        if name not in table.columns:
            raise InputError(path, "columns", list(table.columns), f"a column `{name}`", WAY_OUT)
    lon = _numbers(path, table, "lon", -180, 360)
    lat = _numbers(path, table, "lat", -90, 90)
    weight = None
    if "weight" in table.columns:
        weight = _numbers(path, table, "weight", 0, np.inf)
        if (weight <= 0).any():
            row = int(np.flatnonzero(weight <= 0)[0])
            raise InputError(path, f"weight, row {row + 1}", float(weight[row]), "more than 0")
    return Points(
        lon, lat, tuple(str(v).strip() for v in table["class"]), weight, _dates(path, table)
    )


def _from_vector(path: Path) -> Any:
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except Exception as problem:  # noqa: BLE001 - drivers raise what they like
        raise InputError(path, "file", str(problem), "a CSV or a vector file", WAY_OUT) from None
    if frame.crs is None:
        raise RasterError(path, "CRS", None, "points that say their CRS")
    places = frame.geometry.to_crs("EPSG:4326")
    if not (places.geom_type == "Point").all():
        odd = sorted(set(places.geom_type.dropna()) - {"Point"})
        raise InputError(path, "geometry", odd, "points", "Take a point of each polygon.")
    table = frame.drop(columns=frame.geometry.name)
    table.columns = [str(name).lower() for name in table.columns]
    return table.assign(lon=places.x.to_numpy(), lat=places.y.to_numpy())


def _numbers(path: Path, table: Any, name: str, low: float, high: float) -> Floats:
    import pandas as pd

    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            path, f"{name}, row {row + 1}", str(table[name].iloc[row]),
            f"a number from {low:g} to {high:g}" if np.isfinite(high) else "a number above 0",
            f"{int(wrong.sum())} of {len(values)} rows are like it." if wrong.sum() > 1 else "",
        )  # fmt: skip
    return np.asarray(values, np.float64)


def _dates(path: Path, table: Any) -> tuple[date | None, ...]:
    if "date" not in table.columns:
        return (None,) * len(table)
    out: list[date | None] = []
    for row, value in enumerate(table["date"]):
        text = "" if value is None else str(value).strip()[:10]
        if text in ("", "nan", "NaT", "None"):
            out.append(None)
            continue
        try:
            out.append(date(int(text), 7, 1) if len(text) == 4 else date.fromisoformat(text))
        except ValueError:
            raise InputError(
                path, f"date, row {row + 1}", text, "a day like 2021-06-30, or a year"
            ) from None
    return tuple(out)


def class_indices(points: Points, taxonomy: Taxonomy, path: Path) -> NDArray[np.int64]:
    """Index of the class of each point: by name, title or prompt, whatever the case.

    Raises:
        LegendError: A class that the taxonomy does not have; names it.
    """
    known: dict[str, int] = {}
    for i, entry in enumerate(taxonomy.classes):
        for word in (entry.name, entry.title, *entry.prompts):
            known.setdefault(_plain(word), i)
    strange = Counter(label for label in points.label if _plain(label) not in known)
    if strange:
        raise LegendError(
            path, "class", sorted(strange), f"the classes {', '.join(c.name for c in taxonomy.classes)} "
            f"of {taxonomy.name}", f"{sum(strange.values())} of {len(points)} points have such a class.",
        )  # fmt: skip
    return np.array([known[_plain(label)] for label in points.label], np.int64)


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", " ").replace("-", " ")


@dataclass(frozen=True, kw_only=True)
class OfReference:
    """One class against the reference."""

    index: int
    points_map: int
    """Points that the map puts in it."""

    points_reference: int
    users: Estimate
    """Of the area that the map puts in it, what is it."""

    producers: Estimate
    """Of the area that is it, what the map puts in it."""

    mapped: float
    """Share of area that the map puts in it."""

    area: Estimate
    """Share of area that is it: the error-adjusted estimate."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A map against reference points."""

    points: int
    sites: int
    overall: Estimate
    classes: tuple[OfReference, ...]
    matrix: Mapping[tuple[int, int], float]
    """(map class, reference class) to proportion of area; what occurs."""

    counted: Mapping[tuple[int, int], int]
    """Likewise, points."""

    weighted: bool
    """Whether points have weights of their own."""


@dataclass(frozen=True, eq=False)
class Shares:
    """Areas of the classes of a map, in any one unit, and how sure they are."""

    value: Floats
    """(classes,)"""

    sample: Sample | None = None
    """Sites that they are estimated from; None: they are known."""

    each: Floats | None = None
    """Linearised values of each site, (sites, classes)."""

    @classmethod
    def estimated(cls, sample: Sample, part: Floats, whole: Floats) -> Shares:
        """Hájek ratios of the part of each class at each site, (sites, classes), over (sites,)."""
        w = sample.weight
        total = float(w @ whole) or 1.0
        value = w @ part / total
        return cls(value, sample, w[:, None] * (part - value * whole[:, None]) / total)

    def variance(self, by: Floats) -> Floats:
        """Of Σ_i by[i, k] value[i], (k,)."""
        if self.sample is None or self.each is None:
            return np.zeros(by.shape[1])
        return self.sample.variance(self.each @ by)


def accuracy(
    mapped: NDArray[np.int64], reference: NDArray[np.int64], *, size: int,
    shares: Shares | None, weight: Floats | None, cluster: NDArray[np.integer[Any]],
    stratum: NDArray[np.integer[Any]] | None = None,
) -> Accuracy:  # fmt: skip
    """Accuracies, error matrix and areas with standard errors.

    Args:
        mapped: Class of the map at each point, (points,).
        reference: Class that was seen there.
        size: Classes.
        shares: Without weights: area of each map class. Classes without a point cannot be judged:
            they are left out, and the others stand for the whole.
        weight: What each point stands for; None: see `shares`.
        cluster: Site of each point.
        stratum: With weights: cell of the site of each point; None: all are of one.

    Raises:
        ValueError: Neither shares nor weights.
    """
    n = mapped.size
    w, within = _weights(mapped, size, shares, weight, stratum)
    spread = _Spread.of(within, cluster, centre_sites=weight is not None)
    site = np.unique(cluster, return_inverse=True)[1]
    right = (mapped == reference).astype(np.float64)
    is_map = mapped[:, None] == np.arange(size)
    is_ref = reference[:, None] == np.arange(size)

    per_share = _per_share(mapped, size, shares) if shares is not None and weight is None else None

    def ratio(part: Floats, whole: Floats, held: Floats) -> list[Estimate]:
        total = w @ whole
        scale = np.where(total > 0, total, 1.0)
        value = np.where(total > 0, (w @ part) / scale, np.nan)
        away = (part - np.nan_to_num(value) * whole) / scale
        variance = spread.variance(w[:, None] * away)
        if per_share is not None and shares is not None:
            variance = variance + shares.variance(per_share.T @ away)
        of_site = _sums(w[:, None] * (held > 0), site)
        sites = (of_site > 0).sum(axis=0)
        error = np.where((total > 0) & (sites > 1), np.sqrt(variance), np.nan)
        square = (of_site**2).sum(axis=0)
        effective = of_site.sum(axis=0) ** 2 / np.where(square > 0, square, 1.0)
        rows = (v.tolist() for v in (value, error, effective, sites))
        return [Estimate(*row) for row in zip(*rows, strict=True)]

    ones = np.ones((n, size))
    hit = right[:, None] * is_ref
    map_, ref = is_map.astype(np.float64), is_ref.astype(np.float64)
    users, producers = ratio(hit, map_, map_), ratio(hit, ref, ref)
    areas = ratio(ref, ones, ref)
    total = float(w.sum())
    pairs = Counter(zip(mapped.tolist(), reference.tolist(), strict=True))
    proportion = {
        key: float(w[(mapped == key[0]) & (reference == key[1])].sum()) / total for key in pairs
    }
    return Accuracy(
        points=n,
        sites=np.unique(cluster).size,
        overall=ratio(right[:, None], ones[:, :1], ones[:, :1])[0],
        classes=tuple(
            OfReference(
                index=i,
                points_map=int(is_map[:, i].sum()),
                points_reference=int(is_ref[:, i].sum()),
                users=users[i],
                producers=producers[i],
                mapped=float((w * is_map[:, i]).sum() / total),
                area=areas[i],
            )
            for i in range(size)
            if is_map[:, i].any() or is_ref[:, i].any()
        ),
        matrix=dict(sorted(proportion.items())),
        counted=dict(sorted(pairs.items())),
        weighted=weight is not None,
    )


def _per_share(mapped: NDArray[np.int64], size: int, shares: Shares) -> Floats:
    """How the weight of each point grows with the area of each class, (points, size)."""
    n = np.bincount(mapped, minlength=size)
    total = float(shares.value[n > 0].sum()) or 1.0
    is_map = (mapped[:, None] == np.arange(size)).astype(np.float64)
    return np.asarray(is_map / (n[mapped] * total)[:, None], np.float64)


def _weights(
    mapped: NDArray[np.int64], size: int, shares: Shares | None, weight: Floats | None,
    stratum: NDArray[np.integer[Any]] | None,
) -> tuple[Floats, NDArray[np.integer[Any]]]:  # fmt: skip
    """Weight of each point, and the stratum within which points are compared."""
    if weight is not None:
        return weight, np.zeros(mapped.size, np.int64) if stratum is None else stratum
    if shares is None:
        raise ValueError("without weights, the areas of the map's classes are needed")
    n = np.bincount(mapped, minlength=size)
    each = np.where(n > 0, shares.value, 0.0) / np.maximum(n, 1)
    return each[mapped] / each[mapped].sum(), mapped


@dataclass(frozen=True, eq=False)
class _Spread:
    """Variances of sums over points: centred within strata, summed over sites."""

    stratum: NDArray[np.intp]
    cluster: NDArray[np.intp]
    sites: bool
    """Whether strata hold whole sites, which are then what is centred."""

    @classmethod
    def of(cls, stratum: NDArray[Any], cluster: NDArray[Any], *, centre_sites: bool) -> _Spread:
        return cls(
            np.unique(stratum, return_inverse=True)[1],
            np.unique(cluster, return_inverse=True)[1],
            centre_sites,
        )

    def variance(self, z: Floats) -> Floats:
        if self.sites:  # ultimate clusters within strata
            of_site = np.zeros(self.cluster.max() + 1, np.intp)
            of_site[self.cluster] = self.stratum
            away = _centred(_sums(z, self.cluster), of_site)
        else:
            pairs = np.unique(np.stack([self.stratum, self.cluster]), axis=1)
            away = _sums(_centred(z, self.stratum, np.bincount(pairs[0])), self.cluster)
        return np.asarray((away**2).sum(axis=0), np.float64)


def _sums(z: Floats, group: NDArray[np.intp]) -> Floats:
    out = np.zeros((int(group.max()) + 1, z.shape[1]))
    np.add.at(out, group, z)
    return out


def _centred(z: Floats, group: NDArray[np.intp], units: NDArray[np.intp] | None = None) -> Floats:
    """Deviations from the mean of the group, times √(m / (m - 1)); a group of one unit keeps its values.

    Args:
        z: Values, (n, k).
        group: Of each.
        units: Independent ones in each group, m; None: every value is one.
    """
    n = np.bincount(group)
    m = n if units is None else units
    mean = _sums(z, group) / n[:, None]
    mean[m == 1] = 0.0
    factor = np.where(m == 1, 1.0, np.sqrt(m / np.maximum(m - 1, 1)))
    return np.asarray((z - mean[group]) * factor[group][:, None], np.float64)


@dataclass(frozen=True, eq=False)
class Placed:
    """Points that lie in a stored patch."""

    point: NDArray[np.intp]
    """Which of the points."""

    patch: NDArray[np.intp]
    """Which of the patches: of those that hold it, one of the date nearest to the point's."""

    row: NDArray[np.intp]
    column: NDArray[np.intp]


def place(
    points: Points, crs: Sequence[str], transform: Floats, shape: tuple[int, int],
    days: NDArray[np.int64],
) -> Placed:  # fmt: skip
    """The patch and pixel of every point that lies in one.

    Args:
        points: Wherever.
        crs: Of each patch, (patches,).
        transform: Affine coefficients of each, (patches, 6).
        shape: (y, x) of a patch.
        days: Since 1970-01-01, of each.
    """
    from scipy.spatial import cKDTree

    from las_builder.core.grid import from_lonlat, to_lonlat
    from las_builder.plan.ellipsoid import cartesian

    if not len(crs) or not len(points):
        return Placed(*np.zeros((4, 0), np.intp))
    number = np.array([sorted(set(crs)).index(c) for c in crs], np.intp)
    names = sorted(set(crs))
    h, w = shape
    middle, corner = np.empty((len(crs), 2)), np.empty((len(crs), 2))
    for k, name in enumerate(names):
        some = np.flatnonzero(number == k)
        a, b, c, d, e, f = transform[some].T
        for out, (i, j) in ((middle, (w / 2, h / 2)), (corner, (0.0, 0.0))):
            lon, lat = to_lonlat(name, a * i + b * j + c, d * i + e * j + f)
            out[some, 0], out[some, 1] = lon, lat
    at = cartesian(middle[:, 0], middle[:, 1])
    reach = np.linalg.norm(at - cartesian(corner[:, 0], corner[:, 1]), axis=1).max() * 1.5
    mine = cartesian(np.mod(points.lon + 180, 360) - 180, points.lat)
    near = cKDTree(at).query_ball_point(mine, reach)
    found = []
    for p, candidates in enumerate(near):
        best: tuple[int, int, int, int] | None = None
        for q in sorted(candidates):
            x, y = from_lonlat(names[number[q]], points.lon[p : p + 1], points.lat[p : p + 1])
            a, b, c, d, e, f = transform[q].tolist()
            det = a * e - b * d
            dx, dy = float(x[0]) - c, float(y[0]) - f
            column, row = (e * dx - b * dy) / det, (a * dy - d * dx) / det
            if not (0 <= column < w and 0 <= row < h):
                continue
            when = points.when[p]
            away = 0 if when is None else abs((when - date(1970, 1, 1)).days - int(days[q]))
            if best is None or away < best[0]:
                best = away, q, int(row), int(column)
        if best is not None:
            found.append((p, *best[1:]))
    columns = np.array(found, np.intp).reshape(-1, 4)
    return Placed(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3])
