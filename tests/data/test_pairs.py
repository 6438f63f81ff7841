"""Comparisons as `guildgpt data preview` shows them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from guildgpt.chat import Comparison, Message, Source
from guildgpt.data import pairs as module
from guildgpt.data.pairs import differing, preview_pairs

Q = Message("user", "What is the [bold]capital[/] of France?")


def shown(*comparisons: Comparison, coloured: bool = False, count: int = 3) -> str:
    out = io.StringIO()
    colour = {"force_terminal": True, "color_system": "standard"} if coloured else {}
    preview_pairs(comparisons, Console(file=out, width=40, **colour), count=count)
    return out.getvalue()


def pair(*answers: str, ranks: tuple[int, ...] = ()) -> Comparison:
    said = tuple(Message("assistant", answer) for answer in answers)
    return Comparison((Message("system", "Be brief."), Q), said, ranks, Source("a", "a.jsonl", 7))


def test_a_pair_stands_one_below_the_other_with_what_differs_marked() -> None:
    text = shown(pair("It is Paris, of course.", "It is Lyon, of course."))
    assert "a.jsonl:7 · 2 answers\n" in text
    assert "system: Be brief.\nuser: What is the [bold]capital[/] of France?\n" in text
    assert "better: It is ⟦Paris,⟧ of course.\nworse: It is ⟦Lyon,⟧ of course.\n" in text
    assert "\x1b" not in text


def test_in_colour_the_better_is_green_and_the_worse_red() -> None:
    text = shown(pair("It is Paris.", "It is Lyon."), coloured=True)
    assert "\x1b[32mParis.\x1b[0m" in text
    assert "\x1b[31mLyon.\x1b[0m" in text
    assert "\x1b[2mIt is \x1b[0m" in text
    assert "⟦" not in text


def test_several_answers_by_their_places() -> None:
    text = shown(pair("No.", "Yes, so it is.", "Yes, so.", ranks=(2, 0, 1)))
    assert text.index("place 1: Yes,") < text.index("place 2: Yes,") < text.index("place 3: ⟦No.⟧")
    assert shown(pair("a", "b"), pair("c", "d"), count=1).count("better") == 1


def test_the_terminal_is_not_steered() -> None:
    assert "\x1b" not in shown(pair("\x1b[2Jgone", "here"))


TEXT = st.text(st.sampled_from("ab \n"), max_size=30)


@pytest.mark.parametrize("most", [0, module.MOST])
@given(TEXT, TEXT)
def test_stretches_are_the_text_and_what_is_alike_is_in_both(most: int, text: str, other: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", most)
        stretches = list(differing(text, other))
    assert "".join(part for part, _ in stretches) == text.lstrip()
    alike = [word for part, differs in stretches if not differs for word in part.split()]
    rest = iter(other.split())
    assert all(word in rest for word in alike)  # in the same order
    if text.split() == other.split():
        assert not any(differs for _, differs in stretches)
