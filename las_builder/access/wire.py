"""The one way out: every HTTP request is limited, timed, checked, retried by class, and counted.

`Door` is an adapter of `requests`, so that pystac-client goes through it as we do ourselves; GDAL
reads through it by `ranges`.

| class | what | then |
|---|---|---|
| throttled | 429 | waits as Retry-After says; see `limit` |
| server | 500, 502, 503, 504, 408, 425 | again, with jitter, for `patience()` seconds |
| connection | refused, reset, no name | likewise |
| timeout | no answer in time | likewise |
| truncated | fewer bytes than announced | likewise |
| not-data | a page where bytes were asked for | likewise |
| changed | another file than the one pinned | fails |
| absent | 404, 410 | fails |
| refused | any other 4xx | fails; 403 of a signed host once more with a new signature |
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from typing import Any, ClassVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from las_builder.access.counts import counts
from las_builder.access.limit import Gate, Limit, LocalGate
from las_builder.errors import AccessError, InputError

CONNECT_S, READ_S = 10.0, 60.0
"""Time-outs of one request, seconds: to connect, and between two bytes."""

POOL = 32
"""Connections to one host that a process keeps."""

BACKOFF_S, LONGEST_S = 0.5, 15.0
"""The first and the longest pause before a retry; each is drawn from half of it to all of it."""

AGAIN = frozenset({408, 425, 500, 502, 503, 504})


def patience() -> float:
    """Seconds for which one request is tried again: `LAS_PATIENCE_S`, else two minutes.

    Raises:
        InputError: That is none.
    """
    said = os.environ.get("LAS_PATIENCE_S", "120")
    with contextlib.suppress(ValueError):
        if (seconds := float(said)) >= 0:
            return seconds
    raise InputError("environment", "LAS_PATIENCE_S", said, "seconds, 0 or more")


@functools.cache
def _mirrors(said: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in said.split() if "=" in pair)
    return tuple(sorted(((a, b) for a, _, b in pairs), key=lambda pair: -len(pair[0])))


def mirrored(url: str) -> str:
    """Where a URL is really asked for: `LAS_MIRRORS` is "PREFIX=PREFIX ...", longest first."""
    for prefix, other in _mirrors(os.environ.get("LAS_MIRRORS", "")):
        if url.startswith(prefix):
            return other + url[len(prefix) :]
    return url


Sign = Callable[[str, str, bool], tuple[str, Mapping[str, str]]]
"""(method, url, anew) to the URL and the headers to send; `anew`: the last signature was refused."""

Judge = Callable[[requests.Response], tuple[str, str, bool] | None]
"""Class, message and whether to ask again, of an answer that a provider means otherwise than HTTP
does; None: the rules of this module hold."""


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of the hosts whose names match a pattern."""

    pattern: str
    limit: Limit
    sign: Sign | None = None
    judge: Judge | None = None
    read_s: float = READ_S
    """Seconds between two bytes; more where the host works an answer out before it sends any."""


_counting = threading.Lock()
_hosts: dict[str, Host] = {}
_gate: list[Gate] = [LocalGate()]


def know(hosts: tuple[Host, ...]) -> None:
    """Remember what a provider's declaration says of hosts."""
    _hosts.update((host.pattern, host) for host in hosts)


def let_through(gate: Gate) -> None:
    """From now on this gate decides when requests are sent."""
    _gate[0] = gate


def slowed() -> dict[str, int]:
    """Host to how often its limit was halved, in a process that asks nobody else."""
    gate = _gate[0]
    return gate.slowed() if isinstance(gate, LocalGate) else {}


@functools.cache
def _unknown(host: str) -> Host:
    return Host(host, Limit())


def host_of(url: str) -> Host:
    """What is known of the host of a URL; the longest pattern wins."""
    name = urlsplit(url).netloc
    found = [h for pattern, h in _hosts.items() if fnmatch(name, pattern)]
    return max(found, key=lambda h: len(h.pattern)) if found else _unknown(name)


