"""Markdown tables are shown as code blocks, whole or not yet."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from guildgpt.bot.answers.answering import broken_off
from guildgpt.bot.text.shown import answer_text, tables_as_code
from guildgpt.bot.text.splitting import split, utf16_len

from .house import House

CRABS = """\
Here they are:

| Name | Price |
|:-----|------:|
| **Ferris** | 3.00 |
| 螃蟹 🦀 | 12.50 |

And so on."""
DRAWN = """\
Here they are:

```
| Name    | Price |
|---------|-------|
| Ferris  |  3.00 |
| 螃蟹 🦀 | 12.50 |
```

And so on."""


def drawn(text: str) -> list[str]:
    """The lines of the code blocks in a text."""
    return [line for block in text.split("```")[1::2] for line in block.strip().split("\n")]


def test_columns_are_aligned_by_what_is_seen() -> None:
    assert answer_text(CRABS) == DRAWN
    assert {cell_len(line) for line in drawn(DRAWN)} == {19}


@pytest.mark.parametrize(
    "text",
    [
        "a | b\n--- | ---\n1 | 2",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "|a|b|\n|-|-|\n|1|2|\n",
        "| a | b |\n| --- | --- |\n| `1` | *2* |\n",
        "| a | b |\r\n| --- | --- |\r\n| 1 | 2 |\r\n",
    ],
)
def test_every_way_to_write_one(text: str) -> None:
    assert answer_text(text) == "```\n| a | b |\n|---|---|\n| 1 | 2 |\n```"


@pytest.mark.parametrize(
    "text",
    [
        "```\n| a | b |\n|---|---|\n| 1 | 2 |\n```",
        "~~~md\n| a | b |\n|---|---|\n~~~",
        "Run: ```sh\n| a | b |\n|---|---|\n```",  # code for Discord, not for CommonMark
        "    | a | b |\n    |---|---|",
        "a || b\n",
        "| a | b |\n| 1 | 2 |",
        "one\n---\ntwo",
        "||hidden|| or not\n",
    ],
)
def test_what_is_no_table_stays(text: str) -> None:
    assert tables_as_code(text) == text


def test_what_stands_right_below_a_table_is_text() -> None:
    shown = answer_text("| a |\n|---|\n| 1 |\nNot a row.")
    assert shown == "```\n| a |\n|---|\n| 1 |\n```\nNot a row."


def test_in_quotes_and_lists() -> None:
    quoted = answer_text("> | a |\n> |---|\n> | 1 |\n> So.")
    assert quoted == "> ```\n> | a |\n> |---|\n> | 1 |\n> ```\n> So."
    assert drawn(answer_text("- so:\n\n  | a |\n  |---|\n  | 1 |"))[-1] == "| 1 |"


def test_a_cell_is_plain_in_code() -> None:
    cells = "**bold** and `code` \\| [here](https://e.org/a) <br> <https://e.org> ```"
    text = "\n".join(drawn(answer_text(f"| a |\n|---|\n| {cells} |")))
    assert "**" not in text
    assert "bold and code | here (https://e.org/a)" in text
    assert "| https://e.org '''" in text


def test_a_wide_table_is_wrapped_and_a_long_one_becomes_several_messages() -> None:
    wide = "| a | b |\n|---|---|\n" + f"| {'word ' * 60} | {'x' * 200} |\n"
    lines = drawn(answer_text(wide))
    assert max(map(cell_len, lines)) <= 80
    assert "".join(re.findall("x", "".join(lines))) == "x" * 200
    long = "| number | square |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(400))
    messages = split(answer_text(long))
    assert len(messages) > 3
    for message in messages:
        assert utf16_len(message) <= 2000
        assert message.startswith("```\n|")
        assert message.endswith("|\n```")
    rows = [line for message in messages for line in drawn(message)]
    assert len(rows) == 402
    assert len({len(row) for row in rows}) == 1


def test_more_columns_than_a_message_is_wide_are_left_alone() -> None:
    text = "| a " * 300 + "|\n" + "|---" * 300 + "|\n"
    assert answer_text(text) == text.strip()


def test_a_table_is_not_seen_before_it_is_complete() -> None:
    """At no character is a row shown that is not aligned, and nothing shown is taken back."""
    before = ""
    for end in range(len(CRABS) + 1):
        shown = answer_text(CRABS[:end], growing=True)
        assert "|" not in shown or DRAWN.startswith(shown)
        if before != "…":
            assert shown.startswith(before.rstrip())
        before = shown
    assert before == DRAWN


def test_the_last_table_of_an_answer_needs_nothing_behind_it() -> None:
    text = CRABS.removesuffix("\n\nAnd so on.")
    assert answer_text(text, growing=True) == "Here they are:"
    assert answer_text(text) == DRAWN.removesuffix("\n\nAnd so on.")


def test_a_table_that_was_broken_off_shows_it() -> None:
    shown = answer_text(broken_off("| a | b |\n|---|---|\n| 1 | 2 |\n"))
    assert shown == "```\n| a | b |\n|---|---|\n| 1 | 2 |\n```\n…"
    assert answer_text(broken_off("| a | b |\n|---|---|\n| 1 | tw")).endswith("| 1 | tw … |\n```")


async def test_an_answer_with_a_table(house: House) -> None:
    house.model.answer = lambda prompt: CRABS
    house.model.rate = 15
    await house.open()
    answer = await house.ask("Which crabs?")
    assert answer.content == DRAWN
    for seen in answer.edits:
        assert DRAWN.startswith(seen)
    assert house.rows("SELECT text FROM messages WHERE role = 'assistant'") == [(CRABS,)]


async def test_two_answers_with_tables(bot: House) -> None:
    bot.model.answer = lambda prompt: CRABS
    called = await bot.command("compare", question="Which crabs?")
    assert called.responses[0].content.count("| Ferris  |  3.00 |") == 2
