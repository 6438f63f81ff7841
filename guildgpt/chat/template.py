"""The chat template: a conversation becomes `(token_ids, loss_mask)`, the same everywhere.

A template is data: what stands before and after the content of each role's turn. Without more it is
ChatML, `<|im_start|>role\\ncontent<|im_end|>\\n`; a base's own is read by
`guildgpt.bases.chat_template`. Trained are the content of every assistant turn and the token that
ends it, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from guildgpt.chat.conversation import Message
from guildgpt.chat.jinja import in_jinja
from guildgpt.chat.template_file import (
    CHATML_KEYS,
    json_text,
    read_values,
    refusing_what_cannot_be_read,
)
from guildgpt.chat.tokenizer import After, Tokenizer
from guildgpt.chat.turn import Turn
from guildgpt.errors import ModelError

TEMPLATE_FILE = "template.json"
JOINT = "\n\n"  # between a system text and the question that it is folded into


class Rendered(NamedTuple):
    """Token ids and, for each, whether the loss is taken on it."""

    ids: list[int]
    mask: list[bool]


class Lesson(NamedTuple):
    """A conversation, or its beginning, as ids, with the answers that are trained in it."""

    rendered: Rendered
    answers: list[str]


_SYSTEM, _USER, _ASSISTANT = (
    Turn(f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")
)


class _Part(NamedTuple):
    text: str
    own: bool  # the template's: control tokens in it are meant
    answer: bool = False  # what a model writes: encoded apart from the prompt before it
    learned: bool = False


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template as data; by default ChatML.

    `system`, if given, opens every conversation that does not open with a system turn of its own.
    What cannot stand where it is (a system turn where there is none, see `system_turn`,
    `later_system` and `after_system`) is folded into the question that follows it.
    """

    name: str = "chatml"
    system: str = ""
    end: str = "<|im_end|>"
    """The token that ends an answer."""
    control_tokens: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")
    """The tokens a tokenizer must hold for this template."""
    begin: str = ""
    """What opens every conversation: the token that begins a sequence, for most."""
    without_system: str = ""
    """What follows it where the conversation has no system turn."""
    system_turn: Turn | None = _SYSTEM
    """A system turn at the beginning; None folds it."""
    later_system: Turn | None = _SYSTEM
    """One further on; None folds it."""
    user: Turn = _USER
    after_system: Turn | None = None
    """The first question where the system text stands within the user's turn."""
    assistant: Turn = _ASSISTANT
    """Its opening asks for an answer; its closing holds the `end`."""
    lead: str = ""
    """What begins every answer and is learned with it: no prompt has it."""
    earlier: str | None = None
    """What opens all answers but a conversation's last turn, if not the assistant's opening: nobody
    asks for them so, and they are not trained there. Each is trained in a lesson of its own."""
    last: str | None = None
    """What closes the answer that ends a conversation, if not the assistant's closing."""
    published: str = ""
    """The template in Jinja, as the base has it, with what makes it the same every day."""

    def render(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Rendered:
        """Ids and loss mask (both of shape `(tokens,)`) of a whole conversation.

        The text between two control tokens is encoded as one, but for the place where a prompt
        ends: so the ids before an answer are exactly the ids of the prompt that asks for it
        (`prompt`), and no control token can come out of a member's text.
        """
        return self._encode(self._parts(messages), tokenizer)

    def prompt(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Ids that ask for the next assistant turn: the conversation and an open header."""
        return self._encode(self._parts(messages, ask=True), tokenizer).ids

    def answer(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Ids of an answer, which follow its prompt's: with its end-of-turn token."""
        written = (part for part in self._answer(Message("assistant", text)) if part.answer)
        return self._encode(written, tokenizer).ids

    def lessons(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[Lesson]:
        """What is trained of a conversation: all its answers at once; each with what stands before
        it, where a template writes earlier answers otherwise than the last one."""
        places = [
            place for place, one in enumerate(messages) if one.role == "assistant" and one.trained
        ]
        if self.earlier is None or not places:
            answers = [messages[place].content for place in places]
            return [Lesson(self.render(messages, tokenizer), answers)]
        return [
            Lesson(self.render(messages[: place + 1], tokenizer), [messages[place].content])
            for place in places
        ]

    def eos_id(self, tokenizer: Tokenizer) -> int:
        """The id of the end-of-turn token."""
        return self._control_ids(tokenizer)[self.end]

    @property
    def jinja(self) -> str:
        """The same template in the language of `apply_chat_template` and of llama.cpp."""
        return in_jinja(self)

    def to_json(self) -> str:
        """The text of a template.json. ChatML is written as older versions wrote it, so that they
        read it."""
        start = self.control_tokens[0]
        if self == chatml(start, self.end, name=self.name, system=self.system):
            return json_text(
                {"name": self.name, "start": start, "end": self.end, "system": self.system}
            )
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str, where: Path) -> ChatTemplate:
        """The template that such a text holds; ModelError where it holds none."""
        names = [field.name for field in fields(cls)]
        with refusing_what_cannot_be_read(where):
            values = read_values(text, where, names)
            return chatml(**values) if values.keys() <= CHATML_KEYS else cls(**values)

    def save(self, folder: str | Path) -> None:
        """Write `template.json` into a model folder."""
        (Path(folder) / TEMPLATE_FILE).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> ChatTemplate:
        """Read the template a model folder was trained with."""
        path = Path(folder) / TEMPLATE_FILE
        with refusing_what_cannot_be_read(path):
            text = path.read_text(encoding="utf-8")
        return cls.from_json(text, path)

    def _parts(self, messages: Sequence[Message], *, ask: bool = False) -> Iterator[_Part]:
        """A conversation in pieces, each the template's own or a person's."""
        written = self.folded(self._with_system(messages))
        opens = bool(written) and written[0].role == "system"
        yield _Part(self.begin + ("" if opens else self.without_system), own=True)
        for place, message in enumerate(written):
            ends = place == len(written) - 1 and not ask
            if message.role != "assistant":
                turn = self._turn(message, place, opens)
                yield _Part(turn.opening, own=True)
                yield _Part(turn.content(message.content), own=False)
                yield _Part(turn.closing, own=True)
            elif self.earlier is None or ends:
                yield _Part(self.assistant.opening, own=True)
                yield from self._answer(message, self.last if ends else None)
            else:
                yield _Part(self.earlier, own=True)
                for part in self._answer(message):
                    yield part._replace(answer=False, learned=False)
        if ask:
            yield _Part(self.assistant.opening, own=True)

    def _answer(self, message: Message, last: str | None = None) -> Iterator[_Part]:
        closing = self.assistant.closing if last is None else last
        tail, end, rest = closing.partition(self.end)
        yield _Part(self.lead, True, True, message.trained)
        yield _Part(self._said(message.content), False, True, message.trained)
        yield _Part(tail + end, True, True, message.trained)
        yield _Part(rest, own=True)

    def _said(self, text: str) -> str:
        """An answer's text without the `lead`, with which a model's own answers begin."""
        return self.assistant.content(text).removeprefix(self.lead)

    def _turn(self, message: Message, place: int, opens: bool) -> Turn:
        """How a turn of the system or of a user is written there."""
        if message.role == "user":
            return (self.after_system if opens and place == 1 else None) or self.user
        turn = self.system_turn if place == 0 else self.later_system
        assert turn is not None, "what cannot stand there was folded"
        return turn

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        if self.system and not (messages and messages[0].role == "system"):
            return [Message("system", self.system), *messages]
        return list(messages)

    def folded(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation with every system text where the template can write it."""
        written: list[Message] = []
        waiting: list[str] = []
        for place, message in enumerate(messages):
            follows = messages[place + 1].role if place + 1 < len(messages) else None
            if message.role == "system" and not self._stands(place, follows):
                waiting.append(message.content)
                if follows in ("user", "system"):
                    continue
                message = Message("user", JOINT.join(waiting))
            elif waiting:
                message = replace(message, content=JOINT.join([*waiting, message.content]))
            waiting = []
            written.append(message)
        return written

    def _stands(self, place: int, follows: str | None) -> bool:
        """Whether a system turn is written where it is."""
        if place:
            return self.later_system is not None
        return self.system_turn is not None and (self.after_system is None or follows == "user")

    def _encode(self, parts: Iterator[_Part], tokenizer: Tokenizer) -> Rendered:
        control = self._control_ids(tokenizer)
        asked = self.user.closing + self.assistant.opening
        after_asking: After = "token" if asked.endswith(self.control_tokens) else "text"
        after: After = "nothing"
        ids: list[int] = []
        mask: list[bool] = []
        run, answer, learned = "", False, False

        def close_run() -> None:
            nonlocal run, after
            if run:
                new = tokenizer.encode(run, after)
                ids.extend(new)
                mask.extend([learned] * len(new))
                run, after = "", "text"

        for part in parts:
            if part.answer != answer:
                close_run()  # a prompt ends here
                answer, learned = part.answer, part.learned
                after = after_asking if answer else after
            pieces = _splitter(self.control_tokens).split(part.text) if part.own else [part.text]
            for piece in pieces:
                if part.own and piece in control:
                    close_run()
                    ids.append(control[piece])
                    mask.append(learned)
                    after = "token"
                else:
                    run += piece
        close_run()
        return Rendered(ids, mask)

    def _control_ids(self, tokenizer: Tokenizer) -> dict[str, int]:
        ids = {token: tokenizer.token_id(token) for token in self.control_tokens}
        found = {token: id for token, id in ids.items() if id is not None}
        if missing := [token for token in ids if token not in found]:
            raise ModelError(
                f"the tokenizer has no {' and no '.join(missing)}, which the chat template needs",
                remedy="Fine-tune it with `guildgpt train` first: that adds the chat tokens.",
            )
        return found


def chatml(
    start: str = "<|im_start|>",
    end: str = "<|im_end|>",
    *,
    name: str = "chatml",
    system: str = "",
    begin: str = "",
) -> ChatTemplate:
    """ChatML with control tokens of these names; `begin` opens every conversation."""

    def turn(role: str) -> Turn:
        return Turn(f"{start}{role}\n", f"{end}\n")

    return ChatTemplate(
        name=name,
        system=system,
        end=end,
        control_tokens=(*([begin] if begin else []), start, end),
        begin=begin,
        system_turn=turn("system"),
        later_system=turn("system"),
        user=turn("user"),
        assistant=turn("assistant"),
    )


CHATML = ChatTemplate()


@lru_cache(maxsize=64)
def _splitter(control_tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Cuts a template's own text at its control tokens, which it keeps."""
    longest_first = sorted(control_tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})")


def fit(rendered: Rendered, max_tokens: int, end_id: int) -> Rendered | None:
    """Shorten a rendered conversation to `max_tokens`, or None where nothing trainable is left.

    The rule: the latest turns are dropped until the rest fits and ends with a trained end of turn.
    An answer is never cut, so a row whose first answer does not fit whole is dropped.
    """
    ids, mask = rendered
    if len(ids) <= max_tokens:
        return rendered if any(mask) else None
    for index in range(min(max_tokens, len(ids)) - 1, -1, -1):
        if mask[index] and ids[index] == end_id:
            return Rendered(ids[: index + 1], mask[: index + 1])
    return None
