"""What people's own wordings become: pairs, in which they are better than the answer that they
correct, and conversations to imitate. In both the model learns the person's words alone.
"""

from __future__ import annotations

from typing import Any

from guildgpt.data.origin import Events
from guildgpt.feedback.exporting.view import Export, View, unfit
from guildgpt.feedback.records import Correction, StoredMessage

Row = dict[str, Any]


class Order:
    """Which text is better than which, as the rows of an export say it of one question."""

    def __init__(self) -> None:
        self._worse: dict[tuple[str, str], set[str]] = {}  # by question and better text

    def takes(self, question_id: str, better: str, worse: str) -> bool:
        """Note a pair; False for one that says the opposite of those before it, which is not."""
        below, waiting = {worse}, [worse]
        while waiting:
            found = self._worse.get((question_id, waiting.pop()), set()) - below
            below |= found
            waiting += found
        if better in below:
            return False
        self._worse.setdefault((question_id, better), set()).add(worse)
        return True


def add_pairs(view: View, export: Export, order: Order, *, margin: bool) -> None:
    """A row for each correction, in which it is better than the answer that it corrects."""
    for one in view.corrections():
        answer = view.messages[one.message_id]
        path = view.path(answer.id)[:-1]
        better, worse = view.wording(one).strip(), view.text(answer).strip()
        reason = view.refusal(answer) or unfit(view, path, answer, under=one)
        if reason is None and better == worse:
            reason = "both answers are the same"
        if reason is None and not order.takes(path[-1].id, better, worse):
            reason = "says the opposite of stronger rows"
        if reason:
            export.left_out[reason] += 1
            continue
        row: Row = {
            "prompt": [view.turn(turn) for turn in path],
            "chosen": [{"role": "assistant", "content": view.wording(one)}],
            "rejected": [view.turn(answer)],
            "group": view.group(path),
        }
        if margin:
            row["margin"] = 1.0
        export.add(row | _terms(one), _rests_on(one, *path, answer))


def add_demonstrations(view: View, export: Export) -> None:
    """A conversation for each correction, which ends with it. The answers before it are not
    trained: they are what it was written below."""
    for one in view.corrections():
        answer = view.messages[one.message_id]
        path = view.path(answer.id)[:-1]
        if reason := view.refusal(answer) or unfit(view, path, answer, under=one):
            export.left_out[reason] += 1
            continue
        turns: list[Row] = [
            view.turn(turn) | ({"weight": 0} if turn.role == "assistant" else {}) for turn in path
        ]
        said = {"role": "assistant", "content": view.wording(one)}
        row = {"messages": [*turns, said], "group": view.group(path)}
        export.add(row | _terms(one), _rests_on(one, *path))


def _terms(one: Correction) -> Row:
    """Under which licence its author gave it. Nobody's name leaves: they are credited together."""
    return {"licence": one.licence} if one.licence else {}


def _rests_on(one: Correction, *said: StoredMessage) -> Events:
    return {("message", message.id) for message in said} | {("correction", one.id)}
