"""Rules about an answer's form, each a short text such as `json` or `sentences<=3`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from guildgpt.constraints.counting import sentences
from guildgpt.rewards.verify import is_python

_LIMIT = re.compile(r"(sentences|words|lines)<=([1-9]\d*)")
_FENCE = re.compile(r"^```(?P<language>\w*)[ \t]*\n(?P<text>.*?)^```[ \t]*$", re.M | re.S)
_ITEM = re.compile(r"\s*(?:[-*•+]|\d+[.)])\s+\S")


def rule(text: str) -> Callable[[str, bool], bool]:
    """The rule that a text names: given an answer and whether it ended itself, is it kept?

    `json`: it is JSON, as it is or in one closed block. `python`: it has a closed block that is
    Python. `list`: two lines or more, each an item. `ends`: it was not cut off. `sentences<=N`,
    `words<=N`, `lines<=N`: at least one and at most N. ValueError for any other text.
    """
    if text in _RULES:
        return _RULES[text]
    if not (limit := _LIMIT.fullmatch(text)):
        known = ", ".join(sorted(_RULES))
        raise ValueError(
            f"there is no rule {text!r}; known are {known}, sentences<=N, words<=N, lines<=N"
        )
    counted, most = _COUNTED[limit[1]], int(limit[2])
    return lambda answer, ended: 1 <= counted(answer) <= most


def _json(answer: str, ended: bool) -> bool:
    blocks = list(_FENCE.finditer(answer))
    text = blocks[0]["text"] if len(blocks) == 1 else answer
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _python(answer: str, ended: bool) -> bool:
    return any(
        block["language"].lower() in ("python", "python3", "py") and is_python(block["text"])
        for block in _FENCE.finditer(answer)
    )


def _list(answer: str, ended: bool) -> bool:
    lines = [line for line in answer.splitlines() if line.strip()]
    return len(lines) > 1 and all(_ITEM.match(line) for line in lines)


def _ends(answer: str, ended: bool) -> bool:
    return ended


_RULES = {"json": _json, "python": _python, "list": _list, "ends": _ends}
_COUNTED: dict[str, Callable[[str], int]] = {
    "sentences": sentences,
    "words": lambda answer: len(answer.split()),
    "lines": lambda answer: sum(bool(line.strip()) for line in answer.splitlines()),
}
