"""GGUF: what llama.cpp computes from the file is what transformers computes from the folder."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path
from typing import get_args

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MptConfig
from transformers import MptForCausalLM as Mpt

from guildgpt.chat import CHATML, FileTokenizer, Message
from guildgpt.errors import ModelError
from guildgpt.model import gguf_types
from guildgpt.model.gguf import write_gguf
from guildgpt.model.gguf_types import KINDS, QUANTIZATIONS, stored_as
from guildgpt.recipe import Quantization
from tests.model.tiny import (
    CORPUS,
    TEXTS,
    byte_level_tokenizer,
    complete,
    greedy,
    served,
    tokenize,
    unigram_tokenizer,
    write_folder,
)

CONVERSATION = [Message("system", "Be brief."), Message("user", "What owns a value in Rust?")]


# --- folders -------------------------------------------------------------------------------------


def llama_config(**changes: object) -> LlamaConfig:
    settings = {
        "vocab_size": 416,  # more rows than tokens
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    return write_folder(folder, LlamaForCausalLM(llama_config()), byte_level_tokenizer())


@pytest.fixture(scope="module")
def other_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the first one has not: own head, wide heads, biases, Llama 3's rope, shards."""
    config = llama_config(
        tie_word_embeddings=False,
        head_dim=32,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 5000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    )
    folder = tmp_path_factory.mktemp("other-llama")
    model = LlamaForCausalLM(config)
    return write_folder(folder, model, byte_level_tokenizer(), max_shard_size="100KB")


@pytest.fixture(scope="module")
def mpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mpt")
    config = MptConfig(
        d_model=64, n_heads=4, n_layers=3, max_seq_len=256, vocab_size=128, eos_token_id=1
    )
    return write_folder(folder, Mpt(config), unigram_tokenizer(folder))


# --- llama.cpp -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "other_llama", "mpt"])
def test_llama_cpp_computes_what_transformers_computes(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    ids = CHATML.prompt(CONVERSATION, FileTokenizer(folder / "tokenizer.json"))
    with served(write_gguf(folder, tmp_path / "model.gguf", "F16")) as client:
        answer = complete(client, ids)
    expected, logprobs = greedy(folder, ids, len(answer["tokens"]))
    assert len(expected) == 12 or answer["stop_type"] == "eos"
    assert answer["tokens"] == expected
    first = answer["completion_probabilities"][0]["top_logprobs"]
    assert len(first) == 40
    # What llama.cpp rounds: weights and the key-value cache to 16 bits, and MPT's GELU.
    assert max(abs(t["logprob"] - float(logprobs[t["id"]])) for t in first) < 0.03


ERRORS = {"F32": 0.02, "F16": 0.03, "BF16": 0.1, "Q8_0": 0.3, "Q6_K": 1.0, "Q5_K": 2.0}
ERRORS |= {"Q4_K": 3.0, "Q4_1": 3.0}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that divide into a K-type's blocks, but for those of the down projection."""
    config = llama_config(hidden_size=256, num_hidden_layers=1)
    folder = tmp_path_factory.mktemp("wide")
    return write_folder(
        folder, LlamaForCausalLM(config), byte_level_tokenizer(), embedding=0.1, matrix=0.06
    )


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_quantization_runs(wide: Path, tmp_path: Path, quantization: str) -> None:
    path = write_gguf(wide, tmp_path / "model.gguf", quantization)
    ids = CHATML.prompt(CONVERSATION, FileTokenizer(wide / "tokenizer.json"))
    with served(path) as client:
        first = complete(client, ids)["completion_probabilities"][0]["top_logprobs"]
    _, logprobs = greedy(wide, ids, 1)
    error = max(abs(t["logprob"] - float(logprobs[t["id"]])) for t in first[:10])
    assert error < ERRORS[quantization]


def test_a_recipe_knows_every_quantization() -> None:
    assert get_args(Quantization) == QUANTIZATIONS


def documented() -> list[list[str]]:
    """The lines of the table of kinds: the kind, then what it holds things in."""
    text = (Path(__file__).parents[2] / "docs" / "bases.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- quantizations -->") :].partition("<!-- end -->")[0]
    return [re.findall(r"\w+", line) for line in table.splitlines() if "`" in line]


