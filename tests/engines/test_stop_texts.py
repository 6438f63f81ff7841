"""An answer ends before the first stop text, however its text was cut into chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from random import Random

import pytest

from guildgpt.engines.engine import Chunk, TokenLogprob
from guildgpt.engines.stop_texts import until_stop


def chunks_of(pieces: Sequence[str]) -> list[Chunk]:
    """A token for each piece, and the end of turn."""
    told = [Chunk((i,), one, None, (TokenLogprob(i, -1.0),)) for i, one in enumerate(pieces)]
    return [*told, Chunk((), "", "eos")]


def read(chunks: Sequence[Chunk], *stops: str) -> tuple[list[Chunk], int]:
    """What comes out, and how many chunks were asked for."""
    asked = 0

    async def engine() -> AsyncGenerator[Chunk, None]:
        nonlocal asked
        for chunk in chunks:
            asked += 1
            yield chunk

    async def work() -> list[Chunk]:
        return [chunk async for chunk in until_stop(engine(), stops)]

    return asyncio.run(work()), asked


@pytest.mark.parametrize("seed", range(300))
def test_it_is_the_text_before_the_first_stop_text(seed: int) -> None:
    chance = Random(seed)

    def text(most: int) -> str:
        return "".join(chance.choices("ab\n", k=chance.randint(1, most)))

    pieces = [text(4) if chance.random() < 0.9 else "" for _ in range(chance.randint(1, 12))]
    stops = [text(4) for _ in range(chance.randint(1, 3))]
    whole = "".join(pieces)
    found, asked = read(chunks_of(pieces), *stops)

    places = [(at + len(one), at) for one in stops if (at := whole.find(one)) >= 0]
    end = min(places)[1] if places else len(whole)
    assert "".join(one.text for one in found) == whole[:end]
    assert [one.stop for one in found] == [None] * (len(found) - 1) + ["stop" if places else "eos"]
    starts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    before = [i for i, start in enumerate(starts) if start < end or not places]
    assert [i for one in found for i in one.ids] == before
    assert [told.id for one in found for told in one.logprobs] == before
    if not places:
        assert asked == len(pieces) + 1


def test_text_that_begins_no_stop_text_is_shown_at_once() -> None:
    found, _ = read(chunks_of(["one", " two\n", "three", "\n", "\nfour"]), "\n\n")
    assert [one.text for one in found] == ["one", " two", "\nthree", ""]


def test_the_engine_is_asked_no_further() -> None:
    _, asked = read(chunks_of(["a", "STOP", "b", "c"]), "STOP")
    assert asked == 2
