"""Every class of failure on the wire, against a server that fails as told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import rasterio
from affine import Affine
from kit import listening
from rasterio.shutil import copy as copy_raster

from las_builder.access import ranges, raster, signing, wire
from las_builder.access.counts import counts
from las_builder.access.limit import Limit
from las_builder.access.ranges import WebFile
from las_builder.access.stac import is_api
from las_builder.access.together import together
from las_builder.core.grid import Grid
from las_builder.errors import AccessError, InputError

BODY = bytes(range(256)) * 1024
Act = Callable[[BaseHTTPRequestHandler, int, int], None]


class Script:
    """What the next requests get; then the file."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.asked: list[tuple[str, dict[str, str], float]] = []
        self.body, self.url = BODY, ""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    state = Script()
    monkeypatch.setenv("LAS_PATIENCE_S", "20")
    monkeypatch.setattr(wire, "BACKOFF_S", 0.01)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append((self.path, dict(self.headers), time.monotonic()))
            asked = self.headers.get("Range", "bytes=0-99999999").removeprefix("bytes=")
            first, last = (int(n) for n in asked.split("-"))
            last = min(last, len(state.body) - 1)
            act = state.acts.pop(0) if state.acts else good
            act(self, first, last)

    def good(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
        send(handler, 206, state.body[first : last + 1], place(first, last, len(state.body)))

    with listening(Handler) as url:
        state.url = f"{url}/a/file.bin"
        yield state
    ranges.forget(state.url)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, *headers: tuple[str, str],
         announced: int | None = None) -> None:  # fmt: skip
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if announced is None else announced))
    handler.end_headers()
    handler.wfile.write(body)
    if announced not in (None, len(body)):
        handler.close_connection = True


def place(first: int, last: int, size: int) -> tuple[str, str]:
    return "Content-Range", f"bytes {first}-{last}/{size}"


def status(code: int, *headers: tuple[str, str], body: bytes = b"no") -> Act:
    return lambda handler, first, last: send(handler, code, body, *headers)