def test_every_kind_is_documented() -> None:
    assert tuple(line[0] for line in documented()) == QUANTIZATIONS


@pytest.mark.parametrize("line", documented(), ids=lambda line: line[0])
def test_what_a_kind_of_file_holds(line: list[str], wide: Path, tmp_path: Path) -> None:
    kind, matrices, ends, narrow = line
    types = tensor_types(write_gguf(wide, tmp_path / "model.gguf", kind))
    assert types["token_embd.weight"] == ends
    assert types["blk.0.attn_q.weight"] == matrices
    assert types["blk.0.attn_norm.weight"] == "F32"
    # Rows of 96 are too narrow for a K-type's blocks of 256, and not for blocks of 32.
    assert types["blk.0.ffn_down.weight"] == (narrow if kind.endswith("_K") else matrices)
    if not kind.endswith("_K"):
        assert stored_as("x", (4, 40), KINDS[kind]).name == narrow


def test_a_k_type_is_as_near_as_its_bits_say(wide: Path, tmp_path: Path) -> None:
    """What llama.cpp's quantizer wrote, read back by the `gguf` package."""
    exact = (
        AutoModelForCausalLM.from_pretrained(wide)
        .model.layers[0]
        .mlp.up_proj.weight.detach()
        .numpy()
    )
    apart = {}
    for name in ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_1"):
        reader = gguf.GGUFReader(write_gguf(wide, tmp_path / f"{name}.gguf", name))
        (found,) = (t for t in reader.tensors if t.name == "blk.0.ffn_up.weight")
        values = gguf.quants.dequantize(found.data, found.tensor_type)
        apart[name] = float(abs(values - exact).mean() / exact.std())
    assert apart["Q8_0"] < apart["Q6_K"] < apart["Q5_K"] < apart["Q4_K"] < apart["Q4_1"] < 0.08


def test_a_wheel_without_the_quantizer_is_said(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_types, "_llama_cpp", lambda: None)
    with pytest.raises(ModelError, match="does not offer its quantizer") as refused:
        write_gguf(wide, tmp_path / "model.gguf", "Q6_K")
    assert "F32, F16, BF16, Q8_0, Q4_1" in (refused.value.remedy or "")
    assert write_gguf(wide, tmp_path / "model.gguf", "Q4_1").is_file()


@pytest.mark.parametrize("name", ["llama", "mpt"])
def test_llama_cpp_tokenizes_as_the_folder(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    tokenizer = FileTokenizer(folder / "tokenizer.json")
    with served(write_gguf(folder, tmp_path / "model.gguf", "F16")) as client:
        for text in [*TEXTS, *CORPUS]:
            assert tokenize(client, text) == tokenizer.encode(text), text
        turns = [message.as_dict() for message in CONVERSATION]
        prompt = client.post("/apply-template", json={"messages": turns}).json()["prompt"]
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhat owns a value in Rust?<|im_end|>\n<|im_start|>assistant\n"
    )


# --- the file ------------------------------------------------------------------------------------


def metadata(path: Path) -> dict[str, object]:
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}


def tensor_types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_types_of_tensors(llama: Path, tmp_path: Path) -> None:
    types = tensor_types(write_gguf(llama, tmp_path / "model.gguf", "Q4_1"))
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.0.attn_q.weight"] == types["blk.1.ffn_down.weight"] == "Q4_1"
    assert types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == "F32"
    assert "output.weight" not in types  # tied


