"""`Constraint`: one demand on an answer, how it is drawn, worded and checked."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from guildgpt.constraints.counting import words
from guildgpt.constraints.draft import Draft

Relation = Literal["at least", "at most", "exactly"]


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

    def shape(self, draft: Draft) -> None:
        """Change a draft so that what is written of it keeps this."""
        raise NotImplementedError

    def kept(self, answer: str) -> bool:
        """Whether an answer keeps it, by its text alone; an answer without a word keeps nothing."""
        return bool(words(answer)) and self.holds(answer)

    def instruction(self, random: Random) -> str:
        """One of the wordings, as a sentence."""
        return random.choice(self.wordings).format_map(self.said())

    def as_dict(self) -> dict[str, Any]:
        """The form in which a row has it: `{"kind": …}` and its fields."""
        return self.model_dump(mode="json")


def compare(count: int, relation: Relation, asked: int) -> bool:
    """Whether a count is at least, at most or exactly what is asked."""
    return {
        "at least": count >= asked,
        "at most": count <= asked,
        "exactly": count == asked,
    }[relation]


def counted(count: int, one: str, many: str) -> str:
    """`one sentence`, `two sentences`, `25 words`."""
    number = dict(enumerate(("one", "two", "three", "four", "five", "six"), start=1))
    return f"{number.get(count, count)} {one if count == 1 else many}"
