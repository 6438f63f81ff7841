"""What the documents say of files, keys and commands, written from the code: `make docs`.

docs/map.md is written whole. In other documents what stands between `<!-- NAME … -->` and
`<!-- end -->` is written anew: `keys` of recipes, the tables of `recipes` and `commands`, of the
`files` that hold rows and of the `forms` that these have, and of the `architectures` and
`quantizations` of a GGUF.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from guildgpt.cli import app
from guildgpt.data import files
from guildgpt.data.table import FORMS
from guildgpt.model import gguf_types
from guildgpt.model.gguf_architectures import FAMILIES
from guildgpt.recipe import RECIPES, Recipe
from guildgpt.toml_file import limits, section_of

ROOT = Path(__file__).resolve().parents[1]
NAMES = "keys|recipes|commands|files|forms|architectures|quantizations"
MARK = re.compile(rf"<!-- ({NAMES})(?: ([^>]*?))? -->\n.*?<!-- end -->", re.S)
WORDS = {bool: "true or false", str: "text", int: "whole number", float: "number"}
Row = list[str]


def documents() -> dict[Path, str]:
    """Every generated document as it should be."""
    written = {ROOT / "docs" / "map.md": code_map()}
    for name in ("README.md", "docs/recipes.md", "docs/data.md", "docs/bases.md"):
        path = ROOT / name
        written[path] = filled(path.read_text(encoding="utf-8"))
    return written


def filled(text: str) -> str:
    """A document with its marked places written anew."""
    shown: set[tuple[str, str]] = set()
    tables: dict[str, Callable[[str], str]] = {
        "keys": lambda sections: keys_table(sections.split(), shown),
        "recipes": lambda _: recipes_table(),
        "commands": lambda _: commands_table(),
        "files": lambda _: files_table(),
        "forms": lambda _: forms_table(),
        "architectures": lambda _: architectures_table(),
        "quantizations": lambda _: quantizations_table(),
    }

    def write(found: re.Match[str]) -> str:
        head = found[0].partition("\n")[0]
        return f"{head}\n\n{tables[found[1]](found[2] or '')}\n\n<!-- end -->"

    text = MARK.sub(write, text)
    if shown and (missing := set(every_key()) - shown):
        listed = ", ".join(sorted(f"{section}.{key}" for section, key in missing))
        raise ValueError(f"no table of docs/recipes.md shows {listed}")
    return text


def table(header: Row, rows: list[Row]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("| --- ", "|---") for cells in lines)


# The map of the code


def code_map() -> str:
    """docs/map.md: the first line of every file."""
    parts = [
        "# The map of the code",
        "What each file holds, in its own first words. `make docs` writes this page.",
    ]
    for package in ("guildgpt", "simguild"):
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            name = folder.relative_to(ROOT).as_posix()
            rows = [
                [f"[`{path.name}`](../{name}/{path.name})", first_line(path)]
                for path in sorted(folder.glob("*.py"))
                if path.name != "__init__.py"
            ]
            about = first_line(folder / "__init__.py")
            parts += [
                f"## `{name}/`",
                f"{about}.",
                *([table(["file", "holds"], rows)] * bool(rows)),
            ]
    return "\n\n".join(parts) + "\n"


def first_line(path: Path) -> str:
    """The first sentence or paragraph of a file's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path}: a file begins with a line that says what it holds")
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return paragraph.removesuffix(".").replace("|", r"\|")


# The keys of a recipe


def keys_table(sections: list[str], shown: set[tuple[str, str]]) -> str:
    """The keys that these sections have in common and that no table showed before.

    `.` is the top of the file. Where the sections' defaults differ, each has a column.
    """
    models = {section: model_of(section) for section in sections}
    first = next(iter(models.values()))
    names = [
        name
        for name in first.model_fields
        if all(name in model.model_fields for model in models.values())
        and all((section, name) not in shown for section in sections)
        and (sections != ["."] or section_of(first.model_fields[name]) is None)
    ]
    shown |= {(section, name) for section in sections for name in names}
    defaults = {name: [default(m.model_fields[name]) for m in models.values()] for name in names}
    differ = any(len(set(values)) > 1 for values in defaults.values())
    columns = [f"`[{section}]`" for section in sections] if differ else ["default"]
    rows = [
        [
            f"`{name}`",
            kind(first.model_fields[name]),
            *(defaults[name] if differ else defaults[name][:1]),
            meaning(models, name),
        ]
        for name in names
    ]
    return table(["key", "type", *columns, "meaning"], rows)


def every_key(section: str = ".") -> Iterator[tuple[str, str]]:
    """All keys of a recipe with the section that they stand in."""
    for name, field in model_of(section).model_fields.items():
        below = section_of(field)
        if section != "." or below is None:
            yield section, name
        if below is not None:
            yield from every_key(name if section == "." else f"{section}.{name}")


def model_of(section: str) -> type[BaseModel]:
    """The pydantic model behind a section such as `ppo.terms.length`."""
    model: type[BaseModel] = Recipe
    for name in section.split(".") if section != "." else ():
        found = section_of(model.model_fields[name])
        if found is None:
            raise ValueError(f"{section} is no section of a recipe")
        model = found
    return model


