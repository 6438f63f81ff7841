"""The files in deploy/ are held against the program, systemd, nginx and Compose's schema: settings
that exist, commands that parse, a proxy that passes on each token as it comes."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import typer
import yaml
from aiohttp import ClientSession
from fastapi import FastAPI
from packaging.requirements import Requirement
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from guildgpt.bot.operating.settings import BotSettings
from guildgpt.cli import app
from guildgpt.engines.engine import SamplingParams
from guildgpt.recipe import find_recipe, load_recipe
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.serve.run import KEYS_VARIABLE, LEAVE_SECONDS, read_public, web_server
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.waiting import FairQueue
from tests.ports import free_port

DEPLOY = Path(__file__).parents[1] / "deploy"
SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"
ELSEWHERE = {"GUILDGPT_CACHE", KEYS_VARIABLE}  # what the program reads besides the bot's settings
FILES = sorted(path for path in DEPLOY.iterdir() if not path.name.startswith("."))
UNITS = [path for path in FILES if path.suffix == ".service"]


def parses(command: str) -> bool:
    """Whether the program takes these words."""
    program, name, *arguments = command.split()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return program.endswith("guildgpt") and bool(commands[name].make_context(name, arguments))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bGUILDGPT_[A-Z_]+", path.read_text(encoding="utf-8")))
    settings = {f"GUILDGPT_{name.upper()}" for name in BotSettings.model_fields}
    assert named <= settings | ELSEWHERE


# systemd


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_again_and_shows_its_secret_to_nobody(path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path, encoding="utf-8")
    service = unit["Service"]
    assert parses(service["ExecStart"])
    if service["Type"] == "oneshot":  # a timer starts it again
        timer = configparser.ConfigParser(interpolation=None)
        timer.read(path.with_suffix(".timer"), encoding="utf-8")
        assert timer.getboolean("Timer", "Persistent")
    else:
        assert service["Restart"] == "always"
    assert service["EnvironmentFile"].endswith(".env")
    shown = re.findall("^Environment=.*(?:TOKEN|KEYS)=", path.read_text(encoding="utf-8"), re.M)
    assert not shown
    if "serve" in path.name:
        assert float(service["TimeoutStopSec"]) > LEAVE_SECONDS


def test_both_units_find_the_same_store() -> None:
    texts = [path.read_text(encoding="utf-8") for path in UNITS]
    for name in ("User", "StateDirectory", "Environment=GUILDGPT_STORE"):
        assert len({re.search(f"^{name}=(.+)$", text, re.M)[1] for text in texts}) == 1  # type: ignore[index]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    text = path.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/guildgpt/bin/guildgpt", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Docker Compose


def composed() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8")))


def test_compose_takes_the_services() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema_rs.validate(schema, composed())
    wrong = composed()
    wrong["services"]["serve"]["health_check"] = {}
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, wrong)


def test_the_services_wait_for_each_other_and_keep_what_they_hold() -> None:
    found = composed()
    services = found["services"]
    store = services["store"]
    assert store["healthcheck"]["test"].startswith("pg_isready")
    user = store["environment"]["POSTGRES_USER"]
    for name in ("bot", "serve", "serve-2", "learn"):
        one = services[name]
        assert one["depends_on"]["store"]["condition"] == "service_healthy"
        url = one["environment"]["GUILDGPT_STORE"]
        assert url.startswith(f"postgresql://{user}:${{POSTGRES_PASSWORD:?}}@store/")
        # The key by which all know a member, and the models that `learn` makes.
        assert one["volumes"] == ["bot:/data", "../runs:/runs"]
        assert (DEPLOY.parent / one["build"]["dockerfile"]).is_file()
    assert {*found["volumes"]} == {"bot", "store"}


def test_the_circle_is_turned_where_it_is_asked_for() -> None:
    learn = composed()["services"]["learn"]
    assert learn["profiles"] == ["learn"]
    assert parses(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", learn["command"]))
    assert "train" in learn["build"]["args"]["EXTRAS"].split(",")
    assert "ARG EXTRAS=postgres\n" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    base = load_recipe(find_recipe("learn")).model.base
    assert Path(learn["working_dir"], base).is_relative_to("/runs")


def test_the_second_server_and_what_stands_before_both_are_asked_for() -> None:
    services = composed()["services"]
    asked_for = {name for name, one in services.items() if one.get("profiles") == ["replicas"]}
    assert asked_for == {"serve-2", "nginx"}
    first, second = (dict(services[name]) for name in ("serve", "serve-2"))
    [published] = first.pop("ports")
    assert published.startswith("127.0.0.1:")  # it speaks no TLS
    assert second.pop("profiles")
    assert first == second
    assert parses(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", first["command"]))
    assert "/readyz" in first["healthcheck"]["test"]
    assert float(first["stop_grace_period"].removesuffix("s")) > LEAVE_SECONDS
    [alias] = first["networks"]["default"]["aliases"]
    replicas = (DEPLOY / "nginx-replicas.conf").read_text(encoding="utf-8")
    assert f"set $guildgpt {alias}:8000;" in replicas
    for volume in services["nginx"]["volumes"]:
        assert (DEPLOY / volume.partition(":")[0]).is_file()


# nginx


def nginx(folder: Path, *arguments: str) -> list[str]:
    """The command that runs nginx in a folder."""
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert path, "nginx is not installed: apt-get install nginx-light"
    return [path, "-p", str(folder), "-e", str(folder / "error.log"), *arguments]


def site(folder: Path, name: str, **instead: str) -> Path:
    """A file of deploy/ as a whole configuration that needs no rights, with other words."""
    shutil.copy(DEPLOY / "nginx-streaming.conf", folder)
    text = re.sub(r".*listen \[::\].*\n", "", (DEPLOY / name).read_text(encoding="utf-8"))
    text = re.sub(r"listen \d+", lambda _: f"listen 127.0.0.1:{free_port()}", text)
    for word, other in instead.items():
        assert word in text
        text = text.replace(word, other)
    (folder / "site.conf").write_text(text, encoding="utf-8")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    whole = folder / "nginx.conf"
    whole.write_text(
        f"daemon off; pid {folder}/pid; events {{}}\n"
        f"http {{ access_log off; {places} include site.conf; }}\n",
        encoding="utf-8",
    )
    return whole


def certificate(folder: Path) -> dict[str, str]:
    """What nginx.conf's paths are replaced by: those of a certificate made for a test."""
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    subprocess.run(
        ["openssl", *asked.split(), "-keyout", folder / "key.pem", "-out", folder / "own.pem"],
        check=True,
        capture_output=True,
    )
    lies = "/etc/letsencrypt/live/chat.example.org"
    return {
        f"{lies}/fullchain.pem": f"{folder}/own.pem",
        f"{lies}/privkey.pem": f"{folder}/key.pem",
    }