def cut(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
    body = BODY[first : last + 1]
    send(handler, 206, body[: len(body) // 2], place(first, last, len(BODY)), announced=len(body))


def cut_in_silence(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
    body = BODY[first : last + 1]
    send(handler, 206, body[: len(body) // 2], place(first, last, len(BODY)))


def page(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
    send(handler, 200, b"<html>Sign in</html>", ("Content-Type", "text/html; charset=utf-8"))


def page_in_disguise(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
    send(handler, 200, b"<!DOCTYPE html>", ("Content-Type", "image/tiff"))


def hang_up(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
    handler.close_connection = True


TRANSIENT = [
    status(503), status(500), status(408), status(429), cut, cut_in_silence, page,
    page_in_disguise, hang_up,
]  # fmt: skip


@pytest.mark.parametrize("act", TRANSIENT)
def test_what_passes_is_asked_again_and_the_bytes_are_right(script: Script, act: Act) -> None:
    script.acts = [act, act]
    answer = wire.get_range(script.url, 100, 199)
    assert answer.content == BODY[100:200]
    assert len(script.asked) == 3


@pytest.mark.parametrize(
    ("act", "kind"),
    [(status(503, body=b"Please slow down"), "server"), (status(429), "throttled"),
     (cut, "truncated"), (page, "not-data"), (hang_up, "connection")],
)  # fmt: skip
def test_what_lasts_is_a_failure_with_class_attempts_and_message(
    script: Script, act: Act, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAS_PATIENCE_S", "0.2")
    script.acts = [act] * 99
    with pytest.raises(AccessError) as caught:
        wire.get_range(script.url, 0, 9)
    assert caught.value.kind == kind
    assert caught.value.retryable
    assert caught.value.attempts == len(script.asked) > 2
    if kind == "server":
        assert "Please slow down" in caught.value.problem


@pytest.mark.parametrize(("code", "kind"), [(404, "absent"), (410, "absent"), (403, "refused"),
                                            (400, "refused"), (412, "changed")])  # fmt: skip
def test_what_will_not_change_is_asked_once(script: Script, code: int, kind: str) -> None:
    script.acts = [status(code)] * 9
    with pytest.raises(AccessError) as caught:
        wire.get_range(script.url, 0, 9)
    assert (caught.value.kind, caught.value.retryable, len(script.asked)) == (kind, False, 1)


def test_retry_after_is_kept_to(script: Script) -> None:
    script.acts = [status(429, ("Retry-After", "1"))]
    wire.get_range(script.url, 0, 9)
    assert script.asked[1][2] - script.asked[0][2] >= 0.99


def test_pauses_are_drawn_at_random_and_grow(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", lambda s: pauses.append(s) if s > 0.02 else None)
    monkeypatch.setattr(wire, "BACKOFF_S", 0.5)
    script.acts = [status(503)] * 5
    wire.get_range(script.url, 0, 9)
    assert all(0.25 * 2**i <= p <= 0.5 * 2**i for i, p in enumerate(pauses))
    assert len(set(pauses)) == 5


def test_a_refused_signature_is_renewed_once(script: Script) -> None:
    signed: list[bool] = []

    def sign(_: str, url: str, anew: bool) -> tuple[str, dict[str, str]]:
        signed.append(anew)
        return f"{url}?token={len(signed)}", {"x-key": "k"}

    host = script.url.split("/")[2]
    wire.know((wire.Host(host, Limit(), sign),))
    script.acts = [status(403)]
    assert wire.get_range(script.url, 0, 9).content == BODY[:10]
    assert signed == [False, True]
    assert script.asked[1][0].endswith("?token=2")
    assert script.asked[1][1]["x-key"] == "k"
    script.acts = [status(403)] * 9
    with pytest.raises(AccessError, match="403") as caught:
        wire.get_range(script.url, 0, 9)
    assert (caught.value.kind, caught.value.attempts) == ("refused", 2)


def test_a_folder_that_answers_with_a_page_is_no_api_and_is_asked_once(script: Script) -> None:
    script.acts = [page] * 9
    assert not is_api(script.url)
    assert len(script.asked) == 1
    assert not {
        name for _, headers, _ in script.asked for name in headers if name.startswith("las-")
    }


def test_a_host_says_what_its_answers_mean_and_how_long_it_may_think(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = script.url.split("/")[2]
    known = dict(wire._hosts)
    monkeypatch.setattr(wire, "_hosts", known)

    def judge(answer: object) -> tuple[str, str, bool] | None:
        code = answer.status_code  # type: ignore[attr-defined]
        return ("quota", "used up", False) if code == 429 else None

    def slow(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
        time.sleep(0.6)
        send(handler, 206, BODY[first : last + 1], place(first, last, len(BODY)))

    wire.know((wire.Host(host, Limit(), judge=judge, read_s=0.2),))
    script.acts = [status(429)]
    with pytest.raises(AccessError, match="used up") as caught:
        wire.get_range(script.url, 0, 9)
    assert (caught.value.kind, len(script.asked)) == ("quota", 1)
    script.acts = [status(503), slow]
    assert wire.get_range(script.url, 0, 9).content == BODY[:10], "what it does not judge is HTTP's"
    assert len(script.asked) == 4, "503, too slow, and the answer"


def test_everything_is_counted(script: Script) -> None:
    before = counts.copy()
    script.acts = [status(503), cut]
    wire.get_range(script.url, 0, 99)
    added = counts.since(before)
    assert sum(added.requests.values()) == 3
    assert sum(added.received.values()) == 100
    assert sorted(kind for _, kind in added.failures) == ["server", "truncated"]


# ---- files


def test_ranges_near_to_each_other_are_one_request_and_headers_none(script: Script) -> None:
    file = WebFile(script.url)
    assert file.size == len(BODY)
    asked = len(script.asked)
    assert file.read(300) == BODY[:300]
    assert file.read(16) == BODY[300:316]
    assert len(script.asked) == asked, "the first chunk is there already"
    offsets, sizes = [100_000, 150_000, 200_000], [40_000, 40_000, 20_000]
    got = file.get_byte_ranges(offsets, sizes)
    assert got == [BODY[o : o + n] for o, n in zip(offsets, sizes, strict=True)]
    assert len(script.asked) == asked + 1
    assert script.asked[-1][1]["Range"] == "bytes=100000-219999"
    file.seek(-5, 2)
    assert file.read() == BODY[-5:]
    assert WebFile(script.url).read(10) == BODY[:10]
    assert len(script.asked) == asked + 2


def test_threads_that_open_one_file_ask_for_its_header_once(script: Script) -> None:
    def late(handler: BaseHTTPRequestHandler, first: int, last: int) -> None:
        time.sleep(0.2)
        send(handler, 206, BODY[first : last + 1], place(first, last, len(BODY)))

    script.acts = [late] * 8
    sizes = together([lambda: WebFile(script.url).size] * 8)
    assert sizes == [len(BODY)] * 8
    assert len(script.asked) == 1


@pytest.mark.parametrize("etags", [('"a"', '"b"'), ('W/"a"', 'W/"b"')])
def test_a_file_that_changes_while_it_is_read_is_a_failure(
    script: Script, etags: tuple[str, str]
) -> None:
    def tagged(etag: str) -> Act:
        return lambda handler, first, last: send(
            handler, 206, BODY[first : last + 1], place(first, last, len(BODY)), ("ETag", etag)
        )

    script.acts = [tagged(etags[0]), tagged(etags[1])]
    file = WebFile(script.url)
    got = file.get_byte_ranges([100_000], [50_000])
    assert not any(got[0]), "GDAL is given zeros, and what it makes of them is thrown away"
    assert file.failure is not None
    assert file.failure.kind == "changed"
    if not etags[0].startswith("W/"):
        assert script.asked[1][1]["If-Match"] == etags[0]


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG"])
def test_rasters_are_read_right_through_every_passing_fault(
    script: Script, driver: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(2).integers(1, 9000, (700, 700)).astype("uint16")
    flat = tmp_path / "flat.tif"
    path = tmp_path / ("a.tif" if driver == "GTiff" else "a.jp2")
    with rasterio.open(
        flat, "w", driver="GTiff", count=1, height=700, width=700, dtype="uint16",
        crs="EPSG:32632", transform=Affine(10, 0, 600000, 0, -10, 5000040),
    ) as out:  # fmt: skip
        out.write(data, 1)
    ways = {
        "GTiff": {"tiled": True, "blockxsize": 256, "blockysize": 256},
        "JP2OpenJPEG": {
            "reversible": "YES",
            "quality": "100",
            "blockxsize": 256,
            "blockysize": 256,
        },
    }
    copy_raster(flat, path, driver=driver, **ways[driver])
    script.body = path.read_bytes()
    script.url = script.url.replace("file.bin", f"{driver}.bin")
    script.acts = [status(503), hang_up, page, status(429)]
    grid = Grid("EPSG:32632", Affine(10, 0, 602000, 0, -10, 4997040), 100, 100)
    got = raster.read_on(grid, script.url)
    np.testing.assert_array_equal(got.data, data[300:400, 200:300])
    raster.close_web()


# ---- signatures


def test_an_aws_signature_is_the_one_of_botocore() -> None:
    """The headers that botocore makes of the same request, key and moment."""
    key = signing.AwsKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
    url = "https://usgs-landsat.s3.us-west-2.amazonaws.com/collection02/a b/LC08_B4.TIF"
    made = signing.signature(
        "GET", url.replace(" ", "%20"), key, datetime(2021, 6, 1, 10, tzinfo=UTC)
    )
    import botocore.auth  # type: ignore[import-untyped]
    from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    class Then(datetime):
        @classmethod
        def utcnow(cls) -> datetime:
            return datetime(2021, 6, 1, 10)

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2021, 6, 1, 10, tzinfo=UTC)

    request = AWSRequest("GET", url.replace(" ", "%20"), headers={
        "x-amz-request-payer": "requester",
    })  # fmt: skip
    request.context["payload_signing_enabled"] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: datetime(2021, 6, 1, 10),
                      raising=False)  # fmt: skip
        patch.setattr(botocore.auth.datetime, "datetime", Then, raising=False)
        S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-west-2").add_auth(request)
    assert made["Authorization"] == request.headers["Authorization"]


@pytest.mark.parametrize("said", ["2m", "", "-1", "nan"])
def test_patience_that_is_no_number_is_told_before_anything_is_sent(
    script: Script, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in the middle of a read: GDAL does not survive an exception."""
    monkeypatch.setenv("LAS_PATIENCE_S", said)
    with pytest.raises(InputError, match=r"LAS_PATIENCE_S.*seconds, 0 or more"):
        wire.get(script.url)
    assert not script.asked
