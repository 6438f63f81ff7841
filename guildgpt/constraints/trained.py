"""The kinds of constraints that training draws from."""

from __future__ import annotations

from guildgpt.constraints.constraint import Constraint
from guildgpt.constraints.form import (
    Bullets,
    Json,
    LowerCase,
    NoCommas,
    Sentences,
    Title,
    Words,
)
from guildgpt.constraints.wording import Begins, Ends, Language, NoWord, Word

TRAINED: tuple[type[Constraint], ...] = (
    Sentences,
    Words,
    Bullets,
    Json,
    LowerCase,
    Word,
    NoWord,
    Begins,
    Ends,
    Title,
    NoCommas,
    Language,
)
