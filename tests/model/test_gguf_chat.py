"""What a GGUF says of conversations, of folders of ours and of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors
from transformers import Qwen2Config, Qwen2ForCausalLM

from guildgpt.chat import CHATML
from guildgpt.errors import ModelError
from guildgpt.model.gguf import write_gguf
from guildgpt.model.gguf_file import read_head
from tests.model.tiny import byte_level_tokenizer, served, write_folder

TURNS = [{"role": "user", "content": "Who owns it?"}]
THEIRS = (
    "{{ bos_token }}{% for m in messages %}<start>{{ m.role }}:{{ m.content }}<stop>{% endfor %}"
    "{% if add_generation_prompt %}<start>assistant:{% endif %}"
)


def foreign_folder(folder: Path, tokenizer: Tokenizer, **config: Any) -> Path:
    """What transformers saves, without a template.json."""
    settings = {
        "vocab_size": 416,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    write_folder(folder, Qwen2ForCausalLM(Qwen2Config(**{**settings, **config})), tokenizer)
    (folder / "template.json").unlink()
    return folder


def without_chatml() -> Tokenizer:
    spec = json.loads(byte_level_tokenizer().to_str())
    text = json.dumps(spec).replace("<|im_start|>", "<start>").replace("<|im_end|>", "<stop>")
    return Tokenizer.from_str(text)


def metadata(folder: Path) -> dict[str, Any]:
    found = read_head(write_gguf(folder, folder / "model.gguf", "F16")).metadata
    return {
        name.removeprefix("tokenizer.").removeprefix("ggml."): value
        for name, value in found.items()
        if name.startswith("tokenizer.")
    }


def test_chatml_where_there_is_no_template_and_the_vocabulary_has_its_tokens(
    tmp_path: Path,
) -> None:
    folder = foreign_folder(tmp_path, byte_level_tokenizer(), eos_token_id=0)
    found = metadata(folder)
    assert found["chat_template"] == CHATML.jinja
    assert found["eos_token_id"] == found["eot_token_id"] == 2
    assert found["add_bos_token"] is False


def test_a_template_of_its_own_goes_before_chatml(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, byte_level_tokenizer(), eos_token_id=2)
    (folder / "chat_template.jinja").write_text(THEIRS)
    assert metadata(folder)["chat_template"] == THEIRS


def test_else_the_folders_own_template_and_ends(tmp_path: Path) -> None:
    tokenizer = without_chatml()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    folder = foreign_folder(tmp_path, tokenizer, bos_token_id=0, eos_token_id=[0, 2])
    named = {"eos_token": {"content": "<stop>"}, "chat_template": THEIRS}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    found = metadata(folder)
    assert found["chat_template"] == THEIRS
    assert (found["eos_token_id"], found["eot_token_id"]) == (2, 0)
    assert (found["bos_token_id"], found["add_bos_token"]) == (0, True)
    with served(folder / "model.gguf") as client:
        prompt = client.post("/apply-template", json={"messages": TURNS}).json()["prompt"]
        ids = client.post("/tokenize", json={"content": "a", "add_special": True}).json()["tokens"]
    assert prompt.endswith("<start>user:Who owns it?<stop><start>assistant:")
    assert ids == [0, tokenizer.token_to_id("a")]


@pytest.mark.parametrize(
    "tokenizer_config",
    [
        {"chat_template": [{"name": name, "template": name[0]} for name in ("no", "default")]},
        {"chat_template": "no"},
    ],
)
def test_where_a_template_lies(tokenizer_config: dict[str, Any], tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, without_chatml(), eos_token_id=2)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    if isinstance(tokenizer_config["chat_template"], str):
        (folder / "chat_template.jinja").write_text("d")  # goes before
    found = metadata(folder)
    assert found["chat_template"] == "d"
    assert "eot_token_id" not in found
    assert found["bos_token_id"] == found["padding_token_id"] == found["eos_token_id"] == 2


def test_a_model_without_a_template_or_an_end(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, without_chatml())
    for file in ("config.json", "generation_config.json"):
        settings = json.loads((folder / file).read_text())
        settings.pop("eos_token_id", None)
        (folder / file).write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="which token ends a text"):
        write_gguf(folder, folder / "model.gguf", "F16")
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    found = metadata(folder)
    assert found["eos_token_id"] == 2
    assert "chat_template" not in found


def test_a_template_whose_tokens_are_not_there_is_refused(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, without_chatml(), eos_token_id=2)
    CHATML.save(folder)
    with pytest.raises(ModelError, match=r"has no <\|im_start\|> and no <\|im_end\|>"):
        write_gguf(folder, folder / "model.gguf", "F16")
