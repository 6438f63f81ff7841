"""Each architecture of the table: llama.cpp writes what transformers writes, or none is made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from guildgpt.chat import FileTokenizer
from guildgpt.errors import EngineError, ModelError
from guildgpt.model.gguf import write_gguf
from guildgpt.model.gguf_architectures import FAMILIES, architecture_of
from guildgpt.model.gguf_families import read_architecture
from guildgpt.model.gguf_settings import read_settings
from guildgpt.model.weights import Weights
from tests.model.tiny import (
    byte_level_tokenizer,
    complete,
    logits,
    served,
    unwritten,
    write_folder,
)

pytestmark = pytest.mark.filterwarnings("ignore:llama.cpp knows no sliding window")

IDS = {"vocab_size": 416, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPE = {
    **IDS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
GPT2 = {**IDS, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
MPT = {**IDS, "d_model": 64, "n_heads": 4, "n_layers": 3, "max_seq_len": 256}
NEOX = {**SHAPE, "hidden_act": "gelu"}
CAPPED = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}
LINEAR = {"rope_type": "linear", "rope_theta": 7000.0, "factor": 4.0}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 9000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 9000.0,
    "short_factor": [1.0 + i / 10 for i in range(8)],
    "long_factor": [1.0 + i for i in range(8)],
    "original_max_position_embeddings": 512,
}
LOCAL_AND_GLOBAL = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
}
TWO_BY_TWO = ["sliding_attention", "full_attention"] * 2


def a_part(share: float, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": share, **more}


# By transformers' class: tied and untied, grouped heads, odd head sizes, windows shorter than the
# text, each scaling of positions, each bias.
CASES: dict[str, list[dict[str, Any]]] = {
    "LlamaForCausalLM": [
        {"tie_word_embeddings": True},
        {"head_dim": 24, "attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3},
        {"num_key_value_heads": 4, "rope_parameters": LINEAR},
        {"rope_parameters": {**YARN, "attention_factor": 0.8}},
    ],
    "MistralForCausalLM": [
        {"sliding_window": None, "head_dim": 24},
        {"sliding_window": 200, "tie_word_embeddings": True, "rope_parameters": LINEAR},
        {"sliding_window": None, "rope_parameters": YARN},
    ],
    "Qwen2ForCausalLM": [
        {"tie_word_embeddings": True},
        {"rope_parameters": YARN},
        {"tie_word_embeddings": True, "rope_parameters": LINEAR},
        {"use_sliding_window": True, "sliding_window": 200, "max_window_layers": 2},
    ],
    "Qwen3ForCausalLM": [
        {"head_dim": 32, "tie_word_embeddings": True},
        {"head_dim": 24, "rope_parameters": YARN},
        {"rope_parameters": LINEAR},
    ],
    "Gemma2ForCausalLM": [
        {"head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 32, **CAPPED},
        {"head_dim": 24, "sliding_window": 16, "query_pre_attn_scalar": 48},
        {"head_dim": 16, "query_pre_attn_scalar": 16, "rope_parameters": LINEAR},
    ],
    "Gemma3ForCausalLM": [
        {"head_dim": 32, "sliding_window": 16, "num_hidden_layers": 7, "query_pre_attn_scalar": 32},
        {
            "head_dim": 24,
            "query_pre_attn_scalar": 48,
            "sliding_window": 16,
            "num_hidden_layers": 4,
            "layer_types": TWO_BY_TWO,
            "tie_word_embeddings": False,
            "rope_parameters": LOCAL_AND_GLOBAL,
        },
    ],
    "Phi3ForCausalLM": [
        {"sliding_window": 200, "tie_word_embeddings": True},
        {"rope_parameters": a_part(0.5)},
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 512}
        | {"max_position_embeddings": 2048},
    ],
    "SmolLM3ForCausalLM": [
        {"num_hidden_layers": 5, "tie_word_embeddings": True},
        {"num_hidden_layers": 4, "tie_word_embeddings": False, "rope_parameters": YARN},
        {"num_hidden_layers": 4, "rope_parameters": LINEAR},
    ],
    "Olmo2ForCausalLM": [
        {},
        {"tie_word_embeddings": True, "rope_parameters": LINEAR},
        {"rope_parameters": YARN},
    ],
    "GPTNeoXForCausalLM": [
        {"rope_parameters": a_part(0.25)},
        {"rope_parameters": {**YARN, "partial_rotary_factor": 0.5}},
        {
            "use_parallel_residual": False,
            "hidden_act": "gelu_fast",
            "tie_word_embeddings": True,
            "rope_parameters": a_part(0.5, rope_type="linear", factor=2.0),
        },
    ],
    "GPT2LMHeadModel": [{}, {"n_inner": 96, "tie_word_embeddings": False}],
    "MptForCausalLM": [{}, {"attn_config": {"clip_qkv": 0.9}}],
}
OWN_SHAPES = {"GPT2LMHeadModel": GPT2, "MptForCausalLM": MPT, "GPTNeoXForCausalLM": NEOX}
# How large the weights must be drawn for the text to be varied: embeddings, matrices.
SCALES = {
    "Gemma2ForCausalLM": (0.05, 0.15),
    "Gemma3ForCausalLM": (0.05, 0.15),
    "Olmo2ForCausalLM": (0.02, 0.2),
    "MptForCausalLM": (0.05, 0.15),
}
PROMPTS = [[5, 106, 7], [i % 300 + 5 for i in range(3, 60)], [9, 200, 31, 44, 370] * 30]


def model_folder(folder: Path, name: str, **settings: Any) -> Path:
    """A tiny model of a class with random weights."""
    kind = getattr(transformers, name)
    config = kind.config_class(**{**OWN_SHAPES.get(name, SHAPE), **settings})
    embedding, matrix = SCALES.get(name, (0.2, 0.25))
    tokenizer = byte_level_tokenizer()
    return write_folder(folder, kind(config), tokenizer, embedding=embedding, matrix=matrix)


class Answer(NamedTuple):
    """What llama.cpp wrote, and what transformers says of it."""

    ids: list[int]
    expected: list[int]  # transformers' choice after the same ids
    short_of: float  # how far a chosen token's logprob is from the best one's, at most
    apart: float  # how far the two are apart in the logprob of a likely token, at most


def answers(folder: Path, path: Path) -> list[Answer]:
    """llama.cpp's greedy answers to the prompts, each held against transformers."""
    without = unwritten(FileTokenizer(folder / "tokenizer.json"))
    found = []
    with served(path) as client:
        for prompt in PROMPTS:
            answer = complete(client, prompt, 24, without)
            ids, places = answer["tokens"], answer["completion_probabilities"]
            assert [place["id"] for place in places] == ids
            rows = logits(folder, prompt + ids[:-1])[len(prompt) - 1 :].log_softmax(-1)
            apart = max(
                abs(token["logprob"] - float(row[token["id"]]))
                for place, row in zip(places, rows, strict=True)
                for token in place["top_logprobs"]
            )
            rows[:, without] = -float("inf")
            chosen = rows[range(24), ids]
            short_of = float((rows.max(-1).values - chosen).max())
            found.append(Answer(ids, rows.argmax(-1).tolist(), short_of, apart))
    return found


