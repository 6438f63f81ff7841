"""Bits per byte and perplexity, by hand from transformers' logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from guildgpt.data.examples import Example
from guildgpt.evaluate.bits import Bits, measure, measure_all
from guildgpt.network.trunk import PaddedTrunk, trunk_for

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def tiny(kind: str) -> Any:
    torch.manual_seed(1)
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2))
    else:
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def rows() -> list[Example]:
    generator = np.random.default_rng(2)
    made = []
    for index, length in enumerate([3, 17, 9, 40, 2, 17]):
        ids = generator.integers(0, 50, length).astype(np.int32)
        mask = generator.random(length) < 0.5
        mask[[0, -1]] = True
        made.append(Example(ids, mask, 4 * index + 3, "x"))
    return made


@torch.no_grad()
def nats_by_hand(model: Any, examples: list[Example]) -> tuple[float, int]:
    """Each row alone, each predicted token by its own softmax."""
    total, count = 0.0, 0
    for example in examples:
        ids = torch.from_numpy(example.ids).long()
        logits = model(input_ids=ids[None]).logits[0].double()
        for place in range(1, len(ids)):
            if example.mask[place]:
                total -= float(torch.log_softmax(logits[place - 1], -1)[ids[place]])
                count += 1
    return total, count


@pytest.mark.parametrize("kind", ["llama", "gpt-neox"])
def test_by_hand(kind: str) -> None:
    model, examples = tiny(kind), rows()
    nats, tokens = nats_by_hand(model.eval(), examples)
    bits = measure(trunk_for(model, torch.float32), examples)
    size = sum(example.bytes for example in examples)
    assert (bits.rows, bits.tokens, bits.bytes) == (6, tokens, size)
    assert bits.nats == pytest.approx(nats, rel=1e-5)
    assert bits.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert bits.perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_a_uniform_model_by_hand() -> None:
    """Fifty equal tokens: a perplexity of 50, and log2 50 bits for each of them."""
    model = tiny("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    bits = measure(trunk_for(model, torch.float32), rows())
    assert bits.perplexity == pytest.approx(50, rel=1e-5)
    assert bits.bits_per_byte == pytest.approx(bits.tokens * math.log2(50) / bits.bytes, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt-neox"])
def test_how_passes_are_cut_makes_no_difference(kind: str) -> None:
    trunk = trunk_for(tiny(kind), torch.float32)
    figures = [measure(trunk, rows(), micro_tokens) for micro_tokens in (1, 20, 64, 10_000)]
    for bits in figures[1:]:
        assert bits.nats == pytest.approx(figures[0].nats, rel=1e-5)
        assert bits.tokens == figures[0].tokens


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = tiny("llama").train(training)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    measure(trunk_for(model, torch.float32), rows())
    assert model.training is training
    assert model.model.layers[0].training is training
    assert all(p.grad is None for p in model.parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_it_measures_without_dropout() -> None:
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, hidden_dropout=0.5, attention_dropout=0.5))
    trunk = PaddedTrunk(model.train(), torch.float32)
    assert measure(trunk, rows()).nats == measure(trunk, rows()).nats


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = tiny("llama").train()
    wrong = Example(np.array([1, 99], np.int32), np.array([False, True]), 1, "x")
    with pytest.raises((IndexError, RuntimeError)):
        measure(trunk_for(model, torch.float32), [wrong])
    assert model.training


def test_sources_without_rows_are_left_out() -> None:
    trunk = trunk_for(tiny("llama"), torch.float32)
    figures = measure_all(trunk, {"a": rows(), "b": [], "c": rows()[:1]})
    assert list(figures) == ["a", "c"]
    assert figures["c"] == measure(trunk, rows()[:1])


def test_the_figures_of_nothing_and_of_the_hopeless() -> None:
    assert Bits(0, 0, 0, 0.0).bits_per_byte == 0.0
    assert Bits(0, 0, 0, 0.0).perplexity == 1.0
    assert math.isfinite(Bits(1, 1, 1, 1e6).perplexity)
