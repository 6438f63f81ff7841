"""Bases on the Hub: found, fetched, and used again without it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import COMMIT, FakeHub, Repo, instead_of_the_hub, running

from guildgpt.bases.base import load_base, load_tokenizer
from guildgpt.errors import ModelError

from .folders import (
    PAST,
    bare_tokenizer,
    chat_tokenizer,
    config,
    logits,
    own_folder,
    settings_are_true,
    write_base,
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running(monkeypatch) as state:
        instead_of_the_hub(state, monkeypatch, tmp_path / "hub")
        yield state


def test_a_base_on_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    model = write_base(folder, bare_tokenizer())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights, pickled")
    hub.models["someone/small"] = Repo.of(folder)
    base = load_base(config("someone/small"))
    assert torch.equal(logits(base.model)[..., :300], logits(model))
    (item,) = base.provenance
    assert (item.name, item.origin, item.revision) == ("someone/small", "someone/small", COMMIT)
    assert (item.licence, item.written_by) == ("MIT", "unknown")
    weights = (folder / "model.safetensors").read_bytes()
    assert item.sha256 == hashlib.sha256(weights).hexdigest()
    assert "pytorch_model.bin" not in hub.fetched
    settings_are_true(base)

    hub.fetched.clear()
    again = load_base(config("someone/small", written_by="people", licence="apache-2.0"))
    assert hub.fetched == []
    assert (again.provenance[0].licence, again.provenance[0].written_by) == ("Apache-2.0", "people")


def test_older_models_have_only_pickled_weights(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    model = write_base(folder, chat_tokenizer())
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    hub.models["someone/old"] = Repo.of(folder)
    assert torch.equal(logits(load_base(config("someone/old")).model), logits(model))


def test_the_tokenizer_of_a_base_on_the_hub_comes_without_its_weights(
    hub: FakeHub, tmp_path: Path
) -> None:
    write_base(tmp_path / "theirs", bare_tokenizer())
    hub.models["someone/small"] = Repo.of(tmp_path / "theirs")
    chat, _ = load_tokenizer(config("someone/small"))
    assert len(chat.new_tokens) == 3
    assert "model.safetensors" not in hub.fetched


def test_facts_that_are_known_of_a_base_go_before_its_card(hub: FakeHub, tmp_path: Path) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: other\n---\n")
    hub.models["EleutherAI/pythia-1b"] = Repo.of(tmp_path / "theirs")
    _, (item,) = load_tokenizer(config("EleutherAI/pythia-1b"))
    assert (item.licence, item.written_by, item.revision) == ("Apache-2.0", "people", COMMIT)


def test_a_model_folder_of_ours_brings_its_past_through_the_hub_too(
    hub: FakeHub, tmp_path: Path
) -> None:
    own_folder(tmp_path / "model", card="---\nlicense: mit\n---\n")
    hub.models["guild/ours"] = Repo.of(tmp_path / "model")
    assert load_base(config("guild/ours")).provenance == PAST


def test_without_the_hub_the_cache_serves(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.models["someone/small"] = Repo.of(tmp_path / "theirs")
    first = load_base(config("someone/small"))
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    again = load_base(config("someone/small"))
    assert torch.equal(logits(again.model), logits(first.model))
    with pytest.raises(ModelError, match="the Hub did not give `someone/other`") as caught:
        load_base(config("someone/other"))
    assert "network" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("name", "revision"),
    [("nobody/nothing", None), ("someone/small", "v9"), ("some one/small", None), ("a/..b", None)],
)
def test_what_the_hub_does_not_have(
    hub: FakeHub, tmp_path: Path, name: str, revision: str | None
) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.models["someone/small"] = Repo.of(tmp_path / "theirs")
    with pytest.raises(ModelError, match="the Hub did not give") as caught:
        load_base(config(name, revision=revision))
    assert caught.value.where == "model.base"


def test_a_download_that_breaks_off(hub: FakeHub, tmp_path: Path) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.models["someone/small"] = Repo.of(tmp_path / "theirs")
    hub.breaks = "model.safetensors"
    with pytest.raises(ModelError, match="the Hub did not give"):
        load_base(config("someone/small"))
    hub.breaks = ""
    load_base(config("someone/small"))
