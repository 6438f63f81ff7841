"""Comparisons as token ids: what reward models, DPO and their measurements read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from guildgpt.chat import ChatTemplate, Comparison, FileTokenizer, Message
from guildgpt.data.examples import Example
from guildgpt.data.split import normalised, tree_of


@dataclass(frozen=True, slots=True)
class Ranking:
    """One prompt's answers, and every pair of them of which one is better.

    Each example is the prompt and an answer up to its end of turn, of which the answer is
    predicted. `pairs` are (better, worse), `steps` the places between the two in the ranking.
    """

    answers: tuple[Example, ...]
    pairs: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    source: str
    tree: str  # rows of one tree are no independent evidence
    origin: frozenset[tuple[str, str]] = frozenset()  # what the row rests on

    def __len__(self) -> int:
        return sum(map(len, self.answers))


def rankings(
    comparisons: Iterable[Comparison],
    tokenizer: FileTokenizer,
    template: ChatTemplate,
    *,
    context: int,
) -> tuple[list[Ranking], Counter[str]]:
    """Comparisons as rankings, and how many answers or rows were left out for which reason.

    An answer that is empty, or too long for the context with its prompt, is left out; a prompt
    that alone fills the context goes whole. What remains needs a pair: not ties alone, nor one
    answer twice.
    """
    found: list[Ranking] = []
    counts: Counter[str] = Counter()
    for row in comparisons:
        if len(template.prompt(row.prompt, tokenizer)) >= context:
            counts["with a prompt longer than the context"] += 1
            continue
        kept = []
        for answer, place in zip(row.answers, row.places, strict=True):
            if not answer.content.strip():
                counts["with an empty answer, which was left out"] += 1
                continue
            example = answer_example(row.prompt, answer.content, tokenizer, template, row)
            if len(example) > context:
                counts["with an answer longer than the context, which was left out"] += 1
                continue
            kept.append((example, place, answer.content))
        pairs = [
            (i, j)
            for i, (_, place, text) in enumerate(kept)
            for j, (_, other, words) in enumerate(kept)
            if place < other and text != words
        ]
        if not pairs:
            counts[_why_no_pair(row)] += 1
            continue
        steps = tuple(kept[j][1] - kept[i][1] for i, j in pairs)
        examples = tuple(example for example, _, _ in kept)
        source = row.source
        found.append(
            Ranking(examples, tuple(pairs), steps, source.name, tree_of(row), source.origin)
        )
    return found, counts


def answer_example(
    prompt: tuple[Message, ...],
    text: str,
    tokenizer: FileTokenizer,
    template: ChatTemplate,
    row: Comparison,
) -> Example:
    """A prompt and one answer, up to and with the end of turn; the answer is predicted."""
    asked = template.prompt(prompt, tokenizer)
    ids = [*asked, *tokenizer.encode(text), template.eos_id(tokenizer)]
    mask = np.arange(len(ids)) >= len(asked)
    size = len(text.encode("utf-8", "replace"))
    return Example(np.array(ids, dtype=np.int32), mask, size, row.source.name)


def without_held_out_prompts(
    train: Sequence[Comparison], held_out: Sequence[Comparison]
) -> tuple[list[Comparison], int]:
    """The train rows whose prompt does not stand on the held-out side too, and how many did."""
    known = {_words(row.prompt) for row in held_out}
    kept = [row for row in train if _words(row.prompt) not in known]
    return kept, len(train) - len(kept)


def _words(prompt: Sequence[Message]) -> str:
    return "\n".join(f"{m.role}: {normalised(m.content)}" for m in prompt)


def _why_no_pair(row: Comparison) -> str:
    if len(set(row.places)) < 2:
        return "that rank all answers alike"
    if len({answer.content for answer in row.answers}) < 2:
        return "whose answers are identical"
    return "without two answers that can be compared"
