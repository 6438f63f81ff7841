"""Comparisons before a person's eyes: the answers one below the other, what differs marked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice

from rich.console import Console
from rich.text import Text

from guildgpt.chat import Comparison
from guildgpt.data.preview import CLOSE, OPEN, UNTRAINED, is_coloured
from guildgpt.text.visible import pictured

BETTER, WORSE = "green", "red"
WORDS = re.compile(r"\S+\s*")
MOST = 1_000_000  # pairs of words that are held against each other; of more, only the two ends


def preview_pairs(comparisons: Sequence[Comparison], console: Console, *, count: int = 3) -> None:
    """Print the first `count` comparisons, the best answer first. What the best does not share with
    the next, and each other with the best, is in colour, or stands between ⟦ and ⟧."""
    coloured = is_coloured(console)
    legend = Text(f"{OPEN}what only this answer says{CLOSE}")
    if coloured:
        both = ("what only the better answer says", BETTER), ", ", ("only a worse one", WORSE)
        legend = Text.assemble(*both)
    console.print(legend, soft_wrap=True)
    for comparison in islice(comparisons, count):
        ranked = sorted(zip(comparison.places, comparison.answers, strict=True), key=lambda a: a[0])
        best, texts = ranked[0][0], [answer.content for _, answer in ranked]
        console.print()
        title = f"{comparison.source} · {len(ranked)} answers"
        console.print(Text(pictured(title), style="bold"), soft_wrap=True)
        for turn in comparison.prompt:
            line = pictured(f"{turn.role}: {turn.content}")
            console.print(Text(line, style=UNTRAINED if coloured else ""), soft_wrap=True)
        for index, (place, _) in enumerate(ranked):
            other = texts[1 if index == 0 else 0]
            label = "better" if place == best else "worse"
            label = label if len(ranked) == 2 else f"place {place + 1}"
            style = BETTER if place == best else WORSE
            answer = _marked(texts[index], other, style if coloured else "")
            console.print(Text.assemble((f"{label}: ", "bold"), answer), soft_wrap=True)


def differing(text: str, other: str) -> Iterator[tuple[str, bool]]:
    """The text in stretches of whole words; whether `other` lacks each there."""
    words, others = WORDS.findall(text), WORDS.findall(other)
    bare, known = [word.strip() for word in words], [word.strip() for word in others]
    if len(words) * len(others) > MOST:
        start = next(
            (i for i, (a, b) in enumerate(zip(bare, known, strict=False)) if a != b),
            min(len(bare), len(known)),
        )
        room = min(len(bare), len(known)) - start
        backwards = zip(reversed(bare), reversed(known), strict=False)
        end = next((i for i, (a, b) in enumerate(backwards) if a != b), room)
        end = len(words) - min(end, room)
        stretches = [(0, start, False), (start, end, True), (end, len(words), False)]
    else:
        matcher = SequenceMatcher(None, bare, known, autojunk=False)
        stretches = [(i, j, tag != "equal") for tag, i, j, _, _ in matcher.get_opcodes()]
    for first, last, differs in stretches:
        if first < last:
            yield "".join(words[first:last]), differs


def _marked(text: str, other: str, style: str) -> Text:
    marked = Text(style="")
    for stretch, differs in differing(text, other):
        shown = pictured(stretch)
        if differs and not style:
            bare = shown.rstrip()
            shown = f"{OPEN}{bare}{CLOSE}{shown[len(bare) :]}"
        marked.append(shown, style=style if differs else UNTRAINED if style else "")
    return marked
