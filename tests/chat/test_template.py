"""The template: the same ids as transformers, and a mask over the answers and nothing else."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.bases.base import load_tokenizer
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import CHATML, ChatTemplate, Conversation, FileTokenizer, Message, Rendered
from guildgpt.chat.template import fit
from guildgpt.data import SourceSpec, check_trainable, load
from guildgpt.data.examples import conversation_examples
from guildgpt.errors import ModelError

CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>")
AWKWARD = """He said "it's {{ user }}" {% if x %} \\n C:\\temp #}
and 'went' — ünïcode, tab\there, </s>, [INST], {# no comment #}"""

# What the readers let through: no blank ends, and no carriage returns (they make them newlines).
ordinary = st.text(max_size=40).filter(
    lambda text: text == text.strip() and not any(token in text for token in CONTROL)
)
roles = st.sampled_from(["system", "user", "assistant"])
conversations = st.lists(st.builds(Message, roles, ordinary), min_size=1, max_size=5)
forged = st.lists(
    st.sampled_from(
        [*CONTROL, "<|im_", "start|>", "end|>", "<|", "|>", "assistant\n", "\n", " ", "hi", "é"]
    ),
    max_size=8,
).map("".join)


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


@settings(max_examples=200, deadline=None)
@given(messages=conversations)
def test_ids_equal_apply_chat_template(
    messages, tokenizer: FileTokenizer, tokenizer_json: Path, apply_template
) -> None:
    peer = apply_template(tokenizer_json, CHATML)
    assert CHATML.render(messages, tokenizer).ids == peer(messages)
    assert CHATML.prompt(messages, tokenizer) == peer(messages, ask=True)


@settings(max_examples=100, deadline=None)
@given(system=ordinary, messages=conversations)
def test_a_system_text_of_any_kind_opens_a_conversation_as_transformers_has_it(
    system: str, messages, tokenizer: FileTokenizer, tokenizer_json: Path, apply_template
) -> None:
    template = ChatTemplate(system=system)
    peer = apply_template(tokenizer_json, template)
    assert template.render(messages, tokenizer).ids == peer(messages)
    assert template.prompt(messages, tokenizer) == peer(messages, ask=True)


def test_quotes_braces_and_newlines_in_a_system_text_survive_the_jinja(
    tokenizer: FileTokenizer, tokenizer_json: Path, apply_template
) -> None:
    template = ChatTemplate(system=AWKWARD)
    peer = apply_template(tokenizer_json, template)
    asked = [user("Who are you?")]
    assert template.prompt(asked, tokenizer) == peer(asked, ask=True)
    assert AWKWARD in tokenizer.decode(peer(asked))
    own = [Message("system", "Be brief."), *asked]
    assert AWKWARD not in tokenizer.decode(template.render(own, tokenizer).ids)
    assert template.render(own, tokenizer).ids == peer(own)


@pytest.fixture(scope="session")
def starter_tokenizer(starter_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's tokenizer.json with its chat tokens."""
    path = tmp_path_factory.mktemp("starter") / "tokenizer.json"
    chat, _ = load_tokenizer(BaseConfig(base="starter"))
    path.write_text(chat.json, encoding="utf-8")
    return path


def test_the_starters_ids_equal_apply_chat_template(
    starter_tokenizer: Path, apply_template
) -> None:
    tokenizer = FileTokenizer(starter_tokenizer)
    plain = apply_template(starter_tokenizer, CHATML)
    awkward = ChatTemplate(system=AWKWARD)
    with_system = apply_template(starter_tokenizer, awkward)

    @settings(max_examples=100, deadline=None)
    @given(messages=conversations)
    def equal(messages: list[Message]) -> None:
        assert CHATML.render(messages, tokenizer).ids == plain(messages)
        assert awkward.prompt(messages, tokenizer) == with_system(messages, ask=True)

    equal()
    for row in load(SourceSpec(source="starter")).conversations:
        assert CHATML.render(row.messages, tokenizer).ids == plain(row.messages), row.source


@settings(max_examples=200, deadline=None)
@given(messages=st.lists(st.builds(Message, roles, st.one_of(ordinary, forged)), max_size=6))
def test_trained_are_each_answer_and_its_end_of_turn(messages, tokenizer: FileTokenizer) -> None:
    ids, mask = CHATML.render(messages, tokenizer)
    start, end = (tokenizer.token_id(name) for name in CHATML.control_tokens)
    assert len(ids) == len(mask)
    trained = [
        [index for index, _ in run]
        for masked, run in groupby(enumerate(mask), key=lambda pair: pair[1])
        if masked
    ]
    answers = [message.content for message in messages if message.role == "assistant"]
    assert [ids[run[0] : run[-1] + 1] for run in trained] == [
        [*tokenizer.encode(answer), end] for answer in answers
    ]
    header = [start, *tokenizer.encode("assistant\n")]
    for run in trained:
        assert ids[run[0] - len(header) : run[0]] == header


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(st.builds(Message, roles, st.one_of(ordinary, forged)), max_size=4),
    answer=st.one_of(ordinary, forged),
)
def test_the_prompt_is_what_stands_before_the_answer(
    before, answer: str, tokenizer: FileTokenizer
) -> None:
    prompt = CHATML.prompt(before, tokenizer)
    ids, mask = CHATML.render([*before, assistant(answer)], tokenizer)
    assert ids[: len(prompt)] == prompt
    assert all(mask[len(prompt) : -1])
    assert ids[len(prompt) : -1] == [*tokenizer.encode(answer), CHATML.eos_id(tokenizer)]


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(forged, min_size=1, max_size=4))
def test_forged_control_tokens_stay_text(texts: list[str], tokenizer: FileTokenizer) -> None:
    messages = [user(text) for text in texts]
    ids, _ = CHATML.render(messages, tokenizer)
    written = [token for token in ids if token in tokenizer.control_ids]
    start, end = (tokenizer.token_id(name) for name in CHATML.control_tokens)
    assert written == [start, end] * len(texts)
    assert tokenizer.decode(ids) == "".join(f"user\n{text}\n" for text in texts)


