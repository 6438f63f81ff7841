"""Every kind: kept and broken by hand, drawn, worded, and held to what it says."""

from __future__ import annotations

import string
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.constraints.constraint import Constraint
from guildgpt.constraints.drawing import witness
from guildgpt.constraints.held_out import HELD_OUT
from guildgpt.constraints.reading import KINDS, read
from guildgpt.constraints.trained import TRAINED

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)


def one(kind: str, **fields: Any) -> Constraint:
    (found,) = read([{"kind": kind, **fields}], "here")
    return found


CASES: list[tuple[Constraint, list[str], list[str]]] = [
    (one("sentences", relation="exactly", count=2), ["One. Two."], ["One.", "One. Two. Three."]),
    (one("sentences", relation="at most", count=2), ["One.", "One. Two!"], ["", "Go. Be it. So?"]),
    (one("sentences", relation="at least", count=2), ["One. Two. Three."], ["One", ""]),
    (one("words", relation="at most", count=3), ["a b c", "a, b - c"], ["", "a b c d"]),
    (one("words", relation="at least", count=3), ["a b c d"], ["a b", "a - b"]),
    (one("bullets", count=2), ["- a\n- b", "So:\n* a\n* b\nDone."],
     ["- a", "1. a\n2. b", "-a\n-b", "- a\n- ."]),
    (one("bullets", count=2, mark="*"), ["* a\n* b", "So:\n  * a\n* b"],
     ["- a\n- b", "* a\n- b", "* a\n* b\n- c", "* a"]),
    (one("json", keys=["a", "b"]), ['{"a": 1, "b": [false]}', '```json\n{"b": 1, "a": "c"}\n```'],
     ['{"a": 1}', '{"a": 1, "b": 2, "c": 3}', '[{"a": 1, "b": 2}]', 'Here: {"a": 1, "b": 2}',
      "{'a': 1, 'b': 2}", '{"a": 1, "b": []}', '{"a": 1, "b": null}', '{"a": 1, "b": " ?"}',
      '{"a": 1, "b": NaN}', '{"a": 1, "a": 2, "b": 3}']),
    (one("sentences", relation="exactly", count=1), ["[A title]\nThat is it."],
     ["[Canals are old. They are long.]\nThat is it.", '{"a": "One is.", "b": "Two is."}']),
    (one("words", relation="at most", count=2), ["well-known 3.5"], ["a,b,c", "one.two.three"]),
    (one("lower_case"), ["all small, ä and 3"], ["One Capital", "", "123"]),
    (one("word", word="river"), ["The River."], ["rivers", "driver", ""]),
    (one("word", word="café"), ["A cafe\u0301.", "Café"], ["cafe", "cafés"]),
    (one("word", word="€"), ["It costs 10€.", "€ 5"], ["10 euro"]),
    (one("no_word", word="!"), ["Wow."], ["Wow!"]),
    (one("ends", phrase="!"), ["Wow!", "Wow !\n"], ["Wow"]),
    (one("no_word", word="the"), ["A bath in there, then."], ["The end", "by THE way", ""]),
    (one("begins", phrase="In short"), ["In short, no.", " In short: yes"],
     ["in short, no.", "In shorts", "Well. In short"]),
    (one("ends", phrase="The end."), ["So. The end.", "So it was. The end.\n"],
     ["The end. Really", "the end.", "The end"]),
    (one("title", brackets="[]"), ["[My trip]\nIt was long."],
     ["[My trip]", "My trip\nIt was.", "<<My trip>>\nIt was.", "[]\nIt was.", "[a] b\nIt was.",
      "[A] is older than [B]\n.", "[_]\nx", "[My trip]\n."]),
    (one("title", brackets="<<>>"), ["<<My trip>>\n\nLong."], ["<My trip>\n\nLong."]),
    (one("no_commas"), ["Neither here nor there."],
     ["Here, there", "一，二", "", "?!", "a‚ b", "a՝ b", "a︐ b", "a﹐ b"]),
    (one("language", language="de"), ["Das ist die Brücke, und sie ist nicht alt."],
     ["This is the bridge, and it is not old.", "Ja"]),
    (one("upper_case"), ["ALL BIG, Ä AND 3"], ["One", "", "123"]),
    (one("paragraphs", count=2), ["a\n\nb", "a\nb\n\n\nc"], ["a\nb", "a\n\nb\n\nc"]),
    (one("paragraphs", count=2), ["**Bold first line**\n\nb"], ["**Bold first line**\nb"]),
    (one("numbered", count=2), ["1. a\n2. b", "So:\n1) a\n2) b"],
     ["1. a", "1. a\n3. b", "2. a\n1. b", "- a\n- b", "1. a\n2. b\n3. c", "1. a\n2. ."]),
    (one("quoted"), ['"So it is."', " “So it is.”\n"],
     ['"So" it is', '"a" and "b"', '“a” and “b”', "'So it is.'", '""', '"']),
    (one("postscript", mark="P.S."), ["So it is.\nP.S. Or not.", "So.\n\nP.S. Or not."],
     ["So it is. P.S. Or not.", "P.S. Or not.", "So it is.\nP.S.", "So.\nPS: Or not.",
      "So.\nP.S. Or not.\n\nMore text."]),
    (one("question"), ["So it is. Or not?", 'He asked: "Why?"'], ["Why? Because.", "", "?"]),
    (one("repeats", word="so", count=2), ["So, so.", "so so so"], ["so", "also sole so"]),
    (one("bold", count=2), ["**a** and **b c**"], ["**a** b", "*a* *b*", "**a\nb** **c**"]),
    (one("one_line"), ["All of it.", "\nAll of it.\n"], ["a\nb", "a\n\nb", ""]),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "kept", "broken"), CASES, ids=str)
