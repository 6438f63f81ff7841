"""The lean pass computes what transformers' Llama computes, gradients too, or says it cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from guildgpt.data.examples import Example
from guildgpt.network import attention
from guildgpt.network.lean import LeanTrunk, causal_model
from guildgpt.network.trunk import PaddedTrunk, summed_loss, trunk_for

from .tiny import (
    ADAPTER,
    VOCABULARY,
    assert_same,
    examples,
    gpt_neox,
    gradients,
    llama,
    row_loss,
    rows,
    with_lora,
)

LENGTHS = [7, 1, 23, 2, 40, 23]


@pytest.fixture(autouse=True)
def both_kinds_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of up to 16 tokens keep their attention weights, longer ones do not."""
    monkeypatch.setattr(attention, "EXPLICIT_ATTENTION", 16)


def by_row(model: Any, sequences: Sequence[Tensor]) -> Tensor:
    """transformers' final hidden states, each row on its own."""
    trunk = causal_model(model).model
    return torch.cat([trunk(ids[None], use_cache=False).last_hidden_state[0] for ids in sequences])


def by(trunk: LeanTrunk, sequences: Sequence[Tensor]) -> Tensor:
    """The same by the lean pass, all at once."""
    every = torch.arange(sum(map(len, sequences)))
    return trunk.hidden([answered(ids[:0], ids) for ids in sequences], every)


def at_once(model: Any, sequences: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """The same by a lean pass of its own."""
    return by(LeanTrunk(model, dtype, ADAPTER), sequences)


def answered(prompt: Tensor, answer: Tensor) -> Example:
    ids = torch.cat([prompt, answer]).numpy().astype(np.int32)
    return Example(ids, np.arange(len(ids)) >= len(prompt), 0, "test")


def objective(states: Tensor) -> Tensor:
    """A scalar on which every position bears."""
    generator = torch.Generator().manual_seed(9)
    pull = torch.randn(states.shape, generator=generator)
    push = torch.randn(states.shape, generator=generator)
    return (states * pull).sum() + (states * push).sum().square() / len(states)


def full(**changes: Any) -> Any:
    return llama(**changes)


def lora(**changes: Any) -> Any:
    return with_lora(llama(), **changes)


def frozen(*parts: str) -> Any:
    """Everything is trained but the parameters whose names hold one of `parts`."""
    model = llama()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in parts))
    return model


def lora_and_norms() -> Any:
    model = lora()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.requires_grad_(True)
    return model


KNOWN: dict[str, Callable[[], Any]] = {
    "all weights": full,
    "own head": lambda: full(tie_word_embeddings=False),
    "wide heads": lambda: full(head_dim=32),
    "a key head for each query head": lambda: full(num_key_value_heads=4),
    "one key head": lambda: full(num_key_value_heads=1),
    "one layer": lambda: full(num_hidden_layers=1),
    "Llama 3's rope": lambda: full(
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 5000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    ),
    "a scaled rope": lambda: full(
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
    ),
    "large epsilon": lambda: full(rms_norm_eps=0.1),
    "norms frozen": lambda: frozen("norm"),
    "only norms trained": lambda: frozen("proj", "embed"),
    "embedding frozen": lambda: frozen("embed"),
    "embedding and first norm frozen": lambda: frozen("embed", "layers.0.input_layernorm"),
    "first layer frozen": lambda: frozen("embed", "layers.0"),
    "last layer frozen": lambda: frozen("layers.1"),
    "lora": lora,
    "lora and norms": lora_and_norms,
    "lora on the feed-forward": lambda: lora(target_modules=["gate_proj", "up_proj", "down_proj"]),
    "lora on one layer": lambda: lora(target_modules=r".*layers\.1\..*(q|k|v|o|gate|up|down)_proj"),
    "lora of several ranks": lambda: lora(
        rank_pattern={"q_proj": 2, "up_proj": 8}, alpha_pattern={"v_proj": 1}
    ),
    "rank-stabilized lora": lambda: lora(use_rslora=True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_hidden_states_and_gradients_are_those_of_transformers(name: str) -> None:
    theirs = KNOWN[name]()
    ours = copy.deepcopy(theirs)
    sequences = rows(LENGTHS)
    expected = by_row(theirs, sequences)
    got = at_once(ours, sequences)
    # What is next to nothing beside the others carries their rounding.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    objective(expected).backward()
    objective(got).backward()
    assert_same(gradients(ours), gradients(theirs), 2e-4)


@pytest.mark.parametrize("block", [4, 72])
@pytest.mark.parametrize("kind", ["all weights", "lora", "one key head"])
def test_answers_that_share_a_prompt_cost_it_once_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str, block: int
) -> None:
    """In attention that keeps its weights; longer sequences do not share."""
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    theirs = KNOWN[kind]()
    ours = copy.deepcopy(theirs)
    prompt, other, long = rows([9, 1, 14])
    answers = rows([3, 1, 6, 7, 6, 5, 4])
    prompts = (prompt, prompt, prompt, other, other, long, long)
    batch = [answered(*pair) for pair in zip(prompts, answers, strict=True)]
    trunk = LeanTrunk(ours, torch.float32, ADAPTER)
    assert trunk.work(batch)[0] == sum(map(len, batch)) - 2 * 9 - 1
    expected = torch.stack([row_loss(theirs, one) for one in batch]).sum()
    got = summed_loss(trunk, batch)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)
    expected.backward()
    got.backward()
    assert_same(gradients(ours), gradients(theirs), 2e-4)


