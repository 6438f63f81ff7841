"""A model folder is the same model in transformers and in llama.cpp, and is there whole or not."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from network.tiny import gpt_neox, llama, mpt
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from guildgpt import __version__
from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.data.provenance import Provenance
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.engines.llamacpp_process import LlamaCppProcess
from guildgpt.errors import GuildError
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.network.lean import LeanTrunk

TEXT = [
    "Ownership is how Rust decides who frees a value: each value has one owner.",
    "def greet(name):\n    return f'hello, {name}'  # 1024 of them, or 65536\n",
]
CONVERSATIONS = [
    [Message("user", "Who owns a value in Rust?")],
    [Message("system", "Be brief."), Message("user", "What is 12 + 3?")],
    [Message("user", "a  b"), Message("assistant", "def f():\n\tpass"), Message("user", "why")],
    [Message("user", "naïve café 日本語 🎉")],
]
PAST = [
    Provenance("scratch", "base", "own", "made by this run", written_by="people"),
    Provenance("dolly", "data", "CC-BY-SA-3.0", "x/y", "abc", "0" * 64, 7, "people", "Databricks"),
]
FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "lineage.json",
    "provenance.json",
    "template.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def chat_tokenizer(system: str = "") -> ChatTokenizer:
    text = str(train_tokenizer(TEXT * 3, 320).to_str())
    return add_chat_tokens(text, ChatTemplate(system=system))


def small_model(seed: int = 0, **changes: Any) -> Any:
    """True to the tokenizer, as `load_base` leaves a model."""
    ids = {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    size = len(chat_tokenizer().tokenizer)
    settings = {"vocab_size": size, "max_position_embeddings": 256, **ids}
    return llama(seed, **{**settings, **changes})


def write(folder: Path, model: Any = None, **changes: Any) -> Path:
    chat = changes.pop("chat", None) or chat_tokenizer()
    settings: dict[str, Any] = {
        "context": 128,
        "provenance": PAST,
        "recipe": {"name": "small"},
        "card": "# A small model\n",
        "gguf": (),
    }
    return write_model_folder(folder, model or small_model(), chat, **{**settings, **changes})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@torch.no_grad()
def logits(model: Any, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids])).logits[0]


# --- transformers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tied", "untied", "after the lean pass"])
def test_plain_transformers_loads_the_same_model(tmp_path: Path, kind: str) -> None:
    model = small_model(tie_word_embeddings=kind != "untied")
    if kind == "after the lean pass":
        LeanTrunk(model, torch.float32)  # which makes views of the weights
    folder = write(tmp_path / "model", model)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == torch.float32
    ids = list(range(3, 60))
    assert torch.equal(logits(loaded, ids), logits(model, ids))
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) == (kind == "untied")


@pytest.mark.parametrize("system", ["", "Be 'kind' and\nbrief."])
def test_plain_transformers_applies_the_same_template(tmp_path: Path, system: str) -> None:
    chat = chat_tokenizer(system)
    folder = write(tmp_path / "model", chat=chat)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for conversation in CONVERSATIONS:
        turns = [message.as_dict() for message in conversation]
        whole = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
        assert whole == chat.template.render(conversation, chat.tokenizer).ids
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
        assert asked["input_ids"] == chat.template.prompt(conversation, chat.tokenizer)
    for text in [*TEXT, "a  1\n\n\tx .", " naïve, isn 't it ? "]:
        ids = tokenizer.encode(text, add_special_tokens=True)
        assert ids == chat.tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (chat.eos_id, chat.pad_id)
    assert tokenizer.model_max_length == 128


def test_the_generation_config_ends_a_turn(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    settings = AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert (settings.eos_token_id, settings.pad_token_id) == (2, 0)
    assert settings.bos_token_id is None


@pytest.mark.parametrize("kind", [mpt, gpt_neox])
def test_other_architectures(tmp_path: Path, kind: Any) -> None:
    model = kind(vocab_size=320)
    folder = write(tmp_path / "model", model)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = list(range(3, 60))
    torch.testing.assert_close(logits(loaded, ids), logits(model, ids))


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_the_dtype_of_the_weights(tmp_path: Path, dtype: Any, stored: torch.dtype) -> None:
    model = small_model()
    folder = write(tmp_path / "model", model, dtype=dtype, gguf=("F16",))
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {stored}
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == stored
    for name, tensor in tensors.items():
        assert torch.equal(tensor, model.state_dict()[name].to(stored))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_large_models_are_stored_in_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guildgpt.model.folder.LARGE", 1000)
    folder = write(tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16


# --- llama.cpp -----------------------------------------------------------------------------------


@torch.no_grad()
def greedy(model: Any, ids: list[int], count: int, eos: int) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < count:
        token = int(logits(model, ids + chosen)[-1].argmax())
        if token == eos:
            break
        chosen.append(token)
    return chosen


def test_llama_cpp_answers_as_transformers_does(tmp_path: Path) -> None:
    chat = chat_tokenizer()
    drawn = small_model(tie_word_embeddings=False)
    with torch.no_grad():  # nothing that is no character by itself: a random model would babble it
        for token in range(320):
            drawn.lm_head.weight[token] *= "\ufffd" not in chat.tokenizer.token_text(token)
    folder = write(tmp_path / "model", drawn, gguf=("F16",))
    model = AutoModelForCausalLM.from_pretrained(folder)
    params = SamplingParams(temperature=0, max_tokens=24)

    async def ask(prompts: list[list[int]]) -> list[list[int]]:
        path, tokenizer = folder / "model-F16.gguf", FileTokenizer(folder / "tokenizer.json")
        async with LlamaCppEngine(path, tokenizer=tokenizer, context=128, threads=1) as engine:
            return [list((await complete(engine, ids, params)).ids) for ids in prompts]

    prompts = [CHATML.prompt(conversation, chat.tokenizer) for conversation in CONVERSATIONS]
    prompts += [chat.tokenizer.encode(text) for text in TEXT]
    expected = [greedy(model, ids, 24, chat.eos_id) for ids in prompts]
    assert len({tuple(ids) for ids in expected}) == len(prompts)
    assert sum(map(len, expected)) > 24
    assert asyncio.run(ask(prompts)) == expected


def test_llama_cpps_probabilities_are_transformers_to_rounding(tmp_path: Path) -> None:
    chat = chat_tokenizer()
    folder = write(tmp_path / "model", gguf=("F16",))
    model = AutoModelForCausalLM.from_pretrained(folder)
    process = LlamaCppProcess()
    address = process.load(folder / "model-F16.gguf", "key", 256, 1, 1)
    headers = {"Authorization": "Bearer key"}
    with httpx.Client(base_url=address, headers=headers, timeout=240) as client:
        for conversation in CONVERSATIONS:
            ids = CHATML.prompt(conversation, chat.tokenizer)
            request = {"prompt": ids, "n_predict": 1, "n_probs": 40, "temperature": 0}
            reply = client.post("/completion", json=request).json()
            expected = logits(model, ids)[-1].log_softmax(-1)
            got = reply["completion_probabilities"][0]["top_logprobs"]
            assert len(got) == 40
            for token in got:
                assert token["logprob"] == pytest.approx(float(expected[token["id"]]), abs=0.05)
    process.stop()


# --- what is in it -------------------------------------------------------------------------------


def test_every_file_is_there(tmp_path: Path) -> None:
    metrics = tmp_path / "log.jsonl"
    metrics.write_text('{"step": 1}\n')
    folder = write(tmp_path / "model", gguf=("Q8_0", "F16"), metrics=metrics)
    extra = {"metrics.jsonl", "model-Q8_0.gguf", "model-F16.gguf"}
    assert names(folder) == FILES | extra
    assert names(tmp_path) == {"model", "log.jsonl"}
    record = json.loads((folder / "provenance.json").read_text())
    assert [Provenance.from_dict(item) for item in record["sources"]] == PAST
    assert (record["guildgpt"], record["recipe"]) == (__version__, {"name": "small"})
    assert ChatTemplate.load(folder) == CHATML
    assert (folder / "README.md").read_text() == "# A small model\n"
    assert (folder / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"


def test_the_card_names_licences_and_gives_credit() -> None:
    card = model_card("A model", PAST, stages=["pretrain", "sft"], figures=["0.9 bits a byte"])
    header = card.split("---")[1]
    assert 'license: "other"' in header  # of several, none is the model's alone
    assert "- 0.9 bits a byte" in card
    assert "Databricks" in card
    assert "CC-BY-SA-3.0" in card
    assert "<|im_end|>" in card
    one = model_card("A model", PAST[1:], stages=["sft"], figures=[])
    assert 'license: "cc-by-sa-3.0"' in one


# --- whole or not at all -------------------------------------------------------------------------


def test_a_second_write_replaces_the_first(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", gguf=("F16",))
    (folder / "report.html").write_text("of the first")
    second = small_model(seed=1)
    write(folder, second, card="# The second\n")
    assert names(folder) == FILES
    assert names(tmp_path) == {"model"}
    ids = [5, 6, 7]
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(folder), ids), logits(second, ids)
    )


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    for name in (".model.writing", ".model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "junk").write_text("x")
    assert names(write(tmp_path / "model")) == FILES
    assert names(tmp_path) == {"model"}


def no_room(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "place", ["guildgpt.model.folder.write_gguf", "guildgpt.model.folder._save_tokenizer"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, there: bool
) -> None:
    folder = tmp_path / "model"
    before = {}
    if there:
        write(folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(place, no_room)
    with pytest.raises(GuildError, match="No space left on device") as caught:
        write(folder, small_model(seed=1), gguf=("F16",))
    assert "the model folder could not be written" in caught.value.what
    assert caught.value.where == str(folder)
    assert "Make room" in (caught.value.remedy or "")
    assert names(tmp_path) == ({"model"} if there else set())
    if there:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_disk_that_fills_up_while_the_weights_are_written(tmp_path: Path) -> None:
    """safetensors has an error of its own for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(GuildError, match="the model folder could not be written"):
            write(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == set()


def test_a_last_step_that_fails_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename

    def only_backwards(self: Path, target: Path) -> Path:
        if self.name.endswith(".writing"):
            no_room()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_backwards)
    with pytest.raises(GuildError, match="No space left"):
        write(folder, small_model(seed=1))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(tmp_path) == {"model"}


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GuildError, match="the model folder could not be written"):
        write(tmp_path / "file" / "below" / "model")
