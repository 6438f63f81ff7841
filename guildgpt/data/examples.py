"""Rows as token ids: what the training loop and the measurements read.

Conversations and documents become examples, comparisons rankings of them, which reward models, DPO
and their figures are made from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guildgpt.chat import ChatTemplate, Comparison, Conversation, FileTokenizer
from guildgpt.chat.template import fit
from guildgpt.data.checking import check_row
from guildgpt.data.documents import Document
from guildgpt.data.split import digest, tree_of, wording


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence that no other may see: ids (L,) and, for each, whether it is predicted.

    `bytes` is the UTF-8 size of the text behind the predicted tokens, control tokens aside;
    `origin` what its row rests on, see `guildgpt.data.origin`.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    bytes: int
    source: str
    origin: frozenset[tuple[str, str]] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained(self) -> int:
        """How many tokens are predicted (the first never is: nothing stands before it)."""
        return int(self.mask[1:].sum())


def answering(
    asked: ArrayLike,
    answer: ArrayLike,
    source: str,
    bytes: int = 0,
    *,
    end: int | None = None,
) -> Example:
    """A prompt's ids and those of an answer, of which the answer is predicted.

    An answer that was cut is closed with the token `end`, if that is given: a score is learned at
    ends of turn alone, and means nothing anywhere else. It is not predicted.
    """
    before = np.array(asked, np.int32)
    ids = np.concatenate([before, np.array(answer, np.int32)])
    mask = np.arange(len(ids)) >= len(before)
    if end is not None and ids[-1] != end:
        ids, mask = np.append(ids, np.int32(end)), np.append(mask, False)
    return Example(ids, mask, bytes, source)


# What one place in a batch holds: a conversation, or documents packed together.
PackedRow = list[Example]


def conversation_examples(
    conversations: Iterable[Conversation],
    tokenizer: FileTokenizer,
    template: ChatTemplate,
    *,
    context: int,
    too_long: str = "shorten",
    checked: bool = False,
) -> tuple[list[Example], Counter[str]]:
    """Conversations as examples of at most `context` tokens, and how many were cut or left out.

    Over-long rows keep the first whole exchanges that fit (`shorten`, see `template.fit`) or are
    left out (`drop`). Where they are to be `checked`, DataError for one that `check_row` refuses.
    """
    end_id = template.eos_id(tokenizer)
    examples: list[Example] = []
    counts: Counter[str] = Counter()
    for conversation in conversations:
        for rendered, answers in template.lessons(conversation.messages, tokenizer):
            if checked:
                check_row(rendered, end_id, conversation)
            shown = fit(rendered, context, end_id)
            cut = shown is None or sum(shown.mask) < sum(rendered.mask)  # what is trained counts
            if shown is None or (too_long == "drop" and cut):
                counts["longer than the context" if any(rendered.mask) else "nothing to train"] += 1
                continue
            counts["shortened to the context"] += cut
            ids = np.array(shown.ids, dtype=np.int32)
            mask = np.array(shown.mask, dtype=np.bool_)
            whole = int(((ids == end_id) & mask).sum())  # how many were not cut off
            size = sum(len(answer.encode("utf-8", "replace")) for answer in answers[:whole])
            source = conversation.source
            examples.append(Example(ids, mask, size, source.name, source.origin))
    return examples, +counts


def document_examples(
    documents: Sequence[Document], tokenizer: FileTokenizer, separator: int, *, context: int
) -> list[Example]:
    """Documents as examples of at most `context` tokens, longer ones in several pieces.

    Each document begins and ends with the `separator` token, so that its first token and its end
    are predicted as well.
    """
    examples = []
    for document, ids in zip(
        documents, tokenizer.encode_batch([d.text for d in documents]), strict=True
    ):
        whole = np.array([separator, *ids, separator], dtype=np.int32)
        left = len(document.text.encode())
        starts = range(0, len(whole) - 1, context - 1)
        for start in starts:
            piece = whole[start : start + context]
            # A border may cut a character in two, so the last piece takes what is left.
            size = min(len(tokenizer.decode(piece[1:].tolist()).encode()), left)
            size = left if start == starts[-1] else size
            left -= size
            mask = np.ones(len(piece), dtype=np.bool_)
            mask[0] = False
            examples.append(Example(piece, mask, size, document.source.name))
    return examples


def pack(examples: Sequence[Example], context: int, seed: int) -> list[PackedRow]:
    """Put examples together into rows of at most `context` tokens (best fit, longest first).

    The examples of a row stay apart: attention ends at each one's borders. Which row comes when is
    the batch order's business; `seed` only mixes examples of equal length.
    """
    order = sorted(
        range(len(examples)),
        key=lambda index: (-len(examples[index]), digest("pack", str(seed), str(index))),
    )
    rows: list[PackedRow] = []
    by_room: dict[int, list[PackedRow]] = {}
    for index in order:
        size = len(examples[index])
        room = min((room for room in by_room if room >= size), default=None)
        if room is None:
            row: PackedRow = []
            left = context
            rows.append(row)
        else:
            row, left = by_room[room].pop(), room
            if not by_room[room]:
                del by_room[room]
        row.append(examples[index])
        by_room.setdefault(left - size, []).append(row)
    return rows


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
    origin: frozenset[tuple[str, str]]  # what the row rests on

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
        asked = template.prompt(row.prompt, tokenizer)
        if len(asked) >= context:
            counts["with a prompt longer than the context"] += 1
            continue
        kept = []
        for answer, place in zip(row.answers, row.places, strict=True):
            if not answer.content.strip():
                counts["with an empty answer, which was left out"] += 1
                continue
            ids = template.answer(answer.content, tokenizer)
            size = len(answer.content.encode("utf-8", "replace"))
            example = answering(asked, ids, row.source.name, size)
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


def without_held_out_prompts(
    train: Sequence[Comparison], held_out: Sequence[Comparison]
) -> tuple[list[Comparison], int]:
    """The train rows whose prompt does not stand on the held-out side too, and how many did."""
    known = {wording(row.prompt) for row in held_out}
    kept = [row for row in train if wording(row.prompt) not in known]
    return kept, len(train) - len(kept)


def _why_no_pair(row: Comparison) -> str:
    if len(set(row.places)) < 2:
        return "that rank all answers alike"
    if len({answer.content for answer in row.answers}) < 2:
        return "whose answers are identical"
    return "without two answers that can be compared"
