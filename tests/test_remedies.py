"""What an error tells a person to do can be done: every command, option and key in it is there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import guildgpt
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.cli import app
from guildgpt.data.spec import SourceSpec
from guildgpt.recipe import Recipe, Stage, section_of
from guildgpt.toml_file import section_of as model_of

PACKAGE = Path(guildgpt.__file__).parent
COMMAND = re.compile(r"\bguildgpt ((?:[a-z]+ ?)+)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
KEY = re.compile(r"(?<![\w./{-])([a-z]+|HOLE)\.([a-z_]+(?:\.[a-z_]+)*)(?![\w/(])")
ASSIGNED = re.compile(r"\b([a-z_]+) = [\[{\"]")
ENDINGS = ("safetensors", "bin", "json", "jsonl", "txt", "toml", "gguf", "xml", "html", "py", "md")
# Of other programs, which a remedy may name, too.
THEIRS = {"--upgrade", "--auto-features", "--served-model-name"}


def sentences() -> dict[str, str]:
    """Every text in the code by its place, what an f-string fills in written as HOLE."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node)
        }
        documentation = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                found[place] = "".join(
                    part.value if isinstance(part, ast.Constant) else "HOLE" for part in node.values
                )
            elif isinstance(node, ast.Constant) and id(node) not in inside | documentation:
                found.setdefault(place, str(node.value))
    return found


SENTENCES = sentences()


def remedies() -> dict[str, str]:
    """Those that stand behind `remedy=`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg == "remedy":
                    text = " ".join(_texts(keyword.value))
                    found[f"{path.relative_to(PACKAGE)}:{node.lineno}"] = text
    return found


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(p.value if isinstance(p, ast.Constant) else "HOLE" for p in node.values)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


REMEDIES = remedies()


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words that are left."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command: Any) -> set[str]:
    """The options of a command, and of those below it."""
    own = {option for one in command.params for option in one.opts}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


def has_key(section: str, path: str) -> bool:
    """Whether a recipe has the key; HOLE stands for a stage."""
    names = {*map(section_of, get_args(Stage))} if section == "HOLE" else {section}
    return any(_has(Recipe, f"{name}.{path}".split(".")) for name in names)


def _has(model: Any, keys: list[str]) -> bool:
    for key in keys:
        field = getattr(model, "model_fields", {}).get(key)
        if field is None:
            return False
        model = model_of(field)
    return True


def test_there_are_remedies_to_look_at() -> None:
    assert len(REMEDIES) > 300
    assert sum("guildgpt " in text for text in REMEDIES.values()) > 15
    assert sum(bool(OPTION.search(text)) for text in REMEDIES.values()) > 15


def test_every_command_that_the_program_names_is_there() -> None:
    wrong = []
    for place, text in SENTENCES.items():
        for found in COMMAND.finditer(text):
            command, left = command_of(found[1].split())
            shown = not left or command.params or getattr(command, "no_args_is_help", False)
            in_code = text[: found.start()].endswith(("`", "$ ", ": "))
            if in_code and (command.name == "guildgpt" or not shown):
                wrong.append(f"{place}: guildgpt {found[1]}")
    assert wrong == []


@pytest.mark.parametrize("place", REMEDIES)
def test_every_option_of_a_remedy_is_there(place: str) -> None:
    text = REMEDIES[place]
    everything = options_of(typer.main.get_command(app)) | THEIRS
    assert set(OPTION.findall(text)) <= everything
    for found in COMMAND.finditer(text):  # and those behind a command are its own
        command, _ = command_of(found[1].split())
        behind = re.split(r"[.;`\n] ?", text[found.end() :])[0]
        assert set(OPTION.findall(behind)) <= options_of(command) | THEIRS


@pytest.mark.parametrize("place", REMEDIES)
def test_every_key_of_a_remedy_is_there(place: str) -> None:
    for section, path in KEY.findall(REMEDIES[place]):
        if path.rpartition(".")[2] in ENDINGS or section not in (*Recipe.model_fields, "HOLE"):
            continue
        if section == "HOLE" and "." not in f"{section}.{path}":
            continue
        if section == "HOLE" and not _is_key(path):
            continue
        assert has_key(section, path), f"{section}.{path}"


def _is_key(path: str) -> bool:
    """Whether what stands behind a hole is a key, and no end of a file's name."""
    last = path.rpartition(".")[2]
    return len(last) > 3 and last not in ENDINGS


@pytest.mark.parametrize("place", REMEDIES)
def test_every_key_that_a_remedy_sets_is_there(place: str) -> None:
    known = {*SourceSpec.model_fields, *BotSettings.model_fields, *_every(Recipe)}
    for key in ASSIGNED.findall(REMEDIES[place]):
        assert key in known, key


def _every(model: Any) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        if (below := model_of(field)) is not None:
            yield from _every(below)


def test_the_test_sees_what_is_not_there() -> None:
    assert not has_key("sft", "learning_rates")
    assert has_key("HOLE", "kl.beta")
    assert not has_key("HOLE", "kl.betas")
    assert "--reuse" in options_of(command_of(shlex.split("train"))[0])
    assert command_of(["chatt"])[0].name == "guildgpt"
