"""A model without a GGUF behind the same contract: the ids are those of transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from guildgpt.chat import CHATML, FileTokenizer, Message
from guildgpt.engines import torch_engine
from guildgpt.engines.engine import Completion, SamplingParams, complete
from guildgpt.engines.torch_engine import TorchEngine
from guildgpt.errors import EngineDied, EngineError, ModelError
from guildgpt.model.gguf import write_gguf
from guildgpt.model.locate import locate
from guildgpt.talk.fleet import OpenedModel, open_model
from tests.model.tiny import byte_level_tokenizer, write_folder

GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
CONVERSATION = [Message("user", "What owns a value in Rust?")]


@pytest.fixture(scope="module")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of an architecture that has no GGUF here."""
    config = BloomConfig(vocab_size=416, hidden_size=64, n_layer=2, n_head=4, seq_length=96)
    folder = tmp_path_factory.mktemp("bloom") / "sft" / "model"
    folder.mkdir(parents=True)
    return write_folder(folder, BloomForCausalLM(config), byte_level_tokenizer())


@pytest.fixture(scope="module")
def opened(bloom: Path) -> Iterator[OpenedModel]:
    model = open_model(locate(str(bloom)))
    yield model
    asyncio.run(model.engine.close())


def prompt(model: OpenedModel) -> list[int]:
    return model.prompt(CONVERSATION)


def ask(model: OpenedModel, ids: list[int], params: SamplingParams = GREEDY) -> Completion:
    return asyncio.run(complete(model.engine, ids, params))


@torch.no_grad()
def by_transformers(folder: Path, ids: list[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=0,
    )
    return out[0, len(ids) :].tolist()


def test_this_architecture_has_no_gguf(bloom: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="BloomForCausalLM has no GGUF"):
        write_gguf(bloom, tmp_path / "model.gguf", "F16")


def test_greedy_ids_are_those_of_transformers(opened: OpenedModel, bloom: Path) -> None:
    for ids in (prompt(opened), [5, 6, 7], [44, 9] * 20):
        expected = by_transformers(bloom, ids, 24)
        got = ask(opened, ids)
        assert got.stop == ("eos" if expected[-1] == 2 else "length")
        assert list(got.ids) == [token for token in expected if token != 2]
        assert got.text == opened.engine.tokenizer.decode(got.ids)
    assert opened.engine.context == 96
    assert opened.version.id.startswith("sft@")


def test_answers_take_turns_and_do_not_mix(opened: OpenedModel) -> None:
    prompts = [[5, 6, 7], [44, 9] * 20, prompt(opened), [300]]
    alone = [ask(opened, ids) for ids in prompts]

    async def together() -> list[Completion]:
        return await asyncio.gather(*(complete(opened.engine, ids, GREEDY) for ids in prompts))

    assert asyncio.run(together()) == alone


def test_log_probabilities_are_those_of_transformers(opened: OpenedModel, bloom: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(bloom)
    hot = SamplingParams(temperature=3.0, top_k=0, max_tokens=12, seed=3, logprobs=2)
    got = ask(opened, [5, 6, 7], hot)
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7, *got.ids]])).logits[0, 2:-1]
    expected = logits.log_softmax(-1)
    assert [told.id for told in got.logprobs] == list(got.ids)
    for told, row in zip(got.logprobs, expected, strict=True):
        assert told.logprob == pytest.approx(float(row[told.id]), abs=1e-4)
        assert [x for _, x in told.top] == pytest.approx(row.topk(2).values.tolist(), abs=1e-4)


def test_a_stop_text_ends_an_answer(opened: OpenedModel) -> None:
    whole = ask(opened, [5, 6, 7])
    word = whole.text[5:8]
    cut = ask(opened, [5, 6, 7], replace(GREEDY, stop=(word,)))
    assert (cut.text, cut.stop) == (whole.text[: whole.text.index(word)], "stop")


def test_a_seed_repeats_an_answer(opened: OpenedModel) -> None:
    def drawn(seed: int) -> Completion:
        params = SamplingParams(temperature=1.5, top_k=0, top_p=1.0, max_tokens=16, seed=seed)
        return ask(opened, [5, 6, 7], params)

    assert drawn(1) == drawn(1) != drawn(2)
    assert ask(opened, [5], SamplingParams(max_tokens=4)).stop == "length"


@pytest.mark.slow
def test_the_end_of_turn_ends_an_answer(bloom: Path) -> None:
    """The first greedy token is taken for the end."""
    (first,) = by_transformers(bloom, [5, 6, 7], 1)
    tokenizer = FileTokenizer(bloom / "tokenizer.json")
    engine = TorchEngine(bloom, tokenizer, [first], context=16)
    try:
        assert asyncio.run(complete(engine, [5, 6, 7], GREEDY)) == Completion((), "", "eos")
        assert engine.context == 16
        with pytest.raises(EngineError, match="16 tokens long"):
            asyncio.run(complete(engine, [5] * 16, GREEDY))
        cut = asyncio.run(complete(engine, [9] * 14, SamplingParams(temperature=0)))
        assert len(cut.ids) <= 2
    finally:
        engine.stop()
        engine.stop()  # does no harm


def test_who_stops_listening_stops_the_work(opened: OpenedModel) -> None:
    async def first_token() -> int:
        async with aclosing(opened.engine.generate([5, 6, 7], GREEDY)) as chunks:
            async for chunk in chunks:
                return len(chunk.ids)
        return 0

    assert asyncio.run(first_token()) >= 1
    assert ask(opened, [5, 6, 7]).stop in ("eos", "length")


@pytest.mark.slow
def test_an_engine_that_is_killed_says_so(bloom: Path) -> None:
    model = open_model(locate(str(bloom)))
    engine = model.engine
    assert isinstance(engine, TorchEngine)
    try:
        asyncio.run(engine.check())
        psutil.Process(engine._process.pid).kill()
        with pytest.raises(EngineDied):
            asyncio.run(complete(engine, [5, 6, 7], SamplingParams(max_tokens=80)))
        engine._process.wait()
        with pytest.raises(EngineDied):
            asyncio.run(engine.check())
    finally:
        engine.stop()
    with pytest.raises(EngineDied, match="is closed"):
        asyncio.run(complete(engine, [5], GREEDY))


@pytest.mark.slow
def test_a_folder_that_transformers_does_not_take(bloom: Path, tmp_path: Path) -> None:
    for file in bloom.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EngineError, match="transformers cannot load this model"):
        open_model(locate(str(tmp_path)))


def test_without_torch_it_says_how_to_get_it(bloom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "missing_for_training", lambda: ["torch"])
    with pytest.raises(EngineError, match="torch is not installed") as refused:
        open_model(locate(str(bloom)))
    assert refused.value.remedy == "pip install 'guildgpt[train]'"


def test_text_comes_in_whole_characters(opened: OpenedModel) -> None:
    tokenizer = opened.engine.tokenizer
    assert isinstance(tokenizer, FileTokenizer)
    growing = torch_engine._Growing(tokenizer)
    ids = tokenizer.encode("naïve 日本 🎉!")
    chunks = [chunk for token in ids if (chunk := growing.add(token, None))]
    chunks.append(growing.rest("length"))
    assert "".join(chunk.text for chunk in chunks) == "naïve 日本 🎉!"
    assert [token for chunk in chunks for token in chunk.ids] == ids
    assert all("\ufffd" not in chunk.text for chunk in chunks)
    assert CHATML.end not in tokenizer.decode([*ids, 2])
