"""What is trained, and what comes out when adapters are folded in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from guildgpt.model.config import AdapterConfig
from guildgpt.network.adapter import add_lora, merged, train_all, trainable
from guildgpt.network.trunk import summed_loss, trunk_for

from .tiny import VOCABULARY, examples, gpt_neox, llama, mpt

NEW = [VOCABULARY - 2, VOCABULARY - 1]
IDS = torch.tensor([[5, 1, *NEW, 7, 30, NEW[0]]])


def untied_llama() -> Any:
    return llama(tie_word_embeddings=False)


BASES = pytest.mark.parametrize("kind", [llama, untied_llama, mpt, gpt_neox])


def adapted(
    model: Any, new: list[int] | None = None, dtype: torch.dtype = torch.float32, seed: int = 1
) -> Any:
    config = AdapterConfig(rank=4, alpha=8.0)
    return add_lora(model, config, new_tokens=new or [], dtype=dtype, seed=seed)


def train(model: Any, dtype: torch.dtype = torch.float32, steps: int = 3) -> None:
    """A few steps on rows in which the new tokens stand and are predicted."""
    batch = examples([12, 9, 20])
    for example in batch:
        example.ids[2::4] = NEW[0]
        example.ids[3::4] = NEW[1]
    trunk = trunk_for(model, dtype)
    optimizer = torch.optim.AdamW(list(trainable(model).values()), lr=0.02, weight_decay=0.0)
    for _ in range(steps):
        summed_loss(trunk, batch).backward()
        optimizer.step()
        optimizer.zero_grad()


@BASES
def test_only_adapters_are_trained(kind: Callable[[], Any]) -> None:
    model = kind()
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    names = trainable(adapted(model)).keys()
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert len(names) == 2 * (len(linear) - 1)  # each layer but the head
    assert all(p.dtype == torch.float32 for p in trainable(adapted(kind())).values())


@BASES
def test_new_tokens_get_trained_rows_in_embedding_and_head(kind: Callable[[], Any]) -> None:
    tied = kind().config.tie_word_embeddings
    model = adapted(kind(), NEW)
    rows = {n: p for n, p in trainable(model).items() if ".lora_" not in n}
    assert len(rows) == (1 if tied else 2)
    assert all(p.shape == (2, 64) and p.dtype == torch.float32 for p in rows.values())


@BASES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_rows_change_in_training_and_survive_merging(
    kind: Callable[[], Any], dtype: torch.dtype
) -> None:
    base = kind()
    before = [
        base.get_input_embeddings().weight.detach().to(dtype).float().clone(),
        base.get_output_embeddings().weight.detach().to(dtype).float().clone(),
    ]
    model = adapted(base, NEW, dtype)
    train(model, dtype)
    with torch.no_grad():
        trained = model.float()(input_ids=IDS).logits
        plain = merged(model)
        torch.testing.assert_close(plain(input_ids=IDS).logits, trained, rtol=1e-4, atol=1e-3)
    after = [plain.get_input_embeddings().weight, plain.get_output_embeddings().weight]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[: NEW[0]], new[: NEW[0]])
        assert ((old[NEW] - new[NEW]).abs().amax(dim=1) > 0.01).all()
    if plain.config.tie_word_embeddings:
        assert after[0] is after[1]


@BASES
def test_merging_keeps_the_logits(kind: Callable[[], Any]) -> None:
    base = kind()
    names = set(base.state_dict())
    with torch.no_grad():
        before = base(input_ids=IDS).logits
        model = adapted(base)
        torch.testing.assert_close(model(input_ids=IDS).logits, before)  # the adapter begins at 0
    train(model)
    with torch.no_grad():
        trained = model(input_ids=IDS).logits
        plain = merged(model)
        assert (trained - before).abs().max() > 0.1
        torch.testing.assert_close(plain(input_ids=IDS).logits, trained, rtol=1e-4, atol=1e-3)
    assert set(plain.state_dict()) == names
    assert type(plain) is type(kind())


def test_merging_is_float32_whatever_the_training_was() -> None:
    model = adapted(llama(), dtype=torch.bfloat16)
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    assert {p.dtype for p in merged(model).parameters()} == {torch.float32}


def test_the_seed_alone_decides() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(iter(trainable(adapted(llama(), seed=seed)).values()))

    torch.manual_seed(1)
    one = first(5)
    torch.rand(3)
    assert torch.equal(one, first(5))
    assert not torch.equal(one, first(6))


def test_the_global_generator_is_left_alone() -> None:
    model = llama()
    state = torch.get_rng_state()
    adapted(model, NEW)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_adapters_scale_is_alpha_over_rank() -> None:
    config = AdapterConfig(rank=4, alpha=8.0)
    model = add_lora(llama(), config, new_tokens=[], dtype=torch.float32, seed=1)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(0.1)
        x = torch.ones(1, 64)
        low = x @ layer.lora_A["default"].weight.t() @ layer.lora_B["default"].weight.t()
        torch.testing.assert_close(layer(x), layer.base_layer(x) + 2 * low)


def test_all_weights() -> None:
    model = llama().requires_grad_(False)
    assert train_all(model) is model
    assert trainable(model).keys() == dict(model.named_parameters()).keys()
    assert merged(model) is model
