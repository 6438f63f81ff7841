"""Discord's time of day, whatever the host's clock says."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

_EPOCH_MS = 1_420_070_400_000  # the first millisecond of 2015, from which Discord counts


def moment_of(id: int) -> float:
    """When Discord gave an id (a snowflake), in seconds since 1970."""
    return ((id >> 22) + _EPOCH_MS) / 1000


def first_id(moment: float) -> int:
    """The smallest id that Discord gives at a moment, or later."""
    return max(int(moment * 1000) - _EPOCH_MS, 0) << 22


class DiscordTime:
    """Discord's clock, as far as Discord has told it.

    It tells it with the id of whatever has just happened, and with the date of every answer.
    Between two of these `monotonic` counts. What is told takes a moment to arrive: so this clock is
    never ahead of Discord's own. Before anything was told it is the host's.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        host: Callable[[], float] = time.time,
    ):
        self._monotonic = monotonic
        self._host = host
        self._offset: float | None = None  # Discord's seconds since 1970 less the monotonic ones

    def now(self) -> float:
        """Seconds since 1970."""
        return self._host() if self._offset is None else self._monotonic() + self._offset

    def told(self, moment: float) -> None:
        """It was that moment at Discord when it sent what has just arrived."""
        offset = moment - self._monotonic()
        self._offset = offset if self._offset is None else max(self._offset, offset)

    def happened(self, id: int) -> None:
        """This has just happened there."""
        self.told(moment_of(id))

    def answered(self, date: str | None) -> None:
        """An answer came with this `Date`; one that is none says nothing."""
        try:
            self.told(parsedate_to_datetime(date or "").timestamp())
        except ValueError:
            return

    def age(self, id: int) -> float:
        """Seconds since Discord gave an id, never less than 0."""
        return max(self.now() - moment_of(id), 0.0)

    @property
    def is_told(self) -> bool:
        """Whether it is Discord's, and not the host's."""
        return self._offset is not None

    @property
    def host_ahead(self) -> float:
        """By how many seconds the host's clock is ahead of Discord's; about, and less than 0 where
        it is behind."""
        return self._host() - self.now()
