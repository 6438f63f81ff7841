"""`guildgpt versions list`, `register` and `serve`: which models there are, and who answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from guildgpt.chat import CHATML
from guildgpt.errors import EngineError, ModelError
from guildgpt.feedback.storage.location import STORE_VARIABLE
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.versions_cli import NEXT, versions_app
from guildgpt.model.lineage import write_lineage

from .asking import erase, in_store, listed, model, refused, shares, told

# Register and list


def test_nothing_yet() -> None:
    assert "No version is known yet: `guildgpt versions register MODEL`" in told("list")


def test_without_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: Path) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "other.db"))
    assert "there is no feedback store yet" in refused("list").what
    told("register", old)  # makes it
    assert listed("old")


def test_a_model_is_registered_with_what_it_learned_from(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "night" / "model"
    model(folder / "model-Q8_0.gguf")
    CHATML.save(folder)

    async def say(store: Store) -> str:
        place = await store.conversations.start("chain", channel_id=8)
        said = await store.conversations.add_message(
            conversation_id=place, parent_id=None, role="user", text="Hm."
        )
        return said.id

    write_lineage(folder, {("message", in_store(url, say)), ("vote", "of another store")})
    text = told("register", "runs/night")  # by the folder above, from where one stands
    id = listed("night")["id"]
    assert text.startswith(f"{id} is registered, and answers nobody yet.\n")
    assert f"`guildgpt versions canary {id} --share 0.2` tries it" in text
    assert "Not in this store: 1 of the events that it learned from." in text
    assert listed("night")["path"] == str(folder / "model-Q8_0.gguf")
    line = next(line for line in told("list").splitlines() if line.startswith(id))
    assert line.split() == [id, "-", "1", "message", str(folder / "model-Q8_0.gguf")]
    assert "Nothing was released: the bot answers with the model of its settings." in told("list")
    assert f"{id} is registered" in told("register", id)  # it is known by its id, too


def test_what_cannot_be_registered(tmp_path: Path, old: Path) -> None:
    assert "there is no model called" in refused("register", "older.gguf", kind=ModelError).what
    error = refused("register", "night@3f2c91ab")
    assert error.what == "there is no version night@3f2c91ab in the store"
    assert "guildgpt versions list" in (error.remedy or "")
    (tmp_path / "cut.gguf").write_bytes(old.read_bytes()[:-64])
    assert "cut off" in refused("register", "cut.gguf", kind=EngineError).what
    (tmp_path / "text.gguf").write_text("Hello.")
    assert "not a GGUF" in refused("register", "text.gguf", kind=EngineError).what
    assert "No version is known yet" in told("list")


# Serve


def test_serve(url: str, old: Path) -> None:
    text = told("serve", old, "--why", "the first")
    id = listed("old")["id"]
    assert text == f"{id} answers everything from now on (release 1).\n{NEXT}\n"
    assert shares(url) == {"old": 1.0}
    line = next(line for line in told("list").splitlines() if line.startswith(id))
    assert line.split()[1] == "100%"
    assert re.match(r"\d{4}-\d\d-\d\d", line.split()[2])
    assert line.split()[4:6] == ["no", "feedback"]
    assert "(release 1)" in told("serve", id)  # nothing new
    told("register", old)
    history = in_store(url, lambda store: store.releases.history())
    assert [(one.kind, one.why) for [one] in history] == [("serve", "the first")]


def test_what_is_not_served(url: str, old: Path, new: Path) -> None:
    told("register", old)
    id = listed("old")["id"]
    away = old.rename(old.with_suffix(".away"))
    error = refused("serve", id)
    assert error.what == f"{id} is not released: its file is gone"
    assert error.where == str(old)
    assert listed("old")["flaw"] == "its file is gone"
    away.rename(old)
    in_store(url, lambda store: erase(store, id))
    error = refused("serve", old)
    assert error.what == f"{id} is not released: something that it learned from was erased"
    assert "Train it again" in (error.remedy or "")
    assert shares(url) == {}
    text = told("list")
    assert f"{id} is not released: something that it learned from was erased." in text
    assert "erased" in next(line for line in text.splitlines() if line.startswith(id))


def test_who_answers_though_it_should_not(url: str, old: Path) -> None:
    told("serve", old)
    id = listed("old")["id"]
    old.unlink()
    assert f"{id} still answers, though its file is gone: put another version" in told("list")


def test_nothing_else_is_served_during_a_trial(url: str, trial: str, tmp_path: Path) -> None:
    error = refused("serve", model(tmp_path / "third.gguf"))
    assert error.what == f"{trial} is being tried (canary)"
    assert "guildgpt versions drop" in (error.remedy or "")
    assert shares(url) == {"old": 0.8, "new": 0.2}


def test_no_command_needs_more_than_its_help() -> None:
    group = typer.main.get_command(versions_app)
    names = ["list", "register", "serve", "canary", "promote", "drop", "rollback"]
    assert list(group.commands) == names  # type: ignore[attr-defined]
    for name in names:
        assert "For example:" in told(name, "--help")
