"""The walks in CONTRIBUTING.md: which functions they name, and which the program passes by."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "guildgpt"
Step = tuple[str, str]  # a file, as in `data/forms.py`, and a function of it


def walk(heading: str) -> list[Step]:
    """The steps `file:function` of the section that this heading begins with."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}")[2].partition("\n## ")[0]
    return [(file, name) for file, name in re.findall(r"`([\w/]+\.py):(\w+)`", section)]


@contextmanager
def footsteps() -> Iterator[list[Step]]:
    """The functions of ours that are called meanwhile, in all threads, in order."""
    passed: list[Step] = []

    def note(frame: FrameType, *_: object) -> None:
        file = frame.f_code.co_filename
        if file.startswith(f"{PACKAGE}/"):
            passed.append((file.removeprefix(f"{PACKAGE}/"), frame.f_code.co_name))

    threading.settrace(note)  # it returns no trace for the lines within
    sys.settrace(note)
    try:
        yield passed
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


def astray(steps: list[Step], passed: list[Step]) -> Step | None:
    """The first step that is not passed by after those before it."""
    rest = iter(passed)
    return next((step for step in steps if step not in rest), None)
