"""Nights are due once, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from guildgpt.errors import GuildError
from guildgpt.learn.calendar import Calendar, time_of_day, time_zone

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)


def nights(calendar: Calendar, since: datetime, until: datetime, step: timedelta) -> list[datetime]:
    """When a night is taken, if the clock is looked at every `step`."""
    taken, now = [], since
    while now < until:
        if (night := calendar.due(now)) is not None:
            calendar.taken.add(night)
            taken.append(now)
        now += step
    return taken


def begun(at: time, now: datetime) -> Calendar:
    calendar = Calendar(at, BERLIN)
    calendar.taken.add(calendar.newest(now))
    return calendar


@pytest.mark.parametrize(
    ("day", "at", "expected"),
    [
        # 2027-03-28: 02:00 becomes 03:00; 02:30 does not exist.
        (datetime(2027, 3, 27, 12, tzinfo=UTC), time(2, 30), "2027-03-28 01:30"),
        (datetime(2027, 3, 27, 12, tzinfo=UTC), time(3, 0), "2027-03-28 01:00"),
        # 2026-10-25: 03:00 becomes 02:00; 02:30 comes twice.
        (datetime(2026, 10, 24, 12, tzinfo=UTC), time(2, 30), "2026-10-25 00:30"),
        (datetime(2026, 7, 1, 12, tzinfo=UTC), time(3, 0), "2026-07-02 01:00"),
    ],
)
def test_a_night_is_due_once_on_days_of_daylight_saving(
    day: datetime, at: time, expected: str
) -> None:
    calendar = begun(at, day)
    assert f"{calendar.next(day).astimezone(UTC):%Y-%m-%d %H:%M}" == expected
    [moment] = nights(calendar, day, day + timedelta(hours=23), MINUTE)
    assert f"{moment:%Y-%m-%d %H:%M}" == expected


def test_a_machine_that_slept_takes_one_night_when_it_wakes() -> None:
    day = datetime(2026, 12, 1, 12, tzinfo=UTC)
    calendar = begun(time(3, 0), day)
    woke = datetime(2026, 12, 4, 9, 17, tzinfo=UTC)  # it slept through three of them
    assert calendar.due(woke) == date(2026, 12, 4)
    calendar.taken.add(date(2026, 12, 4))
    assert calendar.due(woke + MINUTE) is None
    assert f"{calendar.next(woke):%Y-%m-%d %H:%M}" == "2026-12-05 03:00"


def test_a_clock_that_is_set_back_takes_no_night_twice() -> None:
    day = datetime(2026, 12, 1, 12, tzinfo=UTC)
    calendar = begun(time(3, 0), day)
    ahead = datetime(2028, 1, 1, 12, tzinfo=UTC)  # set wrong, a year ahead
    assert len(nights(calendar, ahead, ahead + timedelta(hours=3), MINUTE)) == 1
    back = datetime(2026, 12, 2, 1, tzinfo=UTC)  # and right again: its nights are still due
    assert len(nights(calendar, back, back + timedelta(days=2), MINUTE)) == 2
    assert nights(calendar, back, back + timedelta(days=2), MINUTE) == []
    assert calendar.next(back).date() == date(2026, 12, 4)


def test_times_and_zones_that_there_are_not() -> None:
    assert time_of_day("3:00") == time_of_day("03:00") == time(3)
    for wrong in ("3", "24:00", "03:60", "3pm", "03:0", "", "-1:00"):
        with pytest.raises(GuildError, match="is no time of day"):
            time_of_day(wrong)
    assert time_zone("Europe/Berlin") == BERLIN
    for wrong in ("Europe/Atlantis", "../etc/passwd", ""):
        with pytest.raises(GuildError, match="there is no time zone"):
            time_zone(wrong)


def test_the_machines_own_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert time_zone(None) == ZoneInfo("America/New_York")
    monkeypatch.delenv("TZ")
    winter = datetime(2026, 12, 1, 12, tzinfo=UTC)
    assert winter.astimezone(time_zone(None)).utcoffset() is not None