def default(field: FieldInfo) -> str:
    """A key's default as TOML has it."""
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "not set"
    if isinstance(field.default, BaseModel):
        return "see below"
    return f"`{json.dumps(field.default)}`"


def kind(field: FieldInfo) -> str:
    """A key's type in words, with its limits."""
    return " or ".join(words(one, field) for one in options(field.annotation))


def options(annotation: Any) -> list[Any]:
    """The types of a key that has a value."""
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [one for one in get_args(annotation) if one is not NoneType]


def words(kind: Any, field: FieldInfo) -> str:
    """One of a key's types in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return words(inner[0], field)
    if origin is Literal:
        *others, last = (f"`{choice}`" for choice in inner)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (list, tuple):
        if section_of(field):
            return "list"
        if get_origin(inner[0]) is Literal:
            return "list of " + ", ".join(f"`{choice}`" for choice in get_args(inner[0]))
        if inner[0] is str:
            return "list of texts"
        return "list of whole numbers" if origin is list else f"two numbers{within(field)}"
    if origin is dict:
        return "table of " + ("texts" if inner[1] is str else words(inner[1], field))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    if kind not in WORDS:
        raise TypeError(f"{kind} has no words here that say what a key of it is")
    return WORDS[kind] + (within(field) if kind in (int, float) else "")


def within(field: FieldInfo) -> str:
    """The limits of a number behind its type: `, 0 to below 1`."""
    said = limits(field)
    return f", {said}" if said else ""


def meaning(models: dict[str, type[BaseModel]], name: str) -> str:
    """What a key's docstring says; where the sections' differ, each with its sections."""
    said: dict[str, list[str]] = {}
    for section, model in models.items():
        said.setdefault(about(model, name), []).append(f"`{section}`")
    if len(said) == 1:
        return next(iter(said))
    return " ".join(f"{', '.join(sections)}: {text}" for text, sections in said.items())


def about(model: type[BaseModel], name: str) -> str:
    """The docstring below a field, in the class that has one last."""
    for owner in model.__mro__:
        if owner is BaseModel:
            break
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and field.target.id == name
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                return " ".join(str(after.value.value).split())
    raise ValueError(f"{model.__name__}.{name} lacks a docstring that says what it means")


# The recipes that come with GuildGPT, and the commands


def recipes_table() -> str:
    """Every recipe with its description."""
    rows = []
    for path in sorted(RECIPES.glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        link = f"[`{path.stem}`](../{path.relative_to(ROOT).as_posix()})"
        found = re.search(r'^description = "(.*)"$', text, re.M)
        assert found, f"{path} has no description"
        rows.append([link, found[1]])
    return table(["recipe", "makes"], rows)


def files_table() -> str:
    """Every ending of a file of rows."""
    return table(["ending", "holds"], [[f"`{end}`", what] for end, what in files.KINDS.items()])


def forms_table() -> str:
    """Every form of a row with an example of it."""
    rows = [
        [form.name, f"`{json.dumps(form.row, ensure_ascii=False)}`", form.becomes] for form in FORMS
    ]
    return table(["form", "such a row", "becomes"], rows)


def commands_table() -> str:
    """Every command with its arguments and the first line of its help; a group of them as one."""
    return table(["command", "does"], list(commands(typer.main.get_command(app))))


def commands(group: Any, words: str = "guildgpt") -> Iterator[Row]:
    """A row for each command; a group of several is one row: its `--help` names them."""
    for name, command in group.commands.items():
        within = getattr(command, "commands", {})
        if len(within) == 1 and not command.invoke_without_command:
            yield from commands(command, f"{words} {name}")
        elif within:
            yield [f"`{words} {name}{arguments(command)}`", told(command)]
        else:
            yield [f"`{words} {name}{arguments(command)}`", told(command)]


def arguments(command: Any) -> str:
    """What must or can stand behind a command's name, options that must be there included."""
    shown = ""
    for parameter in command.params:
        if parameter.param_type_name == "argument" and not parameter.hidden:
            shown += f" {parameter.metavar}" if parameter.required else f" [{parameter.metavar}]"
        elif parameter.required:
            shown += f" {parameter.opts[0]} {parameter.metavar}"
    return shown


def told(command: Any) -> str:
    """The first line of a command's help."""
    return str(command.help).partition("\n")[0].removesuffix(".")


# What has a GGUF


def architectures_table() -> str:
    """Every architecture that has a GGUF, with what llama.cpp cannot represent of it."""
    rows = [
        [
            family.models,
            f"`{name}`",
            f"`{family.name}`",
            ", ".join(family.scalings) if family.scalings is not None else "no rotary positions",
            family.limits or "none known",
        ]
        for name, family in FAMILIES.items()
    ]
    header = ["models", "in transformers", "in llama.cpp", "scaled positions", "limits"]
    return table(header, rows)


def quantizations_table() -> str:
    """Every kind of file, with the types in it."""
    rows = [
        [f"`{name}`", kind.matrices.name, kind.ends.name, kind.narrow.name]
        for name, kind in gguf_types.KINDS.items()
    ]
    return table(["kind", "matrices", "embedding, output head", "narrow matrices"], rows)


def main() -> None:
    """Write what is not as it should be."""
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
