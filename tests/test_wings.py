"""The two wings stay apart: the runtime needs no torch, and imports only ever run downhill."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "guildgpt"
TRAINING = ("torch", "transformers", "peft", "safetensors", "sentencepiece", "psutil", "jinja2")

# Takes the training wing out of this Python: not found, nor known to be installed, as on a machine
# on which only the core was ever installed.
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder
HIDDEN = {TRAINING!r}

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            return None
        return super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        found = super().find_distributions(*args, **kwargs)
        return (item for item in found if item.name.lower() not in HIDDEN)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
for name in HIDDEN:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{name}} was not hidden")
"""


def run(code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=240,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def guildgpt_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT + "from guildgpt.cli import main; main(sys.argv[1:])"
    return run(code, *arguments, check=False)


def modules(room: str) -> list[str]:
    """The names of a package's modules, as they are imported."""
    return [name for name, _ in sources() if f"{name}.".startswith(f"guildgpt.{room}.")]


def sources() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


RUNTIME_ROOMS = [
    "text",
    "chat",
    "constraints",
    "data",
    "engines",
    "feedback",
    "talk",
    "bot",
    "vote",
    "serve",
]
RUNTIME = [
    "guildgpt",
    *(
        f"guildgpt.{name}"
        for name in ("cli", "terminal", "recipe", "repl", "doctor", "paths", "errors", "toml_file")
    ),
    *(
        name
        for room in RUNTIME_ROOMS
        for name in modules(room)
        if not name.startswith("guildgpt.feedback.storage.migrations.")  # Alembic runs these
    ),
    *(f"guildgpt.model.{name}" for name in ("locate", "starter", "version", "config", "gguf")),
    "guildgpt.bases.config",
    "guildgpt.train.config",
    "guildgpt.evaluate.config",
    "guildgpt.evaluate.cli",
    *(f"guildgpt.sharing.{name}" for name in ("cli", "card", "hub", "ollama", "parcel", "push")),
]


def test_the_runtime_wing_imports_without_the_training_wing() -> None:
    assert len(RUNTIME) > 30
    run(WITHOUT + "".join(f"import {name}\n" for name in RUNTIME))


def test_the_training_wing_does_not() -> None:
    """Else the test above would show nothing."""
    done = run(WITHOUT + "import guildgpt.bases.base", check=False)
    assert "No module named 'torch'" in done.stderr


def test_help_and_doctor_run_without_the_training_wing() -> None:
    done = guildgpt_without_torch("--help")
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    done = guildgpt_without_torch("doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert findings["can_chat"]
    assert not findings["can_train"]
    assert "To train here: pip install 'guildgpt[train]'" in findings["advice"]
    assert [name for name, found in findings["packages"].items() if found is None] == [*TRAINING]


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "starter"),
        ("eval", "starter", "--data", "starter"),
        ("compare", "starter", "starter", "--judge", "judge"),
        ("data", "preview", "starter", "--base", "owner/name"),
        ("export", "runs/starter/sft/model", "--adapter"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_that_needs_torch_says_how_to_get_it(arguments: tuple[str, ...]) -> None:
    done = guildgpt_without_torch(*arguments)
    assert done.returncode == 1
    assert "needs torch, transformers, peft" in done.stderr
    assert "pip install 'guildgpt[train]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "from guildgpt.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import guildgpt.repl, guildgpt.engines, guildgpt.engines.llamacpp",
        "import guildgpt.recipe, guildgpt.data, guildgpt.doctor, guildgpt.model.gguf",
    ],
    ids=["help", "chat", "rest"],
)
def test_torch_is_not_loaded_where_it_is_not_needed(code: str) -> None:
    """Here torch is installed, and may still not be touched: it takes seconds to load."""
    heavy = ("torch", "transformers", "peft")
    done = run(
        f"import sys\n{code}\nprint(*[m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    assert done.stderr.strip() == ""


def test_help_loads_nothing_that_it_does_not_show() -> None:
    heavy = (
        *("numpy", "pydantic", "pydantic_settings", "regex", "tokenizers", "gguf", "xllamacpp"),
        *("huggingface_hub", "asyncio", "fastapi", "uvicorn"),
    )
    done = run(
        "import sys\nfrom guildgpt.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print(*[m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    assert done.stderr.strip() == ""


# Which rooms a room may look into; the wings' shared ground, errors and paths, is open to all.
BELOW = {
    "text": set(),
    "chat": set(),
    "constraints": set(),
    "data": {"chat", "constraints", "text"},
    "model": {"chat", "data"},
    "bases": {"chat", "data", "model"},
    "network": {"chat", "data", "model"},
    "engines": {"chat", "model"},
    "talk": {"chat", "engines", "feedback", "model", "text"},
    "feedback": {"chat", "data", "model", "text"},
    "bot": {"chat", "engines", "feedback", "model", "talk", "text"},
    "vote": {"chat", "engines", "feedback", "model", "talk", "text"},
    "serve": {"chat", "engines", "feedback", "model", "report", "talk", "text"},
    "rewards": {"chat", "constraints", "text"},
    "evaluate": {
        *("bases", "chat", "constraints", "data", "engines", "model", "network"),
        *("rewards", "text"),
    },
    "report": {"data", "evaluate", "text", "train"},
    "train": {"bases", "chat", "data", "evaluate", "model", "network", "rewards", "text"},
    "pipeline": {
        *("bases", "chat", "data", "evaluate", "model", "network"),
        *("feedback", "recipe", "report", "rewards", "train"),
    },
    "learn": {
        *("bases", "chat", "data", "engines", "evaluate", "feedback", "model", "network"),
        *("pipeline", "recipe", "report", "text", "train"),
    },
    "sharing": {"bases", "chat", "data", "model", "report", "text"},
}
SHARED = {"errors", "hashes", "inherited", "paths", "terminal", "toml_file", "unforeseen"}
ABOVE = {"cli", "recipe", "pipeline"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """The line and full name of everything a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            assert node.module
            # `from guildgpt import data` names a module, too.
            names = [alias.name for alias in node.names] if node.module == "guildgpt" else []
            yield from ((node.lineno, f"guildgpt.{name}") for name in names)
            yield node.lineno, node.module


def rooms(path: Path) -> Iterator[tuple[int, str]]:
    """The line and first name below `guildgpt` of what a file imports of ours."""
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "guildgpt" and len(parts) > 1 and parts[1] != "__version__":
            yield line, parts[1]


@pytest.mark.parametrize("room", BELOW)
def test_imports_run_downhill(room: str) -> None:
    allowed = BELOW[room] | SHARED | {room}
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    uphill = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in files
        for line, name in rooms(path)
        if name not in allowed
    ]
    assert uphill == []


def test_every_room_has_its_place() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(BELOW)


@pytest.mark.parametrize("package", ["guildgpt", "simguild"])
def test_no_file_imports_itself_by_way_of_others(package: str) -> None:
    """Wherever in a file the import stands. In the product a name for a type may look back up."""
    files = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in (PACKAGE.parent / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if package == "guildgpt":
            tree.body = [part for part in tree.body if not is_for_types(part)]
        named = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules = {node.module for node in named}
        modules |= {f"{node.module}.{alias.name}" for node in named for alias in node.names}
        graph[name] = modules & files.keys()
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle


def is_for_types(part: ast.stmt) -> bool:
    """Whether it is `if TYPE_CHECKING:`."""
    return isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("name", ["errors", "paths", "repl", "doctor", "terminal", "toml_file"])
def test_nothing_below_knows_recipes_pipeline_or_command_line(name: str) -> None:
    assert not ABOVE & {room for _, room in rooms(PACKAGE / f"{name}.py")}


@pytest.mark.parametrize("room", [*RUNTIME_ROOMS, "rewards"])
def test_the_runtime_rooms_name_no_training_package(room: str) -> None:
    """Not even inside a function: what they do, they do without torch."""
    named = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for line, name in imports(path)
        if name.partition(".")[0] in TRAINING
    ]
    assert named == []


def test_the_house_does_not_import_what_belongs_to_a_server_or_a_bot_into_training() -> None:
    outside = {"discord", "fastapi", "uvicorn"}
    for room in ("bases", "model", "network", "train"):
        for path in (PACKAGE / room).rglob("*.py"):
            assert not outside & {name.partition(".")[0] for _, name in imports(path)}, path


def test_one_room_knows_discord() -> None:
    knowing = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if any(name.partition(".")[0] == "discord" for _, name in imports(path))
    ]
    assert {path.parent.as_posix() for path in knowing} == {"bot/adapter"}


def test_only_the_bots_own_start_and_command_know_that_room() -> None:
    """The rest of the bot is plain Python, tried without Discord and its client."""
    knowing = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "adapter"
        and any(name.startswith("guildgpt.bot.adapter") for _, name in imports(path))
    ]
    assert knowing == ["bot/operating/cli.py", "bot/operating/run.py"]
