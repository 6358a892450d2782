"""The service: discovery, algorithms, assets, pixels, values, tokens; its limits and its errors.

An ASGI application that `kit_loopback` serves beside STAC APIs and object stores, with its faults
and counters. ROOT/earth_engine.json lists what is stored:

    {"assets": {ID: {"type": "IMAGE", "bands": [{"id", "file", "index", "nodata"}], "properties"}
                    | {"type": "IMAGE_COLLECTION"}},
     "projects": {NAME: "" | "unregistered" | "used-up" | "restricted"}}

`las_ee.json` beside it, if it is there, changes what it manages: {"memory": NUMBERS, "timeout":
NUMBERS, "refuse": STATUS, "token": STATUS, "garbled": TIMES, "lacks": ALGORITHM}.
"""

from __future__ import annotations

import asyncio
import functools
import io
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ee
import numpy as np
from affine import Affine
from rasterio.io import MemoryFile

from ee_emulator.functions import described, outline
from ee_emulator.graph import evaluate
from ee_emulator.images import Band, Collection, Frame, Image, Refused, gathered, stored

PLACES = ("earthengine-highvolume.googleapis.com", "earthengine.googleapis.com")
TOKENS = "oauth2.googleapis.com"
MAX_BYTES, MAX_SIDE, MAX_BANDS, MAX_BODY = 48 * 2**20, 32768, 1024, 10 * 2**20
STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}  # fmt: skip
_WHEEL = Path(ee.__file__).parent / "tests"
Scope, Receive, Send = (
    dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]],
)  # fmt: skip


@functools.cache
def discovery(base: str) -> bytes:
    """The wheel's document, which is of v1alpha and older than the client, as the client needs it."""
    said = json.loads(
        (_WHEEL / "cloud_api_discovery_document.json").read_text().replace("v1alpha", "v1")
    )
    said["rootUrl"] = said["baseUrl"] = base + "/"
    return json.dumps(said).encode()