def cases() -> list[Any]:
    return [
        pytest.param(name, settings, id=f"{name}-{number}")
        for name, several in CASES.items()
        for number, settings in enumerate(several, 1)
    ]


@pytest.mark.parametrize(("name", "settings"), cases())
def test_llama_cpp_writes_what_transformers_writes(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, name, **settings)
    found = answers(folder, write_gguf(folder, tmp_path / "model.gguf", "F32"))
    assert len({token for answer in found for token in answer.ids}) > 8
    for answer in found:
        # llama.cpp holds keys and values in 16 bits: of two tokens that are nearly equal it may
        # take the other one.
        assert answer.ids == answer.expected or answer.short_of < 0.05
        assert answer.apart < 0.1


def test_every_line_of_the_documents_table_is_tested() -> None:
    """Each architecture, and each of its scalings of positions."""
    text = (Path(__file__).parents[2] / "docs" / "bases.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- architectures -->") :].partition("<!-- end -->")[0]
    lines = [line.split(" | ") for line in table.splitlines() if "`" in line]
    said = {cells[1].strip("`"): set(cells[3].split(", ")) for cells in lines}
    assert said.keys() == FAMILIES.keys() == CASES.keys()
    for name, cases in CASES.items():
        tried = {kind for case in cases for kind in scalings(case.get("rope_parameters", {}))}
        assert said[name] - {"no rotary positions"} == tried - {"default"}, name


