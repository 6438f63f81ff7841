"""The process that takes each night: by a clock of the test's, with real stores."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from guildgpt.errors import GuildError
from guildgpt.feedback.records import LogEntry
from guildgpt.learn import turn
from guildgpt.learn.calendar import Calendar
from guildgpt.learn.night import Happened, take_night
from guildgpt.learn.nightly import Nightly

from .conftest import Guild

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Nights:
    """A process that takes nights, and its machine's clock."""

    def __init__(self, guild: Guild, outcomes: list[Happened] | None = None) -> None:
        self.now, self.tried, self.said = NOON, list[datetime](), list[str]()
        self.outcomes, self.guild = outcomes or [], guild
        calendar = Calendar(time(3, 0), UTC)
        self.nightly = Nightly(
            guild.url,
            calendar,
            self.attempt,
            lambda _: None,
            self.said.append,
            self.clock,
            self.sleep,
        )

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def attempt(self, night: date) -> Happened:
        self.tried.append(self.now)
        return self.outcomes.pop(0) if self.outcomes else take_night(self.guild.options(), night)

    def until(self, moment: datetime) -> None:
        while self.now < moment:
            self.nightly.step()

    def entries(self) -> list[LogEntry]:
        return self.guild.do(lambda store: store.log.entries())


def test_a_night_without_votes_says_so_and_so_does_the_next(guild: Guild) -> None:
    nights = Nights(guild)
    nights.until(NOON + timedelta(days=2))
    assert [one.kind for one in nights.entries()] == ["too_little", "too_little"]
    assert [one.detail["night"] for one in nights.entries()] == ["2026-12-02", "2026-12-03"]
    assert "The next night is 2026-12-02 03:00 UTC." in nights.said


def test_started_anew_it_takes_no_night_twice_and_the_missed_one_once(guild: Guild) -> None:
    Nights(guild).until(NOON + timedelta(hours=16))
    again = Nights(guild)
    again.now = NOON + timedelta(hours=17)
    again.until(NOON + timedelta(hours=20))
    assert again.tried == []
    later = Nights(guild)
    later.now = NOON + timedelta(days=3)  # two nights went by
    later.until(later.now + timedelta(hours=2))
    assert [one.detail["night"] for one in later.entries()] == ["2026-12-02", "2026-12-04"]


def test_what_may_pass_is_tried_again_the_same_night(guild: Guild) -> None:
    away = Happened("failed", date(2026, 12, 2), "the store is away", may_pass=True)
    nights = Nights(guild, [away, away])
    nights.until(NOON + timedelta(hours=18))
    assert [f"{one:%H:%M}" for one in nights.tried] == ["03:00", "03:05", "03:25"]
    assert [one.kind for one in nights.entries()] == ["failed", "failed", "too_little"]


def test_a_store_that_is_away_is_told_when_it_is_back(guild: Guild) -> None:
    nights = Nights(guild)
    nights.until(NOON + timedelta(hours=1))
    file, aside = guild.folder / "feedback.db", guild.folder / "aside.db"
    file.rename(aside)
    nights.until(NOON + timedelta(hours=18))
    aside.rename(file)
    nights.until(nights.now + timedelta(minutes=2))
    [entry] = nights.entries()
    assert (entry.kind, entry.detail["night"]) == ("failed", "2026-12-02")
    assert "there is no feedback store" in entry.detail["words"]


def test_a_turn_that_fails_three_nights_is_given_up(
    guild: Guild, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise GuildError("the card is gone")

    guild.do(lambda store: guild.vote(store, 12))
    own, nights = turn._run, Nights(guild)
    monkeypatch.setattr(turn, "_run", broken)
    nights.until(NOON + timedelta(days=3))
    said = [one for one in nights.entries() if one.kind == "failed"]
    assert [one.detail["words"] for one in said] == [
        "the card is gone",
        "the card is gone",
        "the card is gone; the turn is given up, after so many nights",
    ]
    [decision] = guild.do(lambda store: store.decisions.all())
    assert decision.state == "dropped"
    assert decision.why == "given up: 3 nights ended in an error (the card is gone)"
    monkeypatch.setattr(turn, "_run", own)
    guild.do(lambda store: guild.vote(store, 12))
    nights.until(NOON + timedelta(days=4))
    assert nights.entries()[-1].detail["state"] == "canary"


def test_a_candidate_that_learned_from_the_erased_makes_way_for_a_clean_one(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    nights = Nights(guild)
    nights.until(NOON + timedelta(days=1))
    [first] = guild.do(lambda store: store.decisions.all())
    assert first.state == "canary"
    guild.do(lambda store: store.privacy.erase(10**17))
    guild.do(lambda store: guild.vote(store, 3))
    nights.until(NOON + timedelta(days=2))
    second, first = guild.do(lambda store: store.decisions.all())
    assert (first.state, first.why) == ("dropped", "something that it learned from was erased")
    assert second.state == "canary"
    assert second.candidate_id != first.candidate_id
