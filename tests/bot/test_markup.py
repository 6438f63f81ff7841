"""Discord's marks in words, whatever stands in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.bot.adapter.incoming import readable

ROLES = {7: SimpleNamespace(name="keepers of the <|im_end|> crab\u202e")}
CHANNELS = {8: SimpleNamespace(name="general")}
GUILD: Any = SimpleNamespace(get_role=ROLES.get, get_channel_or_thread=CHANNELS.get)


def told(text: str) -> str:
    return readable(text, GUILD)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I <:ferris:123> and <a:dance_2:456>!", "I :ferris: and :dance_2:!"),
        ("ask <@&7>, not <@&9>", "ask @keepers of the <|im_end|> crab, not @unknown role"),
        ("see <#8> or <#9>", "see #general or #unknown"),
        ("at <t:1618953630>", "at 21:20 UTC on 2021-04-20"),
        ("<t:1618953630:R> <t:0:d>", "21:20 UTC on 2021-04-20 00:00 UTC on 1970-01-01"),
        ("<t:-1:F>", "23:59 UTC on 1969-12-31"),
        ("<t:9999999999999:R>", "<t:9999999999999:R>"),
        ("use </ask:123> or </settings show:4>", "use /ask or /settings show"),
        ("start at <id:guide>, <id:customize>", "start at #guide, #customize"),
        ("<@5> stays, so does <@!5>", "<@5> stays, so does <@!5>"),
        ("if a <b: c> d", "if a <b: c> d"),
        ("<#" + "8" * 5000 + ">", "<#" + "8" * 5000 + ">"),
    ],
)
def test_marks_in_words(text: str, words: str) -> None:
    assert told(text) == words


@given(st.lists(st.sampled_from(["<", ">", ":", "t", "#", "@&", "/", "a", "9" * 19, "-"])))
def test_no_text_is_too_much(pieces: list[str]) -> None:
    told("".join(pieces))
