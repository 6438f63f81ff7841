"""A chat template in Jinja, taken apart: conversations of marks are rendered, and what stands
around the marks is how each role's turn is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from guildgpt.chat import ChatTemplate
from guildgpt.chat.turn import Trim, Turn

# Marks that no template looks for.
SYSTEM, ASKED, ANSWER, ASKED_AGAIN, ANSWER_AGAIN = (f"Qz{letter}qz" for letter in "ABCDE")
PAD = "\n \n"  # around a mark: what is left of it says how a template trims
_LEFT: dict[str, Trim] = {PAD: "none", " \n": "newlines", "": "all"}
_RIGHT: dict[str, Trim] = {PAD: "none", "\n ": "newlines", "": "all"}

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages, bool], str]
"""The text of a conversation, with what asks for an answer or without; raises whatever it likes."""


class NotExpressed(Exception):
    """Why a template cannot be said in turns with a beginning and an end."""


@dataclass(frozen=True)
class Control:
    """An added token of the tokenizer: whether it takes the whitespace beside it."""

    left: bool
    right: bool


def read_pieces(render: Render, control: Mapping[str, Control], bos: str | None) -> ChatTemplate:
    """The template behind `render`. NotExpressed where it is not made of turns.

    `control` are the tokenizer's added tokens, `bos` the one that begins a sequence, if any.
    """
    u, a = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWER}
    u2 = {"role": "user", "content": ASKED_AGAIN}
    a2 = {"role": "assistant", "content": ANSWER_AGAIN}
    head, asks = _cut(_rendered(render, [u], True), ASKED)
    _, unasked = _cut(_rendered(render, [u], False), ASKED)
    _, to_answer, last = _cut(_rendered(render, [u, a], False), ASKED, ANSWER)
    _, earlier, to_user, _, _ = _cut(
        _rendered(render, [u, a, u2, a2], False), ASKED, ANSWER, ASKED_AGAIN, ANSWER_AGAIN
    )
    end = _first_control(to_user, control)
    if end is None:
        raise NotExpressed("no token ends an answer")
    if not to_answer.startswith(asks):
        raise NotExpressed("what asks for an answer is not what stands before one")
    lead = to_answer[len(asks) :]
    if _first_control(lead, control):
        raise NotExpressed("an answer begins with tokens that are not asked for")
    user_closing = unasked if asks.startswith(unasked) else _common_pieces(unasked, asks, control)
    opening = asks[len(user_closing) :]
    if not earlier.startswith(user_closing):
        raise NotExpressed("a question ends otherwise before an earlier answer")
    before_earlier = earlier[len(user_closing) :]
    closing, user_opening = _between_turns(to_user, last, head, end)
    before = head.removesuffix(user_opening)
    begin = bos if bos and before.startswith(bos) and bos not in user_opening else ""
    template = ChatTemplate(
        name="own",
        end=end,
        begin=begin,
        without_system=before.removeprefix(begin),
        system_turn=None,
        later_system=None,
        user=Turn(user_opening, user_closing, *_trims(render, [u], 0)),
        assistant=Turn(opening, closing, *_trims(render, [u, a], 1)),
        lead=lead,
        earlier=None if earlier == to_answer else before_earlier.removesuffix(lead),
        last=None if last == closing else last,
        control_tokens=(),
    )
    template = _with_system(template, render)
    template = _with_later_system(template, render)
    return _settled(template, control)


def _with_system(template: ChatTemplate, render: Render) -> ChatTemplate:
    """The template with the way it writes a system text at the beginning, if it writes one."""
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASKED}]
    try:
        head, to_user, _ = _cut(_rendered(render, turns, True), SYSTEM, ASKED)
        trims, user_trims = _trims(render, turns, 0), _trims(render, turns, 1)
    except NotExpressed:  # refused, or left out without a word
        return template
    if not head.startswith(template.begin):
        return template
    opening, user = head.removeprefix(template.begin), template.user
    if to_user.endswith(user.opening):
        closing = to_user.removesuffix(user.opening)
        return replace(template, system_turn=Turn(opening, closing, *trims))
    asked = Turn("", user.closing, *user_trims)
    return replace(template, system_turn=Turn(opening, to_user, *trims), after_system=asked)


def _with_later_system(template: ChatTemplate, render: Render) -> ChatTemplate:
    """The same for a system text in the midst of a conversation."""
    turns = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": ANSWER},
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": ASKED_AGAIN},
    ]
    try:
        *_, to_system, to_user, _ = _cut(
            _rendered(render, turns, True), ASKED, ANSWER, SYSTEM, ASKED_AGAIN
        )
        trims = _trims(render, turns, 2)
    except NotExpressed:
        return template
    before, after = template.assistant.closing, template.user.opening
    if not (to_system.startswith(before) and to_user.endswith(after)):
        return template
    turn = Turn(to_system[len(before) :], to_user.removesuffix(after), *trims)
    return replace(template, later_system=turn)


def _between_turns(to_user: str, last: str, head: str, end: str) -> tuple[str, str]:
    """How an answer closes and a user's turn opens, of the text between the two."""
    opening = to_user[len(last) :]
    if to_user.startswith(last) and opening and head.endswith(opening):
        return last, opening
    if to_user == last and end in last:  # nothing opens a user's turn
        return last, ""
    ended = to_user.index(end) + len(end)
    opening = _common_suffix(to_user[ended:], head)
    return to_user.removesuffix(opening), opening


