"""The pixels of scenes whose bands are files, on disk or on the web."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from urllib.parse import urlsplit

import numpy as np

from las_builder.access import ranges, raster, web
from las_builder.access.meet import same_crs
from las_builder.access.protocol import ReadRequest
from las_builder.access.together import together
from las_builder.catalogs import Imagery
from las_builder.core.types import AssetRef, Chip, Gap, GapReason, Scene
from las_builder.errors import AccessError, StacError

SHARED = 1024
"""Side, in pixels of the file, of the part of it whose requests share what was read: the blocks of
cloud-optimised GeoTIFFs."""


def read_scenes(imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
    """See `Access.read`; files on the web are read side by side.

    A file that a catalogue lists and that has never been seen is a gap; one that was there when its
    scene was pinned is a failure.

    Raises:
        StacError: A scene lacks a band, or a file on disk is not there.
        RasterError: A file is no raster.
        AccessError: A server failed, a file is not the one that its item describes, is broken, or
            is there no more.
    """
    files: dict[tuple[int, str], list[str]] = {}
    for i, request in enumerate(requests):
        for name in request.bands:
            files.setdefault((i, _asset(request, name).href), []).append(name)
    groups: dict[Hashable, list[tuple[int, tuple[str, ...]]]] = {}
    for (i, href), names in files.items():
        place = _place(requests[i], _asset(requests[i], names[0])) if requests[i].shared else i
        groups.setdefault((href, place), []).append((i, tuple(names)))
    jobs = [
        partial(_in_turn, imagery, [(requests[i], names) for i, names in group])
        for group in groups.values()
    ]
    far = any(web.is_url(href) for _, href in files)
    answers = together(jobs) if far else [job() for job in jobs]
    found: dict[tuple[int, str], raster.Pixels] = {}
    nothing: dict[int, Gap] = {}
    for group, answer in zip(groups.values(), answers, strict=True):
        for (i, _), layers in zip(group, answer, strict=True):
            if isinstance(layers, Gap):
                nothing.setdefault(i, layers)
            else:
                found.update({(i, name): layer for name, layer in layers.items()})
    return [
        nothing[i] if i in nothing else chip_of(request, [found[i, name] for name in request.bands])
        for i, request in enumerate(requests)
    ]


def _asset(request: ReadRequest, name: str) -> AssetRef:
    asset = request.scene.assets.get(name)
    if asset is None:
        raise StacError(
            request.scene.id, "assets", ", ".join(sorted(request.scene.assets)),
            f"a scene that has the band {name}",
        )  # fmt: skip
    return asset


def _place(request: ReadRequest, asset: AssetRef) -> Hashable:
    """Which part of a file a request is about: equal for those that likely need the same blocks."""
    scene, grid = request.scene.grid, request.grid
    if scene.crs != grid.crs:
        return grid
    pixels = asset.shape[1] if asset.shape is not None else scene.width
    side = SHARED * scene.width * scene.pixel[0] / pixels
    x = grid.transform.c + grid.width * grid.pixel[0] / 2 - scene.transform.c
    y = scene.transform.f - grid.transform.f + grid.height * grid.pixel[1] / 2
    return math.floor(x / side), math.floor(y / side)


def _in_turn(
    imagery: Imagery, asked: Sequence[tuple[ReadRequest, tuple[str, ...]]]
) -> list[dict[str, raster.Pixels] | Gap]:
    """Bands of one file for one request after the other, which find each other's blocks in memory."""
    try:
        return [_layers(imagery, request, names) for request, names in asked]
    finally:
        raster.close_web()


def _layers(
    imagery: Imagery, request: ReadRequest, names: tuple[str, ...]
) -> dict[str, raster.Pixels] | Gap:
    """Bands of one file. Spectral ones in the declared type; QA in their file's: they hold bits."""
    out = {}
    try:
        for name in names:
            asset, qa = _asset(request, name), name == imagery.validity.band
            if web.is_url(asset.href):
                not_another(asset.href, partial(_difference, asset, request.scene))
            out[name] = raster.read_on(
                request.grid,
                asset.href,
                asset.index,
                categorical=qa or request.categorical,
                nodata=imagery.validity.nodata if qa else imagery.nodata,
                dtype=None if qa or request.categorical else imagery.dtype,
            )
        return out
    except AccessError as problem:
        if problem.kind != "absent" or _asset(request, names[0]).etag is not None:
            raise
        said = f"{request.scene.id}: {problem.what}: {problem.problem}"
        return Gap(request.site, GapReason.NO_FILE, said)


