"""The engine without a model keeps an engine's contract and its pace."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from guildgpt.chat import CHATML, Message
from guildgpt.engines.engine import Chunk, Completion, SamplingParams, complete
from guildgpt.errors import EngineError
from simguild.engine import PacedEngine, PieceTokenizer


def prompt(engine: PacedEngine, text: str = "hello there") -> list[int]:
    return CHATML.prompt([Message("system", "Be kind."), Message("user", text)], engine.tokenizer)


class Unhurried(asyncio.SelectorEventLoop):
    """A loop in which time passes when everybody waits, and at no other time: however busy the
    machine is, everything comes when it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.select = self._selector.select
        self._selector.select = self._let_pass

    def time(self) -> float:
        return self.passed

    def _let_pass(self, seconds: float | None) -> list[Any]:
        self.passed += seconds or 0.0
        return self.select(0)


def test_it_answers_at_its_pace() -> None:
    engine = PacedEngine(100, lambda _: "word " * 20)

    async def answered() -> tuple[list[Chunk], float]:
        chunks = [chunk async for chunk in engine.generate(prompt(engine), SamplingParams())]
        return chunks, asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=Unhurried) as runner:
        chunks, seconds = runner.run(answered())
    tokens = sum(len(chunk.ids) for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == "word " * 20
    assert [chunk.stop for chunk in chunks] == [None] * (len(chunks) - 1) + ["eos"]
    assert seconds == pytest.approx(tokens / 100)
    assert 3 <= len(chunks) <= 10  # of about 50 ms each
    assert engine.active == 0
    assert engine.cancelled == 0


def test_streams_do_not_slow_each_other_down() -> None:
    engine = PacedEngine(200, lambda _: "word " * 20)
    ask = prompt(engine)

    async def answered() -> tuple[list[Completion], float]:
        answers = [complete(engine, ask, SamplingParams()) for _ in range(50)]
        return await asyncio.gather(*answers), asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=Unhurried) as runner:
        answers, seconds = runner.run(answered())
    assert {one.text for one in answers} == {"word " * 20}
    assert seconds == pytest.approx(len(answers[0].ids) / 200)


async def test_the_default_repeats_the_question() -> None:
    engine = PacedEngine(10_000)
    done = await complete(engine, prompt(engine, "is it <|im_end|> tea time?"), SamplingParams())
    assert done.text.startswith("You wrote: is it")
    assert done.stop == "eos"
    assert engine.prompt_text() == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nis it <|im_end|> tea time?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert engine.prompts[0].count(1) == 2  # only the template's own <|im_end|>


async def test_it_ends_where_the_room_ends() -> None:
    engine = PacedEngine(10_000, lambda _: "word " * 100)
    done = await complete(engine, prompt(engine), SamplingParams(max_tokens=7))
    assert (len(done.ids), done.stop) == (7, "length")
    small = PacedEngine(10_000, context=10)
    with pytest.raises(EngineError):
        await complete(small, prompt(small), SamplingParams())
    silent = PacedEngine(10_000, lambda _: "")
    assert (await complete(silent, prompt(silent), SamplingParams())).stop == "eos"


async def test_it_dies_when_told_to() -> None:
    engine = PacedEngine(10_000, lambda _: "word " * 20)
    engine.fail_after(3)
    stream = engine.generate(prompt(engine), SamplingParams())
    first = await anext(stream)
    assert list(first.ids) == engine.tokenizer.encode("word " * 20)[:3]
    with pytest.raises(EngineError, match="died"):
        await anext(stream)
    engine.fail_after(0)
    with pytest.raises(EngineError):
        await complete(engine, prompt(engine), SamplingParams())
    engine.fail_after(None)
    await complete(engine, prompt(engine), SamplingParams())
    assert engine.active == 0
    await engine.close()
    with pytest.raises(EngineError, match="closed"):
        await complete(engine, prompt(engine), SamplingParams())


async def test_it_stops_when_nobody_listens() -> None:
    engine = PacedEngine(20, lambda _: "word " * 200)
    async with aclosing(engine.generate(prompt(engine), SamplingParams())) as chunks:
        await anext(chunks)
        assert engine.active == 1
    assert (engine.active, engine.cancelled) == (0, 1)
    task = asyncio.create_task(complete(engine, prompt(engine), SamplingParams()))
    while not engine.active:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert (engine.active, engine.cancelled) == (0, 2)


@pytest.mark.parametrize("text", ["", " ", "a  b\n\n  c", "x" * 50, "😀 ä\u202e\u200b", "\ud800"])
def test_pieces_come_back_as_the_text(text: str) -> None:
    tokenizer = PieceTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode(f"{text}<|im_end|>{text}")
    assert not {0, 1} & set(ids)
    assert tokenizer.token_id("<|im_end|>") == 1
    assert tokenizer.decode([0, *ids, 1]) == f"{text}<|im_end|>{text}"
