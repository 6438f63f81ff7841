"""A small Hugging Face Hub of our own: models and data sets that are fetched, models that are sent.

What `huggingface_hub` asks for is answered as the Hub does it, with its codes for what is missing:
files with their hash and in parts, the listing of a repository, who one is; and for what is sent:
repositories and branches made, the card's header checked, small files in the commit, large ones
before it by Git LFS. It breaks connections off where a test says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".gguf", ".bin")  # what goes by Git LFS, however small
TOKEN = "hf_ATokenOfAnnasThatMayWrite"


@dataclass
class Repo:
    """A repository at one commit: its files by name, and what stands in its card's header."""

    files: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)  # beside main
    commits: list[str] = field(default_factory=list)  # their messages

    @classmethod
    def of(cls, folder: Path) -> Repo:
        """One with the files that a folder has now."""
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    def at(self, revision: str) -> dict[str, bytes] | None:
        """The files at a branch or at the commit; None for one that is not there."""
        return self.files if revision in ("main", COMMIT) else self.branches.get(revision)


@dataclass
class Person:
    """Whose token it is, and what it may do."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()


@dataclass
class FakeHub:
    """The Hub's state, what it was asked, and what is to go wrong."""

    url: str = ""
    models: dict[str, Repo] = field(default_factory=dict)
    sets: dict[str, Repo] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)  # by their token
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by their sha256
    # What it was asked.
    fetched: list[str] = field(default_factory=list)  # files by name
    ranges: list[str | None] = field(default_factory=list)  # of each of them
    received: list[str] = field(default_factory=list)  # large files that came, by sha256
    # What goes wrong.
    drop_after: int | None = None  # bytes of the next download before the line goes dead
    breaks: str = ""  # a file whose download breaks off, each time
    refuses: dict[str, int] = field(default_factory=dict)  # statuses, by a part of the path
    takes: int | None = None  # so many large files more, and then every connection breaks


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that listens on this machine while the block runs."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = FakeHub()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub for those who are told its address, and no memory of what an earlier one said."""
    monkeypatch.setenv("GUILDGPT_CACHE", str(tmp_path / "cache"))
    with running(monkeypatch) as state:
        yield state


