"""JSON lines in any of the usual forms, told by each row's columns.

messages                        a conversation: [{"role": …, "content": …}, …]
conversations                   the same as ShareGPT writes it: [{"from": …, "value": …}, …]
prompt, completion              one question and one answer, each text or messages
instruction, input, output      the same with a passage (Alpaca); `history` holds earlier turns
prompt, chosen, rejected        a comparison, each text or messages (TRL)
chosen, rejected                the same, the prompt being what both begin with

prompt, tests or format         a task: what the answer must keep instead of an answer
prompt                          a task that asks for nothing more: for PPO and GRPO

`guildgpt/data/rows.py` has every column's other names. Besides, every form may have `system`,
the text of a system turn, `group`, which keeps rows that belong together on one side of the split,
`label`, which leaves out what is labelled bad, and the rules of a task. A column that is null is
not there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guildgpt.chat import Comparison, Conversation, Message, Role, Source, Task
from guildgpt.data.lines import read_json_lines
from guildgpt.data.origin import events_of
from guildgpt.data.rows import (
    ANSWER,
    APART,
    BETTER,
    HISTORY,
    PASSAGE,
    QUESTION,
    RULES,
    SYSTEM,
    TURNS,
    WORSE,
    Row,
    clean,
    is_bad,
    is_content,
    problem,
    question,
    role_of,
    text_of,
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
HUMAN_ASSISTANT = re.compile(r"(?:^|\n\n)(Human|Assistant):")  # how HH-RLHF writes turns

Turns = tuple[Message, ...]
Item = Conversation | Comparison | Task


def read(
    path: str | Path,
    *,
    name: str,
    skipped: Counter[str],
    places: dict[str, str],
    unread: Counter[str],
) -> Iterator[Item]:
    """The file's rows; those that cannot be trained on are counted in `skipped` by reason, and
    `places` is told where each reason first occurred. `unread` counts, by column, the rows whose
    text there belongs to no form."""
    file = Path(path).name
    for number, values in read_json_lines(path):
        where = f"{path}:{number}"
        row = Row(values, where)
        origin = frozenset(events_of(values, where))
        rules = {key: row.values[key] for key in RULES if row.says(key)}
        item, reason = _item(row, Source(name, file, number, _group(values, where), origin, rules))
        lost = row.unread(message.content for message in item.messages)
        if named := [column for column in lost if is_content(column)]:
            raise DataError(
                f"`{named[0]}` holds text that is not read in a row with {', '.join(row.read)}",
                where=where,
                remedy=f"Put it into one that is, or delete the column. The forms are {FORMS}.",
            )
        if is_bad(row.values.get("label"), "label", where):
            reason = "labelled bad"
        if reason:
            skipped[reason] += 1
            places.setdefault(reason, where)
            continue
        unread.update(lost)
        yield item


def _item(row: Row, source: Source) -> tuple[Item, str | None]:
    """What a row holds, and why it cannot be used, if it cannot.

    Where its columns are those of several forms, the first counts whose columns are all filled.
    """
    better, worse, turns = row.find(BETTER), row.find(WORSE), row.find(TURNS)
    asked, answer = row.find(QUESTION), row.find(ANSWER)
    forms = [keys for keys in ((better, worse), (turns,), (asked, answer)) if None not in keys]
    filled = [keys for keys in forms if all(map(row.says, keys))]
    form = next(iter(filled or forms), None)
    if better and form == (better, worse):
        return _comparison(row, source)
    if turns and form == (turns,):
        found = _turns(row, turns, "user")
    elif asked and (answer or source.rules):
        found = _asked(row, asked) + (_turns(row, answer, "assistant") if answer else ())
    elif asked and (alone := _prompt_alone(row, asked)):
        return Task(alone, source), row.fault or problem(alone, answered=False)
    else:
        null = f"; null: {', '.join(row.null)}" if row.null else ""
        raise DataError(
            f"the row's keys ({', '.join(row.values) or 'none'}{null}) are of no known form",
            where=row.where,
            remedy=f"The forms are {FORMS}.",
        )
    messages = _with_system(row, found)
    if source.rules and messages and messages[-1].role == "user":
        return Task(messages, source), row.fault or problem(messages, answered=False)
    return Conversation(messages, source), row.fault or problem(messages)


def _prompt_alone(row: Row, asked: str) -> Turns:
    """The turns of a row that is a prompt and nothing else; none where a column without a value, or
    one that is not read, may be its answer or its rules."""
    if {*row.null, *row.values} & {*ANSWER, *BETTER, *WORSE, *RULES}:
        return ()
    turns = _with_system(row, _asked(row, asked))
    others = row.values.keys() - row.read.keys() - APART - ABOUT
    if any(isinstance(row.values[name], str | list | dict) for name in others):
        return ()
    return turns if turns and turns[-1].role == "user" else ()


def _comparison(row: Row, source: Source) -> tuple[Comparison, str | None]:
    """The comparison, and why it cannot be used, if it cannot."""
    (better,), (worse,) = BETTER, WORSE
    asked = row.find((*QUESTION, *TURNS))
    if asked and row.says(asked):
        prompt = _asked(row, asked)
        chosen, rejected = _turns(row, better, "assistant"), _turns(row, worse, "assistant")
        if len(prompt) > 1 and prompt[-1:] == chosen[-1:]:  # the whole talk beside the two answers
            prompt = prompt[:-1]
        # Some sets repeat the prompt in both answers.
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        chosen, rejected = _turns(row, better, "user"), _turns(row, worse, "user")
        if len(chosen) == len(rejected) == 1 and isinstance(row.values[better], str):
            prompt, chosen, rejected = _split_texts(row, chosen[0].content, rejected[0].content)
        else:
            shared = _shared(chosen, rejected)
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    comparison = Comparison(_with_system(row, prompt), chosen + rejected, source=source)
    if chosen == rejected:
        return comparison, "both answers are the same"
    if not any(turn.content for turn in prompt):
        return comparison, "empty prompt"
    if any([turn.role for turn in answer] != ["assistant"] for answer in (chosen, rejected)):
        return comparison, "not two single answers to one prompt"
    return comparison, row.fault or problem(comparison.answers)


def _split_texts(row: Row, chosen: str, rejected: str) -> tuple[Turns, Turns, Turns]:
    """Two texts that begin alike: the prompt ends with the last whole word that they share.

    Only where nothing else could be the prompt; DataError where another column could.
    """
    if others := row.unread((chosen, rejected)):
        raise DataError(
            f"`{others[0]}` may be what was asked, and is the name of no prompt",
            where=row.where,
            remedy=f"Call it `prompt`, or delete it if it is none. The forms are {FORMS}.",
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


def _asked(row: Row, name: str) -> Turns:
    """The earlier turns, and the question in the column `name` with a passage below it."""
    turns = _turns(row, name, "user")
    if isinstance(row.values[name], str) and len(turns) == 1:
        text = turns[0].content
        for passage in PASSAGE:
            if passage != name:
                text = question(text, row.text((passage,)))
        turns = (Message("user", text),)
    return _history(row) + turns


def _history(row: Row) -> Turns:
    """The turns before the question: messages, or pairs of a question and its answer."""
    name = row.find(HISTORY)
    if name is None or not row.says(name):
        return ()
    value = row.values[name]
    if isinstance(value, list) and all(_is_pair(item) for item in value):
        row.take(name)
        texts = [clean(text) for pair in value for text in pair]
        roles: list[Role] = ["user", "assistant"]
        return tuple(Message(roles[at % 2], text) for at, text in enumerate(texts))
    return _turns(row, name, "user")


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(t, str) for t in item)


def _turns(row: Row, name: str, role: Role) -> Turns:
    """The turns in a column: a list of messages, one message, or a text, spoken by `role` unless
    it names the speakers itself."""
    value = row.take(name)
    if isinstance(value, str) and name not in (*TURNS, *HISTORY):
        text = clean(value)
        return _transcript(text) or (Message(role, text),)
    if isinstance(value, dict) and ("role" in value or "from" in value):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(
            f"`{name}` is {type_name(value)}"
            + (" of other things than objects" if isinstance(value, list) else ""),
            where=row.where,
            remedy=f'Write a list of messages: "{name}": [{{"role": "user", "content": "…"}}, …].',
        )
    return tuple(_message(item, row) for item in value)


def _transcript(text: str) -> Turns:
    """The turns of a text that writes a talk as HH-RLHF does, from "Human: …" on; else none.

    An "Assistant:" with nothing behind it asks for the answer, and is no turn.
    """
    parts = HUMAN_ASSISTANT.split(text)
    if len(parts) < 5 or parts[0] or parts[1] != "Human" or "Assistant" not in parts[1::2]:
        return ()
    turns = [
        Message(role_of(who.lower(), ""), clean(said))
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return tuple(turns if turns[-1].content else turns[:-1])


def _message(item: dict[str, Any], row: Row) -> Message:
    role = "role" if "role" in item else "from"
    content = "content" if "content" in item else "value"
    if role not in item or content not in item:
        raise DataError(
            f"a message has only the keys {', '.join(item) or '(none)'}",
            where=row.where,
            remedy='Write a message as {"role": "user", "content": "…"}.',
        )
    for key in item.keys() - {role, content}:
        row.values.setdefault(f"messages.{key}", []).append(item[key])
    message = Message(role_of(item[role], row.where), text_of(item, content, row.where))
    # How OpenAI's format marks an answer that is not to be learned; SlimOrca marks questions so.
    if message.role == "assistant" and item.get("weight") == 0:
        row.fault = "an answer has the weight 0"
    return message


def _with_system(row: Row, turns: Turns) -> Turns:
    """The turns, opened by the row's own system text if it has one and they have not."""
    if turns and turns[0].role == "system":
        return turns
    system = row.text(SYSTEM)
    return (Message("system", system), *turns) if system else turns


def _group(row: dict[str, Any], where: str) -> str:
    group = row.get("group")
    if group is None or isinstance(group, str):
        return group or ""
    if isinstance(group, int) and not isinstance(group, bool):
        return str(group)
    raise DataError(
        f"`group` is {type_name(group)}", where=where, remedy="A group is a text or a whole number."
    )
