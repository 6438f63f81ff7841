"""The Hub client against a small Hub of our own, one that drops connections when told to."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guildgpt.data import hub
from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.errors import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO, FILE = "databricks/databricks-dolly-15k", "databricks-dolly-15k.jsonl"
ROW = {"instruction": "Why?", "context": "", "response": "So.", "category": "open_qa"}
CONTENT = "".join(
    json.dumps({**ROW, "instruction": f"Why {i}?"}) + "\n" for i in range(2000)
).encode()


@dataclass
class FakeHub:
    """Serves one file at one revision, and remembers what it was asked."""

    url: str = ""
    repo: str = REPO
    file: str = FILE
    content: bytes = CONTENT
    drop_after: int | None = None  # bytes of the first download before the line goes dead
    ranges: list[str | None] = field(default_factory=list)  # of each GET


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
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
            paths = [
                f"/datasets/{state.repo}/resolve/{name}/{state.file}" for name in ("main", COMMIT)
            ]
            if self.path not in paths:
                missing = "EntryNotFound" if "/resolve/main/" in self.path else "RevisionNotFound"
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
            self.send_header("ETag", f'"{hashlib.sha256(state.content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(state.content) - start))
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.content)}")
            self.end_headers()
            if body and state.drop_after is not None:
                self.wfile.write(state.content[start : start + state.drop_after])
                state.drop_after = None
                self.close_connection = True
            elif body:
                self.wfile.write(state.content[start:])

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


def test_a_set_is_fetched_by_name_and_its_commit_and_hash_recorded(fake_hub, tmp_path) -> None:
    loaded = load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=fake_hub.url)
    assert len(loaded.conversations) == 2000
    item = loaded.provenance
    assert (item.origin, item.revision, item.note) == (REPO, COMMIT, FILE)
    assert item.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert loaded.conversations[0].source.file == FILE
    assert item.written_by == "people"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("oasst1", "2023-04-12_oasst_ready.trees.jsonl.gz"),
        ("oasst2", "2023-11-05_oasst2_ready.trees.jsonl.gz"),
    ],
)
def test_open_assistant_s_releases_by_name(fake_hub, tmp_path, name: str, file: str) -> None:
    """Gzipped trees, as they lie on the Hub."""
    answer = {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "So.", "rank": 0}
    prompt = {"message_id": "a", "role": "prompter", "text": "Why?", "replies": [answer]}
    prompt |= {"lang": "en", "review_result": True, "deleted": False}
    answer |= {"lang": "en", "review_result": True, "deleted": False, "replies": []}
    tree = {"message_tree_id": "a", "tree_state": "ready_for_export", "prompt": prompt}
    fake_hub.repo, fake_hub.file = f"OpenAssistant/{name}", file
    fake_hub.content = gzip.compress(json.dumps(tree).encode())
    loaded = load(SourceSpec.parse(name), cache_dir=tmp_path, endpoint=fake_hub.url)
    assert [message.content for message in loaded.conversations[0].messages] == ["Why?", "So."]
    item = loaded.provenance
    assert (item.origin, item.revision, item.note) == (fake_hub.repo, COMMIT, file)
    assert (item.licence, item.written_by) == ("Apache-2.0", "people")


def test_a_second_time_comes_from_the_cache(fake_hub, tmp_path) -> None:
    for revision in (None, "main", COMMIT):
        fetched = hub.fetch(
            REPO, FILE, revision=revision, cache_dir=tmp_path, endpoint=fake_hub.url
        )
        assert fetched.commit == COMMIT
        assert fetched.path.read_bytes() == CONTENT
    assert len(fake_hub.ranges) == 1


def test_a_dropped_download_goes_on_where_it_broke_off(fake_hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    fake_hub.drop_after = 10_000
    fetched = hub.fetch(REPO, FILE, cache_dir=tmp_path, endpoint=fake_hub.url)
    assert fetched.path.read_bytes() == CONTENT
    assert fake_hub.ranges == [None, "bytes=9216-"]  # nine whole pieces had come


def test_the_expected_hash_holds_for_a_fetched_file_too(fake_hub, tmp_path) -> None:
    spec = SourceSpec(source="dolly", sha256="f" * 64)
    with pytest.raises(DataError, match="sha256"):
        load(spec, cache_dir=tmp_path, endpoint=fake_hub.url)


def test_without_a_network_the_cache_serves_and_else_the_remedy_helps(
    fake_hub, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    with pytest.raises(DataError, match="cannot be reached") as caught:
        load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=nowhere)
    assert caught.value.where == REPO
    assert FILE in (caught.value.remedy or "")
    assert "`dolly:PATH`" in (caught.value.remedy or "")
    load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=fake_hub.url)
    again = load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=nowhere)
    assert len(again.conversations) == 2000
    assert again.provenance.revision == COMMIT


@pytest.mark.parametrize(
    ("repo", "file", "revision", "said"),
    [
        (REPO, FILE, "v9", "no revision v9"),
        (REPO, "other.jsonl", "main", "no file other.jsonl"),
        ("someone/else", FILE, "main", "no such data set"),
    ],
)
def test_what_the_hub_does_not_have(fake_hub, tmp_path: Path, repo, file, revision, said) -> None:
    with pytest.raises(DataError, match=said) as caught:
        hub.fetch(repo, file, revision=revision, cache_dir=tmp_path, endpoint=fake_hub.url)
    assert caught.value.where == f"{repo}@{revision}"
    assert caught.value.remedy
