"""Comparisons become pairs; what gives none is counted, never passed over in silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from guildgpt.chat import CHATML, Comparison, FileTokenizer, Message
from guildgpt.chat.conversation import Source
from guildgpt.data.examples import rankings, without_held_out_prompts
from guildgpt.data.split import in_first_half


def row(
    *answers: str, ranks: Sequence[int] = (), prompt: str = "Where is the gate?", group: str = ""
) -> Comparison:
    return Comparison(
        (Message("user", prompt),),
        tuple(Message("assistant", answer) for answer in answers),
        tuple(ranks),
        Source("made", group=group),
    )


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_all_pairs_of_a_ranking(tokenizer: FileTokenizer, count: int) -> None:
    texts = [f"Answer {n}" for n in range(count)]
    found, counts = rankings([row(*texts)], tokenizer, CHATML, context=200)
    (ranking,) = found
    expected = [(i, j) for i in range(count) for j in range(i + 1, count)]
    assert list(ranking.pairs) == expected
    assert len(ranking.pairs) == count * (count - 1) // 2
    assert list(ranking.steps) == [j - i for i, j in expected]
    assert not +counts


def test_ties_give_no_pair_among_themselves(tokenizer: FileTokenizer) -> None:
    found, _ = rankings(
        [row("best", "good", "as good", "worst", ranks=(0, 1, 1, 2))],
        tokenizer,
        CHATML,
        context=200,
    )
    assert found[0].pairs == ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))
    assert found[0].steps == (1, 1, 2, 1, 1)


def test_an_answer_is_read_whole_with_its_end_of_turn(tokenizer: FileTokenizer) -> None:
    comparison = row("It is here.", "It is <|im_end|> there.")
    (ranking,), _ = rankings([comparison], tokenizer, CHATML, context=200)
    asked = CHATML.prompt(comparison.prompt, tokenizer)
    end = CHATML.eos_id(tokenizer)
    for example, answer in zip(ranking.answers, comparison.answers, strict=True):
        ids = example.ids.tolist()
        assert ids == [*asked, *tokenizer.encode(answer.content), end]
        assert ids.count(end) == asked.count(end) + 1  # what people type never ends a turn
        assert example.trained == len(ids) - len(asked)
        assert not example.mask[: len(asked)].any()
    assert len(ranking) == sum(len(example) for example in ranking.answers)


@pytest.mark.parametrize(
    ("comparison", "reasons"),
    [
        (row("yes", "no", ranks=(0, 0)), {"that rank all answers alike": 1}),
        (row("yes", "yes"), {"whose answers are identical": 1}),
        (
            row("yes", "  \n"),
            {
                "with an empty answer, which was left out": 1,
                "without two answers that can be compared": 1,
            },
        ),
        (
            row("yes", "no " * 300),
            {
                "with an answer longer than the context, which was left out": 1,
                "without two answers that can be compared": 1,
            },
        ),
        (
            row("yes", "no", prompt="where " * 300),
            {"with a prompt longer than the context": 1},
        ),
    ],
    ids=["ties alone", "identical", "empty", "long answer", "long prompt"],
)
def test_what_gives_no_pair_is_counted(
    tokenizer: FileTokenizer, comparison: Comparison, reasons: dict[str, int]
) -> None:
    found, counts = rankings([comparison, row("a", "b")], tokenizer, CHATML, context=120)
    assert len(found) == 1
    assert dict(counts) == reasons


def test_what_remains_of_a_ranking_is_kept(tokenizer: FileTokenizer) -> None:
    found, counts = rankings(
        [row("one", "", "three", "one", "five " * 200)], tokenizer, CHATML, context=120
    )
    (ranking,) = found
    assert len(ranking.answers) == 3  # one, three, one
    assert ranking.pairs == ((0, 1), (1, 2))
    assert ranking.steps == (2, 1)  # places of the ranking as it was given
    assert counts.total() == 2


def test_a_prompt_that_fills_the_context_to_the_last_token(tokenizer: FileTokenizer) -> None:
    comparison = row("a", "b")
    size = len(CHATML.prompt(comparison.prompt, tokenizer)) + 2  # a letter and the end of turn
    assert len(rankings([comparison], tokenizer, CHATML, context=size)[0]) == 1
    assert len(rankings([comparison], tokenizer, CHATML, context=size - 1)[0]) == 0


def test_prompts_that_are_held_out_too_are_left_out() -> None:
    train = [
        row("a", "b", prompt="Where is the gate?"),
        row("a", "b", prompt="  where IS the gate? "),
        row("a", "b", prompt="Who keeps the lamp?"),
    ]
    held_out = [row("c", "d", prompt="Where is the Gate?", group="another tree")]
    kept, left_out = without_held_out_prompts(train, held_out)
    assert [one.prompt[0].content for one in kept] == ["Who keeps the lamp?"]
    assert left_out == 2
    assert without_held_out_prompts(train, []) == (train, 0)


def test_the_judges_half_shares_no_tree_with_the_other() -> None:
    rows = [row("a", f"b{n}", prompt=f"Question {n}", group=f"tree {n % 60}") for n in range(600)]
    halves = {half: {r.source.group for r in rows if in_first_half(r) == half} for half in (0, 1)}
    assert not halves[0] & halves[1]
    assert all(15 < len(trees) < 45 for trees in halves.values())
    # Without a group the question decides, however it is typed.
    assert in_first_half(row("a", "b", prompt="Who?")) == in_first_half(
        row("x", "y", prompt=" WHO? ")
    )
