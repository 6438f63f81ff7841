"""Does the answer's Python pass the tests? They run apart from it, and it never sees them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guildgpt.errors import DataError
from guildgpt.rewards.confine import DEFAULT_LIMITS, Level, Limits
from guildgpt.rewards.runner import count
from guildgpt.rewards.sandbox import Snippet, run_all

_FENCED = re.compile(
    r"^ {0,3}(?P<run>`{3,}|~{3,})[ \t]*(?P<language>[\w+-]*)[^\n`]*\n(?P<code>.*?)^ {0,3}(?P=run)",
    re.M | re.S,
)
_PYTHON = ("python", "python3", "py")
_ENDED = {"time": "it ran out of time", "files": "it wrote too much"}
# What `ast.parse` raises for a text that is no Python, or too deep for it.
_NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


NO_CODE = "there is no Python code in the answer"

Outcome = Literal["passed", "wrong", "error", "time out", "no code"]


@dataclass(frozen=True, slots=True)
class TestResult:
    """How many of the tests an answer passed, and what went wrong first ('' if nothing did).

    `outcome` in a word: a test that came to a false assert is `wrong`, one that came to anything
    else an `error`.
    """

    passed: int
    total: int
    problem: str = ""
    outcome: Outcome = "passed"

    def score(self, partial: float = 0.5) -> float:
        """1 if all tests passed, else the share that passed times `partial`: in 0..1."""
        share = self.passed / self.total
        return 1.0 if share == 1 else share * partial


def code_of(answer: str) -> str | None:
    """The Python in an answer, or None if there is none.

    That is the first closed block marked as Python; else the first one without a mark, if it is
    Python; without any block the whole answer, if that is Python.
    """
    blocks = [(found["language"].lower(), found["code"]) for found in _FENCED.finditer(answer)]
    marked = next((code for language, code in blocks if language in _PYTHON), None)
    if marked is not None:
        return marked
    if not blocks:
        return answer if "```" not in answer and answer.strip() and is_python(answer) else None
    return next((code for language, code in blocks if not language and is_python(code)), None)


def is_python(text: str) -> bool:
    """Whether a text is Python by its grammar."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a model's odd escapes nobody wants to hear
            ast.parse(text)
    except _NO_PYTHON:
        return False
    return True


def count_tests(tests: str, where: str) -> int:
    """How many tests a row holds. DataError, with the row, if it holds none or is no Python."""
    try:
        found = count(tests)
    except _NO_PYTHON as error:
        raise DataError(
            f"the tests are no Python: {error}", where=where, remedy="Write them as asserts."
        ) from None
    if not found:
        raise DataError(
            "the tests hold no assert, so there is nothing to pass",
            where=where,
            remedy='Write for instance "assert add(2, 3) == 5", one a line.',
        )
    return found


def verify_all(
    answers: Sequence[str],
    tests: Sequence[str],
    workers: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    *,
    where: Sequence[str] | None = None,
    at: Level | None = None,
) -> list[TestResult]:
    """How each answer does in its own tests, `workers` side by side.

    `where` names the rows. DataError if a row's tests are of no use, SandboxError if code cannot be
    run safely here or the sandbox fails; an answer's own failings only ever cost it tests.
    """
    return try_all([code_of(one) for one in answers], tests, workers, limits, where=where, at=at)


def try_all(
    codes: Sequence[str | None],
    tests: Sequence[str],
    workers: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    *,
    where: Sequence[str] | None = None,
    at: Level | None = None,
) -> list[TestResult]:
    """The same for code that was taken out of its answers already, None where there was none."""
    where = where or [f"answer {number}" for number in range(1, len(codes) + 1)]
    totals = [count_tests(text, place) for text, place in zip(tests, where, strict=True)]
    coded = [index for index, code in enumerate(codes) if code is not None]
    snippets = [Snippet(codes[index] or "", tests[index], where[index]) for index in coded]
    ran = dict(zip(coded, run_all(snippets, limits, workers, at=at), strict=True))
    return [
        _result(ran[index], total, place)
        if index in ran
        else TestResult(0, total, NO_CODE, "no code")
        for index, (total, place) in enumerate(zip(totals, where, strict=True))
    ]


def _result(ran: dict[str, Any], total: int, where: str) -> TestResult:
    """What the sandbox told of one answer. DataError if the row's tests are of no use."""
    for line in ran["tests"]:
        if "unusable" in line:
            raise DataError(
                f"the tests hand over what cannot be handed over: {line['unusable']}",
                where=where,
                remedy="Tests may pass numbers, texts, lists, dictionaries and functions.",
            )
    told = [line for line in ran["tests"] if "passed" in line]
    failed = next((line for line in told if not line["passed"]), None)
    passed = sum(line["passed"] for line in told)
    if failed:
        kinds: dict[str, Outcome] = {"wrong": "wrong"}
        if ran["ended"] == "time":
            kinds["gone"] = "time out"
        return TestResult(passed, total, failed["problem"], kinds.get(failed["kind"], "error"))
    if len(told) < total:
        problem = _ENDED.get(ran["ended"], "the tests did not come to their end")
        return TestResult(passed, total, problem, "time out" if ran["ended"] == "time" else "error")
    return TestResult(passed, total)
