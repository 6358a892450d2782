"""Providers on the loopback, in a process of their own: what is asked of `https://HOST/PATH` is
asked of `http://127.0.0.1:PORT/HOST/PATH` (LAS_MIRRORS="https://=http://127.0.0.1:PORT/").

The STAC APIs are stac-fastapi, whose requests and answers are validated by stac-pydantic, over
items in memory; `filter` is evaluated by cql2. Files are those of ROOT/HOST/PATH, with ranges,
ETags and If-Match. Blobs need a token, buckets whose reader pays need a signed request. Every
answer may be late, wrong, cut or refused: see `Faults`.

    python tests/kit_loopback.py ROOT 0   # prints the port; ROOT/apis.json says which APIs there are
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

Scope, Receive, Send = (
    dict[str, Any],
    Callable[[], Awaitable[Any]],
    Callable[[Any], Awaitable[None]],
)


@dataclass
class Faults:
    """What goes wrong; shares of requests are drawn from a hash of the request's number."""

    latency_ms: float = 0.0
    throttled: float = 0.0
    unavailable: float = 0.0
    truncated: float = 0.0
    page: float = 0.0
    """HTML with status 200."""

    other_file: float = 0.0
    """Another file of the folder than the one asked for."""

    per_second: float = 0.0
    """Of one host; above it 429 with Retry-After. 0: any."""

    in_flight: int = 0
    gone_until: float = 0.0
    """Of the server's clock (time.time): until then connections are cut."""

    revoked: list[str] = field(default_factory=list)
    """Tokens that are refused."""

    only: str = ""
    """Hosts whose name ends so; the others are well."""

    seed: int = 1


@dataclass
class Seen:
    """What the server counted."""

    requests: int = 0
    bytes: int = 0
    heads: int = 0
    answered: int = 0
    """Requests that were answered as asked."""

    faults: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    most_per_second: int = 0
    over_limit: int = 0
    """429 that were due to the limits rather than to chance."""


