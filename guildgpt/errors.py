"""The one error a person is meant to read: what was wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


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


class RoundClosed(StoreError):
    """A vote that comes after its round was closed."""


class DecidedMeanwhile(StoreError):
    """A decision that somebody else has made in the meantime."""


class CircleBusy(GuildError):
    """Another process turns the circle: one at a time does."""


class SignInRefused(GuildError):
    """A link that signs nobody in, or a name that nobody can have."""


class OfferRefused(GuildError):
    """Something that a person offers and that is not taken, in words for them."""


class LimitReached(GuildError):
    """Somebody has asked or given as much as they may; in so many `seconds` they may again."""

    def __init__(self, what: str, seconds: float, *, remedy: str | None = None):
        super().__init__(what, remedy=remedy)
        self.seconds = seconds


FORMAT = 1  # of the files that outlast a version, where they carry none


def refuse_newer(record: Any, where: Path) -> None:
    """ModelError for a file of a newer GuildGPT: its `format` is above `FORMAT`.

    Whoever changes a file of a model folder or of a run so that older code would misread it raises
    the number, and writes it.
    """
    format = record.get("format") if isinstance(record, dict) else None
    if isinstance(format, int) and format > FORMAT:
        raise ModelError(
            f"a newer GuildGPT wrote this file (format {format}, known here: {FORMAT})",
            where=where,
            remedy="Update this one: pip install -U guildgpt",
        )


def disk_error(error: Exception, what: str, where: Path) -> GuildError:
    """The error for a write of a run that failed: the disk is full, or the folder is not ours."""
    reason = getattr(error, "strerror", None) or error
    there = next(place for place in (where, *where.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    return GuildError(
        f"{what} could not be written ({reason}; {free / 1e9:.1f} GB free)",
        where=where,
        remedy=f"{first_aid(error)} and run the same command again: it goes on from the last "
        "checkpoint.",
    )


def first_aid(error: Exception) -> str:
    """What to do first about a write that failed, as the beginning of a sentence."""
    if getattr(error, "errno", None) in _NOT_OURS:
        return "Make the folder one that you may write to"
    return "Make room"
