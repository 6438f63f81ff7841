"""What training takes for granted of a model is asked of it first, and told in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    FalconH1Config,
    FalconH1ForCausalLM,
)

from guildgpt.errors import ModelError
from guildgpt.model.config import AdapterConfig
from guildgpt.network import decoders
from guildgpt.network.hats import Hats
from guildgpt.network.proof import prove, rehearse
from guildgpt.network.trunk import summed_loss, trunk_for

from .tiny import (
    VOCABULARY,
    examples,
    gemma2,
    gemma3,
    gpt_neox,
    granite,
    llama,
    mpt,
    recurrent,
    row_loss,
    shaken,
)

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def falcon_h1() -> Any:
    """Its logits are multiplied, and half of it is a state-space model."""
    mixer = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 4}
    config = FalconH1Config(**SHAPE, **mixer, mamba_chunk_size=4, lm_head_multiplier=0.25)
    return shaken(FalconH1ForCausalLM(config))


def bert(**changes: Any) -> Any:
    shape = {**SHAPE, "max_position_embeddings": 64, **changes}
    return shaken(BertLMHeadModel(BertConfig(**shape)))


KINDS = {
    "llama": llama,
    "mpt": mpt,
    "gpt-neox": gpt_neox,
    "gemma 2": gemma2,
    "gemma 3": gemma3,
    "granite": granite,
    "falcon-h1": falcon_h1,
    "mamba": lambda: recurrent("mamba"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_trains_well_is_proved(kind: str, dtype: torch.dtype) -> None:
    prove(trunk_for(KINDS[kind]().to(dtype), dtype), writes=True)


@pytest.mark.parametrize("kind", ["granite", "falcon-h1", "mamba"])
def test_and_its_loss_is_transformers(kind: str) -> None:
    model = KINDS[kind]()
    batch = examples([9, 4, 6])
    with torch.no_grad():
        expected = sum(float(row_loss(model, one)) for one in batch)
        assert float(summed_loss(trunk_for(model, torch.float32), batch)) == pytest.approx(
            expected, rel=1e-5
        )


def test_a_model_that_reads_ahead() -> None:
    with pytest.raises(ModelError, match="`bert` sees tokens that come later") as raised:
        prove(trunk_for(bert(), torch.float32), writes=False)
    assert raised.value.where == "model.base"


def test_a_head_that_is_more_than_a_product() -> None:
    with pytest.raises(ModelError, match="`bert` has a head that is more than a product"):
        prove(trunk_for(bert(is_decoder=True), torch.float32), writes=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_a_cap_that_nobody_told_of(dtype: torch.dtype) -> None:
    """The logits are another function of the product than the configuration says."""
    model = gemma2(final_logit_softcapping=None).to(dtype)

    def cap(head: Any, given: Any, logits: torch.Tensor) -> torch.Tensor:
        return 5.0 * torch.tanh(logits / 5.0)

    model.lm_head.register_forward_hook(cap)
    with pytest.raises(ModelError, match="`gemma2` has a head that is more than a product"):
        prove(trunk_for(model, dtype), writes=False)


def test_a_cap_that_the_model_does_not_apply() -> None:
    with pytest.raises(ModelError, match="`llama` has a head that is more than a product"):
        prove(trunk_for(llama(final_logit_softcapping=5.0), torch.float32), writes=False)


def test_a_sampler_that_writes_other_than_the_model_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As left padding did to state-space models."""
    trunk = trunk_for(recurrent("mamba2"), torch.float32)
    monkeypatch.setattr(decoders, "keeps_keys_and_values", lambda trunk: True)
    prove(trunk, writes=False)
    with pytest.raises(ModelError, match="`mamba2` cannot write answers here") as raised:
        prove(trunk, writes=True)
    assert "leave out `ppo`" in str(raised.value.remedy)


# --- by its shape alone --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_rehearsal_reads_no_weights(tmp_path: Path, kind: str) -> None:
    KINDS[kind]().config.save_pretrained(tmp_path)
    rehearse(tmp_path, adapters=True)


def test_what_a_rehearsal_finds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing-like-it"}))
    with pytest.raises(ModelError, match="cannot be trained here") as raised:
        rehearse(tmp_path, adapters=False)
    assert raised.value.where == str(tmp_path)
    assert "remote code" in str(raised.value.remedy)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_adapters_of_state_space_models_are_seen(kind: str) -> None:
    """Their fused kernels read some weights past the module: peft refuses adapters there."""
    hats = Hats(recurrent(kind), torch.float32, torch.device("cpu"))
    hats.add("sft", AdapterConfig(rank=2), seed=0)
    batch = examples([5, 3])
    summed_loss(hats.trunk("sft"), batch).backward()
    ups = [p for name, p in hats.parameters("sft").items() if "lora_B" in name]
    assert ups
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in ups)
    with torch.no_grad():
        for parameter in ups:
            parameter.add_(0.1 * torch.randn_like(parameter))
        worn = float(summed_loss(hats.trunk("sft"), batch))
        merged = float(summed_loss(trunk_for(hats.merged("sft"), torch.float32), batch))
    assert worn == pytest.approx(merged, rel=1e-4)
