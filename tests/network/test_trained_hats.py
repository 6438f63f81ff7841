"""What of a hat is trained, and what comes out when it is folded in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import summed_loss

from .tiny import VOCABULARY, examples, gpt_neox, llama, mpt

NEW = [VOCABULARY - 2, VOCABULARY - 1]
IDS = torch.tensor([[5, 1, *NEW, 7, 30, NEW[0]]])


def untied_llama() -> Any:
    return llama(tie_word_embeddings=False)


BASES = pytest.mark.parametrize("kind", [llama, untied_llama, mpt, gpt_neox])


def adapted(
    model: Any, new: list[int] | None = None, dtype: torch.dtype = torch.float32, seed: int = 1
) -> Hats:
    hats = Hats(model, dtype, torch.device("cpu"))
    hats.add("sft", AdapterConfig(rank=4, alpha=8.0), seed=seed, new_tokens=new or [])
    return hats


def train(hats: Hats, steps: int = 3) -> None:
    """A few steps on rows in which the new tokens stand and are predicted."""
    batch = examples([12, 9, 20])
    for example in batch:
        example.ids[2::4] = NEW[0]
        example.ids[3::4] = NEW[1]
    trunk = hats.trunk("sft")
    parameters = list(hats.parameters("sft").values())
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.0)
    for _ in range(steps):
        summed_loss(trunk, batch).backward()
        optimizer.step()
        optimizer.zero_grad()


@BASES
def test_only_adapters_are_trained(kind: Callable[[], Any]) -> None:
    model = kind()
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    hats = adapted(model)
    parameters = hats.parameters("sft")
    assert all(name.endswith((".lora_A", ".lora_B")) for name in parameters)
    assert len(parameters) == 2 * (len(linear) - 1)  # each layer but the head
    assert all(p.dtype == torch.float32 for p in parameters.values())
    trained = {id(p) for p in hats.model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in parameters.values()}


@BASES
def test_new_tokens_get_trained_rows_in_embedding_and_head(kind: Callable[[], Any]) -> None:
    tied = kind().config.tie_word_embeddings
    parameters = adapted(kind(), NEW).parameters("sft")
    rows = {n: p for n, p in parameters.items() if ".lora_" not in n}
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
    hats = adapted(base, NEW, dtype)
    train(hats)
    with torch.no_grad():
        trained = hats.model.float()(input_ids=IDS).logits
        plain = hats.merged("sft")
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
        hats = adapted(base)
        # The adapter begins at 0.
        torch.testing.assert_close(hats.model(input_ids=IDS).logits, before)
    train(hats)
    with torch.no_grad():
        trained = hats.model(input_ids=IDS).logits
        plain = hats.merged("sft")
        assert (trained - before).abs().max() > 0.1
        torch.testing.assert_close(plain(input_ids=IDS).logits, trained, rtol=1e-4, atol=1e-3)
    assert set(plain.state_dict()) == names
    assert type(plain) is type(kind())


def test_merging_is_float32_whatever_the_training_was() -> None:
    hats = adapted(llama(), dtype=torch.bfloat16)
    frozen = {p.dtype for p in hats.model.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    assert {p.dtype for p in hats.merged("sft").parameters()} == {torch.float32}


def test_the_seed_alone_decides() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(iter(adapted(llama(), seed=seed).parameters("sft").values()))

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
    layer: Any = adapted(llama()).base.model.layers[0].self_attn.q_proj
    with torch.no_grad():
        layer.lora_B["sft"].weight.fill_(0.1)
        x = torch.ones(1, 64)
        low = x @ layer.lora_A["sft"].weight.t() @ layer.lora_B["sft"].weight.t()
        torch.testing.assert_close(layer(x), layer.base_layer(x) + 2 * low)
