"""JSON lines in any of the usual forms, told by each row's keys.

messages                        a conversation: [{"role": …, "content": …}, …]
conversations                   the same as ShareGPT writes it: [{"from": …, "value": …}, …]
instruction, input, output      one question and answer (Alpaca); also context, response
prompt, completion              text or messages; a row labelled false is left out (KTO)
prompt, chosen, rejected        a comparison, each text or messages (TRL)
chosen, rejected                the same, the prompt being what both begin with

Besides, every form may have `system`, the text of a system turn, and `group`, which keeps rows
that belong together on one side of the split. Other keys are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guildgpt.chat import Comparison, Conversation, Message, Source
from guildgpt.data.lines import read_json_lines
from guildgpt.data.rows import problem, question, role_of, text_of, type_name
from guildgpt.errors import DataError

FORMS = (
    "messages; instruction, [input or context], output or response; prompt, completion; "
    "[prompt], chosen, rejected"
)

Turns = tuple[Message, ...]


def read(
    path: str | Path, *, name: str, skipped: Counter[str], places: dict[str, str] | None = None
) -> Iterator[Conversation | Comparison]:
    """The file's rows; those that cannot be trained on are counted in `skipped` by reason, and
    `places` is told where each reason first occurred."""
    file = Path(path).name
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        source = Source(name, file, number, _group(row, where))
        item: Conversation | Comparison
        if "chosen" in row and "rejected" in row:
            item, reason = _comparison(row, source, where)
        else:
            item, reason = _conversation(row, source, where)
        if reason:
            skipped[reason] += 1
            if places is not None:
                places.setdefault(reason, where)
        else:
            yield item


def _conversation(
    row: dict[str, Any], source: Source, where: str
) -> tuple[Conversation, str | None]:
    """The conversation, and why it cannot be used, if it cannot."""
    answer = next((key for key in ("output", "response") if key in row), None)
    if "messages" in row or "conversations" in row:
        turns = _turns(row, "messages" if "messages" in row else "conversations", "user", where)
    elif "instruction" in row and answer:
        context = text_of(row, "input" if "input" in row else "context", where)
        turns = (
            Message("user", question(text_of(row, "instruction", where), context)),
            Message("assistant", text_of(row, answer, where)),
        )
    elif "prompt" in row and "completion" in row:
        turns = _turns(row, "prompt", "user", where) + _turns(row, "completion", "assistant", where)
        if row.get("label") is False:
            return Conversation(turns, source), "labelled bad"
    else:
        raise DataError(
            f"the row's keys ({', '.join(row) or 'none'}) are of no known form",
            where=where,
            remedy=f"The forms are {FORMS}.",
        )
    conversation = Conversation(_with_system(row, turns, where), source)
    return conversation, problem(conversation.messages)


def _comparison(row: dict[str, Any], source: Source, where: str) -> tuple[Comparison, str | None]:
    """The comparison, and why it cannot be used, if it cannot."""
    if row.get("prompt") is not None:
        prompt = _turns(row, "prompt", "user", where)
        chosen = _turns(row, "chosen", "assistant", where)
        rejected = _turns(row, "rejected", "assistant", where)
        # Some sets repeat the prompt in both answers.
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    elif isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
        prompt, chosen, rejected = _split_texts(row, where)
    else:
        chosen, rejected = (
            _turns(row, "chosen", "user", where),
            _turns(row, "rejected", "user", where),
        )
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    comparison = Comparison(_with_system(row, prompt, where), chosen + rejected, source=source)
    if chosen == rejected:
        return comparison, "both answers are the same"
    if not any(turn.content for turn in prompt):
        return comparison, "empty prompt"
    if any([turn.role for turn in answer] != ["assistant"] for answer in (chosen, rejected)):
        return comparison, "not two single answers to one prompt"
    return comparison, problem(comparison.answers)


def _split_texts(row: dict[str, Any], where: str) -> tuple[Turns, Turns, Turns]:
    """Two texts that begin alike: the prompt ends with the last whole word that they share."""
    chosen, rejected = text_of(row, "chosen", where), text_of(row, "rejected", where)
    shared = _shared(chosen, rejected)
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    prompt = chosen[:shared].strip()
    return (
        (Message("user", prompt),),
        (Message("assistant", chosen[shared:].strip()),),
        (Message("assistant", rejected[shared:].strip()),),
    )


def _shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items (characters, turns) both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _turns(row: dict[str, Any], key: str, role: str, where: str) -> Turns:
    """The turns under `key`: a list of messages, or a text, spoken by `role`."""
    value = row[key]
    if isinstance(value, str) and key not in ("messages", "conversations"):
        return (Message(role_of(role, where), text_of(row, key, where)),)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(
            f"`{key}` is {type_name(value)}"
            + (" of other things than objects" if isinstance(value, list) else ""),
            where=where,
            remedy=f'Write a list of messages: "{key}": [{{"role": "user", "content": "…"}}, …].',
        )
    return tuple(_message(item, where) for item in value)


def _message(item: dict[str, Any], where: str) -> Message:
    role = "role" if "role" in item else "from"
    content = "content" if "content" in item else "value"
    if role not in item or content not in item:
        raise DataError(
            f"a message has only the keys {', '.join(item) or '(none)'}",
            where=where,
            remedy='Write a message as {"role": "user", "content": "…"}.',
        )
    return Message(role_of(item[role], where), text_of(item, content, where))


def _with_system(row: dict[str, Any], turns: Turns, where: str) -> Turns:
    """The turns, opened by the row's own system text if it has one and they have not."""
    system = text_of(row, "system", where)
    if not system or (turns and turns[0].role == "system"):
        return turns
    return (Message("system", system), *turns)


def _group(row: dict[str, Any], where: str) -> str:
    group = row.get("group")
    if group is None or isinstance(group, str):
        return group or ""
    if isinstance(group, int) and not isinstance(group, bool):
        return str(group)
    raise DataError(
        f"`group` is {type_name(group)}", where=where, remedy="A group is a text or a whole number."
    )
