"""Rasters in which every pixel has its own value, and a server that can fail."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

WriteTif = Callable[..., str]


@pytest.fixture
def write_tif(tmp_path: Path) -> WriteTif:
    """Write a tiled GeoTIFF: write(name, data, west, north, pixel, crs=..., nodata=...) -> path."""

    def write(
        name: str,
        data: np.ndarray,
        west: float = 600000.0,
        north: float = 5000040.0,
        pixel: float | tuple[float, float] = 10.0,
        *,
        crs: str | None = "EPSG:32632",
        nodata: float | None = None,
        **more: Any,
    ) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cube = data if data.ndim == 3 else data[None]
        a, e = (pixel, pixel) if isinstance(pixel, int | float) else pixel
        profile: dict[str, Any] = {
            "driver": "GTiff", "count": cube.shape[0], "height": cube.shape[1],
            "width": cube.shape[2], "dtype": cube.dtype, "crs": crs, "nodata": nodata,
            "transform": Affine(a, 0, west, 0, -e, north),
            "tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate",
        }  # fmt: skip
        mask = more.pop("mask", None)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **{**profile, **more}) as file,
        ):
            file.write(cube)
            if mask is not None:
                file.write_mask(mask)
        return str(path)

    return write


@pytest.fixture
def distinct() -> Callable[..., np.ndarray]:
    """An array in which no two pixels are equal and none is 0: a shift by one cannot hide."""

    def make(height: int, width: int, dtype: str = "uint16") -> np.ndarray:
        return (np.arange(height * width).reshape(height, width) + 1).astype(dtype)

    return make


@dataclass
class Server:
    """A static server with byte ranges, on the loopback."""

    root: Path
    url: str = ""
    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Path to the statuses that its next requests get instead of an answer."""

    requests: list[tuple[str, str]] = field(default_factory=list)

    def paths(self) -> set[str]:
        return {path for _, path in self.requests}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    state = Server(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", extra: Sequence[str] = ()) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Accept-Ranges", "bytes")
            for line in extra:
                self.send_header(*line.split(": ", 1))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            state.requests.append((self.command, self.path))
            if state.faults[self.path]:
                return self.answer(state.faults[self.path].pop(0))
            file = (state.root / self.path.lstrip("/")).resolve()
            if not file.is_relative_to(state.root.resolve()) or not file.is_file():
                return self.answer(404)
            body = file.read_bytes()
            asked = self.headers.get("Range", "").removeprefix("bytes=")
            if not asked:
                return self.answer(200, body)
            first, _, last = asked.partition("-")
            start, stop = int(first), min(int(last or len(body)) + 1, len(body))
            if start >= len(body):
                return self.answer(416)
            extra = [f"Content-Range: bytes {start}-{stop - 1}/{len(body)}"]
            return self.answer(206, body[start:stop], extra)

        do_HEAD = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.block_on_close = False
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{listening.server_port}"
        yield state
        listening.shutdown()
        thread.join()
