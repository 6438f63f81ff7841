"""Attached files: the text in them for the prompt, and words for those that hold none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from guildgpt.text.encodings import decoded
from guildgpt.text.visible import clean, visible

_CUT = "[… the rest of the file is left out]"
_GUESSED = re.compile(r"^(.{1,100}) \(read as (.+)\):\n```", re.MULTILINE)
_LANGUAGES = {
    "bash": "sh", "c": "c", "cc": "cpp", "cpp": "cpp", "cs": "csharp", "css": "css", "csv": "csv",
    "diff": "diff", "go": "go", "h": "c", "hpp": "cpp", "hs": "haskell", "html": "html",
    "ini": "ini", "java": "java", "js": "js", "json": "json", "jsonl": "json", "jsx": "jsx",
    "kt": "kotlin", "lua": "lua", "md": "md", "patch": "diff", "php": "php", "pl": "perl",
    "ps1": "powershell", "py": "python", "r": "r", "rb": "ruby", "rs": "rust", "scala": "scala",
    "sh": "sh", "sql": "sql", "svg": "xml", "swift": "swift", "toml": "toml", "ts": "ts",
    "tsx": "tsx", "xml": "xml", "yaml": "yaml", "yml": "yaml", "zig": "zig",
}  # fmt: skip

Kind = Literal["picture", "video", "recording", "sticker", "file"]
_KINDS: dict[str, Kind] = {"image": "picture", "video": "video", "audio": "recording"}


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that was attached, and that nobody here can see or hear."""

    kind: Kind
    name: str


def kind_of(content_type: str | None) -> Kind:
    """What a file says it is."""
    return _KINDS.get((content_type or "").partition("/")[0].strip().lower(), "file")


def read_attachment(
    name: str, content_type: str | None, data: bytes, limit_bytes: int
) -> str | None:
    """A text file for the prompt: its name, and its text in a fence with its language.

    Whether it is text is judged by `data`, not by what it calls itself: None for anything else and
    for a file without text. Where the encoding had to be guessed, the text says which it is. Of
    more than `limit_bytes` the beginning is read, and the text says so.
    """
    found = decoded(data[:limit_bytes], cut=len(data) > limit_bytes)
    if found is None:
        return None
    text = visible(found.text).strip("\n").rstrip()
    if not text.strip():
        return None
    if len(data) > limit_bytes:
        text += f"\n{_CUT}"
    fence = "`" * (1 + max(map(len, ["``", *re.findall("`+", text)])))
    guess = f" (read as {found.guess})" if found.guess else ""
    return f"{_file_name(name)}{guess}:\n{fence}{_language(name, content_type)}\n{text}\n{fence}"


def guesses_in(question: str) -> list[tuple[str, str]]:
    """Names and guessed encodings of the files in a question, as `read_attachment` wrote them."""
    return [(found[1], found[2]) for found in _GUESSED.finditer(question)]


def not_seen(unseen: Sequence[Unseen]) -> str:
    """What is told to the model of what it cannot see; '' for nothing."""
    names = clean(", ".join(f"the {one.kind} {one.name}" for one in unseen))
    return f"(Attached, but you cannot see it: {names[:200]})" if names else ""


def _file_name(name: str) -> str:
    shown = re.sub(r"[\s`<>|:]+", " ", clean(name)).strip()
    return shown[:100] or "file"


def _language(name: str, content_type: str | None) -> str:
    ending = PurePath(clean(name)).suffix.lstrip(".").lower()
    if ending in _LANGUAGES:
        return _LANGUAGES[ending]
    subtype = (content_type or "").partition(";")[0].rpartition("/")[2].removeprefix("x-").lower()
    return subtype if subtype in _LANGUAGES.values() else ""
