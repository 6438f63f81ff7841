"""`Message`, `Conversation`, `Rejected`, `Comparison`, `Task`: the nouns all else is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row came from, carried from the file to the model folder.

    `group` names rows that must stay on one side of a split (a conversation tree); where it is
    empty the row's own content decides. `origin` holds what a row of a feedback export rests on,
    pairs of a kind (message, vote, rating, comparison) and an id. `rules` holds the row's `tests`,
    `format` and `constraints` as they stand there: what an answer must keep, see
    `guildgpt.rewards.wanted`.
    """

    name: str = ""  # the data set: "dolly", "oasst1", "starter", …
    file: str = ""
    row: int = 0  # the line (or record) in the file, counted from 1; 0 if it has none
    group: str = ""
    origin: frozenset[tuple[str, str]] = frozenset()
    rules: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.file or self.name}:{self.row}" if self.row else self.file or self.name


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: who speaks, what is said and, if not its conversation's, its source; the person's
    `name` where several may speak. An answer that is not `trained` is read and not learned."""

    role: Role
    content: str
    source: Source | None = None
    name: str | None = None
    trained: bool = True

    def as_dict(self) -> dict[str, str]:
        """`{"role": …, "content": …}`, the form chat templates and JSON lines use."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order, from one source; `rated` where somebody called its last answer good."""

    messages: tuple[Message, ...]
    source: Source = Source()
    rated: bool = False

    @property
    def key(self) -> str:
        """A hash of roles and contents: equal conversations have equal keys, whatever the file."""
        return content_key(self.messages)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn."""
        return _before_the_answer(self.messages)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Turns in order, whose last answer somebody called bad: nothing to imitate."""

    messages: tuple[Message, ...]
    source: Source = Source()

    @property
    def key(self) -> str:
        """A hash of roles and contents."""
        return content_key(self.messages)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn."""
        return _before_the_answer(self.messages)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt and its answers, best first; `ranks[i]` is the place of `answers[i]`, ties equal.

    `ranks` is empty when the order alone says it all (no ties).
    """

    prompt: tuple[Message, ...]
    answers: tuple[Message, ...]
    ranks: tuple[int, ...] = ()
    source: Source = Source()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt and the answers in their order."""
        return self.prompt + self.answers

    @property
    def key(self) -> str:
        """A hash of the prompt and of the answers in their order."""
        return content_key(self.messages)

    @property
    def places(self) -> tuple[int, ...]:
        """The place of each answer, 0 for the best."""
        return self.ranks or tuple(range(len(self.answers)))


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt without an answer; its source has the rules that a model's own answer must keep."""

    messages: tuple[Message, ...]
    source: Source = Source()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All of it."""
        return self.messages

    @property
    def key(self) -> str:
        """A hash of the prompt."""
        return content_key(self.messages)


def _before_the_answer(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "assistant":
            return messages[:index]
    return messages


def content_key(messages: Sequence[Message]) -> str:
    """32 hexadecimal digits that depend on roles, contents and what is trained alone."""
    digest = hashlib.sha256()
    for message in messages:
        role = message.role if message.trained else f"{message.role}, not trained"
        for part in (role, message.content):
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]
