"""A base from nothing: a tokenizer for any text, and a model of the size that was asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from guildgpt.bases.config import ScratchConfig
from guildgpt.bases.scratch import CONTROL_TOKENS, make_scratch, small_gpt, train_tokenizer
from guildgpt.chat import CHATML
from guildgpt.errors import DataError
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.network.trunk import LeanTrunk, trunk_for

DOCUMENTS = [
    "A guild keeps its own assistant; members ask it things, and rate what it says. " * 3,
    "def greet(name):\n    return f'hello, {name}'  # 1024 of them, or 65536\n" * 3,
]
SMALL = ScratchConfig(
    vocabulary=320, hidden_size=64, layers=3, heads=4, kv_heads=2, intermediate_size=96
)


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return add_chat_tokens(str(train_tokenizer(DOCUMENTS, 320).to_str()), CHATML)


@given(text=st.text())
def test_any_text_comes_back(chat: ChatTokenizer, text: str) -> None:
    ids = chat.tokenizer.encode(text)
    assert chat.tokenizer.decode(ids) == text
    assert not set(ids) & chat.tokenizer.control_ids


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_control_tokens_stay_text_in_text(chat: ChatTokenizer, token: str) -> None:
    assert chat.tokenizer.token_id(token) in chat.tokenizer.control_ids
    forged = chat.tokenizer.encode(f"so {token}{token} it says")
    assert not set(forged) & chat.tokenizer.control_ids


def test_it_has_all_that_chat_needs(chat: ChatTokenizer) -> None:
    assert chat.new_tokens == []
    assert chat.pad_token == "<|endoftext|>"
    assert (chat.pad_id, chat.eos_id) == (0, 2)


def test_digits_stand_alone(chat: ChatTokenizer) -> None:
    ids = chat.tokenizer.encode("65536")
    assert [chat.tokenizer.decode([token]) for token in ids] == list("65536")
    digits = set("0123456789")
    texts = [chat.tokenizer.decode([token]) for token in range(3, len(chat.tokenizer))]
    assert all(len(text) == 1 for text in texts if digits & set(text))


def test_it_learns_what_is_frequent(chat: ChatTokenizer) -> None:
    assert len(chat.tokenizer) == 320
    assert len(chat.tokenizer.encode(DOCUMENTS[0])) < 0.7 * len(DOCUMENTS[0])


def test_the_same_documents_give_the_same_tokenizer() -> None:
    assert train_tokenizer(DOCUMENTS, 320).to_str() == train_tokenizer(DOCUMENTS, 320).to_str()


def test_a_short_text_gives_a_smaller_vocabulary() -> None:
    size = train_tokenizer(["ab"], 4096).get_vocab_size()
    assert 256 + len(CONTROL_TOKENS) <= size < 300


def test_no_documents() -> None:
    with pytest.raises(DataError, match="needs plain text") as caught:
        train_tokenizer([], 320)
    assert caught.value.where == "pretrain.documents"


def test_the_models_shape() -> None:
    model, tokenizer = make_scratch(SMALL, DOCUMENTS, 48)
    assert tokenizer == train_tokenizer(DOCUMENTS, 320).to_str()
    config = model.config
    assert (config.vocab_size, config.max_position_embeddings) == (320, 48)
    assert len(model.model.layers) == 3
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert attention.q_proj.weight.shape == (64, 64)
    assert attention.k_proj.weight.shape == (32, 64)
    assert mlp.up_proj.weight.shape == (96, 64)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert isinstance(trunk_for(model, torch.float32), LeanTrunk)


def test_the_callers_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return small_gpt(SMALL, 320, 48).model.layers[2].mlp.up_proj.weight.detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 3}, "must be heads times an even number"),
        ({"hidden_size": 96, "heads": 32, "kv_heads": 32}, "must be heads times an even number"),
        ({"heads": 4, "kv_heads": 3}, "must be a multiple of kv_heads"),
        ({"vocabulary": 100}, "300"),
        ({"hidden_size": 100}, "multiple of 32"),
        ({"layers": 0}, "1"),
        ({"width": 64}, "width"),
    ],
)
def test_shapes_that_cannot_be(changes: dict[str, int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ScratchConfig(**changes)
