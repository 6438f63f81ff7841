"""The probes: a fixed list of questions that every model is asked before and after training.

Twelve questions measure nothing. They are there to be read side by side, which shows what a figure
hides: an answer that is fluent and wrong, that does not stop, that ignores the turn before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from pydantic import TypeAdapter

from guildgpt.chat import Conversation, Message


@dataclass(frozen=True, slots=True)
class Probe:
    """One question: the turns up to the answer, and in a few words what a good answer is."""

    id: str
    messages: tuple[Message, ...]
    asks: str

    @property
    def prompt(self) -> str:
        """The last user turn's text."""
        return self.messages[-1].content


PROBE = TypeAdapter(Probe)


def probes() -> list[Probe]:
    """The probes, always in the same order, so that reports of different runs line up."""
    text = files("guildgpt.evaluate").joinpath("probes.jsonl").read_text(encoding="utf-8")
    return [PROBE.validate_json(line) for line in text.splitlines()]


def seen(probes: Iterable[Probe], conversations: Iterable[Conversation]) -> set[str]:
    """The ids of the probes whose question stands among the training rows.

    A good answer to such a probe may be recall. A probe counts as seen when one conversation holds
    all of the probe's user turns in their order; case, punctuation and spacing do not matter.
    """
    learned = [_user_turns(conversation.messages) for conversation in conversations]
    asked = {probe.id: _user_turns(probe.messages) for probe in probes}
    return {id for id, said in asked.items() if any(_within(said, turns) for turns in learned)}


def _user_turns(messages: Iterable[Message]) -> list[str]:
    """The user turns' words in lower case, one space between them."""
    said = [message.content.casefold() for message in messages if message.role == "user"]
    return [" ".join(re.findall(r"\w+", text)) for text in said]


def _within(asked: list[str], turns: list[str]) -> bool:
    """Whether `asked` is a subsequence of `turns`."""
    rest = iter(turns)
    return all(turn in rest for turn in asked)
