"""Repetition, told from tokens alone: distinct n-grams, and what a loop is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

# The thresholds of `loops`; its docstring argues for them.
MIN_REPEATS = 3
MIN_LOOP_TOKENS = 32
REPEATED_SHARE = 0.5
MIN_SHARE_TOKENS = 64


def distinct_n(answers: Sequence[str | Sequence[Hashable]], n: int) -> float:
    """Distinct n-grams divided by all n-grams, over all answers together; 0 where there are none.

    Li et al. 2016, arXiv 1510.03055. An answer is a text, split at whitespace, or a sequence of
    token ids. The figure falls as answers grow longer or more of them are taken, so compare like
    with like: the same prompts, one tokenizer.
    """
    grams = [
        gram
        for one in answers
        for gram in _n_grams(one.split() if isinstance(one, str) else one, n)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def loops(ids: Sequence[Hashable]) -> bool:
    """Whether an answer (its ids, without the end-of-turn token) runs into a loop.

    It does by either of two signs.

    1. It ends in one span of tokens, of any length, said 3 times or more back to back over at least
       32 tokens; the last time may be cut off anywhere. People who repeat a line come back to it
       after something else (a refrain), and what they do repeat at once is short ("no, no, no", a
       row of dashes): hence the 32 tokens.
    2. It has 64 tokens or more, and more than half of its 4-grams stood in it before. This finds
       the loop that changes a word or counts as it goes round. A list that opens every line alike,
       or code, repeats far less; half of the answers that long which people write repeat under
       1.4 %.

    Of 16,265 answers by people (dolly and oasst1, in the starter's tokens) 20 are taken for loops:
    3 by the first sign, all the chorus of one song, the others by the second, tables and
    boilerplate code for the most part. The second sign takes 19 at a half, 5 at 0.6 and 46 at 0.4;
    at a half it still finds a model that has gone round for as long as it had made sense.
    """
    return _repeats_at_the_end(ids) or _repeated_share(ids) > REPEATED_SHARE


def _n_grams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _repeats_at_the_end(ids: Sequence[Hashable]) -> bool:
    """Whether the last tokens are one span, `MIN_REPEATS` times or more, back to back."""
    count = len(ids)
    for span in range(1, count // MIN_REPEATS + 1):
        needed = max(MIN_REPEATS * span, MIN_LOOP_TOKENS)
        if needed <= count and all(
            ids[place] == ids[place - span]
            for place in range(count - 1, count - needed + span - 1, -1)
        ):
            return True
    return False


def _repeated_share(ids: Sequence[Hashable]) -> float:
    """The share of 4-grams that stood before in the same answer."""
    if len(ids) < MIN_SHARE_TOKENS:
        return 0.0
    return 1 - distinct_n([ids], 4)
