"""The one error a person is meant to read: what was wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class GuildError(Exception):
    """A problem the user can mend.

    `what` says what is wrong, `where` names the file and line (or row, or recipe key) and `remedy`
    the next step. The command line prints the three without a traceback and exits with status 1.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, remedy: str | None = None):
        self.what = what
        self.where = str(where) if where is not None else None
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n{self.remedy}" if self.remedy else head


class DataError(GuildError):
    """A data file or row that cannot be used."""


class RecipeError(GuildError):
    """A recipe that does not say something this program can do."""


class PolicyError(GuildError):
    """A source or base that the recipe's provenance policy refuses."""


class ModelError(GuildError):
    """A base or model folder that cannot be loaded."""


class EngineError(GuildError):
    """An engine that would not start, or cannot do what it is asked."""


class EngineDied(EngineError):
    """An engine that is gone or gives no sign of life; opened again, it may answer."""


class StoreError(GuildError):
    """The feedback store cannot be opened, read or written, or lacks what is referred to."""


class RecordGone(StoreError):
    """What is referred to is no longer in the store: it was erased, or its time was over."""
