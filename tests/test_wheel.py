"""What `pip install` brings: the wheel, in an empty environment and outside the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
Guildgpt = Callable[..., str]


def done(command: list[str | Path], folder: Path, **more: str) -> str:
    """What a command prints on standard output; it must succeed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, **more
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what a clone holds, in a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "guildgpt", folder / "guildgpt", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done([*pip, "--wheel-dir", "dist", "."], folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def guildgpt(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Guildgpt:
    """Runs the installed command. The packages it depends on are those that the tests run with."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    packages = done(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder
    )
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(packages.strip()) / "dependencies.pth").write_text("\n".join(others) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    done([*pip, "--ignore-installed", wheel], folder)

    def run(*arguments: str, **more: str) -> str:
        return done([environment / "bin" / "guildgpt", *arguments], folder, **more)

    where = done([python, "-c", "import guildgpt; print(guildgpt.__file__)"], folder)
    assert Path(where).is_relative_to(environment)
    return run


def test_all_that_is_no_code_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "guildgpt").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert here - inside == set()


def test_help_names_every_command(guildgpt: Guildgpt) -> None:
    assert {"train", "chat", "bot", "feedback"} <= set(guildgpt("--help").split())


def test_doctor_finds_the_machine_ready(guildgpt: Guildgpt) -> None:
    findings = json.loads(guildgpt("doctor", "--json"))
    assert findings["can_chat"]
    assert findings["can_train"]


def test_a_recipe_is_known_by_name(guildgpt: Guildgpt, starter: Path) -> None:
    plan = json.loads(guildgpt("train", "starter", "--dry-run", "--json"))
    assert list(plan["stages"]) == ["sft", "reward", "judge", "ppo"]


def test_a_model_answers(guildgpt: Guildgpt, tmp_path: Path) -> None:
    """A tiny one, that of the samples."""
    with tarfile.open(ROOT / "tests" / "old" / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    model = str(tmp_path / "finished" / "ppo" / "model")
    question = "Where is the bell of house 1?\n"
    assert guildgpt("chat", model, "--max-tokens", "8", input=question).strip()
