"""A base's own template is read from its published text, and gives the ids that transformers gives."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from bases.families import FAMILIES, Family
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from guildgpt.bases.chat_template import own_template, samples
from guildgpt.chat import ChatTemplate, FileTokenizer, Message

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
_read: dict[str, tuple[ChatTemplate, FileTokenizer, Any]] = {}


@pytest.fixture
def read(family: Family, tmp_path: Path) -> tuple[ChatTemplate, FileTokenizer, Any]:
    """The family's template as ours, its tokenizer, and transformers' with the published text."""
    if family.name not in _read:
        text = family.tokenizer
        (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
        peer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(text), chat_template=family.jinja, **family.special
        )
        template = own_template(family.jinja, text, family.special)
        _read[family.name] = template, FileTokenizer(tmp_path / "tokenizer.json"), peer
    return _read[family.name]


def ids_of(peer: Any, messages: list[Message], *, ask: bool = False) -> list[int]:
    turns = [message.as_dict() for message in messages]
    return list(
        peer.apply_chat_template(
            turns, tokenize=True, return_dict=False, add_generation_prompt=ask, enable_thinking=False
        )
    )


@families
def test_what_is_read(family: Family, read: Any) -> None:
    template, tokenizer, _ = read
    assert template.end == family.end
    assert template.eos_id(tokenizer) == tokenizer.token_id(family.end)
    if family.system == "folded":
        assert template.system_turn is None
    else:
        assert template.system_turn is not None
        assert (template.after_system is None) == (family.system == "a turn")


CONTROL = sorted({token for family in FAMILIES for token in family.control + (family.eos,)})
ordinary = st.text(max_size=30).filter(lambda text: not any(token in text for token in CONTROL))
answers = ordinary.map(str.strip)


@families
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(ordinary, min_size=4, max_size=4), data=st.data())
def test_ids_equal_those_of_the_published_text(
    family: Family, read: Any, texts: list[str], data: Any
) -> None:
    template, tokenizer, peer = read
    first, second, third, system = texts
    turns = [
        Message("user", first),
        Message("assistant", data.draw(answers)),
        Message("user", second),
        Message("assistant", data.draw(answers)),
        Message("user", third),
    ][: data.draw(st.integers(1, 5))]
    if family.system != "folded" and system.strip() and data.draw(st.booleans()):
        turns = [Message("system", system), *turns]
    if turns[-1].role == "user":
        assert template.prompt(turns, tokenizer) == ids_of(peer, turns, ask=True)
    else:
        assert template.render(turns, tokenizer).ids == ids_of(peer, turns)
