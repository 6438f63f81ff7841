"""Constraints read from a row, and held against the row's own answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from guildgpt.constraints.constraint import Constraint
from guildgpt.constraints.drawing import broken, witness
from guildgpt.constraints.held_out import HELD_OUT
from guildgpt.constraints.trained import TRAINED
from guildgpt.errors import DataError

KINDS: dict[str, type[Constraint]] = {
    kind.model_fields["kind"].default: kind for kind in (*TRAINED, *HELD_OUT)
}
SEE = "See docs/rewards.md."


def read(value: Any, where: str) -> tuple[Constraint, ...]:
    """The constraints of a row: a list of objects with `kind` and the kind's fields.

    DataError, with the row, for anything else.
    """
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DataError("`constraints` is no list of objects", where=where, remedy=SEE)
    found = []
    for one in value:
        if "kind" not in one:
            has = f"; it has {', '.join(f'`{name}`' for name in one)}" if one else ""
            raise DataError(f"a constraint has no `kind`{has}", where=where, remedy=SEE)
        kind = KINDS.get(str(one.get("kind")))
        if kind is None:
            raise DataError(
                f"there is no kind of constraint {one.get('kind')!r}",
                where=where,
                remedy=f"Known are {', '.join(KINDS)}.",
            )
        try:
            found.append(kind.model_validate(one))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "constraint"
            raise DataError(
                f"the constraint `{one['kind']}` cannot be read: {field}: {first['msg']}",
                where=where,
                remedy=SEE,
            ) from None
    return tuple(found)


def check(constraints: Sequence[Constraint], answer: str | None, where: str) -> None:
    """DataError, with the row, where the row's own answer breaks one of its constraints, or where
    it has no answer and none is found that keeps them all."""
    if answer is not None and (kinds := broken(constraints, answer)):
        raise DataError(
            f"the row's own answer breaks its constraint `{kinds[0]}`",
            where=where,
            remedy="Mend the answer or the constraint.",
        )
    if answer is None and constraints and witness(constraints) is None:
        raise DataError(
            f"no answer was found that keeps {' and '.join(one.kind for one in constraints)} at "
            "once",
            where=where,
            remedy="Change the constraints or, if there is such an answer, give it in the row.",
        )
