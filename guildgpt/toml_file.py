"""What a person wrote in a TOML file: read, and what is wrong with it said with file and line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from guildgpt.errors import GuildError


def parse(
    text: str,
    path: Path | None,
    kind: type[GuildError],
    *,
    example: str,
    hidden: Callable[[str], str] = str,
) -> dict[str, Any]:
    """The values in the text of a file. Raises `kind` for what is no TOML: without its secrets,
    which `hidden` takes out of what is said, and with an `example` of a line."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        said = "lists or tables stand in each other too deeply"
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        said = str(error)
    line = re.search(r"line (\d+)", said)  # outside the handler: the parser's error holds the text
    raise kind(
        f"this is not TOML: {hidden(said)}",
        where=f"{path}:{line[1] if line else len(text.splitlines())}",
        remedy=f"A line is `key = value`, a text stands in quotes: {example}.",
    )


def explained(
    error: ValidationError,
    model: type[BaseModel],
    kind: type[GuildError],
    where: Callable[[Sequence[str]], str | None],
    *,
    flat: bool = False,
    shown: Callable[[str, object], str] = lambda key, value: shortened(repr(value)),
) -> GuildError:
    """The first problem of values for `model`, in words; the others are counted.

    `where` tells the place of a key, `shown` how its value is quoted. The keys of a `flat` model
    are explained as a whole, by their own descriptions; others by what may stand there.
    """
    problems = error.errors()
    problem = problems[0]
    depth = 1 if flat else None
    keys = _key(model, problem["loc"])[:depth]
    dotted, value = ".".join(keys), problem["input"]
    remedy = None
    match problem["type"]:
        case "extra_forbidden":
            known = known_keys(model, keys[:-1])
            near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.6 if flat else 0.4)
            what = f"unknown key `{dotted}`"
            remedy = f"Did you mean `{near[0]}`? " if near else ""
            remedy += f"Known here: {', '.join(known)}."
        case "missing" if not flat:
            what = f"`{dotted}` is missing"
        case "model_type" if not flat:
            what = f"`{dotted}` is {shown(dotted, value)}, not a section"
            remedy = f"It holds {', '.join(known_keys(model, keys))}."
        case "list_type" if not flat:
            what = f"`{dotted}` is {shown(dotted, value)}, not a list"
            remedy = f'Write it in brackets: {keys[-1]} = ["…"].'
        case _:
            # What may stand there is one of several things, none of which it is.
            same = [found["msg"] for found in problems if _key(model, found["loc"])[:depth] == keys]
            first, *others = dict.fromkeys(same)
            others = [one.removeprefix("Input should be ") for one in others]
            message = ", or ".join([first.removeprefix("Value error, "), *others])
            quoted = "" if isinstance(value, dict) else f" is {shown(dotted, value)}"
            what = f"`{dotted}`{quoted}: {message[0].lower()}{message[1:]}"
            if flat:
                remedy = f"`{dotted}`: {model.model_fields[dotted].description}"
            elif allowed := limits(field_of(model, keys)):
                remedy = f"It takes a number, {allowed}."
    if more := len({tuple(_key(model, found["loc"])[:depth]) for found in problems}) - 1:
        what += f" (and {more} more problem{'s' * (more > 1)})"
    return kind(what, where=where(keys), remedy=remedy)


def _key(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The key that pydantic's place of a problem is of: behind it may stand which of several types
    was tried."""
    keys = [str(part) for part in place]
    for end in range(1, len(keys)):
        try:
            known_keys(model, keys[:end])
        except (AttributeError, IndexError, KeyError):  # no section: its key ends here
            return [*keys[:end], *takewhile(str.isdigit, keys[end:])]
    return keys


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a long text."""
    return text if len(text) <= most else text[: most - 3] + "…"


def known_keys(model: Any, sections: Sequence[str]) -> list[str]:
    """The keys that may stand in a section, which is named from the outermost in."""
    for part in sections:
        if part.isdigit():
            continue
        kind = model.model_fields[part].annotation
        arguments = [a for a in getattr(kind, "__args__", ()) if hasattr(a, "model_fields")]
        model = kind if hasattr(kind, "model_fields") else arguments[0]
    return list(model.model_fields)


def field_of(model: type[BaseModel], keys: Sequence[str]) -> FieldInfo | None:
    """The field that a key names, which may be a place in a list; None where there is none."""
    named = [key for key in keys if not key.isdigit()]
    section: Any = model
    for key in named[:-1]:
        section = section_of(section.model_fields[key])
    return section.model_fields.get(named[-1]) if named else None  # type: ignore[no-any-return]


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a key that holds a section or a list of them; None for any other."""
    for part in types_in(field.annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def types_in(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from types_in(part)


def limits(field: FieldInfo | None) -> str:
    """The limits of a number in words, `0 to below 1`; of several, such as a pair, of each. ''
    where there are none."""
    if field is None:
        return ""
    rules = [*field.metadata]
    for part in types_in(field.annotation):
        rules += [rule for one in getattr(part, "__metadata__", ()) for rule in one.metadata]
    bound = {
        name: f"{value:,}" if isinstance(value, int) else f"{value:g}"
        for rule in rules
        for name in ("gt", "ge", "lt", "le", "multiple_of")
        if (value := getattr(rule, name, None)) is not None
    }
    if not bound.keys() & {"gt", "ge"}:
        return ""
    low = f"above {bound['gt']}" if "gt" in bound else bound["ge"]
    high = f" to below {bound['lt']}" if "lt" in bound else ""
    high = f" to {bound['le']}" if "le" in bound else high
    multiple = f", a multiple of {bound['multiple_of']}" if "multiple_of" in bound else ""
    return f"{low}{high or ' or more'}{multiple}"


def line_of(text: str, keys: Sequence[str]) -> int:
    """The line of a key, or of the nearest section above it that the file spells out."""
    best = 1
    section: list[str] = []
    entries: Counter[str] = Counter()  # of each [[array of sections]] so far
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\-]+)\s*\]", line):
            place = section = header[2].split(".")
            if header[1] == "[[":
                place = section = [*section, str(entries[header[2]])]
                entries[header[2]] += 1
        elif assignment := re.match(r"""\s*["']?([\w.\-]+)["']?\s*=""", line):
            place = [*section, *assignment[1].split(".")]
        else:
            continue
        if list(keys[: len(place)]) == place:
            best = number
    return best