def test_nginx_takes_the_files(tmp_path: Path) -> None:
    for name, instead in (("nginx.conf", certificate(tmp_path)), ("nginx-replicas.conf", {})):
        whole = site(tmp_path, name, **instead)
        done = subprocess.run(
            nginx(tmp_path, "-t", "-c", str(whole)), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "warn" not in done.stderr


@asynccontextmanager
async def behind_nginx(app: Any, folder: Path) -> AsyncIterator[str]:
    """An app as `guildgpt serve` runs it, behind nginx with TLS: where that is."""
    port = free_port()
    whole = site(
        folder, "nginx.conf", **certificate(folder), **{"127.0.0.1:8000": f"127.0.0.1:{port}"}
    )
    server = web_server(app, port=port, log_level="error")
    serving = asyncio.create_task(server.serve())
    proxy = await asyncio.create_subprocess_exec(*nginx(folder, "-c", str(whole)))
    found = re.search(r"listen (127.0.0.1:\d+) ssl", (folder / "site.conf").read_text("utf-8"))
    assert found
    async with ClientSession() as session:
        for _ in range(600):
            with suppress(OSError):
                async with session.get(f"https://{found[1]}/healthz", ssl=False) as reply:
                    if reply.status != 502:
                        break
            await asyncio.sleep(0.05)
    try:
        yield f"https://{found[1]}"
    finally:
        proxy.terminate()
        await proxy.wait()
        server.should_exit = True
        await serving


KEY = {"Authorization": "Bearer key-of-anna-0123456789"}
OURS, ANOTHER = {"Origin": "https://chat.example.org"}, {"Origin": "https://evil.example"}


def app_with(answer: Any, **keys: str) -> FastAPI:
    """The server's own app without a model, with a route more."""
    queue = FairQueue(1, clock=time.monotonic)
    names = read_public(["chat.example.org"])
    asking = Asking(Fleet(), queue)
    app = make_app(asking, usual=SamplingParams(), keys=keys, public_names=names)
    app.add_route("/v1/here", answer)
    return app


async def test_tokens_come_through_nginx_one_by_one(tmp_path: Path) -> None:
    read = asyncio.Event()

    async def tokens(request: Request) -> StreamingResponse:
        async def written() -> AsyncIterator[str]:
            yield f"data: {request.url} {request.client and request.client.host}\n\n"
            await read.wait()
            yield "data: second\n\n"

        return StreamingResponse(written(), media_type="text/event-stream")

    headers = KEY | {"Host": "chat.example.org", "X-Forwarded-For": "9.9.9.9"}
    async with (
        asyncio.timeout(60),
        behind_nginx(app_with(tokens, anna="key-of-anna-0123456789"), tmp_path) as at,
        ClientSession(headers=headers) as session,
        session.get(f"{at}/v1/here", ssl=False) as reply,
    ):
        first = await reply.content.readuntil(b"\n\n")
        assert first == b"data: https://chat.example.org/v1/here 127.0.0.1\n\n"
        read.set()  # what nginx kept would wait for this
        assert await reply.content.readuntil(b"\n\n") == b"data: second\n\n"


async def test_who_may_ask_through_nginx(tmp_path: Path) -> None:
    async def hello(request: Request) -> JSONResponse:
        return JSONResponse(request.state.caller)

    async def status(at: str, **headers: str) -> int:
        async with (
            ClientSession() as session,
            session.get(f"{at}/v1/here", ssl=False, headers=headers) as reply,
        ):
            return reply.status

    async with behind_nginx(app_with(hello, anna="key-of-anna-0123456789"), tmp_path) as at:
        assert await status(at, Host="chat.example.org") == 401
        assert await status(at, Host="chat.example.org", **KEY) == 200
        assert await status(at, Host="chat.example.org", **KEY, **OURS) == 200
        assert await status(at, Host="chat.example.org", **KEY, **ANOTHER) == 403
        assert await status(at, Host="another.example", **KEY, **OURS) == 200  # a proxy of proxies
    # Without keys whoever comes through a proxy is a stranger, whatever name it asks by.
    async with behind_nginx(app_with(hello), tmp_path) as at:
        assert await status(at, Host="localhost") == 403
        assert await status(at, Host="chat.example.org") == 403


# What the image lacks


# Who has a shared library on Debian; the first four packages are in every slim Python image.
IN_THE_IMAGE = {"libc6", "libgcc-s1", "libstdc++6", "zlib1g"}
PACKAGES = {
    "ld-linux-x86-64.so.2": "libc6",
    "ld-linux-aarch64.so.1": "libc6",
    "libc.so.6": "libc6",
    "libdl.so.2": "libc6",
    "libgcc_s.so.1": "libgcc-s1",
    "libgomp.so.1": "libgomp1",
    "libm.so.6": "libc6",
    "libpthread.so.0": "libc6",
    "librt.so.1": "libc6",
    "libstdc++.so.6": "libstdc++6",
    "libutil.so.1": "libc6",
    "libz.so.1": "zlib1g",
    "linux-vdso.so.1": "libc6",
}


def installed(requirement: str, seen: set[str]) -> list[Path]:
    """The shared libraries of a package and of all that it requires."""
    wanted = Requirement(requirement)
    key = f"{wanted.name.lower()}{sorted(wanted.extras)}"
    if key in seen:
        return []
    seen.add(key)
    package = distribution(wanted.name)
    files = [Path(str(file.locate())) for file in package.files or ()]
    libraries = [file for file in files if re.search(r"\.so(\.\d+)*$", file.name)]
    for line in package.requires or ():
        needed = Requirement(line)
        extras = wanted.extras or {""}
        if needed.marker is None or any(needed.marker.evaluate({"extra": one}) for one in extras):
            libraries += installed(f"{needed.name}[{','.join(needed.extras)}]", seen)
    return libraries


def needed_by(libraries: list[Path]) -> set[str]:
    """The shared libraries that the loader looks for, without those the packages bring."""
    command = ["ldd", *map(str, libraries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("\t")]
    needed = {Path(words[0]).name for words in lines if words != ["statically", "linked"]}
    return needed - {library.name for library in libraries}


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("ldd"), reason="Linux's loader is asked"
)
def test_the_image_has_every_library_that_is_needed() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    [what] = re.findall(r"^ARG EXTRAS=(\w+)$", text, re.M)
    assert '"/src[${EXTRAS}]"' in text
    libraries = installed(f"guildgpt[{what}]", set())
    assert any("xllamacpp" in library.name for library in libraries)
    assert len(libraries) > 10
    needed = needed_by(libraries)
    assert "libgomp.so.1" in needed
    added = re.findall(r"apt-get install (?:-\S+ )*([^&\\]+)", text)
    there = IN_THE_IMAGE | {package for packages in added for package in packages.split()}
    lacking = {name for name in needed if PACKAGES.get(name) not in there}
    assert lacking == set()


# What is in no layer, and in no commit

SECRETS = [
    "deploy/.env", "deploy/.env.local", "deploy/bot.env", ".env", "feedback.db", "feedback.db-wal",
    "feedback.db.key", "data/member.key", "guildgpt/.env", "guildgpt/bot/feedback.db",
]  # fmt: skip
OTHERS = ["bot.toml", "runs/today/sft/model/model-Q8_0.gguf", ".git/config", "guildgpt/x.gguf"]


def reaches_the_builder(path: str) -> bool:
    """Docker's rule: the last line that fits the path or a folder above it decides."""
    lines = (DEPLOY.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    places = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    let_in = True
    for line in lines:
        if line and not line.startswith("#"):
            pattern = re.escape(line.removeprefix("!")).replace(r"\[", "[").replace(r"\]", "]")
            pattern = pattern.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            if any(re.fullmatch(pattern, place) for place in places):
                let_in = line.startswith("!")
    return let_in


@pytest.mark.parametrize("path", [*SECRETS, *OTHERS])
def test_what_must_not_be_in_a_layer_is_not_sent_to_the_builder(path: str) -> None:
    assert not reaches_the_builder(path)


def test_what_the_image_is_built_from_is_sent_to_the_builder() -> None:
    root = DEPLOY.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = ["pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]]
    package = [
        str(path.relative_to(root))
        for path in (root / "guildgpt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(package) > 100
    assert [path for path in (*named, *package) if not reaches_the_builder(path)] == []


@pytest.mark.skipif(
    not shutil.which("git") or not (DEPLOY.parent / ".git").exists(), reason="this is no clone"
)
@pytest.mark.parametrize("path", SECRETS)
def test_no_secret_is_committed_by_accident(path: str) -> None:
    command = ["git", "-C", str(DEPLOY.parent), "check-ignore", "--no-index", "-q", path]
    assert subprocess.run(command, check=False).returncode == 0
