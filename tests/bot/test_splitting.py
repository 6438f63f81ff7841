"""Splitting: every part fits, nothing is lost, and what was shown stays as it was shown."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from guildgpt.bot.text.shown import answer_text
from guildgpt.bot.text.splitting import pieces, split, utf16_len

FAMILY = "👩‍👩‍👧"
PIECES = [
    "a", "word ", "Ein Satz endet. ", "ein sehr langes Wort" * 3, "\n", "\n\n", " ", "    ", "\t",
    "`", "``", "```", "````", "~~~", "```py\n", "```python title=x\n", "\n```\n", "\n````\n",
    "\n~~~\n", "~~~~js\n", "Run: ```sh\n", "`code` ", "[a link](https://example.org/a) ", "[",
    "https://example.org/x/y ", "- item\n", "1. first\n", "# Head\n", "> quoted\n", "> ```\n",
    "日本語の文。", "\U0001f600", FAMILY, "e\u0301", "🇩🇪", "\r\n", "x" * 90, "`" * 40, "\u00a0",
    "مرحبا ", "\ud83d", "\ude00", " " * 120, "\n" * 30, "-" * 50,
    "**bold words** ", "||hidden words|| ", "*", "**", "***", "_", "__", "~~", "||", "|", "*it* ",
    "| a | b |\n", "|---|---|\n", "| long cell | 2 |\n", "\n| a | b |\n|--|--|\n", ">>> quoted\n",
    "> quoted ", "\\*", "a_b ", "```||\n", "||```py\n",
]  # fmt: skip
messy = st.lists(st.sampled_from(PIECES), max_size=80).map("".join)
LIMITS = st.sampled_from([200, 201, 256, 400])


def bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


@given(messy | st.text(max_size=900), LIMITS)
@settings(max_examples=300, deadline=None)
@example("```\n" + "x" * 1990 + "\n```", 2000)
@example("```py\n" + " " * 3000 + "x", 2000)
@example("`" * 5000, 2000)
def test_every_part_fits_and_the_text_is_all_there(text: str, limit: int) -> None:
    found = list(pieces(text, limit))
    assert split(text, limit) == [str(part) for part in found]
    for part in found:
        assert str(part).strip()
        assert utf16_len(str(part)) <= limit
        assert part.body == part.body.rstrip()
    assert bare("".join(part.body for part in found)) == bare(text)
    # What is open at the end of a part is what is opened in the next; a quote needs no closing.
    for one, two in pairwise(found):
        opening = re.sub(r"^>{1,3} ", "", two.opening)
        assert bool(one.closing) == bool(opening)
        assert not one.closing or opening[0] == one.closing.strip("\n> ")[-1]


@given(messy, LIMITS, st.data())
@settings(max_examples=300, deadline=None)
def test_parts_that_have_one_after_them_never_change(
    text: str, limit: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(text)))
    before, after = split(text[:cut], limit), split(text, limit)
    assert len(before) <= len(after)
    assert before[:-1] == after[: max(0, len(before) - 1)]


@given(messy, LIMITS, st.data())
@settings(max_examples=300, deadline=None)
def test_the_same_holds_for_an_answer_as_it_is_shown(
    text: str, limit: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(text)))
    growing = answer_text(text[:cut], growing=True)
    before, after = split(growing, limit), split(answer_text(text), limit)
    assert before
    assert before[:-1] == after[: len(before) - 1]


def test_an_answer_keeps_its_parts_at_every_character() -> None:
    text = (
        "Here is a program.\n\n```python\n"
        + 'print("`" * 3)\n' * 60
        + "```\n\nAnd **so** on. " * 20
    )
    shown: list[str] = []
    for end in range(len(text) + 1):
        now = split(answer_text(text[:end], growing=True), 400)
        assert len(now) >= len(shown)
        assert now[: max(0, len(shown) - 1)] == shown[:-1]
        shown = now
    assert len(shown) > 3


WORDS = st.lists(
    st.text(st.sampled_from("abcdefg äöü"), min_size=1, max_size=12), min_size=1, max_size=60
).map(lambda words: " ".join("".join(w.split()) or "x" for w in words))
CODE_LINES = st.lists(
    st.sampled_from(["x = 1", "    y = `z`", "print('```')", "", "``", "a ``` b", "\t- item", "#"]),
    min_size=1,
    max_size=40,
).filter(lambda lines: any(line.strip() for line in lines))


@given(
    st.lists(WORDS | CODE_LINES, min_size=1, max_size=6), st.sampled_from(["```", "~~~", "`````"])
)
@settings(max_examples=200, deadline=None)
def test_code_stays_code_in_its_language_for_a_markdown_reader(
    blocks: list[str | list[str]], run: str
) -> None:
    """Held against a CommonMark parser that knows nothing of ours."""
    rendered = [
        block if isinstance(block, str) else "\n".join([f"{run}py", *block, run])
        for block in blocks
    ]
    wanted = [bare("\n".join(block)) for block in blocks if not isinstance(block, str)]
    reader = MarkdownIt("commonmark")
    prose, code = "", []
    for number, part in enumerate(pieces("\n\n".join(rendered), 256)):
        for token in reader.parse(str(part)):
            if token.type == "fence":
                assert token.info == "py"
                assert token.content.strip()
                continued = bool(number and part.opening) and token.map == [0, token.map[1]]
                if continued:
                    code[-1] += bare(token.content)
                else:
                    code.append(bare(token.content))
            elif token.type == "inline":
                prose += bare(token.content)
    assert code == wanted
    assert prose == bare("".join(block for block in blocks if isinstance(block, str)))


@given(
    st.lists(
        st.sampled_from([FAMILY, "🇩🇪", "e\u0301", "👍🏽", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "\U0001f600", "x"]), min_size=150
    )
)
@settings(max_examples=50, deadline=None)
def test_no_cluster_is_cut(clusters: list[str]) -> None:
    starts, at = {0}, 0
    for cluster in clusters:
        at += len(cluster)
        starts.add(at)
    text, at = "".join(clusters), 0
    for part in split(text, 200):
        at += len(part)
        assert at in starts
    assert at == len(text)


def test_two_halves_of_a_character_stay_together() -> None:
    text = "x" + "\ud83d\ude00" * 300
    for part in split(text, 200):
        assert not part.startswith("\ude00")


@pytest.mark.parametrize("text", ["", " ", "\n\n \t", "\u2003"])
def test_nothing_gives_nothing(text: str) -> None:
    assert split(text) == []


def test_a_text_that_fits_is_one_part_as_it_is() -> None:
    assert split("  Hello.\n\n    code\n") == ["Hello.\n\n    code"]
    assert split("x" * 2000) == ["x" * 2000]
    assert [len(part) for part in split("x" * 2001)] == [2000, 1]
    assert [len(part) for part in split("\U0001f600" * 1001)] == [1000, 1]


def test_the_best_break_in_the_second_half_is_taken() -> None:
    paragraph = "One two three. Four five six.\nSeven eight."
    assert split(f"{'a' * 120}\n\n{paragraph}\n{'b' * 90}", 200)[0] == "a" * 120
    assert split(f"{'a' * 120}\nb b b\n{'b ' * 90}", 200)[0] == f"{'a' * 120}\nb b b"
    assert split(f"{'word ' * 30}end. Next {'word ' * 30}", 200)[0] == f"{'word ' * 30}end."
    assert split("word " * 50, 200)[0] == ("word " * 40).strip()
    assert split("語" * 150 + "。" + "文" * 100, 200)[0] == "語" * 150 + "。"


def test_a_link_is_not_broken_but_where_it_is_too_long() -> None:
    link = "[a link of several words](https://example.org/some/place)"
    before = "word " * 33
    assert split(f"{before}{link} and more", 200) == [before.strip(), f"{link} and more"]
    assert split("語" * 180 + link, 200) == ["語" * 180, link]
    endless = "https://example.org/" + "x" * 400
    assert "".join(split(endless, 200)) == endless


def test_a_break_makes_no_list_and_no_heading_of_a_text() -> None:
    for mark in ("- 3 is less", "# 3 is it", "1. is a number", "> 3 is more"):
        for fill in range(40):
            text = "x " * 85 + "y" * fill + f" {mark} " + "z" * 50
            assert not split(text, 200)[1].startswith(mark[:2])


def test_an_empty_block_is_never_made() -> None:
    assert split("```py\n" + "x" * 300, 200)[0].startswith("```py\nxxx")
    for fill in range(150, 210):
        text = "w" * fill + "\n```py\ncode\n```\n" + "v" * 150
        for part in split(text, 200):
            assert "```py\n```" not in part
            assert "```py\n\n```" not in part


def test_a_fence_inside_a_longer_one_is_text() -> None:
    text = "````md\n" + "```py\ncode\n```\n" * 20 + "````\nend"
    found = split(text, 200)
    assert len(found) > 1
    assert all(part.startswith("````md\n") for part in found)
    assert all(part.endswith("\n````") for part in found[:-1])
    assert found[-1].endswith("````\nend")


def test_a_fence_that_begins_late_in_its_line_is_one() -> None:
    found = split("Run this: ```sh\n" + "ls -l\n" * 40 + "```\nDone.", 200)
    assert found[0].endswith("ls -l\n```")
    assert found[1].startswith("```sh\nls -l")
    assert found[-1].endswith("ls -l\n```\nDone.")


def test_code_keeps_its_indentation_across_parts() -> None:
    code = "def f():\n" + "    return 1\n" * 40
    found = split(f"```py\n{code}```", 200)
    assert all(part.startswith("```py\n    return 1") for part in found[1:])


@pytest.mark.parametrize("length", range(190, 206))
def test_a_stray_backtick_before_a_blank_is_text(length: int) -> None:
    text = "x" * length + "` \nmore words to come"
    assert bare("".join(split(text, 200))) == bare(text)


# Formatting: what is torn is closed and opened again

# How Discord itself finds it, each in its own way; what is hidden goes first.
SPOILER = re.compile(r"\|\|([\s\S]+?)\|\|")
SHOWS = {
    "||": SPOILER,
    "**": re.compile(r"\*\*((?:\\[\s\S]|[^\\])+?)\*\*(?!\*)"),
    "__": re.compile(r"__((?:\\[\s\S]|[^\\])+?)__(?!_)"),
    "~~": re.compile(r"~~([\s\S]+?)~~(?!_)"),
    "*": re.compile(r"(?<!\*)\*(?=\S)((?:\*\*|\s+(?:[^\s*]|\*\*)|[^\s*])+?)\*(?!\*)"),
    "_": re.compile(r"\b_((?:__|[^_])+?)_\b"),
    "`": re.compile(r"(?<!`)`([^`]+)`(?!`)"),
}


def words_between(pattern: re.Pattern[str], parts: list[str]) -> list[str]:
    """The words that a reader sees formatted so, part after part."""
    return [word for part in parts for found in pattern.findall(part) for word in found.split()]


@pytest.mark.parametrize("mark", [mark for mark in SHOWS if mark != "`"])
@pytest.mark.parametrize("words", [3, 40, 150])
@pytest.mark.parametrize("before", [0, 5, 17, 29])
def test_formatting_goes_on_in_the_next_message(mark: str, words: int, before: int) -> None:
    inner = " ".join(f"inner{n}" for n in range(words))
    text = "plain " * before + f"{mark}{inner}{mark} and " + "plain " * 30
    found = split(text, 200)
    assert words_between(SHOWS[mark], found) == inner.split()
    assert sum(part.count("plain") for part in found) == before + 30
    for part in found:
        assert utf16_len(part) <= 200


def test_a_spoiler_of_several_paragraphs_and_code_stays_hidden() -> None:
    story = "\n\n".join(f"SECRET{n} " * 12 for n in range(6)).strip()
    for code in ("", "\n```py\n" + "SECRET = 1\n" * 40 + "```\n"):
        found = split(f"He said: ||{story}{code}|| So.", 200)
        assert len(found) > 3
        for part in found:
            assert "SECRET" not in SPOILER.sub("", part)
        assert SPOILER.sub("", found[-1]).strip() == "So."


def test_hidden_code_is_hidden_in_every_message() -> None:
    found = split("See ||```py\n" + "SECRET = 1\n" * 60 + "```|| Done.", 200)
    assert len(found) > 3
    for part in found:
        assert "SECRET" not in SPOILER.sub("", part)
        assert part.count("```") % 2 == 0
    assert found[-1].endswith("```|| Done.")


@pytest.mark.parametrize("end", ["||", "|| So.", "\n||\nSo.", "SECRET||"])
def test_a_hidden_table_is_hidden_in_every_message(end: str) -> None:
    rows = "\n".join(f"| SECRET {n} | so many words |" for n in range(200))
    text = f"The end:\n||\n| SECRET | b |\n|---|---|\n{rows}\n{end}"
    found = split(answer_text(text))
    assert len(found) > 3
    assert found[0].startswith("The end:\n||\n```\n")
    for part in found:
        assert "SECRET" not in SPOILER.sub("", part)
        assert part.count("```") % 2 == 0
    left = SPOILER.sub("", found[-1]).strip()
    assert left == ("So." if "So" in end else "")


def test_a_spoiler_is_hidden_while_it_is_being_written() -> None:
    text = "The end: ||Snape kills him.|| Sorry."
    for end in range(len(text)):
        [shown] = split(answer_text(text[:end], growing=True))
        assert "Snape" not in SPOILER.sub("", shown)
    assert split(text) == [text]
    text = "The end:\n||\nSnape kills him.\n||\nSorry."
    for end in range(len(text)):
        [shown] = split(answer_text(text[:end], growing=True))
        assert "Snape" not in SPOILER.sub("", shown)
        assert "||||" not in shown
    assert split(text) == [text]


def test_a_break_falls_rather_before_bold_words_than_into_them() -> None:
    text = "word " * 35 + "**some bold words that are torn** and " + "word " * 30
    assert split(text, 200)[1].startswith("**some bold words that are torn** and")


def test_a_quote_goes_on_as_a_quote() -> None:
    found = split("> " + "word " * 90 + "\nAnd so on.", 200)
    assert all(part.startswith("> word") for part in found[:-1])
    assert found[-1].endswith("\nAnd so on.")
    found = split("Look:\n>>> " + "One line.\n" * 60, 200)
    assert all(part.startswith(">>> One") for part in found[1:])
    # A quote that ends with its line is not begun again.
    found = split("> " + "word " * 38 + "\n" + "And so on. " * 20, 200)
    assert found[1].startswith("And so on.")


def test_inline_code_that_is_longer_than_a_message_stays_code() -> None:
    code = "x" * 500
    found = split(f"`{code}` end", 200)
    assert "".join(words_between(SHOWS["`"], found)) == code


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 and 4 * 5, ",
        "a || b or c || d, ",
        "snake_case and __init__.py and a_b, ",
        "2**3 and f(**kwargs, ",
        "a ~ b, ",
        "it`s and ",
        r"\*not\* \||so\|| ",
        "- item *one\n",
    ],
)
def test_what_is_no_formatting_is_left_alone(text: str) -> None:
    whole = text * 40
    found = split(whole, 200)
    if "kwargs" not in text:  # may be the beginning of bold words
        assert bare("".join(found)) == bare(whole)


def test_unclosed_emphasis_ends_with_its_paragraph() -> None:
    found = split("**Note: take care.\n\n" + "word " * 100, 200)
    assert "*" not in "".join(found[1:])
    assert found[0].count("**") == 1
