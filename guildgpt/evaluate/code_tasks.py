"""Python tasks in the forms that they are published in: HumanEval's, MBPP's, the starter pack's.

No data of HumanEval or MBPP comes with GuildGPT; the files are named on the command line.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guildgpt.data.files import read_records
from guildgpt.data.starter import starter_tasks
from guildgpt.errors import DataError
from guildgpt.hashes import file_sha256
from guildgpt.rewards.verify import code_of, count_tests, is_python

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # Chen et al. 2021, section 2.2
MBPP_STOPS = ("[DONE]",)
SHOTS = (2, 3, 4)  # the tasks that MBPP's authors show before the one that they ask
ASKED = range(11, 511)  # the tasks that they evaluate on
IN_A_BLOCK = "Give the whole code in one code block."
FORMS = "Name humaneval:PATH (HumanEval.jsonl.gz), mbpp:PATH (mbpp.jsonl, sanitized-mbpp.json) or "
FORMS += "starter."


@dataclass(frozen=True, slots=True)
class CodeTask:
    """One task: how a chat model and a base are asked, and what the code has to pass."""

    id: str
    question: str  # to a chat model
    begun: str  # what a base continues
    stops: tuple[str, ...]  # what ends its continuation
    tests: str
    where: str
    entry: str = ""  # the name that the tests call, if known
    head: str = ""  # what the answer's code may rest on, as it is given in the question
    continues: bool = False  # whether the code of a continuation begins with `begun`

    def code(self, text: str, *, chat: bool) -> str | None:
        """The program in what a model wrote, or None where there is none."""
        if not chat:
            between = "" if text.startswith("\n") else "\n"
            program = f"{self.begun}{between}{text}" if self.continues else text
            return self._named(program) if text.strip() else None
        found = code_of(text)
        if found is None or not self.entry:
            return found
        if self.continues and not defines(found, self.entry):
            return self._named(f"{self.begun}\n{found}")  # it goes on where the question ends
        return self._named(f"{self.head}\n{found}" if self.head else found)

    def _named(self, program: str) -> str:
        return f"{program}\n{ALIAS} = {self.entry}\n" if _hidden(self.entry) else program


ALIAS = "asked_for"


@dataclass(frozen=True)
class CodeTasks:
    """The tasks of one source, and the hash of its file, if it has one."""

    name: str
    tasks: list[CodeTask]
    sha256: str | None = None


def read_code_tasks(text: str) -> CodeTasks:
    """The tasks that `humaneval:PATH`, `mbpp:PATH` or `starter` names.

    DataError, with the row, for a file that holds something else.
    """
    kind, colon, name = text.partition(":")
    if text == "starter":
        return CodeTasks(text, [_starter(n, *task) for n, task in enumerate(starter_tasks(), 1)])
    readers = {"humaneval": _humaneval, "mbpp": _mbpp}
    if kind not in readers or not colon or not name:
        raise DataError(f"`{text}` names no tasks", where="--code", remedy=FORMS)
    path = Path(name).expanduser()
    rows = list(read_records(path))
    if not rows:
        raise DataError("there is no task in this file", where=path, remedy=FORMS)
    tasks = readers[kind]([(f"{path}:{line}", row) for line, row in rows])
    return CodeTasks(text, tasks, file_sha256(path))


def defines(code: str, name: str) -> bool:
    """Whether a program defines a name at its top."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = ast.parse(code).body if is_python(code) else []
    return any(name == getattr(one, "name", None) or name in _assigned(one) for one in body)


