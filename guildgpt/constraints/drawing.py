"""Constraints drawn together, so that some answer keeps them, and put into words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from guildgpt.constraints.constraint import Constraint
from guildgpt.constraints.draft import Draft
from guildgpt.constraints.trained import TRAINED

HOW_MANY = (1, 1, 1, 2, 2, 3)  # constraints of a prompt, each of these as likely


def broken(constraints: Iterable[Constraint], answer: str) -> list[str]:
    """The kinds of the constraints that an answer does not keep."""
    return [one.kind for one in constraints if not one.kept(answer)]


def witness(constraints: Iterable[Constraint]) -> str | None:
    """An answer that keeps all of them; None if none was found.

    None is no proof that there is no such answer. What is found, though, was checked.
    """
    draft = Draft()
    for one in constraints:
        one.shape(draft)
    answer = draft.write()
    return None if broken(constraints, answer) else answer


def draw(random: Random, kinds: Sequence[type[Constraint]] = TRAINED) -> tuple[Constraint, ...]:
    """One to three constraints of different kinds that some answer keeps."""
    while True:
        chosen = random.sample(kinds, random.choice(HOW_MANY))
        constraints = tuple(kind.draw(random) for kind in chosen)
        if witness(constraints) is not None:
            return constraints


def ask(question: str, constraints: Sequence[Constraint], random: Random) -> str:
    """A question and its constraints in words, laid out in one of several ways."""
    told = [one.instruction(random) for one in constraints]
    layout = random.randrange(4)
    if layout == 0:
        return f"{' '.join(told)}\n\n{question}"
    if layout == 1 and len(told) > 1:
        return "\n".join([question, "", *(f"- {line}" for line in told)])
    if layout == 2:
        return f"{question}\n\n{' '.join(told)}"
    return " ".join([question, *told])