class Service:
    """Earth Engine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said = json.loads((root / "earth_engine.json").read_text())
        self.assets: dict[str, Any] = {_plain(k): v for k, v in self.said["assets"].items()}
        self.profiles: dict[str, float] = {}
        self.pool = ThreadPoolExecutor(2)
        self.tokens = self.garbled = 0
        self.work = 0.0
        """EECU-seconds of all pixels."""
        self.asked: list[dict[str, Any]] = []
        """Bodies of requests, for golden files."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        loop = asyncio.get_running_loop()
        status, content, kind, more = await loop.run_in_executor(
            self.pool, self.answer, scope["path"], headers, body
        )
        out = {"content-type": kind, "content-length": str(len(content)), **more}
        said = [(k.encode(), v.encode()) for k, v in out.items()]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": content})

    def answer(
        self, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, bytes, str, dict[str, str]]:
        """Status, body, type and further headers."""
        more: dict[str, str] = {}
        try:
            more_faults = self._faults()
            if path == "/work":
                return 200, json.dumps(self.work).encode(), "application/json", {}
            if path == "/asked":
                return 200, json.dumps(self.asked).encode(), "application/json", {}
            if path == "/token":
                if more_faults.get("token"):
                    bad = {"error": "invalid_grant", "error_description": "Token has been revoked."}
                    return 400, json.dumps(bad).encode(), "application/json", {}
                self.tokens += 1
                said = {
                    "access_token": f"t{self.tokens}",
                    "expires_in": 3600,
                    "token_type": "Bearer",
                }
                return 200, json.dumps(said).encode(), "application/json", {}
            if path == "/$discovery/rest":
                return 200, discovery(f"https://{headers['host']}"), "application/json", {}
            if more_faults.get("refuse"):
                headers = {**headers, "authorization": "Bearer revoked"}
            self._admit(headers, more)
            if path.endswith("/algorithms"):
                said = json.loads((_WHEEL / "algorithms.json").read_text())
                lacks = f"algorithms/{more_faults.get('lacks', '')}"
                said["algorithms"] = [a for a in said["algorithms"] if a["name"] != lacks]
                return 200, json.dumps(said).encode(), "application/json", more
            if len(raw) > MAX_BODY:
                raise Refused(f"Request payload size exceeds the limit: {MAX_BODY} bytes.")
            body = json.loads(raw) if raw else {}
            self.asked = [*self.asked[-999:], {"path": path, "body": body}]
            content, kind, work = self._method(path, body)
            self.work += work if kind == "application/octet-stream" else 0.0
            if kind == "application/octet-stream" and self.garbled < more_faults.get("garbled", 0):
                self.garbled += 1
                content = content[: len(content) // 2]
            if "x-earth-engine-computation-profiling" in headers:
                name = f"{len(self.profiles):032x}"
                self.profiles[name] = work
                more["x-earth-engine-computation-profile"] = name
            return 200, content, kind, more
        except Refused as problem:
            error = {
                "code": problem.status, "message": problem.message,
                "status": STATUS.get(problem.status, "UNKNOWN"),
            }  # fmt: skip
            said_ = json.dumps({"error": error}).encode()
            return problem.status, said_, "application/json; charset=UTF-8", more

    def _admit(self, headers: dict[str, str], more: dict[str, str]) -> None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if not token or token == "revoked":
            raise Refused(
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.", 401
            )  # fmt: skip
        project = headers.get("x-goog-user-project", "")
        state = self.said.get("projects", {}).get(project, "missing" if project else "")
        if state == "missing":
            raise Refused(
                f"Caller does not have required permission to use project {project}. Grant the "
                "caller the roles/serviceusage.serviceUsageConsumer role, or a custom role with the "
                "serviceusage.services.use permission.", 403
            )  # fmt: skip
        if state == "unregistered":
            raise Refused(
                f"Project '{project}' is not registered to use Earth Engine. Visit "
                f"https://console.cloud.google.com/earth-engine/configuration?project={project} to "
                "register your project.", 403
            )  # fmt: skip
        if state == "used-up":
            raise Refused(
                "Your project has exceeded its monthly noncommercial EECU quota.", 429
            )  # fmt: skip
        if state == "restricted":
            more["x-earth-engine-quota-status"] = "parallelism_restricted=true"

    def _method(self, path: str, body: dict[str, Any]) -> tuple[bytes, str, float]:
        if path.endswith(":getPixels"):
            image = self.load(_id(path.removesuffix(":getPixels")))
            return self.pixels(image, body)
        if path.endswith("/image:computePixels"):
            image = self.value(body["expression"])
            if not isinstance(image, Image):
                raise Refused(f"The result is a {type(image).__name__}, not an Image.")
            return self.pixels(image, body)
        if path.endswith("/value:compute"):
            value = described(self.value(body["expression"]))
            return json.dumps({"result": value}).encode(), "application/json; charset=UTF-8", 0.01
        if ":" not in path.rsplit("/", 1)[-1] and "/assets/" in path:
            return json.dumps(self.asset(_id(path))).encode(), "application/json", 0.0
        raise Refused(f"emulator: no such method: {path}", 404)

    # ---- what is stored

    def asset(self, name: str) -> dict[str, Any]:
        said = self.assets.get(_plain(name))
        if said is None:
            raise Refused(
                f"Asset '{name}' does not exist or doesn't allow this operation.", 404
            )  # fmt: skip
        out = {
            "type": said["type"],
            "name": f"projects/earthengine-public/assets/{name}",
            "id": name,
        }
        if said["type"] == "IMAGE":
            image = self.load(name)
            out |= {
                "bands": [_asset_band(b) for b in image.bands],
                "properties": {
                    k: v for k, v in image.properties.items() if not k.startswith("system:")
                },
                "startTime": said.get("startTime"),
            }  # fmt: skip
        return out

    def load(self, id: str, version: Any = None) -> Image:
        id = _plain(id)
        said = self.assets.get(id)
        if said is None or said["type"] != "IMAGE":
            raise Refused(f"Image.load: Image asset '{id}' not found (does not exist or caller does "
                          "not have access).", 404 if said is None else 400)  # fmt: skip
        return self._image(id)

    @functools.lru_cache(maxsize=100_000)  # noqa: B019  # lives as long as the process
    def _image(self, id: str) -> Image:
        said = self.assets[id]
        bands = tuple(
            replace(
                stored(b["id"], str(self.root / b["file"]), b.get("index", 1), b.get("nodata")),
                name=b["id"],
            )
            for b in said["bands"]
        )
        first = bands[0]
        assert first.size is not None
        properties = {
            **said["properties"], "system:index": id.rsplit("/", 1)[-1],
            "system:footprint": outline(first.crs, first.transform, first.size).__geo_interface__,
        }  # fmt: skip
        return Image(bands, properties, id)

    def collection(self, id: str, version: Any = None) -> Collection:
        id = _plain(id)
        said = self.assets.get(id)
        if said is None or said["type"] != "IMAGE_COLLECTION":
            raise Refused(
                f"ImageCollection.load: ImageCollection asset '{id}' not found (does not exist or "
                "caller does not have access).", 404 if said is None else 400
            )  # fmt: skip
        names = sorted(k for k in self.assets if k.rpartition("/")[0] == id)
        return Collection(tuple(self._image(name) for name in names), id)

    # ---- what is asked for

    def value(self, expression: dict[str, Any]) -> Any:
        return evaluate(
            expression,
            {
                "Image.load": self.load, "ImageCollection.load": self.collection,
                "Profile.getProfiles": self.profile,
            },
        )  # fmt: skip

    def profile(self, ids: list[str], format: str = "text", maxEntries: int | None = None) -> str:
        """A table whose first column is what was used (assumption 13)."""
        total = sum(self.profiles.get(name, 0.0) for name in ids)
        return (
            "  EECU·s  PeakMem  Count  Description\n"
            f"{total * 0.75:8.3f}      82k      1  Loading assets\n"
            f"{total * 0.25:8.3f}      12k      1  (plumbing)\n"
        )

    def pixels(self, image: Image, body: dict[str, Any]) -> tuple[bytes, str, float]:
        if body.get("bandIds"):
            image = replace(image, bands=tuple(image.band(n) for n in body["bandIds"]))
        if not image.bands:
            raise Refused("Image has no bands.")
        frame = _frame(body.get("grid"), image)
        kinds = [gathered(b).dtype for b in image.bands]
        if max(frame.shape) > MAX_SIDE:
            raise Refused(
                f"Pixel grid dimensions ({frame.width}x{frame.height}) must be less than or equal "
                f"to {MAX_SIDE}."
            )
        if len(image.bands) > MAX_BANDS:
            raise Refused(f"Image has too many bands ({len(image.bands)}); at most {MAX_BANDS}.")
        # Assumption 11: a byte of mask a band and pixel, bytes counted as two.
        size = frame.width * frame.height * sum(max(2, k.itemsize) + 1 for k in kinds)
        if size > MAX_BYTES:
            raise Refused(
                f"Total request size ({size} bytes) must be less than or equal to {MAX_BYTES} bytes."
            )
        self._strain(frame.width * frame.height * len(image.bands))
        layers = [gathered(b).pull(frame) for b in image.bands]
        work = 1e-8 * frame.width * frame.height * len(image.bands) + 0.001
        # Masked pixels are 0 (assumption 1).
        data = [np.where(m, v, 0).astype(k) for (v, m), k in zip(layers, kinds, strict=True)]
        names = [b.name for b in image.bands]
        form = body.get("fileFormat")
        if form == "NPY":
            out = np.zeros(frame.shape, dtype=[(n, k) for n, k in zip(names, kinds, strict=True)])
            for name, layer in zip(names, data, strict=True):
                out[name] = layer
            file = io.BytesIO()
            np.save(file, out)
            return file.getvalue(), "application/octet-stream", work
        if form == "GEO_TIFF":
            kind = np.result_type(*kinds)
            with MemoryFile() as memory:
                with memory.open(
                    driver="GTiff", width=frame.width, height=frame.height, count=len(data),
                    dtype=kind, crs=frame.crs, transform=frame.transform,
                ) as tif:  # fmt: skip
                    tif.write(np.stack([d.astype(kind) for d in data]))
                    tif.descriptions = tuple(names)
                return bytes(memory.getbuffer()), "image/tiff", work
        raise Refused(f"emulator: the format {form} is not emulated")

    def _faults(self) -> dict[str, Any]:
        file = self.root / "las_ee.json"
        said: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return said

    def _strain(self, pixels: int) -> None:
        """Limits of what it can work out, which are not documented in pixels."""
        said = self._faults()
        if pixels > said.get("memory", float("inf")):
            raise Refused("User memory limit exceeded.")
        if pixels > said.get("timeout", float("inf")):
            raise Refused("Computation timed out.")


def _id(path: str) -> str:
    """The id of an asset from its name: projects/earthengine-public/assets/ID."""
    return path.removeprefix("/").partition("/")[2]


def _plain(id: str) -> str:
    """An id without the projects in whose name the client puts public and older assets."""
    for project in ("earthengine-public", "earthengine-legacy"):
        id = id.removeprefix(f"projects/{project}/assets/")
    return id


def _frame(grid: dict[str, Any] | None, image: Image) -> Frame:
    first = image.bands[0]
    if not grid:
        if first.size is None:
            raise Refused("emulator: a grid is needed for what is not stored")
        return Frame(first.crs, first.transform, *first.size)
    if not {"dimensions", "affineTransform"} <= set(grid):
        raise Refused("emulator: a grid without dimensions and affineTransform is not emulated")
    t, size = grid["affineTransform"], grid["dimensions"]
    place = Affine(
        t.get("scaleX", 0), t.get("shearX", 0), t.get("translateX", 0),
        t.get("shearY", 0), t.get("scaleY", 0), t.get("translateY", 0),
    )  # fmt: skip
    crs = grid.get("crsCode") or grid.get("crsWkt") or first.crs
    return Frame(crs, place, int(size["width"]), int(size["height"]))


def _asset_band(band: Band) -> dict[str, Any]:
    t = band.transform
    assert band.size is not None
    place = {
        "crsCode": band.crs, "dimensions": {"width": band.size[0], "height": band.size[1]},
        "affineTransform": {
            "scaleX": t.a, "shearX": t.b, "translateX": t.c,
            "shearY": t.d, "scaleY": t.e, "translateY": t.f,
        },
    }  # fmt: skip
    kind: dict[str, Any] = {"precision": "FLOAT" if band.dtype.kind == "f" else "INT"}
    if band.dtype.kind != "f":
        limits = np.iinfo(band.dtype)
        kind["range"] = {"min": int(limits.min), "max": int(limits.max)}
    return {"id": band.name, "dataType": kind, "grid": place}
