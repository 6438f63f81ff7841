"""`Constraint`: one demand on an answer, how it is drawn, worded and checked."""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from guildgpt.constraints.counting import says_something
from guildgpt.constraints.draft import Draft

Relation = Literal["at least", "at most", "exactly"]
MOST = 10_000  # of anything that can be asked of one answer
Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]


class Constraint(BaseModel):
    """One demand; its fields are what is drawn anew for each prompt.

    A kind is a subclass: it says how its fields are drawn from a `Random`, in which wordings it is
    told (with its fields in braces), whether an answer's text keeps it, and how a draft is changed
    that is to keep it, by which combinations that no answer can keep are found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    wordings: ClassVar[tuple[str, ...]]

    @classmethod
    def draw(cls, random: Random) -> Self:
        """One with fields of its own."""
        raise NotImplementedError

    def said(self) -> dict[str, str]:
        """What the wordings name in braces."""
        return {name: str(value) for name, value in self if name != "kind"}

    def holds(self, answer: str) -> bool:
        """Whether a text with at least one word keeps it."""
        raise NotImplementedError

    def nearly(self, answer: str) -> float:
        """How near a text that does not keep it comes: from 0, nowhere near, to below 1."""
        return 0.0

    def shape(self, draft: Draft) -> None:
        """Change a draft so that what is written of it keeps this."""
        raise NotImplementedError

    def kept(self, answer: str) -> bool:
        """Whether an answer keeps it, by its text alone; an answer without a word keeps nothing."""
        return says_something(answer) and self.holds(answer)

    def nearness(self, answer: str) -> float:
        """In 0..1: 1 if an answer keeps it, else how near it comes. A reward that only says yes or
        no says nothing where all answers to a prompt miss."""
        if not says_something(answer):
            return 0.0
        return 1.0 if self.holds(answer) else self.nearly(answer)

    def instruction(self, random: Random) -> str:
        """One of the wordings, as a sentence."""
        return random.choice(self.wordings).format_map(self.said())


def compare(count: int, relation: Relation, asked: int) -> bool:
    """Whether a count is at least, at most or exactly what is asked."""
    return {
        "at least": count >= asked,
        "at most": count <= asked,
        "exactly": count == asked,
    }[relation]


def near_count(count: int, asked: int) -> float:
    """How near a wrong count is to the one asked, in 0..1: asked / (asked + how far it is off)."""
    return asked / (asked + abs(count - asked))


def fewer(unwanted: int) -> float:
    """How near an answer is to holding nothing unwanted: 1 / (1 + how often it does)."""
    return 1 / (1 + unwanted)


def counted(count: int, one: str, many: str) -> str:
    """`one sentence`, `two sentences`, `25 words`."""
    number = dict(enumerate(("one", "two", "three", "four", "five", "six"), start=1))
    return f"{number.get(count, count)} {one if count == 1 else many}"
