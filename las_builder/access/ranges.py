"""Files on the web as GDAL reads them: byte ranges through `wire`, by rasterio's `opener`.

GDAL's own HTTP neither keeps to a limit that workers share nor says what a server said.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from las_builder.access import wire
from las_builder.errors import AccessError

CHUNK = 32 * 2**10
"""Bytes asked for at least: the header of most cloud-optimised GeoTIFFs, its index of tiles too."""

NEAR = 16 * 2**10
"""Ranges this near to each other are one request: less than what a round trip costs."""

HEADERS = 1024
"""Files whose first chunk a process remembers, 32 MiB."""

CHUNKS = 64
"""Other chunks that an open file remembers."""


class WebFile:
    """One file on the web, for reading.

    GDAL is never shown an exception: it does not survive one. `failure` keeps the first.
    """

    def __init__(self, url: str) -> None:
        self.url, self.position, self.failure = url, 0, None  # type: str, int, AccessError | None
        self.size, self.etag, self._first = _start(url)
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, n: int = -1) -> bytes:
        """From the present position; fewer at the end, none after a failure."""
        start = self.position
        stop = self.size if n < 0 else min(self.size, start + n)
        if stop <= start:
            return b""
        (data,) = self.get_byte_ranges([start], [stop - start])
        if self.failure is not None:
            return b""
        self.position = start + len(data)
        return data

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several ranges; those near to each other are one request."""
        try:
            return self._ranges([(int(o), int(n)) for o, n in zip(offsets, sizes, strict=True)])
        except AccessError as problem:
            self.failure = self.failure or problem
            return [bytes(n) for n in sizes]  # GDAL copies as many as it asked for

    def _ranges(self, wanted: list[tuple[int, int]]) -> list[bytes]:
        held: dict[tuple[int, int], bytes] = {}
        missing = []
        for start, n in wanted:
            found = self._held(start, start + n)
            if found is None:
                missing.append((start, min(self.size, start + n)))
            else:
                held[start, n] = found
        spans: list[list[int]] = []
        for start, stop in sorted(missing):
            if spans and start - spans[-1][1] <= NEAR:
                spans[-1][1] = max(spans[-1][1], stop)
            else:
                spans.append([start, stop])
        got = []
        for start, stop in spans:
            if stop - start < CHUNK:  # headers come in small pieces, one after the other
                chunk = start // CHUNK * CHUNK
                reach = min(self.size, max(stop, chunk + CHUNK))
                data = self._get(chunk, reach)
                self._chunks[chunk] = data
                while len(self._chunks) > CHUNKS:
                    self._chunks.popitem(last=False)
                got.append((chunk, data))
            else:
                got.append((start, self._get(start, stop)))
        out = []
        for start, n in wanted:
            if (start, n) in held:
                out.append(held[start, n])
                continue
            begin, data = next(
                (b, d) for b, d in got if b <= start and min(self.size, start + n) <= b + len(d)
            )
            out.append(data[start - begin : start - begin + n])
        return out

    def _held(self, start: int, stop: int) -> bytes | None:
        stop = min(stop, self.size)
        if stop <= len(self._first):
            return self._first[start:stop]
        for begin, data in self._chunks.items():
            if begin <= start and stop <= begin + len(data):
                return data[start - begin : stop - begin]
        return None

    def _get(self, start: int, stop: int) -> bytes:
        answer = wire.get_range(self.url, start, stop - 1, etag=self.etag)
        data: bytes = answer.content
        if answer.status_code == 200:  # a server without ranges sends it all
            data = data[start:stop]
        if answer.status_code == 416 or len(data) != stop - start:
            raise changed(self.url, "it is shorter than it was")
        now = answer.headers.get("ETag")
        if self.etag and now and now != self.etag:
            raise changed(self.url, f"its ETag was {self.etag} and is {now}")
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        """As of any file."""
        return self.position

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> WebFile:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def changed(url: str, how: str) -> AccessError:
    """The failure of a file that is not the one it was."""
    forget(url)
    return AccessError(urlsplit(url).netloc, url, how, kind="changed")


