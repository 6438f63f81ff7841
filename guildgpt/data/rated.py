"""Answers that somebody called good or bad, one by one, as token ids: what KTO learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from guildgpt.chat import ChatTemplate, Conversation, FileTokenizer, Rejected
from guildgpt.data.examples import Example, Ranking, answering
from guildgpt.data.split import tree_of


@dataclass(frozen=True, slots=True)
class RatedExample:
    """A prompt and an answer up to its end of turn, which alone is predicted, and the verdict."""

    example: Example
    good: bool
    source: str
    tree: str  # rows of one tree are no independent evidence
    origin: frozenset[tuple[str, str]]  # what the row rests on

    def __len__(self) -> int:
        return len(self.example)

    @property
    def asked(self) -> int:
        """How many tokens the prompt has."""
        return int(np.argmax(self.example.mask))


def rated_examples(
    rows: Iterable[Conversation | Rejected],
    tokenizer: FileTokenizer,
    template: ChatTemplate,
    *,
    context: int,
) -> tuple[list[RatedExample], Counter[str]]:
    """Rated rows, of which the last answer is what was rated, and how many were left out."""
    found: list[RatedExample] = []
    counts: Counter[str] = Counter()
    for row in rows:
        asked = template.prompt(row.prompt, tokenizer)
        said = row.messages[len(row.prompt)].content
        answer = template.answer(said, tokenizer)
        if len(asked) + len(answer) > context:
            counts["rated, and longer than the context"] += 1
            continue
        size = len(said.encode("utf-8", "replace"))
        example = answering(asked, answer, row.source.name, size)
        good, origin = isinstance(row, Conversation), row.source.origin
        found.append(RatedExample(example, good, row.source.name, tree_of(row), origin))
    return found, counts


def of_rankings(rankings: Sequence[Ranking]) -> list[RatedExample]:
    """Of each ranking the answers that no other is better than, as good ones, and those that are
    better than no other, as bad ones. What stands between says neither."""
    found = []
    for row in rankings:
        better, worse = ({pair[side] for pair in row.pairs} for side in (0, 1))
        for place in sorted(better ^ worse):
            verdict = place in better
            found.append(
                RatedExample(row.answers[place], verdict, row.source, row.tree, row.origin)
            )
    return found


def with_others_answers(
    chosen: Sequence[RatedExample], rows: Sequence[RatedExample]
) -> list[Example]:
    """The prompt of each chosen row with the answer of the next one that was asked something else,
    of the chosen ones if there is any, else of all `rows`; cut to the longest of these.

    Where all have one prompt the answers to it do, the next one's each.
    """
    longest = max(map(len, rows))
    prompts = [_prompt(row) for row in chosen]
    pairs = []
    for place, row in enumerate(chosen):
        after = [(place + step) % len(chosen) for step in range(1, len(chosen))]
        other = next((chosen[at] for at in after if prompts[at] != prompts[place]), None)
        if other is None:
            other = next((one for one in rows if _prompt(one) != prompts[place]), None)
        if other is None:
            other = chosen[after[0]] if after else row
        asked, answer = row.example.ids[: row.asked], other.example.ids[other.asked :]
        pairs.append(answering(asked, answer[: longest - len(asked)], row.source))
    return pairs


def _prompt(row: RatedExample) -> bytes:
    return row.example.ids[: row.asked].tobytes()