class World:
    """The ASGI application: hosts, faults, counters."""

    def __init__(self, root: Path) -> None:
        self.root, self.faults, self.seen = root, Faults(), Seen()
        self.recent: dict[str, deque[float]] = {}
        self.running: Counter[str] = Counter()
        self.number = 0
        self.tokens = 0
        self.log: list[list[str]] = []
        said = json.loads((root / "apis.json").read_text()) if (root / "apis.json").exists() else {}
        self.apis = {key: stac_api(value) for key, value in said.items()}
        if (root / "earth_engine.json").exists():
            from ee_emulator.app import PLACES, TOKENS, Service

            self.apis |= dict.fromkeys((*PLACES, TOKENS), Service(root))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return None
        _, host, *rest = scope["path"].split("/")
        path = "/" + "/".join(rest)
        if host.startswith("__"):
            return await self.control(host, receive, send)
        fault = self.arrive(host, scope, path)
        try:
            if self.faults.latency_ms:
                await asyncio.sleep(self.faults.latency_ms / 1000)
            await self.answer(host, path, fault, scope, receive, send)
        finally:
            self.seen.in_flight -= 1
            self.running[host] -= 1

    def arrive(self, host: str, scope: Scope, path: str) -> str:
        """Count a request; what is to go wrong with it."""
        now, seen, faults = time.monotonic(), self.seen, self.faults
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.log.append([scope["method"], f"{host}{path}", headers.get("range", "")])
        self.number += 1
        seen.requests += 1
        seen.hosts[host] += 1
        seen.heads += scope["method"] == "HEAD"
        seen.in_flight += 1
        self.running[host] += 1
        recent = self.recent.setdefault(host, deque())
        while recent and now - recent[0] >= 1.0:
            recent.popleft()
        recent.append(now)
        seen.most_in_flight = max(seen.most_in_flight, self.running[host])
        seen.most_per_second = max(seen.most_per_second, len(recent))
        if time.time() < faults.gone_until:
            return "gone"
        if (faults.per_second and len(recent) > faults.per_second) or (
            faults.in_flight and self.running[host] > faults.in_flight
        ):
            seen.over_limit += 1
            return "throttled"
        if not host.endswith(faults.only):
            return ""
        digest = hashlib.blake2b(f"{faults.seed}/{self.number}".encode(), digest_size=8).digest()
        chance = int.from_bytes(digest, "big") / 2**64
        for name in ("throttled", "unavailable", "truncated", "page", "other_file"):
            chance -= getattr(faults, name)
            if chance < 0:
                return name
        return ""

    async def answer(
        self, host: str, path: str, fault: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if fault:
            self.seen.faults[fault] += 1
        if fault == "gone":
            raise ConnectionAbortedError("the server is gone")
        if fault == "throttled":
            return await reply(send, 429, b"Rate of requests exceeded", [("retry-after", "1")])
        if fault == "unavailable":
            return await reply(send, 503, b"Please reduce your request rate")
        if fault == "page":
            return await reply(
                send,
                200,
                b"<!DOCTYPE html><title>Maintenance</title>",
                [("content-type", "text/html")],
            )
        self.seen.answered += 1
        send = self.cut(send) if fault == "truncated" else self.counted(send)
        for place, api in self.apis.items():
            if f"{host}{path}".startswith(place):
                return await api(as_if_there(scope, host, place, path), receive, send)
        if path.startswith("/api/sas/v1/token/"):
            self.tokens += 1
            dies = datetime.now(UTC) + timedelta(minutes=45)
            said = {
                "msft:expiry": dies.isoformat().replace("+00:00", "Z"),
                "token": f"sig=t{self.tokens}",
            }
            return await reply(
                send, 200, json.dumps(said).encode(), [("content-type", "application/json")]
            )
        return await self.file(host, path, fault, scope, send)

    async def file(self, host: str, path: str, fault: str, scope: Scope, send: Send) -> None:
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        query = parse_qs(scope["query_string"].decode())
        if host.endswith(".blob.core.windows.net"):
            token = query.get("sig", [""])[0]
            if not token or token in self.faults.revoked:
                return await reply(send, 403, b"<Code>AuthenticationFailed</Code>")
        if host.startswith(PAID) and not paid(scope, host, headers):
            return await reply(send, 403, b"<Code>AccessDenied</Code>")
        file = (self.root / host / unquote(path).lstrip("/")).resolve()
        if not file.is_relative_to(self.root) or not file.is_file():
            return await reply(send, 404, b"<Code>NoSuchKey</Code>")
        if fault == "other_file":
            others = sorted(
                f for f in file.parent.iterdir() if f.suffix == file.suffix and f != file
            )
            file = others[0] if others else file
        state = file.stat()
        etag = f'"{state.st_size:x}-{state.st_mtime_ns:x}"'
        extra = [("etag", etag), ("accept-ranges", "bytes"), ("content-type", "image/tiff")]
        if headers.get("if-match", etag) != etag:
            return await reply(send, 412, b"")
        if scope["method"] == "HEAD":
            return await reply(send, 200, b"", [*extra, ("content-length", str(state.st_size))])
        if "range" not in headers:
            return await reply(send, 200, file.read_bytes(), extra)
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or state.st_size), state.st_size - 1) + 1
        if start >= state.st_size:
            return await reply(send, 416, b"", [("content-range", f"bytes */{state.st_size}")])
        with file.open("rb") as source:
            body = os.pread(source.fileno(), stop - start, start)
        place = f"bytes {start}-{stop - 1}/{state.st_size}"
        return await reply(send, 206, body, [*extra, ("content-range", place)])

    def counted(self, send: Send) -> Send:
        async def count(message: Any) -> None:
            self.seen.bytes += len(message.get("body", b""))
            await send(message)

        return count

    def cut(self, send: Send) -> Send:
        async def half(message: Any) -> None:
            if message["type"] == "http.response.body" and message.get("body"):
                await send(
                    {
                        **message,
                        "body": message["body"][: len(message["body"]) // 2],
                        "more_body": True,
                    }
                )
                raise ConnectionAbortedError("cut")
            await send(message)

        return half

    async def control(self, what: str, receive: Receive, send: Send) -> None:
        if what == "__set":
            body = (await receive()).get("body", b"") or b"{}"
            self.faults = Faults(**{**asdict(self.faults), **json.loads(body)})
        if what == "__reset":
            self.seen, self.log, self.recent = Seen(in_flight=self.seen.in_flight), [], {}
        counts = {"faults": dict(self.seen.faults), "hosts": dict(self.seen.hosts)}
        said = {"log": self.log} if what == "__log" else {**vars(self.seen), **counts}
        said = asdict(self.faults) if what == "__faults" else said
        await reply(send, 200, json.dumps(said).encode())


PAID = (
    "usgs-landsat.s3.us-west-2.",
    "naip-analytic.s3.us-west-2.",
    "sentinel-s2-l1c.s3.eu-central-1.",
)
"""Buckets whose reader pays, where they are; there are none of these names elsewhere."""

PAYER = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
"""The access key whose signatures are good."""


def paid(scope: Scope, host: str, headers: dict[str, str]) -> bool:
    """Whether the request says that its sender pays, and is signed with the key of PAYER, for this
    file and by now, as botocore signs it."""
    from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    said = headers.get("authorization", "").removeprefix("AWS4-HMAC-SHA256 ")
    parts = dict(p.strip().split("=", 1) for p in said.split(",") if "=" in p)
    stamp = headers.get("x-amz-date", "")
    if headers.get("x-amz-request-payer") != "requester" or set(parts) < {
        "Credential",
        "Signature",
    }:
        return False
    age = datetime.now(UTC) - datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    who, _, region, *_ = parts["Credential"].split("/")
    key = scope["raw_path"].decode().removeprefix(f"/{host}")
    names = [n for n in parts["SignedHeaders"].split(";") if n != "host"]
    request = AWSRequest(
        scope["method"], f"https://{host}{key}", headers={n: headers[n] for n in names}
    )
    request.context["timestamp"] = stamp
    signer = S3SigV4Auth(Credentials(*PAYER), "s3", region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    good = signer.signature(text, request) == parts["Signature"]
    return good and who == PAYER[0] and abs(age) < timedelta(minutes=15)


def as_if_there(scope: Scope, host: str, place: str, path: str) -> Scope:
    """The request as the host itself would see it, so that links name the host."""
    headers = [(k, v) for k, v in scope["headers"] if k != b"host"] + [(b"host", host.encode())]
    prefix = place.removeprefix(host)
    return {
        **scope, "scheme": "https", "server": (host, 443), "headers": headers,
        "root_path": prefix, "path": path, "raw_path": path.encode(),
    }  # fmt: skip


async def reply(
    send: Send, status: int, body: bytes, extra: list[tuple[str, str]] | None = None
) -> None:
    headers = dict(extra or [])
    headers.setdefault("content-length", str(len(body)))
    said = [(k.encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": body})


# ---- STAC


def stac_api(said: dict[str, Any]) -> Any:
    """A stac-fastapi application over items in memory.

    Args:
        said: items, collections (lists of documents), extensions (names of what it conforms to:
            filter, query, fields), page (the most items a page).
    """
    import attr
    import cql2
    import shapely
    from pystac.utils import str_to_datetime
    from shapely.geometry import box, shape
    from stac_fastapi.api.app import StacApi
    from stac_fastapi.api.models import create_get_request_model, create_post_request_model
    from stac_fastapi.extensions.fields import FieldsExtension
    from stac_fastapi.extensions.filter import FilterExtension
    from stac_fastapi.extensions.pagination import TokenPaginationExtension
    from stac_fastapi.extensions.query import QueryExtension
    from stac_fastapi.types.config import ApiSettings
    from stac_fastapi.types.core import AsyncBaseCoreClient
    from stac_fastapi.types.errors import NotFoundError
    from starlette.requests import Request

    items = sorted(
        said["items"], key=lambda i: (i["properties"]["datetime"] or "", i["id"]), reverse=True
    )
    collections = {c["id"]: c for c in said["collections"]}
    places = [shape(i["geometry"]) if i.get("geometry") else box(*i["bbox"]) for i in items]
    tree = shapely.STRtree(places)

    def moments(one: dict[str, Any]) -> tuple[datetime, datetime]:
        p = one["properties"]
        return tuple(  # type: ignore[return-value]
            str_to_datetime(p.get(k) or p.get("datetime") or p["start_datetime"])
            for k in ("start_datetime", "end_datetime")
        )

    times = [moments(i) for i in items]

    def holds(one: dict[str, Any], query: dict[str, dict[str, Any]]) -> bool:
        rules = {
            "eq": lambda a, b: a == b, "in": lambda a, b: a in b, "lte": lambda a, b: a <= b,
            "lt": lambda a, b: a < b, "gte": lambda a, b: a >= b, "gt": lambda a, b: a > b,
        }  # fmt: skip
        have = one["properties"]
        return all(
            key in have and rules[op](have[key], want)
            for key, ops in query.items() for op, want in ops.items()
        )  # fmt: skip

    def picked(one: dict[str, Any], include: set[str]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in include:
            key, _, inner = name.partition(".")
            if key in one and (not inner):
                out[key] = one[key]
            elif inner in one.get(key, {}):
                out.setdefault(key, {})[inner] = one[key][inner]
        return out

    @attr.s
    class Memory(AsyncBaseCoreClient):  # type: ignore[misc]
        async def post_search(self, search_request: Any, **kwargs: Any) -> Any:
            request: Request = kwargs["request"]
            asked = await request.json()
            found = range(len(items))
            where = box(*asked["bbox"]) if asked.get("bbox") else None
            where = shape(asked["intersects"]) if asked.get("intersects") else where
            if where is not None:
                found = sorted(tree.query(where, predicate="intersects").tolist())  # type: ignore[assignment]
            if asked.get("datetime"):
                first, _, last = asked["datetime"].partition("/")
                a, b = str_to_datetime(first), str_to_datetime(last or first)
                found = [i for i in found if times[i][0] <= b and times[i][1] >= a]  # type: ignore[assignment]
            rule = cql2.Expr(asked["filter"]) if asked.get("filter") else None
            hits = [
                items[i] for i in found
                if items[i]["collection"] in (asked.get("collections") or collections)
                and holds(items[i], asked.get("query") or {})
                and (rule is None or rule.matches({**items[i], **items[i]["properties"]}))
            ]  # fmt: skip
            start = int((asked.get("token") or "next:0").partition(":")[2])
            many = min(asked.get("limit") or 10, said.get("page", 100))
            page = copy.deepcopy(hits[start : start + many])
            if asked.get("fields"):
                page = [picked(i, set(asked["fields"]["include"])) for i in page]
            links = [{"rel": "root", "href": str(request.base_url)}]
            if start + many < len(hits):
                links.append({
                    "rel": "next", "method": "POST", "href": str(request.url),
                    "body": {**asked, "token": f"next:{start + many}"},
                })  # fmt: skip
            return {"type": "FeatureCollection", "features": page, "links": links}

        async def get_search(self, **kwargs: Any) -> Any:
            raise NotFoundError("POST only")

        async def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
            for one in items:
                if one["id"] == item_id and one["collection"] == collection_id:
                    return one
            raise NotFoundError(item_id)

        async def all_collections(self, **kwargs: Any) -> Any:
            return {"collections": list(collections.values()), "links": []}

        async def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
            if collection_id not in collections:
                raise NotFoundError(f"Collection {collection_id} does not exist.")
            return collections[collection_id]

        async def item_collection(self, collection_id: str, **kwargs: Any) -> Any:
            raise NotFoundError("not here")

    known = {"filter": FilterExtension, "query": QueryExtension, "fields": FieldsExtension}
    extensions = [known[name]() for name in said.get("extensions", known)]
    extensions.append(TokenPaginationExtension())
    return StacApi(
        settings=ApiSettings(
            stac_fastapi_title="loopback", stac_fastapi_description="-",
            stac_fastapi_landing_id="loopback", stac_fastapi_version="1",
        ),
        client=Memory(),
        extensions=extensions,
        search_post_request_model=create_post_request_model(extensions),
        search_get_request_model=create_get_request_model(extensions),
    ).app  # fmt: skip


# ---- in a process of its own


@dataclass
class Loopback:
    """A running server."""

    root: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def mirrors(self) -> str:
        """For LAS_MIRRORS."""
        return f"https://=http://127.0.0.1:{self.port}/"

    def ask(self, what: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        from http.client import HTTPConnection

        here = HTTPConnection("127.0.0.1", self.port, timeout=10)
        here.request("POST", f"/__{what}", json.dumps(content or {}))
        said: dict[str, Any] = json.loads(here.getresponse().read())
        here.close()
        return said

    def set(self, **faults: Any) -> None:
        self.ask("set", faults)

    def seen(self) -> dict[str, Any]:
        return self.ask("stats")

    def vanish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Be killed; what was counted until then, and the faults, for `come_back`."""
        seen, faults = self.seen(), self.ask("faults")
        self.process.kill()
        self._close()
        return seen, faults

    def come_back(self, faults: dict[str, Any]) -> None:
        """Start again at the same port; counts begin anew."""
        self.process = serve(self.root, self.port).process
        self.set(**faults)

    def stop(self) -> None:
        self.process.terminate()
        self._close()

    def _close(self) -> None:
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()


def forget_all() -> None:
    """What this process remembers of files and catalogues: another server has others of the same
    names.
    """
    from las_builder.access import ranges, raster, stac_api

    for href in {key[0] for key in raster._kept()}:
        raster.forget(href)
    with ranges._lock:
        ranges._first.clear()
        ranges._states.clear()
    stac_api._client.cache_clear()
    stac_api._maps_in.cache_clear()


def serve(root: Path, port: int = 0) -> Loopback:
    """Start a server, at any free port or, again, at this one; its log is ROOT/server.log."""
    if port == 0:
        forget_all()
    with (root / "server.log").open("w") as log:
        command = [sys.executable, __file__, str(root), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdigit():
        raise RuntimeError((root / "server.log").read_text()[-2000:])
    return Loopback(root, int(line), process)


async def main(root: Path, port: int) -> None:
    import socket

    import uvicorn

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    world = World(root.resolve())
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        world, log_level="critical", lifespan="off", backlog=1024, timeout_keep_alive=60
    )
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
