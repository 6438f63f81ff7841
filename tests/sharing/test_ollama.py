"""`guildgpt export --ollama`: the Modelfile, read as Ollama reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bases.families import FAMILIES
from bases.folders import bare_tokenizer, chat_tokenizer, write_base
from typer.testing import CliRunner

from guildgpt.bases.chat_template import own_template
from guildgpt.chat import CHATML
from guildgpt.cli import app
from guildgpt.errors import ModelError
from guildgpt.model.gguf_file import read_head
from guildgpt.sharing.go_template import in_go
from guildgpt.sharing.ollama import write_modelfile

from .models import tuned


def parsed(file: Path) -> list[tuple[str, str]]:
    """A Modelfile's instructions: a word, and a value in one line or between quotation marks, as
    parser/parser.go of Ollama takes them apart. What cannot be printed is lost there."""
    text, found = file.read_text(encoding="utf-8"), []
    while text := text.lstrip():
        if text.startswith("#"):
            text = text.partition("\n")[2]
            continue
        name, _, text = text.partition(" ")
        mark = '"""' if text.startswith('"""') else "\n"
        value, _, text = text.removeprefix('"""').partition(mark)
        assert value.replace("\n", "").isprintable()
        found.append((name, value))
    return found


def values(file: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in parsed(file) if name != "PARAMETER"},
        **{
            key: value
            for name, both in parsed(file)
            if name == "PARAMETER"
            for key, _, value in [both.partition(" ")]
        },
    }


def ollama(model: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["export", str(model), "--ollama", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ollama")
    write_base(place / "base", chat_tokenizer())
    return tuned(place / "run" / "sft" / "model", place / "base")


def test_a_modelfile_says_what_the_folder_says(model: Path) -> None:
    result = ollama(model)
    told = values(model / "Modelfile")
    assert told["FROM"] == "./model-Q8_0.gguf"
    assert (model / "model-Q8_0.gguf").is_file()
    assert told["TEMPLATE"] == in_go(CHATML)
    assert told["stop"] == '"<|im_end|>"'
    assert (told["num_ctx"], told["temperature"]) == ("64", "0.7")
    assert (told["top_k"], told["top_p"], told["repeat_penalty"]) == ("40", "0.95", "1.0")
    assert "databricks-dolly-15k by Databricks" in told["LICENSE"]
    assert "SYSTEM" not in told
    assert f"ollama create run -f {model / 'Modelfile'}" in result.output.replace("\n", "")


def test_it_names_the_file_that_is_there_or_is_asked_for(model: Path) -> None:
    ollama(model)
    ollama(model, "--gguf", "F16")
    assert values(model / "Modelfile")["FROM"] == "./model-F16.gguf"
    (model / "model-Q8_0.gguf").unlink()
    result = ollama(model)
    assert values(model / "Modelfile")["FROM"] == "./model-F16.gguf"
    assert not (model / "model-Q8_0.gguf").is_file()
    assert "names model-F16.gguf" in result.output.replace("\n", " ")


def test_a_system_text_and_one_that_cannot_be_quoted(model: Path) -> None:
    ollama(model, "--gguf", "F16")
    template = json.loads((model / "template.json").read_text())
    for system in ('You are "Gil".\n\nBe brief.', 'You say """.'):
        (model / "template.json").write_text(json.dumps({**template, "system": system}))
        if '"""' in system:
            with pytest.raises(ModelError, match="cannot quote"):
                write_modelfile(model / "model-F16.gguf")
        else:
            write_modelfile(model / "model-F16.gguf")
            assert values(model / "Modelfile")["SYSTEM"] == system
    (model / "template.json").write_text(json.dumps(template))


@pytest.mark.parametrize("name", ["llama-3", "mistral-v1", "gemma-3", "qwen-3"])
@pytest.mark.parametrize("foreign", [False, True], ids=["ours", "another's"])
def test_the_beginning_is_written_once(tmp_path: Path, name: str, foreign: bool) -> None:
    """By the template, or by llama.cpp where the file says so: the ids begin with one."""
    family = next(one for one in FAMILIES if one.name == name)
    base, model = tmp_path / "base", tmp_path / "model"
    write_base(base, family.tokenizer)
    (base / "chat_template.jinja").write_text(family.jinja)
    (base / "tokenizer_config.json").write_text(json.dumps(family.special))
    settings = json.loads((base / "tokenizer_config.json").read_text())
    if foreign:
        settings["add_bos_token"] = bool(family.bos)
        (base / "tokenizer_config.json").write_text(json.dumps(settings))
        model = base
    else:
        tuned(model, base)
    ollama(model)
    template = own_template(family.jinja, family.tokenizer, family.special)
    said = read_head(model / "model-Q8_0.gguf").metadata
    begins = bool(said["tokenizer.ggml.add_bos_token"])
    assert begins == (foreign and bool(family.bos))
    assert values(model / "Modelfile")["TEMPLATE"] == in_go(template, begins=begins)


def test_a_template_that_is_not_made_of_turns(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer(special=("<end>",)))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    (tmp_path / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}<end>")
    result = ollama(tmp_path)
    assert "There is no TEMPLATE" in result.output
    assert "TEMPLATE" not in values(tmp_path / "Modelfile")
