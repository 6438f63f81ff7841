"""`guildgpt serve keys`, `invite` and `accounts` as an operator meets them, beside the models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from feedback.command import Command

from guildgpt.cli import app
from guildgpt.errors import GuildError, SignInRefused
from guildgpt.feedback.storage.location import KEY_VARIABLE
from guildgpt.feedback.store import Store

COMMAND = Command(app, columns=120)
told, refused = COMMAND.told, COMMAND.refused
T = TypeVar("T")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "6f" * 32)
    monkeypatch.setenv("GUILDGPT_STORE", str(tmp_path / "feedback.db"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def within(tmp_path: Path) -> Callable[[Callable[[Store], Awaitable[T]]], T]:
    def ask(work: Callable[[Store], Awaitable[T]]) -> T:
        async def run() -> T:
            url = f"sqlite:///{tmp_path / 'feedback.db'}"
            async with await Store.open(url, key=b"o" * 32) as store:
                return await work(store)

        return asyncio.run(run())

    return ask


def test_numbers_of_keys_are_whole_on_a_narrow_terminal() -> None:
    narrow = Command(app, columns=80)
    limits = ("--requests", 1_000_000, "--tokens", 1_000_000_000_000)
    narrow.told("serve", "keys", "add", "the laboratory of somebody", *limits)
    table = narrow.told("serve", "keys", "list")
    assert " 1,000,000 " in table
    assert " 1,000,000,000,000 " in table
    assert "…" not in table
    assert all(heading in table for heading in ("per minute", "tokens a day", "tokens today"))


def test_a_key_is_shown_once(within: Callable[..., T]) -> None:
    *_, secret = told("serve", "keys", "add", "the lab", "--requests", 60).split()
    key = within(lambda store: store.keys.of(secret))
    assert key is not None
    table = told("serve", "keys", "list")
    assert "the lab" in table
    assert secret not in table
    assert " 60 " in table
    [listed] = json.loads(told("serve", "keys", "list", "--json"))
    assert (listed["name"], listed["tokens_per_day"]) == ("the lab", None)
    assert "sha256" not in listed
    error = refused("serve", "keys", "add", "the lab")
    assert "serve keys remove 'the lab'" in str(error.remedy)
    told("serve", "keys", "remove", "the lab")
    assert within(lambda store: store.keys.of(secret)) is None
    assert "There is no key yet" in told("serve", "keys", "list")
    assert "no key is called" in refused("serve", "keys", "remove", "the lab").what
    made = json.loads(told("serve", "keys", "add", "anna", "--tokens", 9, "--json"))
    assert within(lambda store: store.keys.of(made["key"]))


def test_people_are_invited_and_signed_in_again(within: Callable[..., T]) -> None:
    at = ("--address", "https://guild.example/")
    *_, link = told("serve", "invite", "--name", "Anna", *at).split()
    start, _, token = link.partition("#")
    assert start == "https://guild.example/join"
    assert "links that nobody has used yet: 1" in told("serve", "accounts", "list")
    anna, session = within(lambda store: store.accounts.accept(token, None, "a phone"))
    assert (anna.name, anna.role) == ("Anna", "voter")
    shown = told("serve", "accounts", "list")
    assert "Anna" in shown
    assert "nobody has used" not in shown
    again = json.loads(told("serve", "accounts", "sign-in", "Anna", "--days", 1, "--json"))
    assert again["link"].startswith("http://127.0.0.1:8000/join#")
    there = json.loads(told("serve", "accounts", "list", "--json"))
    assert [one["sessions"] for one in there["accounts"]] == [1]
    assert [one["account_id"] for one in there["links"]] == [anna.id]
    assert "has ended" in told("serve", "accounts", "end", "Anna")
    assert within(lambda store: store.accounts.of_session(session)) is None
    assert "ended 20" in told("serve", "accounts", "list")
    error = refused("serve", "accounts", "sign-in", "Anna")
    assert "nobody with an account is called Anna" in error.what
    assert "guildgpt serve invite" in str(error.remedy)
    refused("serve", "invite", "--name", "Anna", kind=SignInRefused)


def test_an_operator_and_whoever_sits_at_the_machine(within: Callable[..., T]) -> None:
    elsewhere = told("serve", "invite", "--operator", "--address", "https://guild.example")
    *_, link = elsewhere.split()
    assert link.startswith("https://guild.example/join#")
    assert "--address" in told("serve", "invite")  # nobody may have meant port 8000 of this machine
    own = told("serve", "accounts", "sign-in", "operator").split("#")[-1].strip()
    berta, _ = within(lambda store: store.accounts.accept(link.partition("#")[2], "Berta", ""))
    assert berta.role == "operator"
    local, _ = within(lambda store: store.accounts.accept(own, None, ""))
    assert (local.name, local.role) == ("operator", "operator")


@pytest.mark.parametrize(
    "arguments",
    [["nobody"], ["nobody", "--port", "0"], ["--port", "0", "nobody"], ["starter", "nobody"]],
)
def test_what_is_no_command_is_a_model(arguments: list[str]) -> None:
    assert "'nobody'" in refused("serve", *arguments).what


def test_a_folder_that_is_called_like_a_command(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    error = refused("serve", "./keys")
    assert isinstance(error, GuildError)
    assert "keys" in str(error)


def test_help_of_both() -> None:
    shown = told("serve", "--help")
    assert "guildgpt serve [OPTIONS] [MODEL…]... | COMMAND" in shown.replace("root", "guildgpt")
    for word in ("--host", "--store", "keys", "invite", "accounts", "Model folders"):
        assert word in shown
    shown = told("serve", "keys", "--help")
    assert "remove" in shown
    assert "--host" not in shown