def lora_and_weights() -> Any:
    model = lora()
    for name, parameter in model.named_parameters():
        if "v_proj.base_layer" in name or "down_proj.base_layer" in name:
            parameter.requires_grad_(True)
    return model


# Models of which only one part of a fused projection is trained or adapted: right, or refused.
UNEVEN: dict[str, Callable[[], Any]] = {
    "lora on queries and values": lambda: lora(target_modules=["q_proj", "v_proj"]),
    "lora on keys": lambda: lora(target_modules=["k_proj"]),
    "lora on up": lambda: lora(target_modules=["up_proj"]),
    "keys frozen": lambda: frozen("k_proj"),
    "queries frozen": lambda: frozen("q_proj"),
    "gate frozen": lambda: frozen("gate_proj"),
    "lora and some weights": lora_and_weights,
    "new token rows": lambda: lora(trainable_token_indices=[VOCABULARY - 2, VOCABULARY - 1]),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_what_is_uneven_is_right_too_whichever_pass_takes_it(name: str) -> None:
    theirs = UNEVEN[name]()
    ours = copy.deepcopy(theirs)
    batch = examples(LENGTHS)
    expected = torch.stack([row_loss(theirs, example) for example in batch]).sum()
    got = summed_loss(trunk_for(ours, torch.float32, ADAPTER), batch)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)
    expected.backward()
    got.backward()
    assert_same(gradients(ours), gradients(theirs), 2e-4)


def mistral() -> Any:
    shape = llama().config.to_dict()
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    return MistralForCausalLM(MistralConfig(**{key: shape[key] for key in keys}))


UNKNOWN: dict[str, Callable[[], Any]] = {
    "biases in attention": lambda: llama(attention_bias=True),
    "biases in the feed-forward": lambda: llama(mlp_bias=True),
    "dropout": lambda: llama(attention_dropout=0.1),
    "another activation": lambda: llama(hidden_act="gelu"),
    "new token rows": UNEVEN["new token rows"],
    "Mistral": mistral,
    "GPT-NeoX": gpt_neox,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_it_does_not_know_it_refuses_and_the_padded_pass_takes(name: str) -> None:
    model = UNKNOWN[name]().eval()
    theirs = copy.deepcopy(model)
    with pytest.raises(TypeError):
        LeanTrunk(model, torch.float32, ADAPTER)
    trunk = trunk_for(model, torch.float32, ADAPTER)
    assert isinstance(trunk, PaddedTrunk)
    batch = examples([5, 9, 3])
    with torch.no_grad():
        expected = sum(float(row_loss(theirs, example)) for example in batch)
        assert float(summed_loss(trunk, batch)) == pytest.approx(expected, rel=1e-4)


def test_a_refusal_leaves_the_weights_as_they_were() -> None:
    model = llama(seed=1)
    model.model.layers[1].mlp.down_proj.bias = torch.nn.Parameter(torch.zeros(64))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TypeError):
        LeanTrunk(model, torch.float32, ADAPTER)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["all weights", "lora"])
