"""A person words an answer better: in their editor, or in lines."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from guildgpt.vote.keys import Keys
from guildgpt.vote.screen import Screen

_LINES = "Write your answer. A line with a single dot ends it{}; nothing at all leaves it."


async def write_better(answer: str, keys: Keys, screen: Screen) -> str:
    """The person's own wording; '' if they left it as it was, or wrote nothing.

    At a terminal $VISUAL or $EDITOR is opened with the answer in it. Without one, and from a pipe,
    lines are taken up to one that is a single dot.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    with keys.typing():
        if editor and keys.single:
            text = await _in_editor(answer, shlex.split(editor), screen)
        else:
            if keys.at_terminal:
                screen.note(_LINES.format(", Ctrl-D too"))
            text = "\n".join(await keys.lines())
    return "" if text.strip() == answer.strip() else text.strip()


async def _in_editor(answer: str, editor: list[str], screen: Screen) -> str:
    with tempfile.TemporaryDirectory(prefix="guildgpt-") as folder:
        file = Path(folder) / "answer.md"
        file.write_text(answer + "\n", encoding="utf-8")
        with _without_ctrl_c():
            try:
                process = await asyncio.create_subprocess_exec(*editor, str(file))
                status = await process.wait()
            except OSError as error:
                screen.say(f"The editor cannot be started ({error.strerror}): {editor[0]}")
                return ""
        if status:
            screen.say(f"The editor ended with status {status}; what it left is not taken.")
            return ""
        return file.read_text(encoding="utf-8", errors="replace")


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ctrl-C is the editor's, which has the terminal."""
    with suppress(ValueError):  # outside the main thread
        before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, before)
