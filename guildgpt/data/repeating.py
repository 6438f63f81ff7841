"""Rows in which an answer says one of its sentences again, for a model to learn not to.

Fine-tuning on people's answers shows a model where answers end, and never what to do once it has
repeated itself; a small model then goes round in a circle until it is cut off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guildgpt.chat import FileTokenizer
from guildgpt.data.examples import Example

_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
WORDS = 4  # of a sentence at least: shorter ones people do say twice
BETWEEN = ("\n\n", "\n", " ")


@dataclass(frozen=True, slots=True)
class Repeating(Example):
    """An example whose predicted tokens say again what stands before them."""


def repeating_rows(
    examples: Sequence[Example],
    tokenizer: FileTokenizer,
    share: float,
    *,
    context: int,
    seed: int,
) -> list[Repeating]:
    """`share` of the conversations (0..1; fewer where few have a sentence of four words), drawn by
    the seed: each up to the end of a sentence of its last answer, and that sentence once more."""
    random = np.random.default_rng([seed, len(examples)])
    found: list[Repeating] = []
    for index in random.permutation(len(examples)):
        if len(found) >= round(share * len(examples)):
            break
        row = _repeating(examples[index], tokenizer, random)
        if row is not None and len(row) <= context:
            found.append(row)
    return found


def _repeating(
    example: Example, tokenizer: FileTokenizer, random: np.random.Generator
) -> Repeating | None:
    """The row made of an example; None where its last answer has no sentence long enough."""
    if not example.trained:
        return None
    end = int(np.flatnonzero(example.mask)[-1])  # its end of turn
    start = int(np.flatnonzero(~example.mask[:end])[-1]) + 1
    answer = tokenizer.decode(example.ids[start:end].tolist())
    sentences = [one for one in _SENTENCE.finditer(answer) if len(one[0].split()) >= WORDS]
    if not sentences:
        return None
    said = sentences[random.integers(len(sentences))]
    before = tokenizer.encode(answer[: said.end()].rstrip())
    again = tokenizer.encode(BETWEEN[random.integers(len(BETWEEN))] + said[0].strip(), "text")
    ids = np.array([*example.ids[:start], *before, *again], dtype=np.int32)
    mask = np.arange(len(ids)) >= len(ids) - len(again)
    return Repeating(ids, mask, 0, example.source, example.origin)
