"""The files in deploy/ are held against the program: settings that exist, commands that parse."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import typer
import yaml

from guildgpt.bot.settings import BotSettings
from guildgpt.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
ELSEWHERE = {"GUILDGPT_CACHE"}  # what the program reads besides its settings
FILES = sorted(DEPLOY.iterdir())


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