def _assigned(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return {one.id for one in targets if isinstance(one, ast.Name)}


def _humaneval(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[CodeTask]:
    tasks = []
    for where, row in rows:
        prompt, entry, test = _texts(row, where, "HumanEval", "prompt", "entry_point", "test")
        begun = prompt.rstrip()
        at = re.search(rf"^(async )?def {re.escape(entry)}\b", begun, re.M)
        if at is None or not entry.isidentifier():
            raise _not_one("HumanEval", where, f"its prompt does not define `{entry}`")
        question = f"Write this Python function to its end. {IN_A_BLOCK}\n\n```python\n{begun}\n```"
        tests = _tests(f"{test.rstrip()}\n\ncheck({entry})\n", entry, where)
        tasks.append(
            CodeTask(
                str(row.get("task_id", where)),
                question,
                begun,
                HUMANEVAL_STOPS,
                tests,
                where,
                entry,
                head=begun[: at.start()].rstrip(),
                continues=True,
            )
        )
    return tasks


def _mbpp(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[CodeTask]:
    read = {}
    for where, row in rows:
        asked, code = _texts(row, where, "MBPP", "text" if "text" in row else "prompt", "code")
        number, tests = row.get("task_id"), row.get("test_list")
        if not isinstance(number, int) or not _are_texts(tests) or not tests:
            raise _not_one("MBPP", where, "it has no `task_id` or no `test_list`")
        read[number] = where, asked, code, tests, row
    shown = "".join(
        f"{_mbpp_prompt(asked, tests)}{code.rstrip()}\n[DONE]\n\n"
        for number, (_, asked, code, tests, _) in read.items()
        if number in SHOTS
    )
    wanted = [number for number in read if number in ASKED]
    tasks = []
    for number in wanted or [number for number in read if number not in SHOTS]:
        where, asked, code, tests, row = read[number]
        entry = _entry(code, tests)
        before = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
        tasks.append(
            CodeTask(
                f"MBPP/{number}",
                f"{asked.strip()} {IN_A_BLOCK} It has to pass these tests:\n\n```python\n"
                + "\n".join(tests)
                + "\n```",
                shown + _mbpp_prompt(asked, tests),
                MBPP_STOPS,
                _tests("\n".join([before, *tests]).strip() + "\n", entry, where),
                where,
                entry,
            )
        )
    if not tasks:
        raise _not_one("MBPP", rows[0][0], "it holds no more than the tasks that are shown before")
    return tasks


def _starter(number: int, prompt: str, tests: str) -> CodeTask:
    begun = _mbpp_prompt(prompt, tests.splitlines())
    where = f"starter task {number}"
    return CodeTask(f"starter/{number}", prompt, begun, MBPP_STOPS, tests, where)


def _mbpp_prompt(asked: str, tests: Sequence[str]) -> str:
    """As its authors ask a base: google-research/mbpp/README.md; Austin et al. 2021."""
    shown = "\n".join(tests)
    return (
        f"You are an expert Python programmer, and here is your task: {asked.strip()} "
        f"Your code should pass these tests:\n\n{shown}\n[BEGIN]\n"
    )


def _entry(code: str, tests: Sequence[str]) -> str:
    """The function of the published code that the tests call."""
    called = set(re.findall(r"\b(\w+)\(", "\n".join(tests)))
    defined = re.findall(r"^(?:def|class) (\w+)", code, re.M)
    return next((name for name in reversed(defined) if name in called), "")


def _tests(tests: str, entry: str, where: str) -> str:
    """The tests, checked. A name that the sandbox does not hand over takes another one there."""
    count_tests(tests, where)
    return f"{entry} = {ALIAS}\n{tests}" if _hidden(entry) else tests


def _hidden(name: str) -> bool:
    """Whether the sandbox keeps a name of the answer's from its tests: one of Python's own."""
    return bool(name) and (hasattr(builtins, name) or name.startswith("_"))


def _texts(row: Mapping[str, Any], where: str, form: str, *keys: str) -> list[str]:
    for key in keys:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise _not_one(form, where, f"it has no `{key}`")
    return [row[key] for key in keys]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _not_one(form: str, where: str, why: str) -> DataError:
    return DataError(f"this is no task of {form}'s: {why}", where=where, remedy=FORMS)
