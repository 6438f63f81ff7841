"""Bases on the Hub: found, fetched, and used again without it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from guildgpt.bases.base import load_base, load_tokenizer
from guildgpt.errors import ModelError

from .folders import (
    PAST,
    bare_tokenizer,
    chat_tokenizer,
    config,
    logits,
    own_folder,
    settings_are_true,
    write_base,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Model repositories by name, each a folder; and which files were fetched."""

    folders: dict[str, Path] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    breaks: str = ""  # a file whose download breaks off, each time


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    state = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path.lstrip("/")
            for name, folder in state.folders.items():
                files = sorted(p for p in folder.iterdir() if p.is_file())
                if path == f"api/models/{name}/tree/{COMMIT}":
                    return self.send(json.dumps([entry(p) for p in files]).encode(), body)
                if path in (f"api/models/{name}", f"api/models/{name}/revision/main"):
                    return self.send(json.dumps(info(name, files)).encode(), body)
                if path.startswith(f"api/models/{name}/revision/"):
                    return self.refuse("RevisionNotFound")
                prefix = f"{name}/resolve/{COMMIT}/"
                if path.startswith(prefix) and (folder / path[len(prefix) :]).is_file():
                    file = folder / path[len(prefix) :]
                    if body:
                        state.fetched.append(file.name)
                    return self.send(file.read_bytes(), body, broken=file.name == state.breaks)
            return self.refuse("RepoNotFound")

        def send(self, content: bytes, body: bool, broken: bool = False) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if broken else content)
                self.close_connection = broken

        def refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    def entry(path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return {"type": "file", "path": path.name, "size": len(content), "oid": digest}

    def info(name: str, files: list[Path]) -> dict[str, Any]:
        return {"id": name, "sha": COMMIT, "siblings": [{"rfilename": p.name} for p in files]}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", url)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", url + template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_base_on_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    model = write_base(folder, bare_tokenizer())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights, pickled")
    hub.folders["someone/small"] = folder
    base = load_base(config("someone/small"))
    assert torch.equal(logits(base.model)[..., :300], logits(model))
    (item,) = base.provenance
    assert (item.name, item.origin, item.revision) == ("someone/small", "someone/small", COMMIT)
    assert (item.licence, item.written_by) == ("MIT", "unknown")
    weights = (folder / "model.safetensors").read_bytes()
    assert item.sha256 == hashlib.sha256(weights).hexdigest()
    assert "pytorch_model.bin" not in hub.fetched
    settings_are_true(base)

    hub.fetched.clear()
    again = load_base(config("someone/small", written_by="people", licence="apache-2.0"))
    assert hub.fetched == []
    assert (again.provenance[0].licence, again.provenance[0].written_by) == ("Apache-2.0", "people")


def test_older_models_have_only_pickled_weights(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    model = write_base(folder, chat_tokenizer())
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    hub.folders["someone/old"] = folder
    assert torch.equal(logits(load_base(config("someone/old")).model), logits(model))


def test_the_tokenizer_of_a_base_on_the_hub_comes_without_its_weights(
    hub: FakeHub, tmp_path: Path
) -> None:
    write_base(tmp_path / "theirs", bare_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    chat, _ = load_tokenizer(config("someone/small"))
    assert len(chat.new_tokens) == 3
    assert "model.safetensors" not in hub.fetched


def test_facts_that_are_known_of_a_base_go_before_its_card(hub: FakeHub, tmp_path: Path) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: other\n---\n")
    hub.folders["EleutherAI/pythia-1b"] = tmp_path / "theirs"
    _, (item,) = load_tokenizer(config("EleutherAI/pythia-1b"))
    assert (item.licence, item.written_by, item.revision) == ("Apache-2.0", "people", COMMIT)


def test_a_model_folder_of_ours_brings_its_past_through_the_hub_too(
    hub: FakeHub, tmp_path: Path
) -> None:
    own_folder(tmp_path / "model", card="---\nlicense: mit\n---\n")
    hub.folders["guild/ours"] = tmp_path / "model"
    assert load_base(config("guild/ours")).provenance == PAST


def test_without_the_hub_the_cache_serves(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    first = load_base(config("someone/small"))
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    again = load_base(config("someone/small"))
    assert torch.equal(logits(again.model), logits(first.model))
    with pytest.raises(ModelError, match="the Hub did not give `someone/other`") as caught:
        load_base(config("someone/other"))
    assert "network" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("name", "revision"),
    [("nobody/nothing", None), ("someone/small", "v9"), ("some one/small", None), ("a/..b", None)],
)
def test_what_the_hub_does_not_have(
    hub: FakeHub, tmp_path: Path, name: str, revision: str | None
) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    with pytest.raises(ModelError, match="the Hub did not give") as caught:
        load_base(config(name, revision=revision))
    assert caught.value.where == "model.base"


def test_a_download_that_breaks_off(hub: FakeHub, tmp_path: Path) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    hub.breaks = "model.safetensors"
    with pytest.raises(ModelError, match="the Hub did not give"):
        load_base(config("someone/small"))
    hub.breaks = ""
    load_base(config("someone/small"))
