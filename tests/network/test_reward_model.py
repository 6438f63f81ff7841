"""A reward model scores alike however it is worn, saved and loaded, and as transformers scores."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import ChatTemplate
from guildgpt.data.examples import Example
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.model.config import AdapterConfig
from guildgpt.model.folder import write_model_folder
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import (
    REWARD_FILE,
    RewardModel,
    RewardRecord,
    check_same_language,
    classifier,
    load_reward_model,
    mean_head,
    read_record,
    reward_files,
    scalar_head,
    token_values,
    wear_reward_model,
)
from guildgpt.network.trunk import PaddedTrunk, predicted

from .tiny import examples, gpt_neox, granite, llama, mpt, recurrent

SIZE = 320
KINDS: dict[str, Callable[[], Any]] = {
    "llama": lambda: llama(vocab_size=SIZE),
    "mpt": lambda: mpt(vocab_size=SIZE),
    "gpt-neox": lambda: gpt_neox(vocab_size=SIZE),
}
# What transformers has no sequence classifier for.
WITHOUT_CLASS: dict[str, Callable[[], Any]] = {
    "granite": lambda: granite(vocab_size=SIZE),
    "mamba": lambda: recurrent("mamba", vocab_size=SIZE),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
LORA = AdapterConfig(rank=4, alpha=8)
CPU = torch.device("cpu")
BASE = "the hash of the base"
BIAS = -0.75
TEXTS = ["The reward model says how good an answer is, and 1 2 3 more."]


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return add_chat_tokens(train_tokenizer(TEXTS, 300).to_str(), ChatTemplate())


def answers(chat: ChatTokenizer) -> list[Example]:
    """Of many lengths, each ended; the padding token stands nowhere in them."""
    made = []
    for one in examples([9, 2, 31, 5, 17, 31, 3], seed=4):
        ids = np.where(one.ids == chat.pad_id, chat.pad_id + 7, one.ids)
        ids[-1] = chat.eos_id
        made.append(Example(ids, one.mask, one.bytes, one.source))
    return made


def trained(kind: str) -> tuple[Hats, RewardModel]:
    """A reward model whose adapter and head make a difference."""
    hats = Hats((KINDS | WITHOUT_CLASS)[kind](), torch.float32, CPU)
    hats.add("reward", LORA, seed=0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in hats.parameters("reward").values():
            parameter.normal_(std=0.1, generator=generator)
    head = scalar_head(hats.width, seed=3)
    with torch.no_grad():
        head.bias.fill_(BIAS)
    return hats, RewardModel(hats.trunk("reward"), head, micro_tokens=70)


def saved(kind: str, chat: ChatTokenizer, folder: Path) -> tuple[torch.Tensor, Path]:
    """The scores of a reward model before it was saved, and its folder."""
    hats, model = trained(kind)
    scores = model.scores(answers(chat))
    files = reward_files(hats, "reward", RewardRecord(BIAS, BASE, LORA.model_dump()), model.heads)
    whole = classifier(hats.merged("reward"), model.heads, chat)
    write_model_folder(
        folder, whole, chat, context=64, provenance=(), recipe={}, card="", gguf=(), files=files
    )
    return scores, folder


@pytest.mark.parametrize("kind", [*KINDS, *WITHOUT_CLASS])
def test_saved_and_loaded_it_scores_the_same(
    kind: str, chat: ChatTokenizer, tmp_path: Path
) -> None:
    scores, folder = saved(kind, chat, tmp_path / "model")
    assert float(scores.std()) > 0.02
    alone = load_reward_model(folder, torch.float32, CPU, micro_tokens=70)
    torch.testing.assert_close(alone.scores(answers(chat)), scores, rtol=1e-4, atol=1e-4)

    hats = Hats((KINDS | WITHOUT_CLASS)[kind](), torch.float32, CPU)
    hats.add("policy", LORA, seed=1)
    worn = wear_reward_model(hats, "reward", folder, BASE, micro_tokens=70)
    assert worn.trunk.model is hats.model
    assert torch.equal(worn.scores(answers(chat)), scores)

    # On another base it is loaded by itself, and is no hat.
    elsewhere = wear_reward_model(hats, "other", folder, "another hash")
    assert elsewhere.trunk.model is not hats.model
    torch.testing.assert_close(elsewhere.scores(answers(chat)), scores, rtol=1e-4, atol=1e-4)


def test_an_ensemble_keeps_its_heads_and_is_worn_as_their_mean(
    chat: ChatTokenizer, tmp_path: Path
) -> None:
    kind = next(iter(KINDS))
    hats, _ = trained(kind)
    heads = scalar_head(hats.width, seed=3, heads=3)
    with torch.no_grad():
        heads.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
    model = RewardModel(hats.trunk("reward"), heads, 70)
    record = RewardRecord(0.5, BASE, LORA.model_dump())
    files = reward_files(hats, "reward", record, heads)
    rows, by_head = answers(chat), model.scores_by_head(answers(chat))
    folder = tmp_path / "model"
    write_model_folder(
        folder,
        classifier(hats.merged("reward"), mean_head(heads), chat),
        chat,
        context=64,
        provenance=(),
        recipe={},
        card="",
        gguf=(),
        files=files,
    )
    loaded = load_reward_model(folder, torch.float32, CPU, micro_tokens=70)
    near = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(loaded.scores_by_head(rows), by_head, **near)
    torch.testing.assert_close(loaded.scores(rows), by_head.mean(1), **near)
    again = Hats(KINDS[kind](), torch.float32, CPU)
    worn = wear_reward_model(again, "reward", folder, BASE, micro_tokens=70)
    torch.testing.assert_close(worn.scores(rows), by_head.mean(1), **near)
    cut = folder / "heads.safetensors"
    cut.write_bytes(cut.read_bytes()[:-8])
    with pytest.raises(ModelError, match="this reward model cannot be loaded"):
        load_reward_model(folder, torch.float32, CPU)


@EVERY_KIND
def test_transformers_own_classifier_scores_the_same_up_to_the_bias(
    kind: str, chat: ChatTokenizer, tmp_path: Path
) -> None:
    scores, folder = saved(kind, chat, tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = answers(chat)
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), chat.pad_id)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(rows):
        ids[row, : len(one)] = torch.from_numpy(one.ids)
        mask[row, : len(one)] = 1
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    assert logits.shape == (len(rows), 1)
    torch.testing.assert_close(logits[:, 0] + BIAS, scores, rtol=1e-4, atol=1e-4)


@EVERY_KIND
def test_scores_do_not_depend_on_what_shares_the_batch(kind: str, chat: ChatTokenizer) -> None:
    _, model = trained(kind)
    rows = answers(chat)
    together = model.scores(rows)
    alone = torch.cat([model.scores([row]) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    backwards = model.scores(rows[::-1]).flip(0)
    torch.testing.assert_close(backwards, together, rtol=1e-4, atol=1e-5)


@EVERY_KIND
def test_kept_states_are_those_before_each_token_of_the_answer(
    kind: str, chat: ChatTokenizer
) -> None:
    _, model = trained(kind)
    rows = answers(chat)
    plain = model.scores(rows)
    scores, kept = model.scores_and_states(rows)
    torch.testing.assert_close(scores, plain, rtol=1e-5, atol=1e-5)
    assert [len(states) for states in kept] == [row.trained for row in rows]
    with torch.no_grad():
        found = model.heads(torch.cat(kept))[:, 0]
        expected = torch.cat([token_values(model.trunk, model.heads, [row]) for row in rows])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_value_is_told_before_its_token_is_seen() -> None:
    """Changing a token changes no value up to its own place."""
    _, model = trained("llama")
    one = Example(np.arange(5, 17, dtype=np.int32), np.arange(12) >= 4, 0, "")
    ids = one.ids.copy()
    ids[8] += 40
    other = replace(one, ids=ids)
    with torch.no_grad():
        first, second = (token_values(model.trunk, model.heads, [e]) for e in (one, other))
    changed = (first - second).abs() > 1e-6
    place = int((predicted([one]) == 8).nonzero())
    assert not bool(changed[: place + 1].any())
    assert bool(changed[place + 1 :].all())


# --- the head ------------------------------------------------------------------------------------


def test_the_head_is_drawn_from_the_distribution_it_should_be() -> None:
    width = 4096
    weight = scalar_head(width, seed=0).weight.detach()
    assert float(weight.mean()) == pytest.approx(0, abs=4 / width)
    assert float(weight.std()) * math.sqrt(width + 1) == pytest.approx(1, abs=0.05)
    fourth = float((weight * math.sqrt(width + 1)).pow(4).mean())
    assert fourth == pytest.approx(3, abs=0.5)  # a normal one, not a uniform one's 1.8
    assert scalar_head(width, seed=0).bias.tolist() == [0.0]
    assert torch.equal(scalar_head(width, seed=0).weight, weight)
    assert not torch.equal(scalar_head(width, seed=1).weight, weight)


def test_without_a_seed_the_head_is_zero() -> None:
    head = scalar_head(8, seed=None)
    assert not head.weight.any()
    assert not head.bias.any()


# --- what does not fit ---------------------------------------------------------------------------


def test_a_language_of_its_own_is_refused(chat: ChatTokenizer, tmp_path: Path) -> None:
    _, folder = saved("llama", chat, tmp_path / "model")
    check_same_language(folder, chat)
    with pytest.raises(ModelError, match="another chat template"):
        check_same_language(folder, replace(chat, template=ChatTemplate(system="Be brief.")))
    stranger = add_chat_tokens(
        train_tokenizer(["Other words make other tokens, and the reward model"], 290).to_str(),
        ChatTemplate(),
    )
    with pytest.raises(ModelError, match="another tokenizer"):
        check_same_language(folder, stranger)


@pytest.mark.parametrize("record", [None, "{", '{"bias": 1.0}'])
def test_a_folder_that_is_no_reward_model(
    chat: ChatTokenizer, tmp_path: Path, record: str | None
) -> None:
    _, folder = saved("llama", chat, tmp_path / "model")
    assert read_record(folder).bias == BIAS
    path = folder / REWARD_FILE
    if record is None:
        path.unlink()
    else:
        path.write_text(record)
    with pytest.raises(ModelError, match="not a reward model"):
        load_reward_model(folder, torch.float32, CPU)


def test_a_folder_that_is_not_whole(chat: ChatTokenizer, tmp_path: Path) -> None:
    _, folder = saved("llama", chat, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="this reward model cannot be loaded"):
        load_reward_model(folder, torch.float32, CPU)


def test_padded_trunks_read_the_last_real_token(chat: ChatTokenizer) -> None:
    _, model = trained("mpt")
    assert isinstance(model.trunk, PaddedTrunk)
    short, long = answers(chat)[1], answers(chat)[2]
    together = model.scores([short, long])
    torch.testing.assert_close(together[:1], model.scores([short]), rtol=1e-4, atol=1e-5)
