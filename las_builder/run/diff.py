"""`las diff`: two packings of one plan, patch by patch: as text, and as JSON, CSV and GeoPackage."""

from __future__ import annotations

import contextlib
import csv
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from las_builder.core.workspace import Workspace, write_json, writing
from las_builder.pack import PatchDiff, SortedShards, State, SubsetDiff, compare, totals
from las_builder.publish.footprint import footprint
from las_builder.run.check import require

COLUMNS = (
    "subset", "key", "site", "state", "split_a", "split_b", "grid_changed", "pixels", "image",
    "label", "confidence", "valid", "transitions", "metadata",
)  # fmt: skip
"""Of `diff.csv` and of `diff.gpkg`; image, label, confidence and valid are changed pixels."""

CHUNK = 2000
"""Polygons written at a time."""


def diff(a: Path, b: Path, out: Path | None = None) -> tuple[str, bool]:
    """Compare the shards of two folders that `las pack` wrote.

    Args:
        a: A workspace, or the folder of `las pack --into`.
        b: Likewise.
        out: Folder for `diff.json`, `diff.csv` and `diff.gpkg`; None: nothing is written.

    Returns:
        A summary for people, and whether anything differs.

    Raises:
        WorkspaceError: A folder without shards, or with damaged ones; a full or read-only disk.
    """
    one, two = Workspace(a), Workspace(b)
    for space in (one, two):
        require(space.manifest, "las pack")
        require(space.index, "las pack")
    found = totals()
    with _writers(out) as write:
        for patch in compare(
            SortedShards(one.shards, one.index), SortedShards(two.shards, two.index)
        ):
            found[patch.subset].add(patch)
            write(patch)
    said = [json.loads(space.manifest.read_text()) for space in (one, two)]
    inputs = sorted(
        key
        for key in said[0]["from"].keys() | said[1]["from"].keys()
        if said[0]["from"].get(key) != said[1]["from"].get(key)
    )
    names = sorted({*said[0]["subsets"], *said[1]["subsets"], *found})
    whole = {
        "a": str(a),
        "b": str(b),
        "inputs": inputs,
        "subsets": {name: {**found[name].to_json(), **_classes(name, *said)} for name in names},
    }
    if out is not None:
        write_json(out / "diff.json", whole)
    differs = any(
        n for name in names for state, n in found[name].states.items() if state != State.SAME
    )
    lines = [f"A {a}", f"B {b}"]
    if inputs:
        lines.append(f"made from other: {', '.join(inputs)}")
    for name in names:
        lines += _lines(name, found[name], _classes(name, *said))
    if not differs:
        lines.append("no patch differs")
    if out is not None:
        lines += [str(out / f"diff.{ending}") for ending in ("json", "csv", "gpkg")]
    return "\n".join(lines), differs


def _classes(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Taxonomies, and the classes that only one of them has."""
    about = [said["subsets"].get(name, {"taxonomy": None, "classes": []}) for said in (a, b)]
    classes = [[entry["name"] for entry in part["classes"]] for part in about]
    return {
        "taxonomy": {"a": about[0]["taxonomy"], "b": about[1]["taxonomy"]},
        "classes_only_a": [c for c in classes[0] if c not in classes[1]],
        "classes_only_b": [c for c in classes[1] if c not in classes[0]],
    }


def _lines(name: str, found: SubsetDiff, classes: Mapping[str, Any]) -> list[str]:
    states, changed, pixels = found.states, found.changed, found.pixels
    both = states[State.SAME] + states[State.CHANGED]
    lines = [
        f"{name}: {both} patches in both ({states[State.CHANGED]} changed), "
        f"{states[State.ONLY_A]} only in A, {states[State.ONLY_B]} only in B"
    ]
    taxonomy = classes["taxonomy"]
    if taxonomy["a"] != taxonomy["b"]:
        lines.append(f"  taxonomy: {taxonomy['a']} in A, {taxonomy['b']} in B")
    lines += [
        f"  classes only in {side.upper()}: {', '.join(classes[f'classes_only_{side}'])}"
        for side in "ab"
        if classes[f"classes_only_{side}"]
    ]
    for part in ("image", "label", "confidence", "valid"):
        if changed[part]:
            share = 100 * pixels[part] / pixels["compared"]
            lines.append(
                f"  {part}: {pixels[part]:,} of {pixels['compared']:,} pixels ({share:.2g} %) "
                f"in {changed[part]} patches"
            )
            if part == "label":
                lines += [
                    f"    {one} > {two}: {n:,} pixels in {found.patches[one, two]} patches"
                    for (one, two), n in found.ordered()[:20]
                ]
                if len(found.transitions) > 20:
                    lines.append(f"    and {len(found.transitions) - 20} more")
    lines += [f"  {part}: {changed[part]} patches" for part in ("split", "grid") if changed[part]]
    if found.metadata:
        most = sorted(found.metadata.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"  metadata: {', '.join(f'{key} {n}' for key, n in most)} patches")
    return lines


def _row(patch: PatchDiff) -> dict[str, Any]:
    row = {name: getattr(patch, name) for name in COLUMNS}
    largest = sorted(patch.transitions.items(), key=lambda item: (-item[1], item[0]))
    row["state"] = patch.state.value
    row["transitions"] = "; ".join(f"{a} > {b}: {n}" for (a, b), n in largest)
    row["metadata"] = "; ".join(patch.metadata)
    return row


@contextlib.contextmanager
def _writers(out: Path | None) -> Iterator[Any]:
    """What writes one patch to `diff.csv` and `diff.gpkg`; both whole or not at all."""
    if out is None:
        yield lambda _: None
        return
    with (
        writing(out / "diff.csv") as table,
        writing(out / "diff.gpkg") as package,
        table.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        rows.writeheader()
        waiting: list[PatchDiff] = []
        with _geopackage(package) as append:

            def write(patch: PatchDiff) -> None:
                rows.writerow(_row(patch))
                waiting.append(patch)
                if len(waiting) == CHUNK:
                    append(waiting)
                    waiting.clear()

            yield write
            append(waiting)


@contextlib.contextmanager
def _geopackage(path: Path) -> Iterator[Any]:
    """What appends patches to a GeoPackage; equal patches, equal bytes."""
    import geopandas
    import pyogrio
    from shapely.geometry import shape

    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00Z"})
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
            made = Path(folder) / "diff.gpkg"  # GDAL wants the ending

            def append(patches: Sequence[PatchDiff]) -> None:
                if not patches and made.exists():
                    return
                outlines = [footprint(patch.grid)[0] for patch in patches]
                frame = geopandas.GeoDataFrame(
                    {name: [_row(patch)[name] for patch in patches] for name in COLUMNS},
                    geometry=[None if line is None else shape(line) for line in outlines],
                    crs="EPSG:4326",
                )
                pyogrio.write_dataframe(
                    frame, made, driver="GPKG", layer="diff", append=made.exists(),
                    promote_to_multi=True, geometry_type="MultiPolygon",
                )  # fmt: skip

            yield append
            made.replace(path)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