def test_by_hand(constraint: Constraint, kept: list[str], broken: list[str]) -> None:
    assert [text for text in kept if not constraint.kept(text)] == []
    assert [text for text in broken if constraint.kept(text)] == []


def test_every_kind_is_tried_by_hand() -> None:
    assert {constraint.kind for constraint, _, _ in CASES} == set(KINDS)


def test_trained_and_held_out_kinds_are_apart() -> None:
    names = [kind.model_fields["kind"].default for kind in (*TRAINED, *HELD_OUT)]
    assert len(names) == len(set(names)) == len(KINDS)
    told = [wording for kind in KINDS.values() for wording in kind.wordings]
    assert len(told) == len(set(told))


@every_kind
def test_what_is_drawn_can_be_kept_said_and_read_again(kind: type[Constraint]) -> None:
    random = Random(0)
    drawn = [kind.draw(random) for _ in range(100)]
    for constraint in drawn:
        assert witness([constraint]) is not None
        assert read([constraint.model_dump()], "here") == (constraint,)
        told = constraint.instruction(random)
        assert told[0] in string.ascii_uppercase
        assert not {"{", "}"} & set(told.replace("{My title}", ""))
    if len(kind.model_fields) > 1:
        assert len(set(drawn)) > 2


@every_kind
def test_a_kind_is_told_in_several_wordings_that_name_all_its_fields(
    kind: type[Constraint],
) -> None:
    assert len(kind.wordings) >= 3
    constraint = kind.draw(Random(1))
    fields = set(constraint.said())
    for wording in kind.wordings:
        named = {name for _, name, _, _ in string.Formatter().parse(wording) if name}
        assert named <= fields
        assert named or not fields


@every_kind
@given(st.text(max_size=200), st.integers(0, 99))
@settings(max_examples=25)
def test_any_answer_can_be_checked(kind: type[Constraint], answer: str, seed: int) -> None:
    constraint = kind.draw(Random(seed))
    kept = constraint.kept(answer)
    assert isinstance(kept, bool)
    assert kept is constraint.kept(answer)


@every_kind
def test_an_empty_answer_keeps_nothing(kind: type[Constraint]) -> None:
    assert not kind.draw(Random(3)).kept("")
    assert not kind.draw(Random(3)).kept(" \n… ?!")


NEARER: list[tuple[Constraint, list[str]]] = [  # from far to near
    (one("sentences", relation="exactly", count=2),
     ["", "So. It. Is. It.", "So. It. Is.", "So. It."]),
    (one("words", relation="at least", count=4), ["", "a", "a b", "a b c", "a b c d"]),
    (one("words", relation="at most", count=2), ["a b c d e", "a b c", "a b"]),
    (one("bullets", count=3), ["a", "- a", "- a\n- b", "- a\n- b\n- c"]),
    (one("bullets", count=2, mark="*"), ["a", "- a", "- a\n- b", "- a\n* b", "* a\n* b"]),
    (one("json", keys=["a", "b"]),
     ["so", '{"c": 1}', '{"a": 1}', '{"a": 1, "b": 2,', '{"a": 1, "b": 2}']),
    (one("lower_case"), ["123", "ABc", "Abc", "abc"]),
    (one("no_word", word="the"), ["the, the, the", "the end", "an end"]),
    (one("begins", phrase="In my view"), ["So", "In short", "In my eyes", "In my view"]),
    (one("ends", phrase="So it goes."), ["So", "There it goes.", "So it goes."]),
    (one("title", brackets="[]"), ["A", "[A", "[A]\nb"]),
    (one("no_commas"), ["a, b, c", "a, b", "a b"]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "answers"), NEARER, ids=lambda one: getattr(one, "kind", ""))
def test_a_nearer_answer_is_worth_more(asked: Constraint, answers: list[str]) -> None:
    worth = [asked.nearness(answer) for answer in answers]
    assert worth == sorted(set(worth))
    assert worth[-1] == 1
    assert worth[0] >= 0


@every_kind
@given(answer=st.text(), seed=st.integers(0, 99))
def test_only_what_is_kept_is_worth_1(kind: type[Constraint], answer: str, seed: int) -> None:
    asked = kind.draw(Random(seed))
    assert 0 <= asked.nearness(answer) <= 1
    assert (asked.nearness(answer) == 1) == asked.kept(answer)