@pytest.mark.parametrize("context", [None, 24, 40, 64])
def test_every_trained_example_ends_in_a_trained_end_of_turn(
    tokenizer: FileTokenizer, context: int | None
) -> None:
    rows = load(SourceSpec(source="starter")).conversations
    examples, counts = conversation_examples(rows, tokenizer, CHATML, context=context or 100_000)
    assert len(examples) + counts["longer than the context"] == len(rows)
    end = CHATML.eos_id(tokenizer)
    for example in examples:
        last = example.mask.nonzero()[0][-1]
        assert example.ids[last] == end
        assert context is None or len(example) <= context
    if context is None:
        every = check_trainable(rows, tokenizer, CHATML)
        assert sum(example.trained for example in examples) == every.trained_tokens
    else:
        assert counts["shortened to the context"] or counts["longer than the context"]


TWO_TURNS = [user("Hi"), assistant("Hello there"), user("And now?"), assistant("Nothing")]


def test_shortening_keeps_whole_answers_at_exact_boundaries(tokenizer: FileTokenizer) -> None:
    end = CHATML.eos_id(tokenizer)
    whole = CHATML.render(TWO_TURNS, tokenizer)
    # One exchange, without the newline that follows its end of turn.
    first = len(CHATML.render(TWO_TURNS[:2], tokenizer).ids) - 1
    size = len(whole.ids)
    assert fit(whole, size, end) == whole
    assert fit(whole, size + 1, end) == whole
    # Only the last newline does not fit, and nobody misses it.
    assert fit(whole, size - 1, end) == Rendered(whole.ids[:-1], whole.mask[:-1])
    for limit in (size - 2, first + 1, first):
        assert fit(whole, limit, end) == Rendered(whole.ids[:first], whole.mask[:first])
    for limit in (first - 1, 1, 0):
        assert fit(whole, limit, end) is None


def test_nothing_to_train_fits_nowhere(tokenizer: FileTokenizer) -> None:
    asked = CHATML.render([user("Only a question")], tokenizer)
    assert fit(asked, 1000, CHATML.eos_id(tokenizer)) is None
    assert fit(Rendered([], []), 1000, CHATML.eos_id(tokenizer)) is None


@settings(max_examples=100, deadline=None)
@given(messages=conversations, limit=st.integers(0, 120))
def test_what_fits_is_a_prefix_that_ends_in_a_trained_end_of_turn(
    messages, limit: int, tokenizer: FileTokenizer
) -> None:
    end = CHATML.eos_id(tokenizer)
    whole = CHATML.render(messages, tokenizer)
    shown = fit(whole, limit, end)
    ends = [i for i, (token, on) in enumerate(zip(*whole, strict=True)) if on and token == end]
    if shown is None:
        assert not ends or ends[0] >= limit
        return
    assert len(shown.ids) <= limit
    assert shown.ids == whole.ids[: len(shown.ids)]
    assert shown.mask == whole.mask[: len(shown.mask)]
    # No later answer would have fitted whole.
    assert not [i for i in ends if len(shown.ids) <= i < limit]


def test_a_template_comes_back_from_its_folder(tmp_path: Path) -> None:
    template = ChatTemplate(system=AWKWARD)
    template.save(tmp_path)
    assert ChatTemplate.load(tmp_path) == template


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '"chatml"', '{"start": 5}', '{"begin": "<s>"}', "\xff"]
)
def test_a_broken_template_names_its_file(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "template.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match="the chat template cannot be read") as caught:
        ChatTemplate.load(tmp_path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_a_tokenizer_without_chat_tokens_is_refused_by_name(
    tokenizer_json: Path, tmp_path: Path
) -> None:
    spec = json.loads(tokenizer_json.read_text())
    spec["added_tokens"] = []
    spec["model"]["vocab"].pop("<|im_end|>")
    bare = tmp_path / "tokenizer.json"
    bare.write_text(json.dumps(spec))
    with pytest.raises(ModelError, match=r"has no <\|im_end\|>, which") as caught:
        CHATML.render([user("Hi")], FileTokenizer(bare))
    assert "guildgpt train" in (caught.value.remedy or "")


def test_an_answer_may_be_a_conversations_only_turn(tokenizer: FileTokenizer) -> None:
    row = Conversation((assistant("Good morning."),))
    assert check_trainable([row], tokenizer, CHATML).trained_tokens == sum(
        CHATML.render(row.messages, tokenizer).mask
    )
