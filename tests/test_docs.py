"""What the documents say is held against the program: commands, recipes, keys, examples, links."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from guildgpt.bot.operating.settings import BotSettings
from guildgpt.cli import app
from guildgpt.data import SourceSpec, load
from guildgpt.data.provenance import PERMISSIVE, PUBLIC_DOMAIN, SHARE_ALIKE
from guildgpt.feedback.storage.postgres_url import KNOWN
from guildgpt.recipe import RECIPES as FOLDER
from guildgpt.recipe import find_recipe, load_recipe
from guildgpt.rewards.wanted import Wanted

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
}
RECIPES = sorted(FOLDER.glob("*.toml"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def fences(language: str) -> list[Any]:
    """The code blocks in a language, as parameters of a test."""
    return [
        pytest.param(block[2], id=f"{name}:{text[: block.start()].count(chr(10)) + 1}")
        for name, text in DOCUMENTS.items()
        for block in FENCE.finditer(text)
        if block[1] == language
    ]


def commands() -> dict[str, None]:
    """Every `guildgpt …` that a document shows, in a block or within a sentence."""
    found: dict[str, None] = {}
    for text in DOCUMENTS.values():
        for block in FENCE.finditer(text):
            for line in block[2].splitlines() if not block[1] else ():
                if match := re.search(r"^(?:.*\| )?(guildgpt .*)$", line):
                    found[match[1]] = None
        for match in re.finditer(r"`(guildgpt [^`]+)`", FENCE.sub("", text)):
            found[match[1]] = None
    return found


def leaf(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words that are left."""
    command: Any = typer.main.get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line: str) -> None:
    command, arguments = leaf(shlex.split(line, comments=True)[1:])
    if not arguments:
        assert command.name != "guildgpt"  # a sentence may name a command without its arguments
        return
    takes_arguments = any(one.param_type_name == "argument" for one in command.params)
    if hasattr(command, "commands") and not takes_arguments:
        assert arguments[0].startswith("-"), f"there is no command {arguments[0]}"
    try:
        context = command.make_context(command.name, arguments)
    except typer.Exit:  # --help
        return
    named = context.params.get("recipe")
    if command.name == "train" and named is not None and find_recipe(named).is_file():
        load_recipe(find_recipe(named), context.params["set_"] or ())


def test_what_is_generated_is_current() -> None:
    """Where this fails: `make docs`."""
    code = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    for path, text in code["documents"]().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not current"


def test_a_keys_type_is_told_in_words_or_refused() -> None:
    """A table was once called a number, for what is nothing else was taken for one."""
    words = runpy.run_path(str(ROOT / "docs" / "generate.py"))["words"]
    fields = SourceSpec.model_fields
    assert words(fields["columns"].annotation, fields["columns"]) == "table of texts"
    speakers = "table of `system`, `user` or `assistant`"
    assert words(fields["roles"].annotation, fields["roles"]) == speakers
    assert words(bool, fields["limit"]) == "true or false"
    with pytest.raises(TypeError, match="has no words"):
        words(bytes, fields["limit"])


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, text in DOCUMENTS.items():
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{name}: make {target}"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_recipe_loads_and_is_described(recipe: Path) -> None:
    assert load_recipe(recipe).name == recipe.stem
    assert recipe.read_text(encoding="utf-8").startswith("# ")
    shown = {"starter": "make demo", "learn": "guildgpt learn"}
    assert shown.get(recipe.stem, f"guildgpt train {recipe.stem}") in DOCUMENTS["README.md"]


@pytest.mark.parametrize("text", fences("toml"))
def test_recipes_in_the_documents_load(text: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(text, encoding="utf-8")
    load_recipe(path)


@pytest.mark.parametrize("text", fences("jsonl"))
def test_rows_in_the_documents_are_of_use(text: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text(text, encoding="utf-8")
    loaded = load(SourceSpec(source=f"jsonl:{path}"))
    assert not loaded.skipped
    rows = [*loaded.conversations, *loaded.comparisons, *loaded.tasks]
    assert len(rows) == len(text.splitlines())
    for task in loaded.tasks:
        Wanted.from_row(task.source.rules, str(task.source))


@pytest.mark.parametrize("text", fences("python"))
def test_python_in_the_documents_compiles(text: str) -> None:
    compile(text, "document", "exec")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_every_setting_of_the_bot_is_described() -> None:
    shown = {
        row[0].strip("`"): row[1]
        for row in map(cells, DOCUMENTS["docs/discord.md"].splitlines())
        if len(row) == 3
    }
    for key, field in BotSettings.model_fields.items():
        assert key in shown, f"docs/discord.md has no row for `{key}`"
        if key not in ("token", "store"):
            assert shown[key] == f"`{json.dumps(field.default)}`", key


def test_the_policies_licences_are_listed() -> None:
    text = DOCUMENTS["docs/data.md"].partition("1. Its licence is")[2].partition("2. Its text")[0]
    listed = set(re.findall(r"`([\w.-]+)`", text)) - {"own"}
    assert listed == PERMISSIVE | SHARE_ALIKE | PUBLIC_DOMAIN


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in LINK.findall(FENCE.sub("", DOCUMENTS[name])):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{name}: {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_names_exist(name: str) -> None:
    text = FENCE.sub("", DOCUMENTS[name])
    for file in re.findall(r"`((?:guildgpt|simguild|examples|bench|tests|docs)/[\w/.-]+)`", text):
        assert (ROOT / file).exists(), f"{name}: {file}"


def test_places_that_contributing_names_exist() -> None:
    for place in re.findall(r"`(\w+/[\w/]*(?:\.py)?)[`:]", DOCUMENTS["CONTRIBUTING.md"]):
        assert (ROOT / "guildgpt" / place).exists() or (ROOT / place).exists(), place


def anchors(text: str) -> set[str]:
    """The names that a page's headings are reached by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_parameter_of_a_postgresql_url_is_described() -> None:
    rows = [line for line in DOCUMENTS["docs/store.md"].splitlines() if line.startswith("| `")]
    described = set(re.findall(r"`([a-z_]+)`", " ".join(row.split("|")[1] for row in rows)))
    assert described == set(KNOWN)


def test_what_contributors_read_first_is_short() -> None:
    assert len(DOCUMENTS["CONTRIBUTING.md"].encode()) <= 5000


def test_the_readme_is_short() -> None:
    """Whatever has a letter or a digit is a word, in tables and examples too."""
    assert len(re.findall(r"\S*\w\S*", DOCUMENTS["README.md"])) <= 900