_first: OrderedDict[str, tuple[int, str | None, bytes]] = OrderedDict()
_lock = threading.Lock()


def _start(url: str) -> tuple[int, str | None, bytes]:
    """Size, ETag and first chunk of a file; asked for once in a process, by one thread."""
    with _alone(url):
        with _lock:
            if url in _first:
                _first.move_to_end(url)
                return _first[url]
        answer = wire.get_range(url, 0, CHUNK - 1)
        data: bytes = answer.content
        place = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(place) if answer.status_code == 206 and place.isdigit() else len(data)
        found = size, answer.headers.get("ETag"), data
        if len(data) <= CHUNK:
            with _lock:
                _first[url] = found
                while len(_first) > HEADERS:
                    _first.popitem(last=False)
        return found


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Threads that want the same file wait for the one that asks for it."""
    with _lock:
        mine, waiting = _asking.get(url, (threading.Lock(), 0))
        _asking[url] = mine, waiting + 1
    try:
        with mine:
            yield
    finally:
        with _lock:
            waiting = _asking[url][1] - 1
            if waiting:
                _asking[url] = mine, waiting
            else:
                del _asking[url]


_asking: dict[str, tuple[threading.Lock, int]] = {}


def remembered(url: str) -> bool:
    """Whether this process holds the first chunk of a file."""
    with _lock:
        return url in _first


def state(url: str) -> tuple[int, str | None]:
    """Size and ETag of a file; asked for once in a process.

    Raises:
        AccessError: The server failed, or says neither.
    """
    with _lock:
        found = _first.get(url) or _states.get(url)
    if found is None:
        answer = wire.head(url)
        size = answer.headers.get("Content-Length", "")
        if not size.isdigit():
            raise AccessError(urlsplit(url).netloc, url, "no Content-Length", kind="refused")
        found = int(size), answer.headers.get("ETag"), b""
        with _lock:
            _states[url] = found
            while len(_states) > 64 * HEADERS:
                _states.popitem(last=False)
    return found[:2]


_states: OrderedDict[str, tuple[int, str | None, bytes]] = OrderedDict()


def forget(url: str) -> None:
    """Ask anew for what is remembered of a file."""
    with _lock:
        _first.pop(url, None)
        _states.pop(url, None)


class Opener:
    """What `rasterio.open(url, opener=...)` is given for one open of one file."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files: list[WebFile] = []
        self._failure: AccessError | None = None

    def begin(self) -> None:
        """Ask for the first bytes.

        Raises:
            AccessError: The server failed.
        """
        _start(self.url)

    def open(self, path: str, mode: str = "rb", **_: Any) -> WebFile:  # noqa: ARG002
        """The file; others of the folder are not there.

        Raises:
            FileNotFoundError: GDAL looks for a side file, or the server failed (see `failure`).
        """
        if not self.isfile(path):
            raise FileNotFoundError(path)
        try:
            self._files.append(WebFile(self.url))
        except AccessError as problem:
            self._failure = problem
            raise FileNotFoundError(path) from None
        return self._files[-1]

    def isfile(self, path: str) -> bool:
        """Only the one is."""
        return path.endswith(self.url.partition("://")[2])

    def isdir(self, path: str) -> bool:
        """Folders are not listed."""
        del path
        return False

    def ls(self, path: str) -> list[str]:
        """Likewise."""
        del path
        return []

    def mtime(self, path: str) -> int:
        """Not known."""
        del path
        return 0

    def size(self, path: str) -> int:
        """Bytes."""
        return self.open(path).size

    @property
    def failure(self) -> AccessError | None:
        """What went wrong on the wire, if anything did."""
        return self._failure or next((f.failure for f in self._files if f.failure), None)

    @property
    def etag(self) -> str | None:
        """Of the file, as first seen."""
        return self._files[0].etag if self._files else None

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self._files[0].size if self._files else 0


def opener(url: str) -> Opener:
    """An opener that GDAL may ask for several ranges at once."""
    from rasterio.abc import MultiByteRangeResourceContainer

    MultiByteRangeResourceContainer.register(Opener)
    return Opener(url)
