"""The starter pack: whole, balanced, and with nothing in it that is asked twice."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from guildgpt.bases.base import load_tokenizer
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import Message
from guildgpt.chat.repetition import loops
from guildgpt.constraints.trained import TRAINED
from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.data.split import normalised
from guildgpt.data.starter import (
    pool_prompts,
    starter_facts,
    starter_prompts,
    starter_tasks,
    unsafe_requests,
)
from guildgpt.evaluate.probes import probes
from guildgpt.rewards.wanted import Wanted

CATEGORIES = {
    *("advice", "brainstorming", "classification", "closed_qa", "creative_writing", "debugging"),
    *("definition", "extraction", "follow_up", "honest_unknown", "open_qa", "python", "refusal"),
    *("rewriting", "rust", "summarization", "tools"),
}
CHOSEN_TOKENS = 320  # what the recipes leave for an answer
TOO_CLOSE = 0.5  # the pack's own closest pair shares 0.4

# Words that say how something is asked, not what.
FRAME = """
a about an and any are as at be but by can could define did difference do does explain false for
from function give had has have he her his how i if in is it its just made make me mean more my
no not of on one or otherwise our please pls python returns s say sentence sentences she short
should show so some t tell than that the their them then there they this three to true two us
was we were what whats when where which who why will with word words would write you your
"""


def rows(name: str) -> list[dict[str, Any]]:
    text = (files("guildgpt.data") / "starter" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def subject(text: str) -> set[str]:
    """The words that tell what a question is about."""
    return set(re.findall(r"\w+", text.lower())) - set(FRAME.split())


def closeness(one: set[str], other: set[str]) -> float:
    """The share of all their words that two questions have in common, 0 to 1."""
    return len(one & other) / len(one | other) if one | other else 0.0


def asked(messages: Iterable[Message]) -> str:
    return " ".join(message.content for message in messages if message.role == "user")


def repeated(text: str) -> float:
    """The share of three-word spans that stood in the text before, 0 to 1."""
    words = re.findall(r"\w+", text.lower())
    spans = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    return 1 - len(set(spans)) / len(spans) if spans else 0.0


def text_of(row: dict[str, Any], key: str) -> str:
    (message,) = row[key]
    assert message["role"] == "assistant"
    return str(message["content"])


def test_the_starter_pack_is_whole() -> None:
    loaded = load(SourceSpec.parse("starter"))
    assert (len(loaded.conversations), len(loaded.comparisons)) == (256, 471)
    assert loaded.skipped.total() == 0
    assert loaded.provenance.licence == "CC0-1.0"
    assert {row.source.file for row in loaded.conversations} == {"conversations.jsonl"}


def test_its_prompts_are_asked_in_no_training_row() -> None:
    prompts = starter_prompts()
    assert len(prompts) == 60
    assert all(prompt.prompt.strip() and prompt.category for prompt in prompts)
    loaded = load(SourceSpec.parse("starter"))
    asked = {normalised(row.messages[0].content) for row in loaded.conversations}
    asked |= {normalised(row.prompt[-1].content) for row in loaded.comparisons}
    assert not asked & {normalised(prompt.prompt) for prompt in prompts}


def test_the_numbers_in_the_documents_are_the_packs_own() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "data.md").read_text(encoding="utf-8")
    changes = " ".join((root / "CHANGELOG.md").read_text(encoding="utf-8").split())
    comparisons, tasks = len(rows("comparisons.jsonl")), len(starter_tasks())
    assert f"256 conversations, {comparisons} comparisons |" in page
    assert f"| {comparisons} questions, each with a good and a bad answer |" in page
    assert f"| {tasks} Python tasks" in page
    assert f"| {len(rows('constrained.jsonl'))} prompts with constraints" in page
    assert (
        f"256 conversations, {comparisons} comparisons, 60 held-out prompts and {tasks}" in changes
    )


# --- comparisons ---------------------------------------------------------------------------------


def test_each_comparison_is_complete() -> None:
    for row in rows("comparisons.jsonl"):
        assert set(row) == {"prompt", "chosen", "rejected", "category"}
        assert row["prompt"][-1]["role"] == "user"
        assert all(message["content"].strip() for message in row["prompt"])
        chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
        assert chosen.strip() == chosen != rejected.strip() == rejected
        assert chosen
        assert rejected


def test_every_category_has_its_share() -> None:
    count = Counter(row["category"] for row in rows("comparisons.jsonl"))
    assert set(count) == CATEGORIES
    assert min(count.values()) >= 12


def test_length_does_not_tell_the_better_answer() -> None:
    longer: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for row in rows("comparisons.jsonl"):
        count[row["category"]] += 1
        longer[row["category"]] += len(text_of(row, "chosen")) > len(text_of(row, "rejected"))
    assert 0.47 <= longer.total() / count.total() <= 0.53
    shares = {category: longer[category] / count[category] for category in count}
    assert all(0.3 <= share <= 0.7 for share in shares.values()), shares


def test_no_best_length_tells_it_either() -> None:
    """The rule "whichever is nearer to so many characters" is wrong for a third of the rows."""
    sizes = [
        (len(text_of(row, "chosen")), len(text_of(row, "rejected")))
        for row in rows("comparisons.jsonl")
    ]
    right = [sum(abs(a - t) < abs(b - t) for a, b in sizes) for t in range(1, 600)]
    assert max(right) / len(sizes) < 0.68


def test_no_answer_stands_twice() -> None:
    answers = Counter(
        normalised(text_of(row, key))
        for row in rows("comparisons.jsonl")
        for key in ("chosen", "rejected")
    )
    assert [answer for answer, times in answers.items() if times > 1] == []


def test_a_good_answer_ends() -> None:
    """Its last character is one that ends a sentence, a list, a quotation or a block of code."""
    for row in rows("comparisons.jsonl"):
        chosen = text_of(row, "chosen")
        assert not chosen.endswith((",", ";", ":", "-", "(", " and", " the")), chosen
        assert chosen.count("```") % 2 == 0, chosen
        assert "User:" not in chosen


def test_many_bad_answers_go_in_circles_and_no_good_one_does() -> None:
    """The fault that a small model has most often, in any shape: a word, a line, a list, code."""
    comparisons = rows("comparisons.jsonl")
    circling = sum(repeated(text_of(row, "rejected")) > 0.15 for row in comparisons)
    assert circling >= len(comparisons) / 4
    assert all(repeated(text_of(row, "chosen")) <= 0.15 for row in comparisons)


def test_python_in_a_good_answer_is_python() -> None:
    blocks = [
        code
        for row in rows("comparisons.jsonl")
        for code in re.findall(r"```python\n(.*?)```", text_of(row, "chosen"), flags=re.DOTALL)
    ]
    assert len(blocks) >= 40
    for code in blocks:
        ast.parse(code)


def test_the_answers_in_the_starters_tokens(starter: Path) -> None:
    """Good ones fit into an answer's room; the loops that the measurements count occur in the bad
    ones alone, and often enough to be learned."""
    tokenizer = load_tokenizer(BaseConfig())[0].tokenizer
    comparisons = rows("comparisons.jsonl")
    good = [tokenizer.encode(text_of(row, "chosen")) for row in comparisons]
    bad = [tokenizer.encode(text_of(row, "rejected")) for row in comparisons]
    assert max(map(len, good)) < CHOSEN_TOKENS
    assert not any(map(loops, good))
    assert sum(map(loops, bad)) >= len(bad) / 10


# --- prompts with constraints ---------------------------------------------------------------------


def test_the_prompts_with_constraints_are_whole_and_their_answers_keep_them() -> None:
    loaded = load(SourceSpec.parse("constrained"))
    assert (len(loaded.conversations), len(loaded.comparisons), len(loaded.tasks)) == (120, 0, 0)
    assert loaded.skipped.total() == 0
    assert loaded.provenance.licence == "CC0-1.0"
    kinds: Counter[str] = Counter()
    for row in loaded.conversations:
        wanted = Wanted.from_row(row.source.rules, str(row.source), row.messages[-1].content)
        kinds.update(one.kind for one in wanted.constraints)
    assert set(kinds) == {kind.model_fields["kind"].default for kind in TRAINED}
    assert min(kinds.values()) >= 7


def test_no_prompt_with_constraints_is_told_in_a_wording_that_is_drawn() -> None:
    """People put such things in many ways; none should be learned by heart."""
    told = [
        " ".join(wording.split("{")[0].split()) for kind in TRAINED for wording in kind.wordings
    ]
    prompts = [row["prompt"] for row in rows("constrained.jsonl")]
    drawn = [one for one in prompts if any(len(t) > 12 and t in one for t in told)]
    assert len(drawn) <= len(prompts) / 10


# --- nothing is asked twice ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Why is the sky blue?", "please explain to me why the sky is so blue", True),
        ("What is a firewall?", 'Define "firewall".', True),
        ("What is a firewall?", "What is a sonnet?", False),
        ("Write a poem about rain in the city.", "a short poem about the city in rain", True),
    ],
)
def test_close_questions_are_told_from_others(one: str, other: str, alike: bool) -> None:
    assert (closeness(subject(one), subject(other)) >= TOO_CLOSE) is alike


def test_no_comparison_task_or_prompt_of_the_pool_comes_close_to_another_question() -> None:
    loaded = load(SourceSpec.parse("starter"))
    questions = [("comparison", asked(row.prompt)) for row in loaded.comparisons]
    questions += [("conversation", asked(row.messages)) for row in loaded.conversations]
    questions += [("prompt", prompt.prompt) for prompt in starter_prompts()]
    questions += [("pool", prompt.prompt) for prompt in pool_prompts()]
    questions += [("probe", asked(probe.messages)) for probe in probes()]
    questions += [("task", task.prompt) for task in starter_tasks()]
    questions += [("constrained", row["prompt"]) for row in rows("constrained.jsonl")]
    questions += [("fact", fact.question) for fact in starter_facts()]
    questions += [("unsafe", unsafe.request) for unsafe in unsafe_requests()]
    subjects = [(kind, question, subject(question)) for kind, question in questions]
    close = [
        (first, second)
        for (kind, first, one), (other_kind, second, other) in combinations(subjects, 2)
        if {kind, other_kind} & {"comparison", "task", "pool", "constrained", "fact", "unsafe"}
        and kind + other_kind not in ("factfact", "unsafeunsafe")  # capitals of many countries
        and closeness(one, other) >= TOO_CLOSE
    ]
    assert close == []
