"""When nights are due: one a date of the operator's calendar, whatever the clock does.

A night is due at one moment, whatever daylight saving does that day: a time that does not exist is
as long after the gap as it was to be after its beginning, of a time that comes twice it is the
first. A night that was taken is not taken again, though the clock is set back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from guildgpt.errors import GuildError

LOCALTIME = Path("/etc/localtime")
DAY = timedelta(days=1)


@dataclass
class Calendar:
    """The nights at a time of day in a time zone, and which of them were taken."""

    at: time
    zone: tzinfo
    taken: set[date] = field(default_factory=set)

    def due_at(self, night: date) -> datetime:
        """The moment of a night, in UTC."""
        # fold=0, which time zones read so: the first of two; in a gap, the offset of before it.
        return datetime.combine(night, self.at.replace(fold=0), self.zone).astimezone(UTC)

    def newest(self, now: datetime) -> date:
        """The night that was due last."""
        night = now.astimezone(self.zone).date() + DAY
        while self.due_at(night) > now:
            night -= DAY
        return night

    def due(self, now: datetime) -> date | None:
        """The night that is to be taken now; of several that were missed, the last."""
        night = self.newest(now)
        return None if night in self.taken else night

    def next(self, now: datetime) -> datetime:
        """When the next one is due, in local time."""
        night = self.newest(now) + DAY
        while night in self.taken:  # the clock was set back
            night += DAY
        return self.due_at(night).astimezone(self.zone)


def time_of_day(text: str) -> time:
    """ "03:00", as a time; GuildError for anything else."""
    hours, colon, minutes = text.partition(":")
    is_read = colon and len(minutes) == 2 and hours.isdecimal() and minutes.isdecimal()
    if is_read and int(hours) < 24 and int(minutes) < 60:
        return time(int(hours), int(minutes))
    raise GuildError(
        f"`{text}` is no time of day",
        where="--nightly",
        remedy="Write hours and minutes, 00:00 to 23:59, such as 03:00; or `now` for one night "
        "at once.",
    )


def time_zone(name: str | None) -> tzinfo:
    """The zone of this name, or the machine's own; GuildError for one that nobody knows."""
    if name is None:
        name = os.environ.get("TZ", "").lstrip(":") or None
    if name is None:
        return _machines_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise GuildError(
            f"there is no time zone `{name}` on this machine",
            where="--timezone",
            remedy="Name one such as Europe/Berlin or UTC. Where none is known, "
            "`pip install tzdata` brings them.",
        ) from error


def _machines_zone() -> tzinfo:
    """The zone that the machine is set to, with its summer time; UTC where none is."""
    if not LOCALTIME.is_file():
        return UTC if os.name == "posix" else datetime.now().astimezone().tzinfo or UTC
    name = "/".join(LOCALTIME.resolve().parts).partition("zoneinfo/")[2]
    with LOCALTIME.open("rb") as file:
        return ZoneInfo.from_file(file, key=name or None)
