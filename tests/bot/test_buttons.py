"""Buttons: what was sent years ago still means what it meant."""

from __future__ import annotations

import uuid

import discord
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.bot.answers.buttons import KINDS, PATTERN, Action, decode, encode

actions = st.builds(Action, st.sampled_from(KINDS), st.uuids().map(str))


@given(actions)
def test_there_and_back(action: Action) -> None:
    custom_id = encode(action)
    assert len(custom_id) <= 45 <= 100
    assert decode(custom_id) == action
    assert PATTERN.fullmatch(custom_id)


@given(st.text() | st.from_regex(PATTERN))
def test_whatever_is_read_is_written_the_same(custom_id: str) -> None:
    action = decode(custom_id)
    if action is not None:
        assert encode(action) == custom_id


def test_the_form_of_version_1_stays_for_ever() -> None:
    """Never change this test: buttons in this form hang under messages all over Discord."""
    sent = "guildgpt:1:both_bad:EjRWeBI0RniSNFZ4EjRWeA"
    assert decode(sent) == Action("both_bad", "12345678-1234-4678-9234-567812345678")
    kinds = ("up", "down", "again", "stop", "left", "right", "tie", "both_bad", "report")
    for kind in (*kinds, "forget", "keep"):
        assert decode(f"guildgpt:1:{kind}:EjRWeBI0RniSNFZ4EjRWeA") is not None


@pytest.mark.parametrize(
    "custom_id",
    [
        "",
        "up",
        "guildgpt:2:up:EjRWeBI0RniSNFZ4EjRWeA",
        "guildgpt:1:dance:EjRWeBI0RniSNFZ4EjRWeA",
        "guildgpt:1:up:EjRWeBI0RniSNFZ4EjRWeB",  # bits that no UUID has
        "guildgpt:1:up:EjRWeBI0RniSNFZ4EjRWe",
        "guildgpt:1:up:EjRWeBI0RniSNFZ4EjRWeA\n",
        "x guildgpt:1:up:EjRWeBI0RniSNFZ4EjRWeA",
    ],
)
def test_what_is_not_ours_is_none(custom_id: str) -> None:
    assert decode(custom_id) is None


def test_what_cannot_be_a_button_is_refused() -> None:
    with pytest.raises(ValueError, match="badly formed"):
        encode(Action("up", "1234"))


def test_discord_takes_the_pattern() -> None:
    class Button(discord.ui.DynamicItem[discord.ui.Button], template=PATTERN):
        pass

    custom_id = encode(Action("up", str(uuid.uuid4())))
    item = Button(discord.ui.Button(custom_id=custom_id))
    found = item.template.fullmatch(custom_id)
    assert found is not None
    assert found["kind"] == "up"
