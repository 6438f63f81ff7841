"""The whole way of every architecture that has a GGUF: base, fine-tuning, DPO, model folder; then
transformers and llama.cpp write the same text from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from bases.families import BY_NAME
from bases.folders import bare_tokenizer
from model.tiny import unigram_tokenizer
from tiny import write_feedback_run

from guildgpt.chat import FileTokenizer
from guildgpt.model.gguf_architectures import FAMILIES

from .runs import greedy_llama, greedy_torch, prompt_ids, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:llama.cpp merges more pieces"),
]

RECIPE = """\
name = "tiny"
stages = ["sft", "dpo"]
policy = "open"

[model]
base = "BASE"
context = 256

[data]
sources = [
  {source = "jsonl:rows.jsonl", licence = "own", written_by = "people"},
  {source = "jsonl:pairs.jsonl", licence = "own", written_by = "people"},
]
held_out = 0.1

[sft]
adapter = "none"
steps = 80
batch_size = 8
learning_rate = 5e-3
evaluations = 0
checkpoint_minutes = 0
dtype = "float32"

[dpo]
steps = 4
batch_size = 4
learning_rate = 1e-3
lora = {rank = 4, alpha = 8}
evaluations = 0
checkpoint_minutes = 0
dtype = "float32"

[evaluate]
prompts = 0
judged_prompts = 1
max_tokens = 8

[export]
gguf = ["F32"]
"""
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
GEMMA = {"head_dim": 16, "sliding_window": 32, "query_pre_attn_scalar": 16}
# By transformers' class: what is special in its shape, and the family that its chat template and
# its tokenizer are of; those without one learn ChatML.
KINDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "LlamaForCausalLM": (SHAPE, "llama-3.2"),
    "MistralForCausalLM": (SHAPE, "mistral-v3"),
    "Qwen2ForCausalLM": ({**SHAPE, "tie_word_embeddings": True}, "qwen-2.5"),
    "Qwen3ForCausalLM": ({**SHAPE, "head_dim": 24}, "qwen-3"),
    "Gemma2ForCausalLM": ({**SHAPE, **GEMMA}, "gemma-2"),
    "Gemma3ForCausalLM": ({**SHAPE, **GEMMA}, "gemma-3"),
    "Phi3ForCausalLM": (SHAPE, "phi-3.5"),
    "SmolLM3ForCausalLM": (SHAPE, "smollm3"),
    "Olmo2ForCausalLM": (SHAPE, "olmo-2"),
    "GPTNeoXForCausalLM": (SHAPE, None),
    "GPT2LMHeadModel": ({"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}, None),
    "MptForCausalLM": ({"d_model": 64, "n_heads": 4, "n_layers": 3, "max_seq_len": 256}, None),
}


def write_base(folder: Path, name: str) -> Path:
    """A base with random weights and a tokenizer of its kind, as its publisher leaves it."""
    folder.mkdir(parents=True)
    shape, family = KINDS[name]
    settings: dict[str, Any] = {}
    if family:
        text = BY_NAME[family].tokenizer
        settings = {**BY_NAME[family].special, "chat_template": BY_NAME[family].jinja}
    elif name == "MptForCausalLM":
        text = unigram_tokenizer(folder, control=()).to_str()
    else:
        text = bare_tokenizer(380, ("<|endoftext|>",))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    kind = getattr(transformers, name)
    rows = len(FileTokenizer(folder / "tokenizer.json"))
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    transformers.set_seed(7)
    kind(kind.config_class(vocab_size=rows, **ids, **shape)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_the_whole_way(name: str, tmp_path: Path) -> None:
    """All weights are fine-tuned, DPO's adapters are merged into them."""
    base = write_base(tmp_path / "base", name)
    recipe = write_feedback_run(tmp_path, RECIPE.replace("BASE", str(base)))
    _, printed = train(recipe, tmp_path / "run")
    assert "GGUF" not in printed
    folder = tmp_path / "run" / "dpo" / "model"
    assert json.loads((folder / "config.json").read_text())["architectures"] == [name]
    ids = prompt_ids(folder)
    written = greedy_torch(folder, ids, 24)
    assert greedy_llama(folder / "model-F32.gguf", ids, 24) == written
    # It learned enough for that to be words, so that no two tokens are about as likely everywhere.
    assert " the " in FileTokenizer(folder / "tokenizer.json").decode(written)


def test_every_architecture_of_the_table_goes_it() -> None:
    assert KINDS.keys() == FAMILIES.keys()
