"""Text on its way in and out: what members typed and attached, and what the model wrote."""

from __future__ import annotations

import re
from pathlib import PurePath

from guildgpt.bot.text.decoding import decoded
from guildgpt.bot.text.lengths import shortened, utf16_len
from guildgpt.bot.text.lines import open_fence
from guildgpt.bot.text.splitting import LIMIT, split
from guildgpt.bot.text.tables import tables_as_code
from guildgpt.text.visible import SELECTOR, UNSEEN, clean, harmless, pairs_joined, visible

__all__ = [
    "LIMIT",
    "NOTHING_YET",
    "answer_text",
    "clean",
    "guesses_in",
    "read_attachment",
    "shortened",
    "split",
    "utf16_len",
]

NOTHING_YET = "…"

_SHOWS_NOTHING = re.compile(
    rf"(?:\s|{UNSEEN.pattern}|{SELECTOR}|[\u200c\u200d\U000e0000-\U000e007f])*"
)

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
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    guess = f" (read as {found.guess})" if found.guess else ""
    return f"{_file_name(name)}{guess}:\n{fence}{_language(name, content_type)}\n{text}\n{fence}"


def guesses_in(question: str) -> list[tuple[str, str]]:
    """Names and guessed encodings of the files in a question, as `read_attachment` wrote them."""
    return [(found[1], found[2]) for found in _GUESSED.finditer(question)]


def answer_text(text: str, *, growing: bool = False) -> str:
    """What the model wrote, so far if it is `growing`, fit to be shown; '…' while there is nothing
    to see.

    What would steer a screen is taken out, tables become code blocks. A code fence that is open at
    the end is closed, one that has only just been opened is left away, as are the first marks of
    one that is being closed.
    """
    shown = tables_as_code(harmless(pairs_joined(text)), growing=growing).strip()
    while fence := open_fence(shown):
        head, _, last = shown.rpartition("\n")
        if open_fence(head) is None:  # the last line opened it; words may stand before it there
            words = last[: last.rindex(fence.run)] if fence.late else ""
            shown = f"{head}\n{words}".strip()
        elif fence.may_close(last):
            shown = head.rstrip()
        else:
            shown += fence.closing
            break
    return NOTHING_YET if _SHOWS_NOTHING.fullmatch(shown) else shown


def _file_name(name: str) -> str:
    shown = re.sub(r"[\s`<>|:]+", " ", clean(name)).strip()
    return shown[:100] or "file"


def _language(name: str, content_type: str | None) -> str:
    ending = PurePath(clean(name)).suffix.lstrip(".").lower()
    if ending in _LANGUAGES:
        return _LANGUAGES[ending]
    subtype = (content_type or "").partition(";")[0].rpartition("/")[2].removeprefix("x-").lower()
    return subtype if subtype in _LANGUAGES.values() else ""