def instead_of_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Have `huggingface_hub` ask this one, and remember nothing of another's."""
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", hub.url)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    # Large files by Git LFS: the Hub's other way, Xet, is a service of its own.
    monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for part, status in self.state.refuses.items():
            if part in path:
                return self.say({"error": "not today"}, status)
        match (method, path.strip("/").split("/")):
            case ("GET", ["api", "whoami-v2"]):
                return self.whoami()
            case ("POST", ["api", "validate-yaml"]):
                return self.say({"errors": [], "warnings": []})
            case ("POST", ["api", "repos", "create"]):
                return self.create(json.loads(body))
            case ("PUT", ["lfs", oid]):
                return self.receive(oid, body)
            case ("POST", [owner, name, "info", "lfs", "objects", "batch"]):
                return self.batch(f"{owner}/{name.removesuffix('.git')}", json.loads(body))
            case (_, ["api", "models" | "datasets" as kind, owner, name, *rest]):
                known = self.state.models if kind == "models" else self.state.sets
                return self.of_repo(method, f"{owner}/{name}", known, rest, body)
            case (_, ["datasets", owner, name, "resolve", revision, *file]):
                return self.file(f"{owner}/{name}", self.state.sets, revision, "/".join(file))
            case (_, [owner, name, "resolve", revision, *file]):
                return self.file(f"{owner}/{name}", self.state.models, revision, "/".join(file))
        return self.refuse("RepoNotFound")

    # --- who asks ----------------------------------------------------------------------------

    @property
    def person(self) -> Person | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.state.people.get(token)

    def may_write(self, repo: str) -> bool:
        owner = repo.partition("/")[0]
        person = self.person
        return (
            person is not None
            and person.role == "write"
            and owner
            in (
                person.name,
                *person.organizations,
            )
        )

    def whoami(self) -> None:
        if (person := self.person) is None:
            return self.say({"error": "Invalid username or password."}, 401)
        return self.say(
            {
                "type": "user",
                "name": person.name,
                "orgs": [{"name": one} for one in person.organizations],
                "auth": {"type": "access_token", "accessToken": {"role": person.role}},
            }
        )

    # --- what is there -----------------------------------------------------------------------

    def of_repo(
        self, method: str, repo: str, known: dict[str, Repo], rest: list[str], body: bytes
    ) -> None:
        there = known.get(repo)
        if there is None or (there.private and not self.may_write(repo)):
            return self.refuse("RepoNotFound")
        if method == "POST" and not self.may_write(repo):
            return self.say({"error": "You don't have the required permissions"}, 403)
        match rest:
            case []:
                return self.tell(repo, there, "main")
            case ["revision", revision]:
                return self.tell(repo, there, revision)
            case ["tree", revision, *_]:
                files = there.at(revision)
                if files is None:
                    return self.refuse("RevisionNotFound")
                return self.say([_entry(name, content) for name, content in files.items()])
            case ["branch", branch] if method == "POST":
                if branch in there.branches:
                    return self.say({"error": "Reference already exists"}, 409)
                there.branches[branch] = dict(there.files)
                return self.say({})
            case ["preupload", revision] if method == "POST":
                return self.preupload(there.at(revision) or {}, json.loads(body))
            case ["commit", revision] if method == "POST":
                return self.commit(repo, there, revision, body)
        return self.refuse("EntryNotFound")

    def tell(self, repo: str, there: Repo, revision: str) -> None:
        """What the Hub's own interface says of a repository."""
        files = there.at(revision)
        if files is None:
            return self.refuse("RevisionNotFound")
        return self.say(
            {
                "id": repo,
                "sha": COMMIT,
                "private": there.private,
                "siblings": [{"rfilename": name} for name in files],
                "cardData": there.card,
            }
        )

    def file(self, repo: str, known: dict[str, Repo], revision: str, name: str) -> None:
        there = known.get(repo)
        files = there.at(revision) if there else None
        if there is None:
            return self.refuse("RepoNotFound")
        if files is None:
            return self.refuse("RevisionNotFound")
        if name not in files:
            return self.refuse("EntryNotFound")
        return self.give(name, files[name])

    def give(self, name: str, content: bytes) -> None:
        """A file, from where it is asked for; it may break off."""
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
        if self.command == "HEAD":
            return
        self.state.fetched.append(name.rpartition("/")[2])
        self.state.ranges.append(self.headers.get("Range"))
        whole = content[start:]
        if self.state.drop_after is not None:
            whole, self.state.drop_after = whole[: self.state.drop_after], None
            self.close_connection = True
        elif self.state.breaks and name == self.state.breaks:
            whole = whole[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(whole)

    # --- what is sent ------------------------------------------------------------------------

    def create(self, asked: dict[str, Any]) -> None:
        person = self.person
        owner = asked.get("organization") or (person and person.name)
        repo = f"{owner}/{asked['name']}"
        if not self.may_write(repo):
            return self.say({"error": f"You don't have the rights to create under {owner}"}, 403)
        if repo in self.state.models:
            return self.say({"error": "You already created this model repo"}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.state.models[repo] = Repo(private=private)
        return self.say({"url": f"{self.state.url}/{repo}", "id": repo, "name": repo})

    def preupload(self, files: dict[str, bytes], asked: dict[str, Any]) -> None:
        answers = []
        for file in asked["files"]:
            large = file["path"].endswith(LARGE)
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular"}
            there = files.get(file["path"])
            if there is not None:
                answer["oid"] = hashlib.sha256(there).hexdigest() if large else _blob(there)
            answers.append({**answer, "shouldIgnore": False})
        return self.say({"files": answers})

    def batch(self, repo: str, asked: dict[str, Any]) -> None:
        if not self.may_write(repo):
            return self.say({"error": "Forbidden"}, 403)
        objects = []
        for one in asked["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.state.stored:
                href = f"{self.state.url}/lfs/{one['oid']}?signature=secret"
                answer["actions"] = {"upload": {"href": href}}
            objects.append(answer)
        return self.say({"transfer": "basic", "objects": objects})

    def receive(self, oid: str, body: bytes) -> None:
        if self.state.takes == 0:
            return self.hang_up()
        if self.state.takes is not None:
            self.state.takes -= 1
        if hashlib.sha256(body).hexdigest() != oid:
            return self.say({"error": "the file is not what it was said to be"}, 400)
        self.state.stored[oid] = body
        self.state.received.append(oid)
        return self.say({})

    def hang_up(self) -> None:
        """Without a word."""
        self.close_connection = True

    def commit(self, repo: str, there: Repo, revision: str, body: bytes) -> None:
        files = there.at(revision)
        if files is None:
            return self.refuse("RevisionNotFound")
        for line in body.splitlines():
            record = json.loads(line)
            value = record["value"]
            match record["key"]:
                case "header":
                    there.commits.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    if value["oid"] not in self.state.stored:
                        return self.say({"error": "LFS object missing"}, 400)
                    files[value["path"]] = self.state.stored[value["oid"]]
        url = f"{self.state.url}/{repo}/commit/{COMMIT}"
        return self.say({"commitUrl": url, "commitOid": COMMIT, "pullRequestUrl": None})

    # --- how it speaks -----------------------------------------------------------------------

    def say(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _entry(name: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": digest}


def _blob(content: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
