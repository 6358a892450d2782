"""What several test modules import: values, not fixtures."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

TRANSFORM = Affine(10, 0, 500_040, 0, -10, 5_000_040)


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Las = Callable[..., Said]


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server in a thread, while it is open."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def raster(path: Path, data: np.ndarray, **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data if data.ndim == 3 else data[None]
    profile = {
        "driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2],
        "dtype": data.dtype, "crs": "EPSG:32633", "transform": TRANSFORM, **more,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
    return path


@dataclass
class Server:
    """A static server with byte ranges, on the loopback."""

    root: Path
    url: str = ""
    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Path to the statuses that its next requests get instead of an answer."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    etag: str = ""
    """What it says of every file; "": nothing."""

    def paths(self) -> set[str]:
        return {path for _, path in self.requests}
