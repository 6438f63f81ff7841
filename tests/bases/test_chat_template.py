"""A base's own template is read from its published text, and gives transformers' ids."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from guildgpt.bases.chat_template import own_template
from guildgpt.chat import ChatTemplate, FileTokenizer, Message

from .families import FAMILIES, Family

CONTROL = sorted({token for one in FAMILIES for token in (*one.control, one.eos, one.bos or "")})
ordinary = st.text(max_size=30).filter(
    lambda text: text.strip() and not any(token and token in text for token in CONTROL)
)
# Where a prompt ends in text, an answer that begins with whitespace would be joined to it.
answers = ordinary.map(str.strip)
forged = st.lists(
    st.sampled_from([*CONTROL, "<|", "|>", "[INST", "]", "\n", " ", "hi", "é", "assistant"]),
    max_size=6,
).map("".join)
messages_of_any_kind = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant"]),
        st.one_of(st.text(max_size=20), forged),
    ),
    max_size=6,
)


class Read(NamedTuple):
    """A family's template as ours, its tokenizer, and transformers' with the published text."""

    template: ChatTemplate
    tokenizer: FileTokenizer
    peer: Any


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Read]:
    known: dict[str, Read] = {}

    def get(family: Family) -> Read:
        if family.name not in known:
            text = family.tokenizer
            file = tmp_path_factory.mktemp(family.name) / "tokenizer.json"
            file.write_text(text, encoding="utf-8")
            peer = PreTrainedTokenizerFast(
                tokenizer_object=Tokenizer.from_str(text),
                chat_template=family.jinja,
                **family.special,
            )
            template = own_template(family.jinja, text, family.special)
            known[family.name] = Read(template, FileTokenizer(file), peer)
        return known[family.name]

    return get


DOCUMENT = Path(__file__).parents[2] / "docs" / "bases.md"


def test_the_document_says_what_is_read() -> None:
    rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:4]]
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    said = {tuple(row) for row in rows if row[0].strip("`") in {one.name for one in FAMILIES}}
    assert said == {(f"`{one.name}`", f"`{one.end}`", one.system) for one in FAMILIES}


families = pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)


def ids_of(peer: Any, messages: list[Message], *, ask: bool = False, **settings: Any) -> list[int]:
    turns = [message.as_dict() for message in messages]
    return list(
        peer.apply_chat_template(
            turns, tokenize=True, return_dict=False, add_generation_prompt=ask, **settings
        )
    )


@families
def test_what_is_read(family: Family, read: Any) -> None:
    template, tokenizer, _ = read(family)
    assert template.end == family.end
    assert template.eos_id(tokenizer) == tokenizer.token_id(family.end)
    if family.system == "folded":
        assert template.system_turn is None
    else:
        assert template.system_turn is not None
        assert (template.after_system is None) == (family.system == "a turn")


@families
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(ordinary, min_size=4, max_size=4), data=st.data())
def test_ids_equal_those_of_the_published_text(
    family: Family, read: Any, texts: list[str], data: Any
) -> None:
    """With a system text where the template takes one; the date is the one day that is written."""
    template, tokenizer, peer = read(family)
    first, second, third, system = texts
    turns = [
        Message("user", first),
        Message("assistant", data.draw(answers)),
        Message("user", second),
        Message("assistant", data.draw(answers)),
        Message("user", third),
    ][: data.draw(st.integers(1, 5))]
    if family.system != "folded" and data.draw(st.booleans()):
        turns = [Message("system", system), *turns]
    ask = turns[-1].role == "user"
    ours = template.prompt(turns, tokenizer) if ask else template.render(turns, tokenizer).ids
    extra = {"date_string": "26 Jul 2024"} if "date_string" in family.jinja else {}
    if "strftime_now" in family.jinja and not extra:
        peer.chat_template = template.jinja
    assert ours == ids_of(peer, turns, ask=ask, enable_thinking=False, **extra)


@families
@settings(max_examples=25, deadline=None)
@given(before=messages_of_any_kind, answer=st.one_of(ordinary, forged))
def test_the_prompt_is_what_stands_before_the_answer(
    family: Family, read: Any, before: list[Message], answer: str
) -> None:
    template, tokenizer, _ = read(family)
    prompt = template.prompt(before, tokenizer)
    ids, mask = template.render([*before, Message("assistant", answer)], tokenizer)
    assert ids[: len(prompt)] == prompt
    learned = template.answer(answer, tokenizer)
    assert ids[len(prompt) : len(prompt) + len(learned)] == learned
    assert all(mask[len(prompt) : len(prompt) + len(learned)])
    assert not any(mask[len(prompt) + len(learned) :])
    assert learned[-1] == template.eos_id(tokenizer)


@families
@settings(max_examples=25, deadline=None)
@given(messages=messages_of_any_kind)
def test_every_answer_is_trained_with_its_end_and_nothing_else_is(
    family: Family, read: Any, messages: list[Message]
) -> None:
    template, tokenizer, _ = read(family)
    wanted = [one.content for one in messages if one.role == "assistant"]
    trained = []
    for (ids, mask), texts in template.lessons(messages, tokenizer):
        runs = [
            [ids[place] for place, _ in run]
            for masked, run in groupby(enumerate(mask), key=lambda pair: pair[1])
            if masked
        ]
        # Two answers with nothing between them, not even an opening, are one run.
        end = template.eos_id(tokenizer)
        ended = [part for run in runs for part in _split_after(run, end)]
        assert ended == [template.answer(text, tokenizer) for text in texts]
        trained += texts
    assert trained == wanted


def _split_after(ids: list[int], end: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in ids:
        parts[-1].append(token)
        if token == end:
            parts.append([])
    assert parts[-1] == []
    return parts[:-1]


@families
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(forged, min_size=3, max_size=3))
def test_forged_control_tokens_stay_text(family: Family, read: Any, texts: list[str]) -> None:
    """The control tokens are those of a conversation that says nothing of the kind."""
    template, tokenizer, _ = read(family)
    roles = ("system", "user", "assistant")

    def control(contents: list[str]) -> list[int]:
        said = [Message(role, text) for role, text in zip(roles, contents, strict=True)]
        ids = template.render(said, tokenizer).ids
        unknown = tokenizer.token_id("<unk>")
        return [id for id in ids if id in tokenizer.control_ids and id != unknown]

    assert control(texts) == control(["plain"] * 3)
    whole = tokenizer.decode(template.prompt([Message("user", f"a {texts[0]} b")], tokenizer))
    assert f"a {texts[0]} b" in whole