def test_rows_that_do_not_divide_into_blocks_are_f16(tmp_path: Path) -> None:
    config = llama_config(intermediate_size=80)
    folder = write_folder(tmp_path, LlamaForCausalLM(config), byte_level_tokenizer())
    types = tensor_types(write_gguf(folder, tmp_path / "model.gguf", "Q8_0"))
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"


def test_bfloat16_weights(llama: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "template.json"):
        (tmp_path / name).write_bytes((llama / name).read_bytes())
    reader = gguf.GGUFReader(write_gguf(tmp_path, tmp_path / "model.gguf", "F32"))
    written = {tensor.name: tensor.data for tensor in reader.tensors}
    expected = model.model.layers[0].mlp.up_proj.weight.detach().float().numpy()
    assert (written["blk.0.ffn_up.weight"] == expected).all()


def test_tokenizer_metadata(llama: Path, mpt: Path, tmp_path: Path) -> None:
    fields = metadata(write_gguf(llama, tmp_path / "llama.gguf", "Q8_0"))
    assert fields["tokenizer.ggml.model"] == "gpt2"
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.ggml.add_eos_token"] is False
    assert fields["tokenizer.ggml.eos_token_id"] == fields["tokenizer.ggml.eot_token_id"] == 2
    assert fields["tokenizer.ggml.padding_token_id"] == 0
    assert fields["tokenizer.chat_template"] == CHATML.jinja
    assert len(fields["tokenizer.ggml.tokens"]) == 416
    assert fields["tokenizer.ggml.tokens"][-1] == "[PAD415]"
    types = fields["tokenizer.ggml.token_type"]
    assert types[:3] == [gguf.TokenType.CONTROL] * 3
    assert types[3] == gguf.TokenType.NORMAL
    assert types[-1] == gguf.TokenType.UNUSED

    fields = metadata(write_gguf(mpt, tmp_path / "mpt.gguf", "Q8_0"))
    assert fields["tokenizer.ggml.model"] == "t5"
    assert fields["tokenizer.ggml.add_space_prefix"] is False
    assert fields["tokenizer.ggml.remove_extra_whitespaces"] is False
    assert fields["tokenizer.ggml.eos_token_id"] == 101
    assert fields["tokenizer.ggml.unknown_token_id"] == 0
    assert fields["mpt.attention.max_alibi_bias"] == 8.0


# --- errors --------------------------------------------------------------------------------------


def copy(folder: Path, to: Path, **config: object) -> Path:
    """The folder again, with other settings in its config.json."""
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    settings = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**settings, **config}))
    return to


def test_other_architectures_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path, architectures=["BloomForCausalLM"])
    with pytest.raises(ModelError, match=r"LlamaForCausalLM, .*, MptForCausalLM; "):
        write_gguf(folder, tmp_path / "model.gguf", "F16")


def test_other_quantizations_are_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=", ".join(QUANTIZATIONS)):
        write_gguf(llama, tmp_path / "model.gguf", "Q2_K")


def test_a_missing_or_foreign_tensor_is_named(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"model\.layers\.2\..* is missing \(9 such\)"):
        write_gguf(folder, tmp_path / "model.gguf", "F16")
    folder = copy(llama, tmp_path, num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"model\.layers\.1\..* has no place"):
        write_gguf(folder, tmp_path / "model.gguf", "F16")


def test_more_tokens_than_rows_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path)
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens([f"<{i}>" for i in range(100)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="416 embedding rows"):
        write_gguf(folder, tmp_path / "model.gguf", "F16")


def test_other_rotary_scaling_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4})
    with pytest.raises(ModelError, match="yarn"):
        write_gguf(folder, tmp_path / "model.gguf", "F16")


def test_truncated_weights_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors: this is not a whole"):
        write_gguf(folder, tmp_path / "model.gguf", "F16")


def test_a_full_disk_leaves_nothing_behind(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    out.write_bytes(b"the file that was there")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ModelError, match="nothing was left behind"):
            write_gguf(llama, out, "F16")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == b"the file that was there"
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
