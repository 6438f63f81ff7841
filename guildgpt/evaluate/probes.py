"""The probes: a fixed list of questions that every model is asked before and after training.

Twelve questions measure nothing. They are there to be read side by side, which shows what a figure
hides: an answer that is fluent and wrong, that does not stop, that ignores the turn before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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
    wanted = {probe.id: tuple(_user_turns(probe.messages)) for probe in probes}
    found: set[str] = set()
    for conversation in conversations:
        turns = list(_user_turns(conversation.messages))
        found |= {id for id, asked in wanted.items() if id not in found and _within(asked, turns)}
    return found


def _user_turns(messages: Iterable[Message]) -> Iterator[str]:
    """The user turns' words in lower case, one space between them."""
    for message in messages:
        if message.role == "user":
            yield " ".join(re.findall(r"\w+", message.content.casefold()))


def _within(asked: tuple[str, ...], turns: list[str]) -> bool:
    """Whether `asked` is a subsequence of `turns`."""
    rest = iter(turns)
    return all(turn in rest for turn in asked)