class Failure(requests.RequestException):
    """What became of a request after all tries; `error` is it in our words."""

    def __init__(self, error: AccessError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why one try was no use."""

    kind: str
    message: str
    retryable: bool
    retry_after: float = 0.0


class Door(HTTPAdapter):
    """Sends requests of any `requests.Session`, by the rules of this module."""

    CHECK: ClassVar[str] = "las-range"
    """A header of ours, never sent: first and last byte that the answer has to hold."""

    PAGE: ClassVar[str] = "las-page"
    """Likewise: a page is an answer, and is not asked for again."""

    def __init__(self) -> None:
        super().__init__(pool_connections=16, pool_maxsize=POOL, max_retries=0)

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **how: Any
    ) -> requests.Response:
        """Send until it is answered.

        Raises:
            Failure: It is not; `error` says the class, the message and how many tries.
            InputError: `LAS_PATIENCE_S` is no number.
        """
        url, method = str(request.url), str(request.method)
        host = host_of(url)
        asked = _text(request.headers.pop(self.CHECK, None))
        page = request.headers.pop(self.PAGE, None) is not None
        how.update(timeout=(CONNECT_S, host.read_s), stream=True)
        # Asked before anything is sent: an error of ours must not reach GDAL, which sends later.
        until, tries, renewed = time.monotonic() + patience(), 0, False
        while True:
            tries += 1
            signed, headers = host.sign(method, url, renewed) if host.sign else (url, {})
            sent = request.copy()
            sent.url = mirrored(signed)
            sent.headers.update(headers)
            answer, fault = self._once(sent, host, asked, how)
            if fault is None:
                assert answer is not None
                answer.url = url  # without signature and mirror: it is what links are relative to
                return answer
            if fault.kind == "refused" and host.sign and not renewed and "403" in fault.message:
                renewed = True
                continue
            pause = min(LONGEST_S, BACKOFF_S * 2 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311
            pause = max(pause, fault.retry_after)
            final = not fault.retryable or (page and fault.kind == "not-data")
            if final or time.monotonic() + pause > until:
                error = AccessError(
                    urlsplit(url).netloc, url, fault.message, retryable=fault.retryable,
                    kind=fault.kind, attempts=tries,
                )  # fmt: skip
                raise Failure(error)
            time.sleep(pause)

    def _once(
        self, request: requests.PreparedRequest, host: Host, asked: str | None, how: dict[str, Any]
    ) -> tuple[requests.Response | None, _Fault | None]:
        permit = _gate[0].take(host.pattern, host.limit)
        answer, fault = None, None
        try:
            answer = super().send(request, **how)
            answer.content  # noqa: B018  # while the permit is held: an answer ends with its last byte
            fault = _judged(answer, host) or _fault(answer, asked)
        except requests.Timeout as problem:
            fault = _Fault("timeout", f"no answer in {host.read_s:.0f} s ({_said(problem)})", True)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as problem:  # fmt: skip
            fault = _Fault("truncated", _said(problem), True)
        except requests.ConnectionError as problem:
            fault = _Fault("connection", _said(problem), True)
        except requests.RequestException as problem:
            fault = _Fault("refused", _said(problem), False)
        finally:
            _gate[0].give(
                host.pattern, permit,
                throttled=fault is not None and fault.kind == "throttled",
                retry_after=fault.retry_after if fault else 0.0,
            )  # fmt: skip
        with _counting:
            counts.requests[host.pattern] += 1
            counts.received[host.pattern] += len(answer.content) if answer and not fault else 0
            if fault is not None:
                counts.failures[host.pattern, fault.kind] += 1
        return answer, fault


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _said(problem: BaseException) -> str:
    """The innermost reason, without addresses in memory."""
    while (inner := problem.__cause__ or problem.__context__) is not None:
        problem = inner
    return f"{type(problem).__name__}: {problem}".split("object at 0x")[0]


def _judged(answer: requests.Response, host: Host) -> _Fault | None:
    said = host.judge(answer) if host.judge else None
    return _Fault(*said, _retry_after(answer)) if said else None


def _fault(answer: requests.Response, asked: str | None) -> _Fault | None:
    status, said = answer.status_code, _message(answer)
    if status == 429:
        return _Fault("throttled", f"HTTP 429{said}", True, _retry_after(answer))
    if status in AGAIN:
        return _Fault("server", f"HTTP {status}{said}", True, _retry_after(answer))
    if status in (404, 410):
        return _Fault("absent", f"HTTP {status}{said}", False)
    if status == 412:
        return _Fault("changed", "HTTP 412, it is not the file that was pinned", False)
    if status >= 400 and not (status == 416 and asked):
        return _Fault("refused", f"HTTP {status}{said}", False)
    # Nothing that is asked for is a page, neither a file nor a document of a catalogue.
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") or answer.content[:15].lower().startswith(
        (b"<!doctype html", b"<html")
    ):
        return _Fault("not-data", f"HTTP {status} with a page instead of data{said}", True)
    if asked is None:
        return None
    announced = answer.headers.get("Content-Length")
    whole = "Content-Encoding" not in answer.headers and answer.request.method != "HEAD"
    if announced and whole and len(answer.content) != int(announced):
        return _Fault("truncated", f"{len(answer.content)} of {announced} bytes", True)
    if status == 206:
        first, last = (int(n) for n in asked.split("-"))
        place = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        size = int(place[2]) if place[2].isdigit() else last + 1
        if place[0] != f"{first}-{min(last, size - 1)}" or len(answer.content) != (
            min(last, size - 1) - first + 1
        ):
            return _Fault("truncated", f"bytes {place[0]}, asked for {asked}", True)
    return None


def _message(answer: requests.Response) -> str:
    """What the provider says, in at most 200 characters."""
    if answer.status_code < 400:
        return ""
    text = " ".join(answer.content[:600].decode("utf-8", "replace").split())[:200]
    return f": {text}" if text else ""


def _retry_after(answer: requests.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    try:
        return min(300.0, max(0.0, float(text)))
    except ValueError:
        pass
    try:
        return min(
            300.0, max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        )
    except (TypeError, ValueError):
        return 0.0


_sessions = threading.local()


def session() -> requests.Session:
    """This thread's session; all of a process share one pool of connections."""
    if getattr(_sessions, "pid", None) != os.getpid():
        _sessions.pid, _sessions.session = os.getpid(), equipped(requests.Session())
    found: requests.Session = _sessions.session
    return found


@functools.cache
def _door(pid: int) -> Door:  # noqa: ARG001  # a forked child must not share sockets
    return Door()


def equipped(one: requests.Session) -> requests.Session:
    """A session whose requests go through the door; proxies of the environment hold, .netrc not."""
    one.mount("http://", _door(os.getpid()))
    one.mount("https://", _door(os.getpid()))
    return one


def get(
    url: str, *, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> requests.Response:
    """The answer to a request.

    Raises:
        AccessError: There is none, after all tries.
    """
    try:
        return session().request(method, url, headers=dict(headers or {}))
    except Failure as failure:
        raise failure.error from None
    except requests.RequestException as problem:
        raise AccessError(urlsplit(url).netloc, url, _said(problem), kind="refused") from None


def head(url: str) -> requests.Response:
    """The headers of a file; see `get`."""
    return get(url, method="HEAD", headers={"Accept-Encoding": "identity"})


def get_range(url: str, first: int, last: int, *, etag: str | None = None) -> requests.Response:
    """Bytes `first` to `last` (fewer where the file ends); 416 where it ends before.

    Args:
        url: Unsigned.
        first: From 0.
        last: Included.
        etag: Of the file as it was; another one is a failure of class `changed`.
    """
    headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
    headers[Door.CHECK] = f"{first}-{last}"
    if etag and not etag.startswith("W/"):
        headers["If-Match"] = etag
    return get(url, headers=headers)