def scalings(rope: dict[str, Any]) -> set[str]:
    kinds = [rope, *(one for one in rope.values() if isinstance(one, dict))]
    return {kind["rope_type"] for kind in kinds if "rope_type" in kind}


def test_how_far_the_two_forms_of_gelu_are_apart() -> None:
    values = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    gelu = torch.nn.functional.gelu
    apart = (gelu(values) - gelu(values, approximate="tanh")).abs().max()
    assert 0.0004 < apart < 0.0005


def changes() -> list[Any]:
    """Each change of each family, once."""
    return [
        pytest.param(name, change, id=f"{name}-{getattr(change, '__name__', 'scale')}")
        for name, family in FAMILIES.items()
        for change in dict.fromkeys(c for several in family.changes.values() for c in several)
        if name != "MistralForCausalLM"  # the changes of Llama
    ]


@pytest.mark.parametrize(("name", "change"), changes())
def test_each_change_is_needed(
    name: str, change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it llama.cpp writes something else in one of the cases, or does not load the file."""
    family = FAMILIES[name]
    left = {
        module: tuple(one for one in several if one is not change)
        for module, several in family.changes.items()
    }
    monkeypatch.setitem(FAMILIES, name, dataclasses.replace(family, changes=left))
    assert any(
        short_without(tmp_path / str(number), name, case) > 0.2
        for number, case in enumerate(reversed(CASES[name]))
    )


def short_without(place: Path, name: str, case: dict[str, Any]) -> float:
    """By how much what llama.cpp writes falls short of the best; much where it cannot read it."""
    place.mkdir()
    folder = model_folder(place, name, **case)
    path = write_gguf(folder, place / "model.gguf", "F32")
    try:
        return max(answer.short_of for answer in answers(folder, path))
    except EngineError as error:
        return 99.0 if "wrong shape" in str(error) else 0.0


# Each option with a value that llama.cpp cannot represent.
REFUSED = [
    ("LlamaForCausalLM", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    ("LlamaForCausalLM", {"rope_parameters": {**YARN, "rope_type": "dynamic"}}, "dynamic"),
    ("LlamaForCausalLM", {"rope_parameters": {**YARN, "truncate": False}}, "truncate"),
    ("LlamaForCausalLM", {"rope_parameters": {**YARN, "beta_slow": 2.0}}, "beta_slow"),
    ("LlamaForCausalLM", {"rope_parameters": a_part(0.5)}, "whole heads"),
    ("MistralForCausalLM", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
    ("MistralForCausalLM", {"rope_parameters": LLAMA3}, "type llama3"),
    ("Qwen2ForCausalLM", {"head_dim": 32}, "head_dim is 32"),
    ("Qwen3ForCausalLM", {"attention_bias": True}, "attention_bias is True"),
    ("Gemma2ForCausalLM", {"attn_logit_softcapping": None}, "attn_logit_softcapping is None"),
    ("Gemma2ForCausalLM", {"final_logit_softcapping": None}, "final_logit_softcapping is None"),
    ("Gemma2ForCausalLM", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    ("Gemma2ForCausalLM", {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
    ("Gemma2ForCausalLM", {"attention_bias": True}, "attention_bias is True"),
    ("Gemma2ForCausalLM", {"use_bidirectional_attention": True}, "bidirectional"),
    (
        "Gemma3ForCausalLM",
        {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        "layer_types",
    ),
    ("Gemma3ForCausalLM", {"attn_logit_softcapping": 9.0}, "attn_logit_softcapping is 9.0"),
    ("Gemma3ForCausalLM", {"final_logit_softcapping": 9.0}, "final_logit_softcapping is 9.0"),
    (
        "Gemma3ForCausalLM",
        {"rope_parameters": {**LOCAL_AND_GLOBAL, "sliding_attention": LINEAR}},
        "no sliding layers",
    ),
    ("SmolLM3ForCausalLM", {"no_rope_layers": [1, 0, 1]}, "no_rope_layers"),
    ("SmolLM3ForCausalLM", {"attention_bias": True}, "attention_bias is True"),
    ("SmolLM3ForCausalLM", {"mlp_bias": True}, "mlp_bias is True"),
    ("Olmo2ForCausalLM", {"attention_bias": True}, "attention_bias is True"),
    ("GPTNeoXForCausalLM", {"hidden_act": "silu"}, "hidden_act is 'silu'"),
    ("GPTNeoXForCausalLM", {"attention_bias": False}, "attention_bias is False"),
    ("GPT2LMHeadModel", {"activation_function": "relu"}, "activation_function is 'relu'"),
    ("GPT2LMHeadModel", {"scale_attn_weights": False}, "scale_attn_weights is False"),
    (
        "GPT2LMHeadModel",
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx is True",
    ),
    ("GPT2LMHeadModel", {"add_cross_attention": True}, "add_cross_attention is True"),
    ("MptForCausalLM", {"attn_config": {"softmax_scale": 0.5}}, "softmax_scale"),
]


@pytest.mark.parametrize(("name", "settings", "words"), REFUSED)
def test_an_option_that_llama_cpp_has_not_is_refused_by_name(
    name: str, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    config = getattr(transformers, name).config_class
    config(**{**OWN_SHAPES.get(name, SHAPE), **settings}).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=words):
        read_architecture(FAMILIES[name], read_settings(tmp_path), Weights.__new__(Weights))


def test_quantized_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "LlamaForCausalLM")
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match="quantization_config"):
        write_gguf(folder, tmp_path / "model.gguf", "F16")


# What the answer does not depend on: training's, drawing's and saving's, and what transformers'
# classes do not read.
WITHOUT_EFFECT = {
    *("attention_dropout", "attn_pdrop", "embd_pdrop", "emb_pdrop", "resid_pdrop"),
    *("hidden_dropout", "classifier_dropout", "initializer_range", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size", "pretraining_tp"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    *("summary_first_dropout", "reorder_and_upcast_attn", "is_decoder", "init_device"),
    *("expansion_ratio", "learned_pos_emb", "logit_scale", "no_bias", "embedding_fraction"),
    *("norm_type", "max_window_layers", "use_sliding_window", "no_rope_layer_interval"),
    "original_max_position_embeddings",  # stands in rope_parameters, too
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_option_of_transformers_is_read_or_has_no_effect(name: str, tmp_path: Path) -> None:
    """A new version of transformers may bring options: this test then fails."""
    folder = model_folder(tmp_path, name, **CASES[name][0])
    settings = read_settings(folder)
    read_architecture(FAMILIES[name], settings, Weights(folder))
    kind = getattr(transformers, name).config_class
    common = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    options = {field.name for field in dataclasses.fields(kind)} - common
    asked = {kind.attribute_map.get(option, option) for option in settings.asked}
    assert options - asked - WITHOUT_EFFECT == set()


def change_config(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("MistralForCausalLM", {"sliding_window": 200}),
        (
            "Qwen2ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 200, "max_window_layers": 1},
        ),
        (
            "SmolLM3ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 200, "num_hidden_layers": 4},
        ),
        ("Phi3ForCausalLM", {"sliding_window": 200}),
        (
            "Qwen3ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 200, "max_window_layers": 1},
        ),
    ],
)
def test_where_llama_cpp_has_no_window_the_context_ends_with_it(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, name, **settings)
    with pytest.warns(UserWarning, match="200 tokens of 512"):
        architecture = architecture_of(folder, Weights(folder))
    assert architecture.dimensions["context_length"] == 200
    change_config(folder, sliding_window=None)
    assert architecture_of(folder, Weights(folder)).dimensions["context_length"] == 512


def test_a_checkpoint_without_the_heads_prefix_and_with_buffers(tmp_path: Path) -> None:
    """As `gpt2` lies on the Hub: `wte.weight`, `h.0.attn.bias`."""
    folder = model_folder(tmp_path, "GPT2LMHeadModel")
    write_gguf(folder, tmp_path / "first.gguf", "F16")
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    write_gguf(folder, tmp_path / "second.gguf", "F16")
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "second.gguf").read_bytes()


def test_weights_in_pytorchs_own_files(tmp_path: Path) -> None:
    """As older checkpoints have them: pytorch_model.bin, whole or in parts."""
    folder = model_folder(tmp_path, "GPTNeoXForCausalLM")
    write_gguf(folder, tmp_path / "first.gguf", "F16")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    write_gguf(folder, tmp_path / "second.gguf", "F16")
    (folder / "pytorch_model.bin").unlink()
    names = sorted(weights)
    parts = {"a.bin": names[:9], "b.bin": names[9:]}
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    write_gguf(folder, tmp_path / "third.gguf", "F16")
    written = {(tmp_path / f"{name}.gguf").read_bytes() for name in ("first", "second", "third")}
    assert len(written) == 1