def chip_of(request: ReadRequest, layers: Sequence[raster.Pixels]) -> Chip | Gap:
    """The bands of a request as one chip; a gap where none of its pixels are inside of all."""
    inside = np.logical_and.reduce([layer.inside for layer in layers])
    if not inside.any():
        return Gap(request.site, GapReason.NOT_COVERED, request.scene.id)
    return Chip(
        grid=request.grid,
        bands=request.bands,
        data=np.stack([layer.data for layer in layers]),
        inside=inside,
        resampled=any(layer.resampled for layer in layers),
    )


def not_another(href: str, difference: Callable[[], str | None]) -> None:
    """A file that is not the one it should be is a failure, never pixels.

    Args:
        href: Of the file.
        difference: Says how it differs; None: it does not.

    Raises:
        AccessError: (class `changed`) It is another, also when asked for anew.
    """
    for last in (False, True):
        problem = difference()
        if problem is None:
            return
        raster.forget(href)
        if last:
            raise AccessError(urlsplit(href).netloc, href, problem, kind="changed")


def changed_since(asset: AssetRef) -> str | None:
    """How the state of a file on the web differs from what was pinned or stated of it, size and
    ETag as far as both sides say them; None: not at all.
    """
    far = raster.open_raster(asset.href).web
    if far is not None and asset.size is not None and far.bytes != asset.size:
        return f"it has {far.bytes} bytes, and had {asset.size}"
    if far is not None and asset.etag and far.etag and asset.etag != far.etag:
        return f"its ETag is {far.etag}, and was {asset.etag}"
    return None


def _difference(asset: AssetRef, scene: Scene) -> str | None:
    """See `changed_since`; also that of its shape, CRS and place from those of its scene."""
    if (problem := changed_since(asset)) is not None:
        return problem
    found = raster.open_raster(asset.href)
    if found.grid is None:
        return None
    if asset.shape is not None and found.grid.shape != asset.shape:
        return f"it has {found.grid.shape} rows and columns, its item says {asset.shape}"
    if not same_crs(found.crs, scene.grid.crs):
        return f"it lies in {found.crs[:60]}, its item says {scene.grid.crs}"
    slack = max(found.grid.pixel)
    apart = [abs(a - b) for a, b in zip(found.grid.bounds, scene.grid.bounds, strict=True)]
    if max(apart) > slack:
        return f"it lies within {found.grid.bounds}, its item says {scene.grid.bounds}"
    return None


def pin_files(scene: Scene, bands: Sequence[str]) -> Scene:
    """A scene with size and ETag of its files on the web, so that a later change is noticed.

    A file that is not there stays as it is: reading it is a gap.

    Raises:
        AccessError: A server failed.
    """
    if scene.members:
        members = tuple(pin_files(one, bands) for one in scene.members)
        return dataclasses.replace(scene, members=members)
    wanted = {
        name: ref for name, ref in scene.assets.items()
        if name in bands and web.is_url(ref.href) and ref.etag is None
    }  # fmt: skip
    hrefs = sorted({ref.href for ref in wanted.values()})
    found = zip(hrefs, together([partial(_state, href) for href in hrefs]), strict=True)
    states = {href: state for href, state in found if state is not None}
    pinned = {
        name: dataclasses.replace(ref, size=states[ref.href][0], etag=states[ref.href][1])
        for name, ref in wanted.items() if ref.href in states
    }  # fmt: skip
    return dataclasses.replace(scene, assets={**scene.assets, **pinned}) if pinned else scene


def _state(href: str) -> tuple[int, str | None] | None:
    try:
        return ranges.state(href)
    except AccessError as problem:
        if problem.kind == "absent":
            return None
        raise
