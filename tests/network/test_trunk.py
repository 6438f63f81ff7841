"""Whichever trunk runs a model, batched or not, the losses and gradients are transformers' own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from guildgpt.data.examples import Example
from guildgpt.network.trunk import LeanTrunk, PaddedTrunk, micro_batches, summed_loss, trunk_for
from guildgpt.network.world import World
from guildgpt.train.config import RowsConfig
from guildgpt.train.next_token import NextToken
from guildgpt.train.schedule import Schedule

from .tiny import (
    ADAPTER,
    VOCABULARY,
    assert_same,
    examples,
    gemma2,
    gemma3,
    gpt_neox,
    gradients,
    llama,
    mpt,
    row_loss,
    shaken,
    with_lora,
)

LENGTHS = [9, 2, 31, 5, 17, 31, 3, 12]
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def gpt2() -> Any:
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=64, n_layer=2, n_head=4)
    return shaken(GPT2LMHeadModel(config))


def opt() -> Any:
    """Embeddings narrower than the model: its body ends with one more projection."""
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        ffn_dim=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    )
    return shaken(OPTForCausalLM(config))


def phi() -> Any:
    """A head with a bias."""
    return shaken(PhiForCausalLM(PhiConfig(**SHAPE)))


def cohere() -> Any:
    """A head whose logits are scaled."""
    config = CohereConfig(**SHAPE, num_key_value_heads=2, logit_scale=0.25)
    return shaken(CohereForCausalLM(config))


def recurrent_gemma() -> Any:
    """A cap on the logits under another name."""
    shape = {**SHAPE, "num_hidden_layers": 3, "num_key_value_heads": 1, "head_dim": 16}
    config = RecurrentGemmaConfig(**shape, lru_width=64, logits_soft_cap=2.0)
    return shaken(RecurrentGemmaForCausalLM(config))


PADDED: dict[str, Callable[[], Any]] = {
    "mpt": mpt,
    "mpt with a scale it ignores": lambda: mpt(logit_scale=0.5),
    "gpt-neox": gpt_neox,
    "gpt-2": gpt2,
    "opt": opt,
    "phi": phi,
    "cohere": cohere,
    "gemma 2": gemma2,
    "gemma 2 with adapters": lambda: with_lora(gemma2()),
    "gemma 3": gemma3,
    "gemma 3 with a cap on its logits": lambda: gemma3(final_logit_softcapping=5.0),
    "recurrent gemma": recurrent_gemma,
    "mpt with adapters": lambda: with_lora(mpt()),
    "mpt with new rows": lambda: with_lora(mpt(), trainable_token_indices=[94, 95]),
}


def summed_rows(model: Any, batch: list[Example]) -> torch.Tensor:
    return torch.stack([row_loss(model, example) for example in batch]).sum()


@pytest.mark.parametrize("name", PADDED)
def test_padded_rows_lose_what_single_rows_lose(name: str) -> None:
    theirs = PADDED[name]()
    ours = copy.deepcopy(theirs)
    trunk = trunk_for(ours, torch.float32, ADAPTER)
    assert isinstance(trunk, PaddedTrunk)
    batch = examples(LENGTHS)
    got, expected = summed_loss(trunk, batch), summed_rows(theirs, batch)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)
    got.backward()
    expected.backward()
    assert_same(gradients(ours), gradients(theirs), 2e-4)


@pytest.mark.parametrize("kind", [llama, mpt, gpt_neox])
def test_batched_logits_are_single_row_logits(kind: Callable[[], Any]) -> None:
    model = kind()
    batch = examples(LENGTHS)
    head = model.get_output_embeddings().weight
    for trunk in (trunk_for(model, torch.float32), PaddedTrunk(model, torch.float32)):
        with torch.no_grad():
            everywhere = torch.arange(sum(LENGTHS))
            logits = trunk.hidden(batch, everywhere) @ head.t()
            for example, part in zip(batch, logits.split(LENGTHS), strict=True):
                ids = torch.from_numpy(example.ids).long()[None]
                alone = model(input_ids=ids).logits[0]
                torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["all weights", "adapters"])
def test_both_trunks_agree_on_llama(kind: str) -> None:
    lean_model = with_lora(llama()) if kind == "adapters" else llama()
    padded_model = copy.deepcopy(lean_model)
    lean = LeanTrunk(lean_model, torch.float32, ADAPTER)
    padded = PaddedTrunk(padded_model, torch.float32, ADAPTER)
    assert not lean.padded
    assert padded.padded
    batch = examples(LENGTHS)
    losses = summed_loss(lean, batch), summed_loss(padded, batch)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-4)
    for loss in losses:
        loss.backward()
    assert_same(gradients(lean_model), gradients(padded_model), 2e-4)


def test_llama_gets_the_lean_trunk() -> None:
    assert isinstance(trunk_for(llama(), torch.float32), LeanTrunk)
    assert isinstance(trunk_for(with_lora(llama()), torch.bfloat16, ADAPTER), LeanTrunk)


@pytest.mark.parametrize("kind", [llama, mpt, gpt_neox])
def test_bfloat16_is_close(kind: Callable[[], Any]) -> None:
    model = kind()
    batch = examples(LENGTHS)
    expected = summed_rows(model, batch).item()
    half = copy.deepcopy(model)
    loss = summed_loss(trunk_for(half, torch.bfloat16), batch)
    assert loss.item() == pytest.approx(expected, rel=0.02)
    loss.backward()
    assert all(bool(torch.isfinite(g).all()) for g in gradients(half).values())


def test_the_caps_bite() -> None:
    """So that the losses above would be others without them."""
    batch, expected = examples(LENGTHS), summed_rows(gemma2(), examples(LENGTHS)).item()
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        without = summed_loss(trunk_for(gemma2(**{cap: None}), torch.float32), batch).item()
        assert without != pytest.approx(expected, rel=1e-2)


def test_a_cap_on_attention_is_applied_however_the_model_was_loaded() -> None:
    """Other ways to compute it leave the cap out, or refuse, by transformers' version."""
    expected = summed_rows(gemma2(), examples(LENGTHS)).item()
    model = gemma2()
    model.config._attn_implementation = "sdpa"
    trunk = trunk_for(model, torch.float32)
    assert summed_loss(trunk, examples(LENGTHS)).item() == pytest.approx(expected, rel=1e-5)


