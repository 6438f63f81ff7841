"""A model is opened with the template and the tokenizer that it was trained with."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from engines.conftest import engine, file_tokenizer  # noqa: F401 (fixtures)
from engines.fake_vllm import KEY, FakeVllm
from engines.processes import children

from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.engines.llamacpp_process import LlamaCppProcess
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import ModelError
from guildgpt.model.locate import locate
from guildgpt.talk.fleet import open_model
from guildgpt.talk.following import Opening


def test_a_model_folder_is_asked_in_its_own_words(
    starter: Path,
    engine: LlamaCppEngine,  # noqa: F811
    file_tokenizer: FileTokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    template = ChatTemplate(system="Answer as a pirate.")
    template.save(tmp_path)
    (tmp_path / "model-Q4_1.gguf").symlink_to(starter)
    greedy = SamplingParams(temperature=0, max_tokens=12)
    with pytest.raises(ModelError, match="no tokenizer"):
        open_model(locate(str(tmp_path)))

    shutil.copy(file_tokenizer.path, tmp_path / "tokenizer.json")
    hi = [Message("user", "Hi")]
    expected = asyncio.run(complete(engine, template.prompt(hi, file_tokenizer), greedy))
    opened = open_model(locate(str(tmp_path)), context=512)
    try:
        ids = opened.prompt(hi)
        assert opened.count(hi) == len(ids)
        assert asyncio.run(complete(opened.engine, ids, greedy)) == expected
    finally:
        asyncio.run(opened.engine.close())


def test_a_model_that_is_served_elsewhere(
    starter: Path,
    engine: LlamaCppEngine,  # noqa: F811
    file_tokenizer: FileTokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "sft" / "model"
    folder.mkdir(parents=True)
    CHATML.save(folder)
    (folder / "model-Q4_1.gguf").symlink_to(starter)
    shutil.copy(file_tokenizer.path, folder / "tokenizer.json")
    with FakeVllm(engine, file_tokenizer, 2, models=("other", "sft")).serving() as fake:
        at = ServedAt.read(fake.url, KEY)
        opened = open_model(locate(str(folder)), at=at)
        greedy = SamplingParams(temperature=0, max_tokens=6)
        got = asyncio.run(complete(opened.engine, opened.prompt([Message("user", "Hi")]), greedy))
        asyncio.run(opened.engine.close())
        assert got.text
        assert fake.asked[-1]["model"] == "sft"
        assert opened.version.id.startswith("sft@")
        with pytest.raises(ModelError, match="neither template nor tokenizer"):
            open_model(locate(str(starter)), at=at)


def test_a_model_without_chat_tokens_is_closed_again(starter: Path, tmp_path: Path) -> None:
    before = children()
    other = tmp_path / "other.gguf"
    data = starter.read_bytes().replace(b"<|im_start|>", b"<|im_begun|>")
    other.write_bytes(data.replace(b"tokenizer.chat_template", b"tokenizer.talk_template"))
    with pytest.raises(ModelError, match=r"no <\|im_start\|>") as raised:
        open_model(locate(str(other)))
    assert raised.value.where == str(other)
    assert children() == before


def test_the_operator_says_on_how_many_cores_it_computes(
    starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a core that is busy for a moment at the start would be given up for good."""
    told: list[int | None] = []
    load = LlamaCppProcess.load

    def loaded(
        self: LlamaCppProcess, path: Path, key: str, context: int, slots: int, threads: int | None
    ) -> str:
        told.append(threads)
        return load(self, path, key, context, slots, threads)

    monkeypatch.setattr(LlamaCppProcess, "load", loaded)
    monkeypatch.setattr("guildgpt.engines.llamacpp.spare_threads", lambda: 1)
    for threads in (None, 2):
        opening = Opening(context=256, slots=1, threads=threads)
        opened = opening.of(str(starter), print)()
        asyncio.run(opened.engine.close())
    assert told == [1, 2]
