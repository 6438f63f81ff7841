"""What a row asks of the answer to its prompt: tests, rules about its form, constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guildgpt.constraints import reading
from guildgpt.constraints.constraint import Constraint
from guildgpt.errors import DataError
from guildgpt.rewards.formats import rule
from guildgpt.rewards.verify import count_tests


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a prompt's row asks of an answer: tests to pass, rules of form, constraints; `where`
    names the row.

    DataError, with the row, for tests without an assert and for unknown rules.
    """

    tests: str = ""
    format: tuple[str, ...] = ()
    where: str = ""
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if self.tests:
            count_tests(self.tests, self.where)
        for text in self.format:
            try:
                rule(text)
            except ValueError as error:
                raise DataError(
                    str(error), where=self.where, remedy="See docs/rewards.md."
                ) from None

    def __bool__(self) -> bool:
        return bool(self.tests or self.format or self.constraints)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str, answer: str | None = None) -> Wanted:
        """Of a row with `tests` (a text, or a list of asserts), `format` (a rule, or a list) and
        `constraints` (a list of objects).

        All may be missing. DataError, with the row, for anything else in their place, and for
        constraints that the row's own `answer` breaks or, if it has none, no answer seems to keep.
        """
        constraints = reading.read(row.get("constraints", []), where)
        reading.check(constraints, answer, where)
        return cls(
            "\n".join(_texts(row, "tests", where)),
            _texts(row, "format", where),
            where,
            constraints,
        )


def _texts(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    given = row.get(key)
    if given is None:
        return ()
    if isinstance(given, str):
        return (given,)
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return tuple(given)
    raise DataError(
        f"`{key}` is neither a text nor a list of texts", where=where, remedy="See docs/rewards.md."
    )