@pytest.mark.parametrize("changed", range(len(LENGTHS)))
def test_no_sequence_sees_another(kind: str, changed: int) -> None:
    model = KNOWN[kind]()
    sequences = rows(LENGTHS)
    other = list(sequences)
    other[changed] = (sequences[changed] + 1) % VOCABULARY
    with torch.no_grad():
        h, g = at_once(model, sequences), at_once(model, other)
    for index, (a, b) in enumerate(zip(h.split(LENGTHS), g.split(LENGTHS), strict=True)):
        assert torch.equal(a, b) == (index != changed)


def test_no_token_sees_a_later_one() -> None:
    model = llama()
    (ids,) = rows([40])
    other = ids.clone()
    other[30:] = (ids[30:] + 1) % VOCABULARY
    with torch.no_grad():
        h, g = at_once(model, [ids]), at_once(model, [other])
    torch.testing.assert_close(h[:30], g[:30], rtol=1e-6, atol=1e-6)
    assert (h[30:] - g[30:]).abs().amin(dim=0).max() > 0.01


@pytest.mark.parametrize("kind", ["all weights", "lora"])
def test_bfloat16_is_as_near_to_the_truth_as_transformers_own(kind: str) -> None:
    model = KNOWN[kind]()
    sequences = rows(LENGTHS)
    with torch.no_grad():
        truth = by_row(model, sequences)
        half = copy.deepcopy(model).to(torch.bfloat16)
        theirs = (by_row(half, sequences).float() - truth).norm() / truth.norm()
        after = at_once(half, sequences, torch.bfloat16)
        ours = (after.float() - truth).norm() / truth.norm()
    assert after.dtype == torch.bfloat16
    assert theirs < 0.1
    assert ours < 1.3 * theirs


def test_bfloat16_over_float32_weights_gives_float32_gradients() -> None:
    theirs = llama()
    ours = copy.deepcopy(theirs)
    batch = examples(LENGTHS)
    torch.stack([row_loss(theirs, example) for example in batch]).sum().backward()
    summed_loss(LeanTrunk(ours, torch.bfloat16), batch).backward()
    got, expected = gradients(ours), gradients(theirs)
    for name, gradient in expected.items():
        assert got[name].dtype == torch.float32
        assert (got[name] - gradient).norm() < 0.1 * gradient.norm(), name


# --- the weights stay where they are -------------------------------------------------------------


def test_a_step_in_the_parameters_is_seen_by_the_pass() -> None:
    model = llama()
    pass_ = LeanTrunk(model, torch.float32, ADAPTER)
    sequences = rows(LENGTHS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):
        before = by(pass_, sequences)
        objective(before).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = by(pass_, sequences)
        expected = by_row(copy.deepcopy(model), sequences)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)
    assert (after - before).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["all weights", "lora"])
def test_loading_and_saving_do_not_notice(kind: str) -> None:
    model, other = KNOWN[kind](), KNOWN[kind]()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    before = copy.deepcopy(model.state_dict())
    pass_ = LeanTrunk(model, torch.float32, ADAPTER)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)

    model.load_state_dict(other.state_dict())  # what resuming does
    sequences = rows(LENGTHS)
    with torch.no_grad():
        got, expected = by(pass_, sequences), by_row(other, sequences)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_transformers_own_pass_goes_on_working() -> None:
    model, other = llama(), llama()
    LeanTrunk(model, torch.float32, ADAPTER)
    batch = examples(LENGTHS)
    for one in (model, other):
        torch.stack([row_loss(one, example) for example in batch]).sum().backward()
    assert_same(gradients(model), gradients(other), 1e-6)


def test_without_its_adapter_it_is_the_base() -> None:
    """The reference of PPO is the policy with its adapter off."""
    plain, model = llama(), lora()
    sequences = rows(LENGTHS)
    with torch.no_grad():
        expected = by_row(plain, sequences)
        off, on = by(LeanTrunk(model, torch.float32), sequences), at_once(model, sequences)
    torch.testing.assert_close(off, expected, rtol=1e-4, atol=1e-4)
    assert (on - off).abs().max() > 0.01


def test_without_gradients_nothing_is_kept() -> None:
    with torch.no_grad():
        assert not at_once(llama(), rows(LENGTHS)).requires_grad
