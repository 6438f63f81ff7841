"""A small Hub of our own, one that drops connections when told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Serves the files of one data set at one commit, and remembers what it was asked."""

    url: str = ""
    repo: str = "owner/name"
    files: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)  # what stands above a set's README
    drop_after: int | None = None  # bytes of the first download before the line goes dead
    ranges: list[str | None] = field(default_factory=list)  # of each GET


def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            state.ranges.append(self.headers.get("Range"))
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            api = f"/api/datasets/{state.repo}"
            path = self.path.partition("?")[0]
            if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                self.tell()
                return
            content = next(
                (
                    content
                    for file, content in state.files.items()
                    for name in ("main", COMMIT)
                    if path == f"/datasets/{state.repo}/resolve/{name}/{file}"
                ),
                None,
            )
            if content is None:
                known = any(f"/resolve/{name}/" in path for name in ("main", COMMIT))
                missing = "EntryNotFound" if known else "RevisionNotFound"
                self.send_response(404)
                self.send_header(
                    "X-Error-Code", missing if state.repo in self.path else "RepoNotFound"
                )
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if self.headers.get("Range") else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            self.end_headers()
            if body and state.drop_after is not None:
                self.wfile.write(content[start : start + state.drop_after])
                state.drop_after = None
                self.close_connection = True
            elif body:
                self.wfile.write(content[start:])

        def tell(self) -> None:
            """What the Hub's own interface says of the set."""
            told = {
                "id": state.repo,
                "sha": COMMIT,
                "siblings": [{"rfilename": name} for name in state.files],
                "cardData": state.card,
            }
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub of our own, and no memory of what an earlier one said."""
    monkeypatch.setenv("GUILDGPT_CACHE", str(tmp_path / "cache"))
    yield from serve(monkeypatch)