def test_a_rows_first_token_is_never_predicted() -> None:
    trunk = trunk_for(llama(), torch.float32)
    batch = examples([6, 4])
    everything = [Example(e.ids, e.mask | True, e.bytes, e.source) for e in batch]
    but_first = [Example(e.ids, e.mask | True, e.bytes, e.source) for e in batch]
    for example in but_first:
        example.mask[0] = False
    assert summed_loss(trunk, everything).item() == summed_loss(trunk, but_first).item()
    assert sum(e.trained for e in everything) == 8


# --- passes --------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 40), max_size=30),
    limit=st.integers(1, 100),
    padded=st.booleans(),
)
def test_micro_batches_hold_every_row_once_and_keep_to_the_limit(
    lengths: list[int], limit: int, padded: bool
) -> None:
    rows = examples(lengths)
    groups = micro_batches(rows, limit, padded=padded)
    assert sorted(id(row) for group in groups for row in group) == sorted(map(id, rows))
    for group in groups:
        sizes = [len(row) for row in group]
        taken = max(sizes) * len(sizes) if padded else sum(sizes)
        assert taken <= limit or len(group) == 1


def test_micro_batches_are_not_smaller_than_they_must_be() -> None:
    rows = examples([10] * 8)
    assert [len(group) for group in micro_batches(rows, 40, padded=True)] == [4, 4]
    assert [len(group) for group in micro_batches(rows, 79, padded=False)] == [7, 1]
    assert micro_batches([], 10, padded=True) == []


@pytest.mark.parametrize(
    "kind", [llama, mpt, lambda: with_lora(llama())], ids=["llama", "mpt", "adapters"]
)
def test_one_pass_over_eight_rows_is_eight_passes_over_one(kind: Callable[[], Any]) -> None:
    """The rows differ in length, so a mean of means would come out otherwise."""

    def step(micro_tokens: int) -> tuple[int, float, dict[str, torch.Tensor]]:
        model = kind()
        config = RowsConfig(batch_size=8, steps=1, micro_tokens=micro_tokens)
        trunk = trunk_for(model, torch.float32, ADAPTER)
        rows = [[row] for row in examples(LENGTHS)]
        order = Schedule.of(len(rows), config, 4, World(torch.device("cpu")))
        objective = NextToken(trunk, rows, config, order)
        batches = objective.batches(0)
        weight = sum(objective.counts(batch).terms for batch in batches)
        total = 0.0
        for batch in batches:
            loss = objective.loss(batch) / weight
            loss.backward()
            total += float(loss.detach())
        return len(batches), total, gradients(model)

    passes, whole, at_once = step(10_000)
    assert passes == 1
    passes, parts, accumulated = step(1)
    assert passes == 8
    assert parts == pytest.approx(whole, rel=1e-5)
    assert_same(accumulated, at_once, 1e-4)

    # And both are the mean over all predicted tokens together.
    batch = examples(LENGTHS)
    with torch.no_grad():
        mean = float(summed_rows(kind(), batch)) / sum(row.trained for row in batch)
    assert whole == pytest.approx(mean, rel=1e-5)
