"""Several hats on one base: one copy of its weights, and none of them sees another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guildgpt.errors import ModelError
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import LeanTrunk, summed_loss, token_logprobs, trunk_for

from .tiny import examples, gpt_neox, llama, mpt, with_lora

KINDS: dict[str, Callable[[], Any]] = {"llama": llama, "mpt": mpt, "gpt-neox": gpt_neox}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
NAMES = ("policy", "reward", "value")
LORA = AdapterConfig(rank=4, alpha=8)
CPU = torch.device("cpu")


def dressed(kind: str) -> Hats:
    hats = Hats(KINDS[kind](), torch.float32, CPU)
    for seed, name in enumerate(NAMES):
        hats.add(name, LORA, seed=seed)
    return hats


def test_a_frozen_base_keeps_its_rotary_frequencies() -> None:
    """What no file holds stays exact, in whatever format the weights are."""
    model = llama()
    exact = model.model.rotary_emb.inv_freq.clone()
    hats = Hats(model, torch.bfloat16, CPU)
    assert {p.dtype for p in hats.base.parameters()} == {torch.bfloat16}
    assert torch.equal(hats.base.model.rotary_emb.inv_freq, exact)
    assert exact.dtype == torch.float32
    assert not torch.equal(exact.bfloat16().float(), exact)


def draw(hats: Hats, name: str, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in hats.parameters(name).values():
            parameter.normal_(std=0.1, generator=generator)


def logprobs(hats: Hats, name: str | None) -> torch.Tensor:
    with torch.no_grad():
        return token_logprobs(hats.trunk(name), examples([9, 2, 17]))


@EVERY_KIND
def test_the_base_is_in_memory_once(kind: str) -> None:
    model = KINDS[kind]()
    count = sum(p.numel() for p in model.parameters())
    hats = Hats(model, torch.float32, CPU)
    for seed, name in enumerate(NAMES):
        hats.add(name, LORA, seed=seed)
    trunks = [hats.trunk(name) for name in (None, *NAMES)]
    batch = examples([9, 2, 17])
    for trunk in trunks:
        with torch.no_grad():
            token_logprobs(trunk, batch)
    base = [p for key, p in hats.model.named_parameters() if "lora_" not in key]
    assert sum(p.numel() for p in base) == count
    assert not any(p.requires_grad for p in base)
    if isinstance(trunks[0], LeanTrunk):  # the fused matrices are the weights themselves
        places = {
            layer.attention.into.fused.untyped_storage().data_ptr()
            for trunk in trunks
            for layer in trunk.layers[:1]  # type: ignore[union-attr]
        }
        first = hats.base.model.layers[0].self_attn.q_proj.base_layer.weight
        assert places == {first.untyped_storage().data_ptr()}


@EVERY_KIND
def test_a_new_hat_changes_nothing_and_a_trained_one_only_its_own(kind: str) -> None:
    hats = dressed(kind)
    bare = logprobs(hats, None)
    with torch.no_grad():
        plain = token_logprobs(trunk_for(KINDS[kind](), torch.float32), examples([9, 2, 17]))
    assert torch.equal(bare, plain)
    for name in NAMES:
        assert torch.equal(logprobs(hats, name), bare)
    draw(hats, "reward")
    changed = logprobs(hats, "reward")
    assert not torch.allclose(changed, bare, atol=1e-2)
    for name in (None, "policy", "value"):
        assert torch.equal(logprobs(hats, name), bare)
    draw(hats, "policy", 1)
    assert torch.equal(logprobs(hats, "reward"), changed)


@EVERY_KIND
def test_gradients_reach_the_hat_that_was_worn_and_no_other(kind: str) -> None:
    """Two hats are worn one after the other, and only then do gradients come."""
    hats = dressed(kind)
    for seed, name in enumerate(NAMES):
        draw(hats, name, seed)
    batch = examples([9, 2, 17])
    policy = token_logprobs(hats.trunk("policy"), batch).sum()
    value = token_logprobs(hats.trunk("value"), batch).sum()
    with torch.no_grad():
        token_logprobs(hats.trunk(None), batch)
    (policy + value).backward()
    for name in ("policy", "value"):
        assert all(p.grad is not None and p.grad.any() for p in hats.parameters(name).values())
    assert all(p.grad is None for p in hats.parameters("reward").values())
    alone = dressed(kind)
    draw(alone, "policy", 0)
    token_logprobs(alone.trunk("policy"), batch).sum().backward()
    for key, parameter in hats.parameters("policy").items():
        torch.testing.assert_close(parameter.grad, alone.parameters("policy")[key].grad)


@EVERY_KIND
def test_weights_go_to_another_base_of_the_same_form(kind: str) -> None:
    hats = dressed(kind)
    draw(hats, "policy")
    weights = hats.adapter_weights("policy")
    other = Hats(KINDS[kind](), torch.float32, CPU)
    other.add("reward", hats.config("policy"), seed=9, weights=weights)
    assert other.config("reward") == LORA
    assert torch.equal(logprobs(other, "reward"), logprobs(hats, "policy"))
    # They are copies.
    with torch.no_grad():
        for parameter in other.parameters("reward").values():
            parameter.zero_()
    assert all(torch.equal(hats.adapter_weights("policy")[key], weights[key]) for key in weights)


def test_weights_of_another_base_are_refused() -> None:
    hats = dressed("llama")
    weights = hats.adapter_weights("policy")
    other = Hats(mpt(), torch.float32, CPU)
    with pytest.raises(ModelError, match=r"does not fit this base: .* is missing"):
        other.add("reward", LORA, seed=0, weights=weights)
    wider = Hats(llama(), torch.float32, CPU)
    with pytest.raises(ModelError, match=r"is \(4, 64\), not \(8, 64\)"):
        wider.add("reward", AdapterConfig(rank=8, alpha=8), seed=0, weights=weights)


@EVERY_KIND
def test_the_merged_model_is_what_the_hat_was(kind: str) -> None:
    hats = dressed(kind)
    for seed, name in enumerate(NAMES):
        draw(hats, name, seed)
    worn, bare = logprobs(hats, "policy"), logprobs(hats, None)
    model = hats.merged("policy")
    assert not any("lora" in name for name in model.state_dict())
    with torch.no_grad():
        found = token_logprobs(trunk_for(model, torch.float32), examples([9, 2, 17]))
    torch.testing.assert_close(found, worn, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, bare, atol=1e-2)


def test_the_seed_decides_how_a_hat_begins_and_nothing_else_is_drawn() -> None:
    def first(seed: int) -> dict[str, torch.Tensor]:
        hats = Hats(models.pop(), torch.float32, CPU)
        hats.add("policy", LORA, seed=seed)
        return hats.adapter_weights("policy")

    models = [llama(), llama(), llama()]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, same, other = first(4), first(4), first(5)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_adapters_are_float32_on_a_bfloat16_base() -> None:
    hats = Hats(llama(), torch.bfloat16, CPU)
    hats.add("policy", LORA, seed=0)
    assert {p.dtype for p in hats.parameters("policy").values()} == {torch.float32}
    base = [p for key, p in hats.model.named_parameters() if "lora_" not in key]
    assert {p.dtype for p in base} == {torch.bfloat16}


# --- another's adapter ---------------------------------------------------------------------------


@pytest.mark.parametrize("new_tokens", [[], [3, 4]])
@EVERY_KIND
def test_another_s_adapter_is_worn_as_it_came(
    tmp_path: Path, kind: str, new_tokens: list[int]
) -> None:
    """What peft computes with it; the rows of new tokens are trained beside it."""
    theirs = with_lora(KINDS[kind](), use_rslora=True)
    theirs.save_pretrained(tmp_path, save_embedding_layers=False)
    expected = token_logprobs(trunk_for(theirs.merge_and_unload(), torch.float32), examples([9]))
    hats = Hats(KINDS[kind](), torch.float32, CPU)
    hats.take_up("sft", tmp_path, new_tokens=new_tokens)
    got = token_logprobs(hats.trunk("sft"), examples([9]))
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)
    if not new_tokens:
        assert isinstance(hats.trunk("sft"), LeanTrunk) == (kind == "llama")
    parameters = hats.parameters("sft")
    assert any("token_adapter" in name for name in parameters) == bool(new_tokens)
    summed_loss(hats.trunk("sft"), examples([9])).backward()
    assert all(p.grad is not None and p.dtype == torch.float32 for p in parameters.values())
    merged = hats.merged("sft")
    assert type(merged).__name__ == type(KINDS[kind]()).__name__


def test_an_adapter_of_the_head_is_not_trained_further(tmp_path: Path) -> None:
    model = with_lora(gpt_neox(), target_modules=["query_key_value", "lm_head"])
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    with pytest.raises(ModelError, match="changes the head") as raised:
        Hats(gpt_neox(), torch.float32, CPU).take_up("sft", tmp_path)
    assert "merge" in str(raised.value.remedy)
