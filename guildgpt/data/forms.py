"""Rows in any of the usual forms, told by their columns: `table.py` shows them all.

`rows.py` has every column's names, `messages.py` reads the turns in one. A column that is null is
not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from guildgpt.chat import Comparison, Conversation, Message, Rejected, Role, Source, Task
from guildgpt.data.files import read_records
from guildgpt.data.lines import stop
from guildgpt.data.messages import TOOLS, Turns, asked, turns_in, with_system
from guildgpt.data.notes import Notes
from guildgpt.data.origin import events_of
from guildgpt.data.rows import (
    ANSWER,
    APART,
    BETTER,
    CALLS,
    QUESTION,
    RULES,
    TURNS,
    WORSE,
    Row,
    found,
    is_content,
    label_of,
    problem,
    type_name,
)
from guildgpt.errors import DataError

FORMS = (
    "messages; a question (prompt, instruction, question, query or input) with an answer "
    "(completion, output, response or answer), with chosen and rejected, or with tests or format; "
    "chosen, rejected; a question alone, which `ppo` and `grpo` ask"
)
# Columns with text that is about a row and no part of it.
ABOUT = frozenset(
    (
        *("id", "_id", "uuid", "prompt_id", "question_id", "user_id", "conversation_id", "hash"),
        *("source", "dataset", "split", "subset", "category", "topic", "task", "type", "tags"),
        *("language", "lang", "url", "license", "licence", "author", "timestamp", "date"),
    )
)
MAPPED = (
    "Where yours have other names, say in the source which is which, on the command line too: "
    '\'{source = "mine.csv", columns = {prompt = "…", completion = "…"}}\'; of a comparison '
    "prompt, chosen, rejected"
)
EMPTY = (
    "`{}` is empty here. Fill it, or delete the row; with the option "
    'on_bad_row = "skip" in the source such rows are left out and counted.'
)

Item = Conversation | Rejected | Comparison | Task


def read(
    path: str | Path,
    *,
    name: str,
    notes: Notes,
    label: str | None = None,
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, Role] | None = None,
    skip_bad: bool = False,
) -> Iterator[Item]:
    """The file's rows; what is not among them, `notes` tells.

    `label` is what sources call the file, `columns` the names of the file's columns by ours,
    `roles` the roles of its speakers. With `skip_bad` a row that cannot be read is left out;
    without, it is a DataError.
    """
    file = label or Path(path).name
    fault = notes.pass_over if skip_bad else stop
    missing = dict(columns or {})
    there: list[str] = []
    for number, values in read_records(path, notes.notices, fault):
        where = f"{path}:{number}"
        there = there or [*values]
        missing = {ours: one for ours, one in missing.items() if found(values, one) is None}
        try:
            row = Row(values, where, columns, roles)
            if item := _usable(row, name, file, number, notes):
                yield item
        except DataError as error:
            fault(error)
    if missing and there:
        raise DataError(
            f"no row has the column `{next(iter(missing.values()))}`",
            where=path,
            remedy=f"The first row has {', '.join(there)}. Change `columns` in the source.",
        )


def _usable(row: Row, name: str, file: str, number: int, notes: Notes) -> Item | None:
    """What a row holds; None, and noted, where that cannot be used."""
    origin = frozenset(events_of(row.values, row.where))
    rules = {key: row.values[key] for key in RULES if row.says(key)}
    item, reason = _item(row, Source(name, file, number, _group(row), origin, rules))
    left = dict(row.left(message.content for message in item.messages))
    lost = [column for column, is_text in left.items() if is_text]
    if any(column.rpartition(".")[2] in CALLS for column in lost):
        reason = TOOLS
    elif named := [column for column in lost if is_content(column) and not row.fault]:
        raise DataError(
            f"`{named[0]}` holds text that is not read in a row with {', '.join(row.read)}",
            where=row.where,
            remedy=f"Put it into one that is, or delete the column. The forms are {FORMS}.",
        )
    label = label_of(row.values.get("label"), "label", row.where)
    if label is not None and isinstance(item, Conversation):
        item = replace(item, rated=True) if label else Rejected(item.messages, item.source)
    elif label is False:
        reason = "labelled bad"
    if reason:
        notes.skip(reason, row.where)
        return None
    notes.unread.update(lost)
    notes.others.update(dict.fromkeys(column for column, is_text in left.items() if not is_text))
    return item


def _item(row: Row, source: Source) -> tuple[Item, str | None]:
    """What a row holds, and why it cannot be used, if it cannot.

    Where its columns are those of several forms, the first counts whose columns are all filled.
    """
    better, worse, turns = row.find(BETTER), row.find(WORSE), row.find(TURNS)
    question, answer = row.find(QUESTION), row.find(ANSWER)
    forms = [keys for keys in ((better, worse), (turns,), (question, answer)) if None not in keys]
    filled = [keys for keys in forms if all(map(row.says, keys))]
    form = next(iter(filled or forms), None)
    if better and form == (better, worse):
        return _comparison(row, source)
    if turns and form == (turns,):
        messages = turns_in(row, turns, "user")
        asks = all(message.role != "assistant" for message in messages)
        if asks and _is_alone(row, with_system(row, messages)):
            alone = with_system(row, messages)
            return Task(alone, source), row.fault or problem(alone, answered=False)
    elif question and (answer or source.rules):
        messages = asked(row, question) + (turns_in(row, answer, "assistant") if answer else ())
    elif question and _is_alone(row, alone := with_system(row, asked(row, question))):
        return Task(alone, source), row.fault or problem(alone, answered=False)
    else:
        if row.absent:
            raise _no_column(row)
        null = f"; null: {', '.join(row.null)}" if row.null else ""
        empty = next((name for name in row.null if name in {*QUESTION, *ANSWER, *TURNS}), None)
        raise DataError(
            f"the row's keys ({', '.join(row.values) or 'none'}{null}) are of no known form",
            where=row.where,
            remedy=f"The forms are {FORMS}. {MAPPED}" if empty is None else EMPTY.format(empty),
        )
    messages = with_system(row, messages)
    if source.rules and messages and messages[-1].role == "user":
        return Task(messages, source), row.fault or problem(messages, answered=False)
    return Conversation(messages, source), row.fault or problem(messages)


def _no_column(row: Row) -> DataError:
    """A name in `columns` that the row does not have explains best why its form is not known."""
    name, there = next(iter(row.absent.items()))
    near = [one for one in there if one.casefold() == name.casefold()]
    near = near or get_close_matches(name, there, n=1)
    meant = f"Did you mean `{near[0]}`? " if near else ""
    return DataError(
        f"the row has no column `{name}`, which `columns` names",
        where=row.where,
        remedy=f"{meant}It has {', '.join(there) or 'none'}. Change `columns` in the source.",
    )


def _is_alone(row: Row, turns: Turns) -> bool:
    """Whether the turns are a prompt, and the row nothing else: no column without a value, and none
    that is not read, may be its answer or its rules."""
    if {*row.null, *row.values} & {*ANSWER, *BETTER, *WORSE, *RULES}:
        return False
    others = row.values.keys() - row.read.keys() - APART - ABOUT
    if any(isinstance(row.values[name], str | list | dict) for name in others):
        return False
    return bool(turns) and turns[-1].role == "user"


def _comparison(row: Row, source: Source) -> tuple[Comparison, str | None]:
    """The comparison, and why it cannot be used, if it cannot."""
    (better,), (worse,) = BETTER, WORSE
    question = row.find((*QUESTION, *TURNS))
    if question and row.says(question):
        chosen, rejected = turns_in(row, better, "assistant"), turns_in(row, worse, "assistant")
        prompt, chosen, rejected = _asked_of(asked(row, question), chosen, rejected)
    else:
        chosen, rejected = turns_in(row, better, "user"), turns_in(row, worse, "user")
        if len(chosen) == len(rejected) == 1 and isinstance(row.values[better], str):
            prompt, chosen, rejected = _split_texts(row, chosen[0].content, rejected[0].content)
        else:
            shared = _shared(chosen, rejected)
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    comparison = Comparison(with_system(row, prompt), chosen + rejected, source=source)
    if chosen == rejected:
        return comparison, row.fault or "both answers are the same"
    if not any(turn.content for turn in prompt):
        return comparison, row.fault or "empty prompt"
    if any([turn.role for turn in answer] != ["assistant"] for answer in (chosen, rejected)):
        return comparison, row.fault or "not two single answers to one prompt"
    if not all(answer.trained for answer in comparison.answers):
        return comparison, row.fault or "an answer has the weight 0"
    return comparison, row.fault or problem(comparison.answers)


def _asked_of(prompt: Turns, chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """The prompt and the two answers, where these may begin with a system turn, with the prompt, or
    with a whole talk that the prompt is a part of."""
    if len(prompt) > 1 and prompt[-1:] == chosen[-1:]:  # the whole talk beside the two answers
        prompt = prompt[:-1]
    alike = chosen[: _shared(chosen, rejected)]
    if not alike or alike == chosen:
        return prompt, chosen, rejected
    told = {turn.content for turn in alike}
    if all(turn.content in told for turn in prompt if turn.role != "system"):
        own = () if alike[0].role == "system" else prompt[:1]
        prompt = (*(turn for turn in own if turn.role == "system"), *alike)
    elif [turn.role for turn in alike] == ["system"] and prompt[0].role != "system":
        prompt = (*alike, *prompt)
    else:
        return prompt, chosen, rejected
    return prompt, chosen[len(alike) :], rejected[len(alike) :]


def _split_texts(row: Row, chosen: str, rejected: str) -> tuple[Turns, Turns, Turns]:
    """Two texts that begin alike: the prompt ends with the last whole word that they share.

    Only where nothing else could be the prompt; DataError where another column could.
    """
    if others := row.unread((chosen, rejected)):
        raise DataError(
            f"`{others[0]}` may be what was asked, and is the name of no prompt",
            where=row.where,
            remedy=f"Call it `prompt`, or delete it if it is none. The forms are {FORMS}. {MAPPED}",
        )
    shared = 0 if row.find(QUESTION) else _shared(chosen, rejected)  # a blank prompt stays one
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    return (
        (Message("user", chosen[:shared].strip()),),
        (Message("assistant", chosen[shared:].strip()),),
        (Message("assistant", rejected[shared:].strip()),),
    )


def _shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items (characters, turns) both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _group(row: Row) -> str:
    group: Any = row.values.get("group")
    if group is None or isinstance(group, str):
        return group or ""
    if isinstance(group, int) and not isinstance(group, bool):
        return str(group)
    raise DataError(
        f"`group` is {type_name(group)}",
        where=row.where,
        remedy="A group is a text or a whole number.",
    )
