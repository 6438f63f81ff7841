from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from guildgpt.chat import (
    CHATML,
    ChatTemplate,
    Conversation,
    FileTokenizer,
    Message,
    Rendered,
    Source,
)
from guildgpt.data.preview import check_trainable, preview, segments
from guildgpt.errors import DataError


def conversation(*texts: str, row: int = 1) -> Conversation:
    roles = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
    return Conversation(tuple(turns), Source("mine", "mine.jsonl", row))


def shown(conversations, tokenizer, *, coloured=False, **options) -> str:
    out = io.StringIO()
    colour = {"force_terminal": True, "color_system": "standard"} if coloured else {}
    console = Console(file=out, width=40, **colour)
    preview(conversations, tokenizer, CHATML, console, **options)
    return out.getvalue()


def test_without_colour_trained_spans_are_bracketed(tokenizer: FileTokenizer) -> None:
    text = shown([conversation("hi [bold]you[/bold]", "naïve 🦉 owls", "so?", "yes")], tokenizer)
    assert (
        "<|im_start|>user\nhi [bold]you[/bold]<|im_end|>\n"
        "<|im_start|>assistant\n⟦naïve 🦉 owls<|im_end|>⟧\n"
        "<|im_start|>user\nso?<|im_end|>\n"
        "<|im_start|>assistant\n⟦yes<|im_end|>⟧\n"
    ) in text
    assert text.startswith("⟦trained⟧")
    assert "mine.jsonl:1 · " in text
    assert "\x1b" not in text


def test_with_colour_trained_is_green_and_the_rest_dim(tokenizer: FileTokenizer) -> None:
    text = shown([conversation("why", "because")], tokenizer, coloured=True)
    assert "\x1b[32mbecause\x1b[0m\x1b[1;32m<|im_end|>\x1b[0m" in text
    assert "\x1b[2mwhy\x1b[0m" in text
    assert "⟦" not in text


def test_long_lines_are_not_broken_and_the_terminal_is_not_steered(tokenizer) -> None:
    line = "word " * 40 + "end"
    text = shown([conversation(line, "\x1b[2Jgone\x07\x7f\x9b")], tokenizer)
    assert line in text
    assert "␛[2Jgone␇␡\N{REPLACEMENT CHARACTER}" in text


def test_a_member_cannot_fake_a_control_token(tokenizer: FileTokenizer) -> None:
    rendered = CHATML.render(conversation("<|im_end|>", "ok").messages, tokenizer)
    parts = list(segments(rendered, tokenizer, CHATML))
    assert [part.text for part in parts if part.control] == [*CHATML.control_tokens] * 2
    assert sum(part.text.count("<|im_end|>") for part in parts) == 3


def test_the_count_and_the_cut(tokenizer: FileTokenizer) -> None:
    rows = [conversation("a", "b", "c" * 50, "d", row=i) for i in (1, 2, 3)]
    text = shown(rows, tokenizer, count=2, max_tokens=40)
    assert "mine.jsonl:2" in text
    assert "mine.jsonl:3" not in text
    assert "cut to " in text
    assert "cccc" not in text
    assert "left out" in shown(rows, tokenizer, max_tokens=5)


TEXTS = st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=6)


@given(TEXTS)
def test_segments_add_up_to_the_whole_text(tokenizer: FileTokenizer, texts: list[str]) -> None:
    messages = conversation(*texts).messages
    parts = list(segments(CHATML.render(messages, tokenizer), tokenizer, CHATML))
    whole = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
    assert "".join(part.text for part in parts) == whole
    trained = "".join(part.text for part in parts if part.trained)
    assert trained == "".join(f"{m.content}<|im_end|>" for m in messages if m.role == "assistant")


def test_sizes(tokenizer: FileTokenizer) -> None:
    rows = [
        conversation("a", "b", row=1),
        conversation("a", "bcd", row=2),
        conversation("a" * 90, "b"),
    ]
    lengths = [len(CHATML.render(row.messages, tokenizer).ids) for row in rows]
    every = check_trainable(rows, tokenizer, CHATML)
    assert (every.rows, every.dropped, every.tokens) == (3, 0, sum(lengths))
    answers = [len(tokenizer.encode(text)) + 1 for text in ("b", "bcd", "b")]
    assert every.trained_tokens == sum(answers)
    assert every.longest == max(lengths)
    short = check_trainable(rows, tokenizer, CHATML, max_tokens=max(lengths[:2]))
    assert (short.rows, short.dropped, short.tokens) == (3, 1, sum(lengths[:2]))
    assert short.longest_row == "mine.jsonl:2"
    assert "1 rows too long" in str(short)


def test_a_row_that_trains_nothing_is_named(tokenizer: FileTokenizer) -> None:
    rows = [conversation("a", "b"), conversation("only a question", row=7)]
    with pytest.raises(DataError, match="nothing in this conversation") as caught:
        check_trainable(rows, tokenizer, CHATML)
    assert caught.value.where == "mine.jsonl:7"


@dataclass(frozen=True, slots=True)
class Forgetful(ChatTemplate):
    """A template with the mistake many have: the end of turn is not trained."""

    def render(self, messages, tokenizer) -> Rendered:
        ids, mask = CHATML.render(messages, tokenizer)
        end = tokenizer.token_id(self.end)
        return Rendered(ids, [m and i != end for i, m in zip(ids, mask, strict=True)])


def test_a_template_that_never_teaches_to_stop_is_caught(tokenizer: FileTokenizer) -> None:
    with pytest.raises(DataError, match="not the end of turn") as caught:
        check_trainable([conversation("a", "b", row=4)], tokenizer, Forgetful())
    assert caught.value.where == "mine.jsonl:4"
