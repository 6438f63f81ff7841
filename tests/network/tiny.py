"""Models small enough for a test, their weights drawn so large that nothing is nearly zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
)

from guildgpt.data.examples import Example

VOCABULARY = 96
ADAPTER = "default"  # the name of that of `with_lora`


def shaken(model: Any, seed: int = 0) -> Any:
    """The model with fresh weights: logits far apart, gradients of every size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(drawn * (0.4 if "embed" in name or "wte" in name else 0.15))
            else:
                parameter.copy_((1.0 if "norm" in name else 0.0) + 0.2 * drawn)
    return model.eval()


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """Two layers, four query heads on two key heads, head tied unless told otherwise."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    return shaken(LlamaForCausalLM(LlamaConfig(**{**shape, **changes})), seed)


def mpt(seed: int = 0, **changes: Any) -> MptForCausalLM:
    """ALiBi and a tied head."""
    shape = {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}
    config = MptConfig(**{**shape, "vocab_size": VOCABULARY, **changes})
    return shaken(MptForCausalLM(config), seed)


def gpt_neox(seed: int = 0, **changes: Any) -> GPTNeoXForCausalLM:
    """Biases, parallel residuals and a head of its own."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    return shaken(GPTNeoXForCausalLM(GPTNeoXConfig(**{**shape, **changes})), seed)


GEMMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 128,
}


def gemma2(seed: int = 0, **changes: Any) -> Gemma2ForCausalLM:
    """Soft caps on the logits and in attention, so low that they bite, and a sliding window."""
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
    return shaken(Gemma2ForCausalLM(Gemma2Config(**{**GEMMA, **caps, **changes})), seed)


def gemma3(seed: int = 0, **changes: Any) -> Gemma3ForCausalLM:
    """Neither of the caps."""
    return shaken(Gemma3ForCausalLM(Gemma3TextConfig(**{**GEMMA, **changes})), seed)


def with_lora(model: Any, seed: int = 0, **changes: Any) -> Any:
    """peft's adapters, all of them drawn: peft's second matrices begin with zeros."""
    settings = {"r": 4, "lora_alpha": 6.0, "target_modules": "all-linear", **changes}
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or "token_adapter" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return wrapped.eval()


def rows(lengths: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Random ids, one tensor a length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (length,), generator=generator) for length in lengths]


def examples(lengths: Sequence[int], seed: int = 0) -> list[Example]:
    """Random ids with random masks, at least one token of each longer row predicted."""
    generator = np.random.default_rng(seed)
    made = []
    for ids in rows(lengths, seed):
        mask = generator.random(len(ids)) < 0.6
        mask[-1] = True
        made.append(Example(ids.numpy().astype(np.int32), mask, len(ids), "tiny"))
    return made


def row_loss(model: Any, example: Example) -> Tensor:
    """The summed loss by transformers' own forward over one row."""
    ids = torch.from_numpy(example.ids).long()
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
    wanted = torch.from_numpy(example.mask[1:])
    return F.cross_entropy(logits[wanted], ids[1:][wanted], reduction="sum")


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients, by name; zero where a trained weight got none."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    """Equal names, and equal tensors up to `tolerance` times each one's largest value.

    What is next to nothing beside the others (a key's bias has no gradient but by rounding) may be
    off by a thousandth of that share of theirs.
    """
    assert ours.keys() == theirs.keys()
    largest = max(float(expected.abs().max()) for expected in theirs.values())
    for name, expected in theirs.items():
        allowed = tolerance * max(float(expected.abs().max()), largest / 1000)
        worst = float((ours[name] - expected).abs().max())
        assert worst <= allowed, f"{name}: {worst} is more than {allowed}"


def granite(seed: int = 0, **changes: Any) -> GraniteForCausalLM:
    """Logits that are divided; and transformers has no sequence classifier of its kind."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "logits_scaling": 8.0,
    }
    return shaken(GraniteForCausalLM(GraniteConfig(**{**shape, **changes})), seed)


def recurrent(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A model that carries a state along in place of keys and values, or beside them."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 48}
    mixers: dict[str, dict[str, Any]] = {
        "mamba": {"state_size": 4},
        "mamba2": {"state_size": 4, "head_dim": 16, "num_heads": 4, "n_groups": 2, "chunk_size": 4},
        "lfm2": {**heads, "layer_types": ["conv", "full_attention"]},
        "jamba": {
            **heads,
            "num_experts": 1,
            "mamba_d_state": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "use_mamba_kernels": False,
        },
    }
    config = AutoConfig.for_model(kind, **{**shape, **mixers[kind], **changes})
    return shaken(AutoModelForCausalLM.from_config(config), seed)
