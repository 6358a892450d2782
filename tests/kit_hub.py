"""A hub of data sets on the loopback: what huggingface_hub asks for when it commits files.

Endpoints as `huggingface_hub` 2.4 calls them (`hf_api.py`, `_commit_api.py`, `lfs.py`): create a
repository, list its tree, the check of the card, preupload, the LFS batch with basic transfers, PUT of an object, commit in
ndjson. Xet storage is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from kit import listening


@dataclass
class Hub:
    url: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Path to {oid, size, lfs: bool}; the content of others is in `content`."""

    content: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """LFS: SHA-256 to content."""

    puts: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    refuse_after: int | None = None
    """PUTs that are taken; then 403."""

    def read(self, path: str) -> bytes:
        entry = self.files[path]
        return self.objects[entry["oid"]] if entry["lfs"] else self.content[path]


@contextmanager
def hub(repo: str) -> Iterator[Hub]:
    state = Hub()
    api = f"/api/datasets/{repo}"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def say(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith(f"{api}/tree/"):
                return self.say([entry(name, said) for name, said in state.files.items()])
            if path.startswith(api):
                return self.say({"id": repo, "sha": "0" * 40, "private": False, "tags": []})
            return self.say({"error": path}, 404)

        def do_POST(self) -> None:
            path, data = urlsplit(self.path).path, self.body()
            if path == "/api/repos/create":
                return self.say({"url": f"{state.url}/datasets/{repo}", "name": repo})
            if path == "/api/validate-yaml":  # of the card; the hub's own rules are not known here
                return self.say({"errors": [], "warnings": []})
            if path.startswith(f"{api}/preupload/"):
                files = json.loads(data)["files"]
                return self.say({"files": [
                    {"path": f["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if f["path"].endswith((".tar", ".parquet")) else "regular"}
                    for f in files
                ]})  # fmt: skip
            if path == f"/datasets/{repo}.git/info/lfs/objects/batch":
                wanted = json.loads(data)["objects"]
                return self.say({"transfer": "basic", "objects": [
                    {**o, **({} if o["oid"] in state.objects else
                             {"actions": {"upload": {"href": f"{state.url}/put/{o['oid']}"}}})}
                    for o in wanted
                ]})  # fmt: skip
            if path.startswith(f"{api}/commit/"):
                return self.commit([json.loads(line) for line in data.splitlines() if line])
            return self.say({"error": path}, 404)

        def commit(self, lines: list[Any]) -> None:
            for line in lines:
                key, value = line["key"], line["value"]
                if key == "header":
                    state.commits.append(value["summary"])
                elif key == "file":
                    content = base64.b64decode(value["content"])
                    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                    state.content[value["path"]] = content
                    state.files[value["path"]] = {"oid": git, "size": len(content), "lfs": False}
                elif key == "lfsFile":
                    if value["oid"] not in state.objects:
                        return self.say({"error": "no such object"}, 400)
                    state.files[value["path"]] = {**value, "lfs": True}
                elif key == "deletedFile":
                    del state.files[value["path"]]
            oid = f"{len(state.commits):040x}"
            return self.say(
                {"commitUrl": f"{state.url}/datasets/{repo}/commit/{oid}", "commitOid": oid}
            )

        def do_PUT(self) -> None:
            oid, data = self.path.rpartition("/")[2], self.body()
            if state.refuse_after is not None and len(state.puts) >= state.refuse_after:
                return self.say({"error": "storage quota exceeded"}, 403)
            if hashlib.sha256(data).hexdigest() != oid:
                return self.say({"error": "another content"}, 400)
            state.objects[oid] = data
            state.puts.append(oid)
            return self.say({})

    def entry(name: str, said: dict[str, Any]) -> dict[str, Any]:
        out = {"type": "file", "path": name, "size": said["size"], "oid": said["oid"]}
        if said["lfs"]:
            git = hashlib.sha1(said["oid"].encode()).hexdigest()  # of the pointer, roughly
            lfs = {"oid": said["oid"], "size": said["size"], "pointerSize": 130}
            out |= {"oid": git, "lfs": lfs}
        return out

    with listening(Handler) as state.url:
        yield state
