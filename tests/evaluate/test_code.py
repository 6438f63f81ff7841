"""`guildgpt eval --code`: HumanEval's and MBPP's forms, what counts as solved, and how surely.

The tasks are of our own making, in the two published forms. A writer stands for the model where it
matters what is written; the sandbox is the real one.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import answered, ask, data, model, refused
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.errors import DataError, GuildError
from guildgpt.evaluate import code
from guildgpt.evaluate.code import evaluate_code, pass_at
from guildgpt.evaluate.code_tasks import CodeTask, read_code_tasks
from guildgpt.evaluate.intervals import paired_difference, wilson
from guildgpt.evaluate.opening import Written
from guildgpt.network.sampler import Sampling
from guildgpt.network.world import World
from guildgpt.rewards.verify import try_all

__all__ = ["data", "model"]

HUMANEVAL: list[dict[str, Any]] = [
    {
        "task_id": "Own/0",
        "prompt": "from typing import List\n\n\ndef half(x: int) -> int:\n"
        '    """ Half of x, rounded down.\n    >>> half(7)\n    3\n    """\n    return x // 2\n\n\n'
        "def halves(numbers: List[int]) -> List[int]:\n"
        '    """ Half of each number.\n    >>> halves([4, 7])\n    [2, 3]\n    """\n',
        "entry_point": "halves",
        "canonical_solution": "    return [half(one) for one in numbers]\n",
        "test": "\n\nMETADATA = {'author': 'x'}\n\n\ndef check(candidate):\n"
        "    assert candidate([4, 7]) == [2, 3]\n    assert candidate([half(2)]) == [0]\n\n",
    },
    {
        "task_id": "Own/1",
        "prompt": 'def total(a, b):\n    """ The sum of a and b. """\n',
        "entry_point": "total",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n",
    },
]
MBPP: list[dict[str, Any]] = [
    {
        "text": f"Write a function to add {number} to a number.",
        "code": f"def {name}(x):\r\n  return x + {number}",
        "task_id": number,
        "test_setup_code": "one = 1",
        "test_list": [f"assert {name}(one) == {number + 1}", f"assert {name}(-1) == {number - 1}"],
        "challenge_test_list": [],
    }
    for number, name in [(2, "two"), (3, "three"), (4, "four"), (11, "eleven"), (12, "sum")]
]
SANITIZED = [
    {
        "source_file": "x.ipynb",
        "task_id": row["task_id"],
        "prompt": row["text"],
        "code": row["code"],
        "test_imports": ["import math"],
        "test_list": [*row["test_list"][1:], f"assert math.isclose({name}(0.5), {number}.5)"],
    }
    for row, (number, name) in zip(MBPP[3:], [(11, "eleven"), (12, "sum")], strict=True)
]


@pytest.fixture
def humaneval(tmp_path: Path) -> str:
    path = tmp_path / "HumanEval.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in HUMANEVAL)
    return f"humaneval:{path}"


@pytest.fixture
def mbpp(tmp_path: Path) -> str:
    path = tmp_path / "mbpp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MBPP), encoding="utf-8")
    return f"mbpp:{path}"


def outcomes(tasks: Sequence[CodeTask], texts: Sequence[str], *, chat: bool) -> list[str]:
    codes = [task.code(text, chat=chat) for task, text in zip(tasks, texts, strict=True)]
    return [one.outcome for one in try_all(codes, [task.tests for task in tasks])]


def block(text: str) -> str:
    return (
        f"Here it is:\n\n```python\n{text}\n```\n\nIt works.\n\n```python\nraise SystemExit\n```\n"
    )


# --- reading ---


def test_humaneval_as_it_is_published(humaneval: str) -> None:
    halves, total = read_code_tasks(humaneval).tasks
    assert halves.id == "Own/0"
    assert halves.begun == HUMANEVAL[0]["prompt"].rstrip()
    assert halves.begun in halves.question
    assert halves.stops == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    assert "def half(" in halves.head
    assert "halves" not in halves.head
    assert (total.head, total.entry) == ("", "total")


def test_mbpp_as_it_is_published(mbpp: str, tmp_path: Path) -> None:
    eleven, twelve = read_code_tasks(mbpp).tasks  # what is shown before is not asked
    assert (eleven.id, twelve.id) == ("MBPP/11", "MBPP/12")
    assert eleven.begun.startswith(
        "You are an expert Python programmer, and here is your task: Write a function to add 2 to "
        "a number. Your code should pass these tests:\n\nassert two(one) == 3\nassert two(-1) == 1"
        "\n[BEGIN]\ndef two(x):\r\n  return x + 2\n[DONE]\n\n"
    )
    assert eleven.begun.count("[DONE]") == 3
    assert eleven.begun.endswith("assert eleven(-1) == 10\n[BEGIN]\n")
    assert eleven.stops == ("[DONE]",)
    assert all(test in eleven.question for test in MBPP[3]["test_list"])
    path = tmp_path / "sanitized-mbpp.json"
    path.write_text(json.dumps(SANITIZED), encoding="utf-8")
    tasks = read_code_tasks(f"mbpp:{path}").tasks
    assert [task.id for task in tasks] == ["MBPP/11", "MBPP/12"]
    assert tasks[0].begun.count("[BEGIN]") == 1  # without examples there are none to show
    for chat in (False, True):
        texts = [block(row["code"]) if chat else row["code"] for row in SANITIZED]
        assert outcomes(tasks, texts, chat=chat) == ["passed", "passed"]


@pytest.mark.parametrize(
    ("kind", "rows", "why"),
    [
        ("humaneval", [{"prompt": "x", "completion": "y"}], "it has no `entry_point`"),
        ("humaneval", [HUMANEVAL[0] | {"entry_point": "f"}], "its prompt does not define `f`"),
        ("humaneval", [HUMANEVAL[0] | {"test": "def check(f):\n    pass"}], "hold no assert"),
        ("humaneval", MBPP, "it has no `prompt`"),
        ("mbpp", HUMANEVAL, "it has no `code`"),
        ("mbpp", [MBPP[3] | {"test_list": "assert x"}], "it has no `task_id` or no `test_list`"),
        ("mbpp", [MBPP[3] | {"test_list": ["assert ("]}], "the tests are no Python"),
        ("mbpp", MBPP[:3], "no more than the tasks that are shown before"),
        ("mbpp", [], "there is no task in this file"),
        ("apps", MBPP, "names no tasks"),
    ],
)
def test_what_is_no_such_file_is_refused_before_a_model_is_loaded(
    kind: str, rows: list[Any], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    error = refused(DataError, "eval", tmp_path / "no-model", "--code", f"{kind}:{path}")
    assert why in error.what
    assert error.remedy


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    error = refused(DataError, "eval", tmp_path, "--code", f"mbpp:{tmp_path / 'mbpp.jsonl'}")
    assert str(tmp_path / "mbpp.jsonl") in str(error)


# --- what counts as solved ---


def test_a_base_continues_and_a_chat_model_gives_a_block(humaneval: str) -> None:
    tasks = read_code_tasks(humaneval).tasks
    right = [row["canonical_solution"] for row in HUMANEVAL]
    assert outcomes(tasks, right, chat=False) == ["passed"] * 2
    assert outcomes(tasks, [f"\n{text}" for text in right], chat=False) == ["passed"] * 2
    # The whole function, without the helper and the import that the question gives.
    whole = ["def halves(numbers: List[int]):\n    return [half(one) for one in numbers]",
             "def total(a, b):\n    return a + b"]  # fmt: skip
    assert outcomes(tasks, [block(text) for text in whole], chat=True) == ["passed"] * 2
    # The rest of it alone.
    assert outcomes(tasks, [block(text) for text in right], chat=True) == ["passed"] * 2
    assert outcomes(tasks, whole, chat=True) == ["passed"] * 2  # without a fence


def test_each_outcome_has_a_name(mbpp: str) -> None:
    task = read_code_tasks(mbpp).tasks[0]
    texts = [
        "def eleven(x): return x + 11",
        "def eleven(x): return x + 10",
        "def eleven(x): return x + '11'",
        "def eleven(x:",
        "def twelve(x): return x",
        "def eleven(x):\n    while True: pass",
        "import os\nos.fork()",
    ]
    tasks = [task] * len(texts)
    limits = code.LIMITS._replace(seconds=3.0, cpu_seconds=1)
    codes = [one.code(block(text), chat=True) for one, text in zip(tasks, texts, strict=True)]
    found = try_all([*codes, task.code("I cannot.", chat=True)], [task.tests] * 8, 2, limits)
    assert [one.outcome for one in found] == [
        *("passed", "wrong", "error", "error", "error", "time out", "error", "no code")
    ]


def test_a_name_of_pythons_own_is_asked_for_by_another(mbpp: str) -> None:
    twelve = read_code_tasks(mbpp).tasks[1]
    assert outcomes([twelve] * 2, ["def sum(x): return x + 12", "x = 1"], chat=False) == [
        "passed",
        "error",
    ]


def test_the_starter_packs_tasks_take_the_same_way() -> None:
    tasks = read_code_tasks("starter").tasks
    assert len(tasks) == 54
    double = tasks[0]
    assert outcomes([double] * 2, [block("def double(n): return 2 * n"), "?"], chat=True) == [
        "passed",
        "no code",
    ]


# --- figures ---


def test_pass_at_k_is_the_share_of_all_draws_that_hold_one_that_passed() -> None:
    for n, c, k in itertools.product(range(1, 6), range(6), range(1, 6)):
        if c <= n and k <= n:
            draws = list(itertools.combinations([1] * c + [0] * (n - c), k))
            assert pass_at(k, n, c) == pytest.approx(sum(map(max, draws)) / len(draws))


def test_wilsons_interval() -> None:
    low, high = wilson(0.5, 10)  # Wilson 1927; by hand from the quadratic
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(0.0, 20)[0] == 0.0
    assert 0.15 < wilson(0.0, 20)[1] < 0.17
    assert wilson(1.0, 20) == pytest.approx((1 - wilson(0.0, 20)[1], 1.0))


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), min_size=1, max_size=60))
def test_a_paired_difference_lies_in_its_interval(values: list[float]) -> None:
    middle, low, high = paired_difference(np.array(values))
    assert -1 <= low < high <= 1
    assert middle == pytest.approx(np.mean(values))
    turned = paired_difference(-np.array(values))
    assert turned == pytest.approx((-middle, -high, -low))


def test_a_paired_difference_as_published() -> None:
    # Agresti & Min 2005, table I: of 1600, 570 and 944 answers agree, 86 and 150 do not.
    values = np.array([1.0] * 86 + [-1.0] * 150 + [0.0] * 1364)
    middle, low, high = paired_difference(values)
    assert middle == pytest.approx(-0.04)
    assert (low, high) == (pytest.approx(-0.059, abs=1e-3), pytest.approx(-0.021, abs=1e-3))


def test_intervals_cover_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    held, trials = 0, 400
    for _ in range(trials):
        a, b = generator.random(80) < 0.55, generator.random(80) < 0.4
        _, low, high = paired_difference(a.astype(float) - b)
        held += low <= 0.15 <= high
    assert held / trials > 0.92


# --- a whole evaluation ---


class Writer:
    """In place of a model: asked as it would be, it writes what a test has it write."""

    def __init__(self, write: Callable[[str, int], Written], *, chat: bool):
        self.chat = chat
        self.holds, self.write_one, self.asked = 2048, write, list[str]()

    def plain(self, text: str) -> list[int]:
        self.asked.append(text)
        return [len(self.asked) - 1]

    def asking(self, messages: Sequence[Any]) -> list[int]:
        return self.plain(messages[-1].content)

    def write(self, prompts: Sequence[list[int]], sampling: Sampling, **how: Any) -> list[Written]:
        return [self.write_one(self.asked[ids[0]], index) for index, ids in enumerate(prompts)]


def written(text: str, ended: bool = True) -> Written:
    return Written(text, ended, (1,))


def test_before_and_after_on_the_same_tasks(
    humaneval: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def knows(asked: str, index: int) -> Written:
        right = next(row for row in HUMANEVAL if row["prompt"].rstrip() in asked)
        text = right["canonical_solution"]
        return written(block(text), ended=index != 1)  # it never ends the second: that is failed

    writers = {
        "after": Writer(knows, chat=True),
        "before": Writer(lambda asked, index: written("    return None\n"), chat=False),
    }
    monkeypatch.setattr(code, "open_model", lambda name, world, chat: writers[name])
    result = evaluate_code(
        "after", humaneval, World(), against="before", answers=4, temperature=0.2
    )
    after, before = result["models"]
    assert after["outcomes"]["passed"] == 7
    assert after["outcomes"]["unfinished"] == 1
    assert after["pass_at"] == {"1": pytest.approx((3 / 4 + 1) / 2)}
    assert before["outcomes"] == {**dict.fromkeys(code.OUTCOMES, 0), "wrong": 8}
    assert result["difference"]["value"] == pytest.approx(7 / 8)
    assert (result["difference"]["better"], result["difference"]["worse"]) == (2, 0)
    assert result["tried"][0]["answers"][0][1]["outcome"] == "unfinished"
    assert "continues plain text" in result["notes"][0]


def test_what_a_person_sees(humaneval: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def knows(asked: str, index: int) -> Written:
        return written("    return a + b")

    monkeypatch.setattr(code, "open_model", lambda name, world, chat: Writer(knows, chat=False))
    result = ask("eval", "one", "--code", humaneval, "--against", "[b]other[/b]")
    assert result.exit_code == 0, result.output + repr(result.exception)
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()
    ]
    assert ["pass@1", "50.0%", "50.0%"] in lines
    assert ["wrong", "0", "0"] in lines
    assert ["error", "1", "1"] in lines
    assert "These tasks do not say which of the two is better" in result.stdout
    assert "[b]other[/b]" in result.stdout


def test_several_greedy_answers_are_refused(humaneval: str, tmp_path: Path) -> None:
    error = refused(
        GuildError,
        *("eval", tmp_path, "--code", humaneval, "--answers", "3", "--temperature", "0"),
    )
    assert "one and the same" in error.what


@pytest.mark.slow
def test_a_real_model_is_asked_and_its_answers_are_tried(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "mbpp.jsonl"  # without the examples, which are too long for the model
    path.write_text("".join(json.dumps(row) + "\n" for row in MBPP[3:]), encoding="utf-8")
    command = ("eval", model, "--code", f"mbpp:{path}", "--max-tokens", "8", "--json")
    result = answered(*command)
    (one,) = result["models"]
    assert one["chat"]  # its control tokens are its own
    assert sum(one["outcomes"].values()) == result["problems"] == 2
    assert one["low"] <= one["pass_at"]["1"] <= one["high"]
    assert answered(*command) == result
    plain = answered(*command, "--plain", "--answers", "2")
    assert not plain["models"][0]["chat"]
    assert plain["sampling"]["temperature"] == 0.2
    assert len(plain["tried"][0]["answers"][0]) == 2
    error = refused(GuildError, *command[:-3], "--max-tokens", "150")
    assert "no task leaves room" in error.what
