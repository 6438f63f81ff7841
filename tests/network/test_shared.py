"""The lowest layers, which no hat changes, are computed once for all hats, and to the same end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, OlmoeConfig, OlmoeForCausalLM

from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.lean import LeanTrunk
from guildgpt.network.trunk import token_logprobs
from guildgpt.train.objective import Shape

from .test_hats import CPU, EVERY_KIND, KINDS, draw
from .tiny import examples, llama

UPPER = AdapterConfig(rank=4, alpha=8, layers=1)


def dressed(kind: str, **layers: int | None) -> Hats:
    """A model of two layers with hats on so many of them."""
    hats = Hats(KINDS[kind](), torch.float32, CPU)
    for seed, (name, count) in enumerate(layers.items()):
        hats.add(name, UPPER.model_copy(update={"layers": count}), seed=seed)
        draw(hats, name, seed)
    return hats


def counted(hats: Hats, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each pass through the lowest layer reads, from now on."""
    read: list[int] = []
    of = LeanTrunk.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        of(self, *args, **options)
        lowest = self.layers[0].attention
        forward = lowest.forward

        def noted(h: torch.Tensor, run: Any) -> torch.Tensor:
            read.append(len(h))
            return forward(h, run)

        lowest.forward = noted

    monkeypatch.setattr(LeanTrunk, "__init__", init)
    return read


@EVERY_KIND
def test_only_the_upper_layers_have_adapters(kind: str) -> None:
    hats = dressed(kind, all=None, upper=1)
    names, every = hats.parameters("upper"), hats.parameters("all")
    assert len(names) == len(every) // 2
    assert all(".1." in name for name in names)
    assert hats.shared.depth == 0
    assert dressed(kind, upper=1, other=1).shared.depth == 1
    assert dressed(kind, upper=1, other=2).shared.depth == 0
    assert dressed(kind, more_than_there_are=7).shared.depth == 0
    assert hats.config("upper") == UPPER


def test_the_layers_of_every_shape_of_model_are_found() -> None:
    """GPT-2 has matrices of its own kind; a layer's experts may be more than there are layers."""
    size = {"vocab_size": 96, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=16, n_head=2, n_layer=2))
    experts = OlmoeForCausalLM(OlmoeConfig(**size, **heads, num_experts=4))
    for model, linear in (
        (gpt2, "transformer.h.1.mlp.c_fc"),
        (experts, "model.layers.1.self_attn.q_proj"),
    ):
        hats = Hats(model, torch.float32, CPU)
        hats.add("upper", UPPER, seed=0)
        names = hats.parameters("upper")
        assert hats.shared.depth == 1
        assert any(linear in name for name in names)
        assert not any(".0." in name for name in names)


@EVERY_KIND
def test_what_is_kept_changes_neither_values_nor_gradients(kind: str) -> None:
    hats = dressed(kind, policy=1, value=1)
    batch = examples([9, 2, 17])

    def found() -> list[torch.Tensor]:
        values = [token_logprobs(hats.trunk(name), batch) for name in ("policy", "value", None)]
        values[0].sum().backward()
        gradients = [p.grad for p in hats.parameters("policy").values()]
        hats.model.zero_grad()
        return [*values, *(one for one in gradients if one is not None)]

    apart = found()
    with hats.shared.kept():
        kept, again = found(), found()
    assert len(apart) == 3 + len(hats.parameters("policy"))
    for one, other, third in zip(apart, kept, again, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one, third)


def test_a_sequence_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hats = dressed("llama", policy=1, value=1)
    read = counted(hats, monkeypatch)
    policy, value, bare = (hats.trunk(name) for name in ("policy", "value", None))
    batch = examples([9, 4, 17])
    with hats.shared.kept():
        for trunk in (policy, value, bare, policy):
            token_logprobs(trunk, batch)
        token_logprobs(policy, batch[1:])  # in another pass
        assert read == [9 + 4 + 17]
        token_logprobs(policy, examples([9, 5]))  # which holds one that is new
        assert len(read) == 2
    token_logprobs(policy, batch)
    assert len(read) == 3


def test_answers_that_share_a_prompt_are_laid_out_as_before() -> None:
    hats = dressed("llama", policy=1)
    one, other, third = examples([20, 20, 11])
    other.ids[:10], other.mask[:10], one.mask[:10] = one.ids[:10], False, False
    other.mask[10:] = one.mask[10:] = True
    trunk = hats.trunk("policy")
    with torch.no_grad():
        expected = token_logprobs(trunk, [one, other, third])
        with hats.shared.kept():
            token_logprobs(trunk, [third, one])
            token_logprobs(trunk, [other])
            found = token_logprobs(trunk, [one, other, third])
    torch.testing.assert_close(found, expected)


def test_what_was_kept_is_gone_afterwards() -> None:
    hats = dressed("llama", policy=1)
    trunk, batch = hats.trunk("policy"), examples([9, 2])
    with torch.no_grad():
        with hats.shared.kept():
            before = token_logprobs(trunk, batch)
        hats.base.model.layers[0].mlp.down_proj.weight.mul_(2)
        assert not torch.allclose(token_logprobs(trunk, batch), before)


def test_operations_are_counted_where_they_are_done() -> None:
    model = llama()
    every = Shape(Hats(model, torch.float32, CPU).trunk(None))
    batch = examples([9, 2, 17])
    forward = every.flops(batch, logits=0, backward=False)
    upper = Shape(dressed("llama", policy=1).trunk("policy"))
    whole = upper.flops(batch, logits=0, backward=False)
    assert upper.flops(batch, logits=0, backward=False, upper_only=True) == whole / 2
    assert upper.flops(batch, logits=0) == pytest.approx(whole * 1.5, rel=0.03)
    assert forward < whole  # which has adapters
    hats = Hats(llama(), torch.float32, CPU)
    hats.add("policy", UPPER, seed=0, new_tokens=[3])
    assert Shape(hats.trunk("policy")).upper == 1  # gradients reach the rows of the new token
