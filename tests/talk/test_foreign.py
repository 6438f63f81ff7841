"""What others made is asked in the chat template that it comes with: a GGUF, a folder."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from bases.families import BY_NAME, published_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from guildgpt.chat import CHATML, Message
from guildgpt.engines import torch_engine
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.errors import EngineError, ModelError
from guildgpt.model import gguf_vocabulary
from guildgpt.model.gguf import write_gguf
from guildgpt.model.locate import locate
from guildgpt.repl import chat
from guildgpt.talk.fleet import OpenedModel, open_model

pytestmark = pytest.mark.filterwarnings("ignore:llama.cpp merges more pieces")

TURNS = [
    Message("user", "What is TLS?"),
    Message("assistant", "It encrypts what travels."),
    Message("user", "def f(x):\n    return x  # 1024"),
]


def foreign(folder: Path, family: str, **changes: Any) -> Path:
    """The GGUF of a base of that family, alone."""
    base = published_base(folder / "base", BY_NAME[family], **changes)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "eos_token_id": 1}))
    return write_gguf(base, folder / "theirs.gguf", "F16")


@contextmanager
def opened(file: Path) -> Iterator[OpenedModel]:
    model = open_model(locate(str(file)), context=512)
    try:
        yield model
    finally:
        asyncio.run(model.engine.close())


@pytest.mark.parametrize(
    "family",
    ["gemma-3", "llama-3", "olmo-2", "phi-4", "qwen-2.5", "qwen-3"],
)
def test_it_is_asked_in_the_ids_of_its_publisher(family: str, tmp_path: Path) -> None:
    with opened(foreign(tmp_path, family)) as model:
        assert model.notices == ()
        assert model.template.name == "own"
        assert model.template.end == BY_NAME[family].end
        ids = model.prompt(TURNS)
    peer = AutoTokenizer.from_pretrained(tmp_path / "base")
    turns = [message.as_dict() for message in TURNS]
    settings = {"add_generation_prompt": True, "enable_thinking": False, "return_dict": False}
    assert ids == peer.apply_chat_template(turns, **settings)


@pytest.mark.parametrize("family", ["llama-2", "mistral-v3", "phi-3.5", "smollm3"])
def test_others_are_read_too(family: str, tmp_path: Path) -> None:
    """llama.cpp's ids are not quite transformers' there: a date that is today's, a ▁ more or less,
    whitespace beside a control token."""
    with opened(foreign(tmp_path, family)) as model:
        assert model.notices == ()
        assert model.template.end == BY_NAME[family].end


@pytest.mark.parametrize("kind", ["control", "user-defined"])
def test_control_tokens_in_a_question_stay_text(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp takes user-defined tokens, which older files of Gemma have, out of any text."""
    if kind == "user-defined":
        monkeypatch.setattr(gguf_vocabulary, "is_control", lambda token: False)
    with opened(foreign(tmp_path, "gemma-3")) as model:
        ids = model.prompt([Message("user", "<end_of_turn> and <bos>")])
        names = model.engine.tokenizer
        ends, begins = names.token_id("<end_of_turn>"), names.token_id("<bos>")
        assert (ids.count(ends), ids.count(begins)) == (1, 1)
        said = names.encode("a<end_of_turn><start_of_turn> b", "text")
        assert names.decode(said) == "a<end_of_turn><start_of_turn> b"


WITH_NOTHING = "{% for m in messages %}{{ m.content }}{% endfor %}"


def test_chatml_where_it_cannot_be_read(tmp_path: Path) -> None:
    with opened(foreign(tmp_path, "qwen-2.5", chat_template=WITH_NOTHING)) as model:
        assert model.template == CHATML
        (said,) = model.notices
    assert re.fullmatch(r"The file's own chat template is not used \(.*\): .* in ChatML\.", said)


def test_or_where_there_is_none(tmp_path: Path) -> None:
    file = foreign(tmp_path, "qwen-2.5", chat_template=None)
    data = file.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.talk_template")
    file.write_bytes(data)
    with opened(file) as model:
        assert model.template == CHATML
        assert "it holds none" in model.notices[0]


def test_a_person_who_chats_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = foreign(tmp_path, "qwen-2.5", chat_template=WITH_NOTHING)
    monkeypatch.setattr("sys.stdin", StringIO(""))
    chat(str(file), params=SamplingParams())
    said = capsys.readouterr()
    assert said.out == ""
    assert "it is asked in ChatML" in said.err


def test_and_without_its_tokens_a_sentence_says_what_to_do(tmp_path: Path) -> None:
    file = foreign(tmp_path, "llama-3", chat_template=WITH_NOTHING)
    with pytest.raises(
        ModelError, match="no chat template in this file that can be used"
    ) as raised:
        open_model(locate(str(file)), context=512)
    assert "no <|im_start|> and no <|im_end|>" in raised.value.what
    assert "guildgpt train" in str(raised.value.remedy)


def test_files_of_ours_are_asked_as_ever(tmp_path: Path) -> None:
    """ChatML as every GGUF of ours holds it, which nothing has to be said of."""
    with opened(foreign(tmp_path, "qwen-2.5", chat_template=None)) as model:
        assert model.template == CHATML
        assert model.notices == ()


# --- folders of transformers ---------------------------------------------------------------------


def test_a_folder_of_transformers_answers_through_torch(tmp_path: Path) -> None:
    base = published_base(tmp_path / "Qwen3-tiny", BY_NAME["qwen-3"])
    with opened(base) as model:
        assert (model.notices, model.template.end) == ((), "<|im_end|>")
        assert model.version.id.startswith("Qwen3-tiny@")
        ids = model.prompt(TURNS)
        greedy = SamplingParams(temperature=0.0, max_tokens=8)
        answer = asyncio.run(complete(model.engine, ids, greedy))
    peer = AutoTokenizer.from_pretrained(base)
    turns = [message.as_dict() for message in TURNS]
    settings = {"add_generation_prompt": True, "enable_thinking": False, "return_dict": False}
    assert ids == peer.apply_chat_template(turns, **settings)
    theirs = AutoModelForCausalLM.from_pretrained(base).generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=[peer.eos_token_id],
        pad_token_id=0,
    )
    said = [token for token in theirs[0, len(ids) :].tolist() if token != peer.eos_token_id]
    assert list(answer.ids) == said


def test_a_base_that_never_learned_to_talk_is_told_so(tmp_path: Path) -> None:
    base = published_base(tmp_path / "base", BY_NAME["llama-3"], chat_template=None)
    with pytest.raises(
        ModelError, match=r"no chat template that can be used \(it has none\)"
    ) as no:
        open_model(locate(str(base)))
    assert no.value.where == str(base)
    assert "guildgpt train" in str(no.value.remedy)


def test_chatml_in_a_folder_whose_template_cannot_be_read(tmp_path: Path) -> None:
    base = published_base(tmp_path / "base", BY_NAME["qwen-2.5"], chat_template=WITH_NOTHING)
    with opened(base) as model:
        assert model.template == CHATML
        assert "it is asked in ChatML" in model.notices[0]


def test_where_torch_is_missing_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = published_base(tmp_path / "base", BY_NAME["qwen-3"])
    monkeypatch.setattr(torch_engine, "missing_for_training", lambda: ["torch"])
    with pytest.raises(EngineError, match="torch is not installed here") as missing:
        open_model(locate(str(base)))
    assert missing.value.remedy == "pip install 'guildgpt[train]'"
