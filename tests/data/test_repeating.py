"""Rows in which an answer says one of its sentences again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from guildgpt.chat import FileTokenizer
from guildgpt.data.examples import Example
from guildgpt.data.repeating import BETWEEN, Repeating, repeating_rows

from .test_examples import read, talk

FIRST, SECOND = "The sea is salty here.", "Rivers carry the salt down."


def made(
    tokenizer: FileTokenizer, examples: list[Example], share: float = 1.0, **settings: int
) -> list[Repeating]:
    return repeating_rows(examples, tokenizer, share, **{"context": 500, "seed": 0, **settings})


@pytest.mark.parametrize("seed", range(6))
def test_a_sentence_of_the_last_answer_is_said_again(tokenizer: FileTokenizer, seed: int) -> None:
    rows, _ = read(tokenizer, talk("hello", "yes it is so.", "why?", f"Yes. {FIRST} {SECOND} So."))
    (row,) = made(tokenizer, rows, seed=seed)
    said = tokenizer.decode(row.ids[row.mask].tolist())
    before = tokenizer.decode(row.ids[~row.mask].tolist())
    sentence = FIRST if "sea" in said else SECOND
    assert said in [between + sentence for between in BETWEEN]
    assert before.endswith("Yes. " + (FIRST if sentence == FIRST else f"{FIRST} {SECOND}"))
    assert "yes it is so." in before
    assert (np.diff(row.mask.astype(int)) >= 0).all()  # the end of it, and nothing else


def test_short_sentences_are_none(tokenizer: FileTokenizer) -> None:
    rows, _ = read(tokenizer, talk("hello", "No. No. Not at all!"), talk("hello", FIRST))
    assert len(made(tokenizer, rows)) == 1


def test_where_nothing_is_trained_nothing_is_said_again(tokenizer: FileTokenizer) -> None:
    (row,), _ = read(tokenizer, talk("hello", FIRST))
    assert made(tokenizer, [replace(row, mask=np.zeros_like(row.mask))]) == []


def test_the_share_the_seed_and_the_context(tokenizer: FileTokenizer) -> None:
    rows, _ = read(tokenizer, *(talk(f"hello {n}", f"{FIRST} {SECOND}") for n in range(10)))
    assert len(made(tokenizer, rows, 0.3)) == 3
    assert made(tokenizer, rows, 0.0) == []
    texts = [
        [one.ids.tolist() for one in made(tokenizer, rows, 0.5, seed=seed)] for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert made(tokenizer, rows, context=20) == []
