"""The files in deploy/ are held against the program: settings that exist, commands that parse."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from guildgpt.bot.operating.settings import BotSettings
from guildgpt.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
ELSEWHERE = {"GUILDGPT_CACHE"}  # what the program reads besides its settings
FILES = sorted(path for path in DEPLOY.iterdir() if not path.name.startswith("."))


def parses(command: str) -> bool:
    """Whether the program takes these words."""
    program, name, *arguments = command.split()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return program.endswith("guildgpt") and bool(commands[name].make_context(name, arguments))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bGUILDGPT_[A-Z_]+", path.read_text(encoding="utf-8"))) - ELSEWHERE
    assert named
    settings = {f"GUILDGPT_{name.upper()}" for name in BotSettings.model_fields}
    assert named <= settings


def test_the_unit_starts_the_bot_again_and_shows_its_token_to_nobody() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "guildgpt-bot.service", encoding="utf-8")
    service = unit["Service"]
    assert parses(service["ExecStart"])
    assert service["Restart"] == "always"
    assert service["EnvironmentFile"].endswith(".env")
    assert not any(key == "Environment" and "TOKEN" in value for key, value in service.items())


def test_the_services_wait_for_each_other_and_keep_what_they_hold() -> None:
    services = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8"))
    bot, store = services["services"]["bot"], services["services"]["store"]
    assert bot["depends_on"]["store"]["condition"] == "service_healthy"
    assert store["healthcheck"]["test"].startswith("pg_isready")
    url = bot["environment"]["GUILDGPT_STORE"]
    user, name = store["environment"]["POSTGRES_USER"], "store"
    assert url.startswith(f"postgresql://{user}:${{POSTGRES_PASSWORD:?}}@{name}/")
    volumes = [volume.partition(":")[0] for one in (bot, store) for volume in one["volumes"]]
    assert set(volumes) == set(services["volumes"])
    assert (DEPLOY.parent / bot["build"]["dockerfile"]).is_file()


def test_the_image_starts_the_bot() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    [command] = re.findall(r"^CMD (\[.*\])$", text, re.M)
    assert parses(" ".join(re.findall(r'"([^"]+)"', command)))
    assert "USER bot" in text
    [port] = re.findall(r"GUILDGPT_HEALTH_PORT=(\d+)", text)
    assert f"127.0.0.1:{port}/healthz" in text
    assert "HEALTHCHECK" in text


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
    [what] = re.findall(r"pip install .*'/src\[(\w+)\]'", text)
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
