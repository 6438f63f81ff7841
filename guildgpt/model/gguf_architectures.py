"""The architectures that have a GGUF, as a table: what transformers and llama.cpp call everything.

A row names the tensors in both, how they change, what llama.cpp is told of the model's shape, and
which values of transformers' options it can represent. `gguf_families.py` has the rows' form.

llama.cpp's names of tensors and keys are the `gguf` package's. What its graphs compute is in its
`src/models/`, what they expect of a tensor in its `conversion/`:
https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guildgpt.errors import ModelError
from guildgpt.model.gguf_families import (
    ALWAYS,
    Architecture,
    Family,
    Value,
    fills_its_width,
    full_period,
    head_dim,
    heads,
    kv_heads,
    mpt_scale,
    read_architecture,
    read_shape,
    ropes_three_of_four,
    within_window,
)
from guildgpt.model.gguf_settings import WITHOUT_GGUF, Settings, read_settings
from guildgpt.model.gguf_tensors import (
    gemma_scale,
    kind_by_kind,
    one_more,
    paired_keys,
    paired_queries,
    transposed,
)
from guildgpt.model.json_file import read_json
from guildgpt.model.weights import Weights

_SIZES: dict[str, Value] = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "head_count": heads,
}
_GROUPED: dict[str, Value] = {
    **_SIZES,
    "feed_forward_length": "intermediate_size",
    "head_count_kv": kv_heads,
    "key_length": head_dim,
    "value_length": head_dim,
    "layer_norm_rms_eps": "rms_norm_eps",
}
_WINDOWED: dict[str, Value] = {**_GROUPED, "context_length": within_window}
_ENDS = {"embed_tokens": "token_embd", "norm": "output_norm"}
_ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
_QK_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_GATED = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_BEFORE = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_LLAMA = {**_ATTENTION, **_GATED, **_BEFORE}
_AROUND = {  # norms before and after attention and feed-forward
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_GPT = {
    "attn_qkv": (transposed,),
    "attn_output": (transposed,),
    "ffn_up": (transposed,),
    "ffn_down": (transposed,),
}
_PAIRS = {"attn_q": (paired_queries,), "attn_k": (paired_keys,)}
_SILU = {"hidden_act": ("silu",)}
_NO_WINDOW = "a sliding window ends the context"
_GELU = "GELU in its tanh form, which differs by less than 0.0005"
_GELUS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
_GEMMA = {
    "hidden_activation": ("gelu_pytorch_tanh", "gelu_new"),
    "attention_bias": (False,),
    "use_bidirectional_attention": (None, False),
}

FAMILIES = {
    "LlamaForCausalLM": Family(
        "llama",
        models="Llama 2 and 3, TinyLlama, SmolLM, SmolLM2",
        ends=_ENDS,
        parts=_LLAMA,
        biases={"self_attn": "attention_bias", "mlp": "mlp_bias"},
        changes=_PAIRS,
        dimensions=_GROUPED,
        scalings=("linear", "yarn", "llama3"),
        only=_SILU,
    ),
    "MistralForCausalLM": Family(
        "llama",
        models="Mistral 7B, Ministral, Zephyr",
        limits=_NO_WINDOW,
        ends=_ENDS,
        parts=_LLAMA,
        changes=_PAIRS,
        dimensions=_WINDOWED,
        scalings=("linear", "yarn"),
        only=_SILU,
    ),
    "Qwen2ForCausalLM": Family(
        "qwen2",
        models="Qwen 2 and 2.5",
        limits=_NO_WINDOW,
        ends=_ENDS,
        parts=_LLAMA,
        biases={f"self_attn.{name}_proj": ALWAYS for name in "qkv"},
        dimensions=_WINDOWED,
        scalings=("linear", "yarn"),
        only=_SILU,
        checks=(fills_its_width,),
    ),
    "Qwen3ForCausalLM": Family(
        "qwen3",
        models="Qwen 3",
        limits=_NO_WINDOW,
        ends=_ENDS,
        parts={**_LLAMA, **_QK_NORMS},
        dimensions=_WINDOWED,
        scalings=("linear", "yarn"),
        only={**_SILU, "attention_bias": (False,)},
    ),
    "Gemma2ForCausalLM": Family(
        "gemma2",
        models="Gemma 2",
        limits="tied, with both soft caps; full attention in every nth layer",
        ends=_ENDS,
        parts={**_ATTENTION, **_GATED, **_AROUND},
        changes={
            "attn_q": (gemma_scale(large=46),),
            **dict.fromkeys(["output_norm", *_AROUND.values()], (one_more,)),
        },
        dimensions={
            **_GROUPED,
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            "sliding_window": "sliding_window",
            "sliding_window_pattern": full_period,
        },
        scalings=("linear",),
        only={**_GEMMA, "tie_word_embeddings": (True,)},
        given=("attn_logit_softcapping", "final_logit_softcapping", "sliding_window"),
    ),
    "Gemma3ForCausalLM": Family(
        "gemma3",
        models="Gemma 3 (text)",
        limits="text alone; no soft caps; full attention in every nth layer",
        ends=_ENDS,
        parts={**_ATTENTION, **_GATED, **_AROUND, **_QK_NORMS},
        changes={
            **dict.fromkeys(["output_norm", *_AROUND.values(), "attn_k_norm"], (one_more,)),
            "attn_q_norm": (one_more, gemma_scale(large=62)),
        },
        dimensions={
            **_GROUPED,
            "sliding_window": "sliding_window",
            "sliding_window_pattern": full_period,
        },
        scalings=("linear",),
        only={**_GEMMA, "attn_logit_softcapping": (None,), "final_logit_softcapping": (None,)},
        given=("sliding_window",),
    ),
    "Phi3ForCausalLM": Family(
        "phi3",
        models="Phi 3, 3.5 and 4",
        limits=_NO_WINDOW + "; a context longer than the original one takes the long factors",
        ends=_ENDS,
        parts={
            **_BEFORE,
            "self_attn.qkv_proj": "attn_qkv",
            "self_attn.o_proj": "attn_output",
            "mlp.gate_up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        },
        dimensions=_WINDOWED,
        scalings=("longrope",),
        rotates_a_part=True,
        only=_SILU,
        checks=(fills_its_width,),
    ),
    "SmolLM3ForCausalLM": Family(
        "smollm3",
        models="SmolLM3",
        limits=_NO_WINDOW + "; every fourth layer without positions",
        ends=_ENDS,
        parts=_LLAMA,
        changes=_PAIRS,
        dimensions=_WINDOWED,
        scalings=("linear", "yarn"),
        only={**_SILU, "attention_bias": (False,), "mlp_bias": (False,)},
        checks=(ropes_three_of_four,),
    ),
    "Olmo2ForCausalLM": Family(
        "olmo2",
        models="OLMo 2",
        ends=_ENDS,
        parts={
            **_ATTENTION,
            **_QK_NORMS,
            **_GATED,
            "post_attention_layernorm": "post_attention_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        },
        dimensions=_GROUPED,
        scalings=("linear", "yarn"),
        only={**_SILU, "attention_bias": (False,)},
        checks=(fills_its_width,),
        needs_head=True,
    ),
    "GPTNeoXForCausalLM": Family(
        "gptneox",
        models="Pythia, GPT-NeoX",
        limits=_GELU,
        root="gpt_neox",
        head="embed_out",
        ends={"embed_in": "token_embd", "final_layer_norm": "output_norm"},
        parts={
            **_BEFORE,
            "attention.query_key_value": "attn_qkv",
            "attention.dense": "attn_output",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
        },
        biases={"": ALWAYS},
        changes={"attn_qkv": (kind_by_kind,)},
        dimensions={
            **_SIZES,
            "feed_forward_length": "intermediate_size",
            "layer_norm_eps": "layer_norm_eps",
            "parallel_residual": "use_parallel_residual",
        },
        scalings=("linear", "yarn"),
        rotates_a_part=True,
        only={"hidden_act": _GELUS, "attention_bias": (True,)},
        needs_head=True,
    ),
    "GPT2LMHeadModel": Family(
        "gpt2",
        models="GPT-2",
        limits=_GELU,
        root="transformer",
        layers="h",
        ends={"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"},
        parts={
            "ln_1": "attn_norm",
            "attn.c_attn": "attn_qkv",
            "attn.c_proj": "attn_output",
            "ln_2": "ffn_norm",
            "mlp.c_fc": "ffn_up",
            "mlp.c_proj": "ffn_down",
        },
        biases=dict.fromkeys(("ln_1", "attn", "ln_2", "mlp", "ln_f"), ALWAYS),
        changes=_GPT,
        dimensions={
            **_SIZES,
            "feed_forward_length": lambda s: s["n_inner"] or 4 * s["hidden_size"],
            "layer_norm_eps": "layer_norm_epsilon",
        },
        only={
            "activation_function": _GELUS,
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
    ),
    "MptForCausalLM": Family(
        "mpt",
        models="MPT, replit-code",
        limits=_GELU,
        root="transformer",
        layers="blocks",
        ends={"wte": "token_embd", "norm_f": "output_norm"},
        parts={
            "norm_1": "attn_norm",
            "attn.Wqkv": "attn_qkv",
            "attn.out_proj": "attn_output",
            "norm_2": "ffn_norm",
            "ffn.up_proj": "ffn_up",
            "ffn.down_proj": "ffn_down",
        },
        dimensions={
            **_SIZES,
            "context_length": "max_seq_len",
            # transformers' MPT knows no other numbers than these, whatever the config says.
            "feed_forward_length": lambda s: 4 * s["hidden_size"],
            "max_alibi_bias": lambda s: 8.0,
            "layer_norm_eps": "layer_norm_epsilon",
            "clamp_kqv": lambda s: s["attn_config"].clip_qkv or None,
        },
        checks=(mpt_scale,),
    ),
}


def architecture_of(folder: Path, weights: Weights) -> Architecture:
    """The architecture of a model folder; ModelError where it has none that llama.cpp knows."""
    where = folder / "config.json"
    name = (read_json(where).get("architectures") or ["none"])[0]
    return read_architecture(_family(name, where), read_settings(folder), weights)


def check_architecture(name: str, config: Any, where: Path) -> None:
    """ModelError where a model of the class `name` with this configuration has no GGUF."""
    read_shape(_family(name, where), Settings(config, where))


def _family(name: str, where: Path) -> Family:
    if name not in FAMILIES:
        raise ModelError(
            f"the architecture {name} has no GGUF here",
            where=where,
            remedy=f"There is one of {', '.join(FAMILIES)}; {WITHOUT_GGUF}",
        )
    return FAMILIES[name]