def _settled(template: ChatTemplate, control: Mapping[str, Control]) -> ChatTemplate:
    """The template with the control tokens named that it has, and the whitespace left out that
    they take."""
    opening = template.assistant.opening
    changes: dict[str, object] = {"lead": template.lead}
    if _ends_greedily(opening, control):
        changes["lead"] = template.lead.lstrip()
    for name in ("system_turn", "later_system", "user", "after_system", "assistant"):
        turn = getattr(template, name)
        changes[name] = turn and _settled_turn(turn, control)
    for name in ("begin", "without_system", "earlier", "last"):
        text = getattr(template, name)
        changes[name] = text and _without_taken(text, control)
    template = replace(template, **changes)  # type: ignore[arg-type]
    texts = [template.begin, template.without_system, template.earlier or "", template.last or ""]
    for name in ("system_turn", "later_system", "user", "after_system", "assistant"):
        if turn := getattr(template, name):
            texts += [turn.opening, turn.closing]
    found = [token for token in control if any(token in text for text in texts)]
    return replace(template, control_tokens=tuple(found))


def _settled_turn(turn: Turn, control: Mapping[str, Control]) -> Turn:
    opening, closing = (_without_taken(text, control) for text in (turn.opening, turn.closing))
    if _ends_greedily(opening, control):
        turn = replace(turn, left="by token" if turn.left == "none" else turn.left)
    first = _first_control(closing, control)
    if first and control[first].left and closing.startswith(first):
        turn = replace(turn, right="by token" if turn.right == "none" else turn.right)
    return replace(turn, opening=opening, closing=closing)


def _without_taken(text: str, control: Mapping[str, Control]) -> str:
    for token, takes in control.items():
        if takes.right:
            text = re.sub(rf"({re.escape(token)})\s+", r"\1", text)
        if takes.left:
            text = re.sub(rf"\s+({re.escape(token)})", r"\1", text)
    return text


def _ends_greedily(text: str, control: Mapping[str, Control]) -> bool:
    return any(takes.right and text.rstrip().endswith(token) for token, takes in control.items())


def _rendered(render: Render, messages: Messages, asks: bool) -> str:
    try:
        return render(messages, asks)
    except Exception as error:  # a template raises what it likes
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise NotExpressed(f"it refuses a sample conversation: {why[0]}") from error


def _cut(text: str, *marks: str) -> list[str]:
    """What stands between the marks, each of which is there once, in this order."""
    found = []
    for mark in marks:
        if text.count(mark) != 1:
            raise NotExpressed("it repeats, leaves out or moves a message")
        before, _, text = text.partition(mark)
        found.append(before)
    if any(mark in part for part in found for mark in marks):
        raise NotExpressed("it moves a message")
    return [*found, text]


def _trims(render: Render, messages: Messages, place: int) -> tuple[Trim, Trim]:
    """What a template takes off the ends of that message."""
    mark = messages[place]["content"]
    plain = _cut(_rendered(render, messages, False), mark)
    padded = [
        {**one, "content": f"{PAD}{mark}{PAD}"} if index == place else one
        for index, one in enumerate(messages)
    ]
    left, right = _cut(_rendered(render, padded, False), mark)
    kept = left.removeprefix(plain[0]), right.removesuffix(plain[1])
    if kept[0] not in _LEFT or kept[1] not in _RIGHT:
        raise NotExpressed("it changes what a message says")
    return _LEFT[kept[0]], _RIGHT[kept[1]]


def _pieces(text: str, control: Mapping[str, Control]) -> list[str]:
    longest_first = sorted(control, key=len, reverse=True)
    return [
        piece for piece in re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if piece
    ]


def _first_control(text: str, control: Mapping[str, Control]) -> str | None:
    return next((piece for piece in _pieces(text, control) if piece in control), None)


def _common_pieces(one: str, other: str, control: Mapping[str, Control]) -> str:
    """What two texts begin with, in whole control tokens and whole texts between them."""
    pairs = zip(_pieces(one, control), _pieces(other, control), strict=False)
    return "".join(piece for piece, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _common_suffix(one: str, other: str) -> str:
    pairs = zip(reversed(one), reversed(other), strict=False)
    size = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return one[len(one) - size :]
