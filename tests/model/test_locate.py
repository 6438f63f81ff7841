"""Which model a person means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from guildgpt.errors import ModelError
from guildgpt.model import locate as module
from guildgpt.model.locate import Located, locate, located_at


@pytest.fixture(autouse=True)
def starter_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "starter_gguf", lambda on_progress: Path("starter.gguf"))


def folder(path: Path, *files: str, age: int = 0) -> Path:
    """A model folder with GGUF files of an age in seconds."""
    path.mkdir(parents=True)
    (path / "template.json").write_text("{}")
    for name in files:
        (path / name).write_bytes(b"GGUF")
        os.utime(path / name, (1e9 - age, 1e9 - age))
    return path


def test_nothing_trained_yet(tmp_path: Path) -> None:
    assert locate(None, tmp_path / "runs") == Located("starter", Path("starter.gguf"), None)


def test_the_newest_of_the_runs(tmp_path: Path) -> None:
    folder(tmp_path / "a" / "sft", "model-q8_0.gguf", age=10)
    newest = folder(tmp_path / "b" / "ppo", "model-q8_0.gguf", age=5)
    folder(tmp_path / "b" / ".ppo-unfinished", "model-q8_0.gguf")
    assert locate(None, tmp_path).folder == newest
    assert locate(str(tmp_path / "a")).folder == tmp_path / "a" / "sft"


def test_starter_by_name(tmp_path: Path) -> None:
    folder(tmp_path / "a", "model.gguf")
    assert locate("starter", tmp_path).folder is None


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["m-Q4_1.gguf", "m-F16.gguf", "m-Q8_0.gguf"], "m-Q8_0.gguf"),
        (["m-Q4_1.gguf", "m-F16.gguf"], "m-F16.gguf"),
        (["a.gguf", "m-Q4_1.gguf"], "m-Q4_1.gguf"),
        (["b.gguf", "a.gguf"], "a.gguf"),
    ],
)
def test_which_gguf(tmp_path: Path, files: list[str], chosen: str) -> None:
    path = folder(tmp_path / "model", *files)
    assert locate(str(path)) == Located(str(path), path / chosen, path)


def test_a_bare_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    assert locate(str(file)) == Located("mine", file, None)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("ppp", "today/ppo"), ("stater", "starter"), ("{tmp}/today/pp", "today/ppo")],
)
def test_near_matches(tmp_path: Path, asked: str, meant: str) -> None:
    folder(tmp_path / "today" / "ppo", "model.gguf")
    with pytest.raises(ModelError, match="there is no model called") as raised:
        locate(asked.format(tmp=tmp_path), tmp_path)
    assert f"{meant}?" in str(raised.value.remedy)


def test_nothing_like_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        locate("zzzzzz", tmp_path)
    assert raised.value.remedy == "Name a model folder, a .gguf file, or `starter`."


def test_folders_that_cannot_be_talked_to(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model here"):
        locate(str(tmp_path))
    with pytest.raises(ModelError, match=r"this model folder has no \.gguf"):
        locate(str(folder(tmp_path / "empty")))
    (tmp_path / "bare.gguf").write_bytes(b"GGUF")
    (tmp_path / "empty" / "template.json").unlink()
    with pytest.raises(ModelError, match=r"no template\.json") as raised:
        locate(str(tmp_path))
    assert "bare.gguf" in str(raised.value.remedy)


def test_an_adapter_alone(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match="adapter without its base") as raised:
        locate(str(tmp_path))
    assert 'model.adapter = "merge"' in str(raised.value.remedy)


def weights(path: Path, kind: str, name: str = "model.safetensors", age: int = 0) -> Path:
    """A model folder without a GGUF."""
    folder(path)
    (path / "config.json").write_text(json.dumps({"architectures": [kind]}))
    (path / name).write_bytes(b"weights")
    os.utime(path / name, (1e9 - age, 1e9 - age))
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_folder_without_a_gguf_is_opened_by_its_weights(name: str, tmp_path: Path) -> None:
    place = weights(tmp_path / "my model", "BloomForCausalLM", name)
    found = locate(str(place))
    assert found == Located(str(place), place / name, place)
    assert found.weights


def test_the_newest_counts_with_a_gguf_or_without(tmp_path: Path) -> None:
    """Else an older model would answer, and nobody would say so."""
    older = folder(tmp_path / "a" / "sft", "model-q8_0.gguf", age=10)
    newest = weights(tmp_path / "b" / "sft", "BloomForCausalLM", age=5)
    weights(tmp_path / "b" / "reward", "LlamaForSequenceClassification")
    heads = weights(tmp_path / "b" / "judge", "GraniteForCausalLM")
    (heads / "heads.safetensors").write_bytes(b"it scores")
    assert locate(None, tmp_path).folder == newest
    assert not locate(str(older)).weights
    with pytest.raises(ModelError, match="no weights of a model that writes"):
        locate(str(tmp_path / "b" / "reward"))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json"]
)
def test_a_folder_of_others_is_opened_by_its_weights(name: str, tmp_path: Path) -> None:
    """Named it can be talked to; the newest of the runs it never is."""
    place = weights(tmp_path / "Qwen3-0.6B", "Qwen3ForCausalLM", name)
    (place / "template.json").unlink()
    assert locate(str(place)) == Located(str(place), place / name, place)
    assert located_at(place / name, "x") == Located("x", place / name, place)
    (place / "model-Q8_0.gguf").write_bytes(b"GGUF")
    assert locate(str(place)) == Located(str(place), place / "model-Q8_0.gguf", None)
    assert locate(None, tmp_path).name == "starter"
