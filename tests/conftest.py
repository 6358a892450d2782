"""What every folder of tests shares."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from kit import Las, Said, Server, listening

from las_builder import cli

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rasters and recorded STAC documents beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip("needs the real rasters and recorded STAC documents in ../shared/data")
    return folder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that fails is not waited for."""
    monkeypatch.setenv("LAS_PATIENCE_S", "0")


@pytest.fixture
def las(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Las:
    """`las ARGUMENTS` in this process: exit code and what was printed."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["las", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


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
            for line in (*extra, *([f"ETag: {state.etag}"] if state.etag else [])):
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

    with listening(Handler) as state.url:
        yield state
