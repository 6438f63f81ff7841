"""A fortnight of a guild that leaves the circle running, by a clock of the test's: what nobody
prefers is dropped, what members prefer answers, what is erased is in nothing that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from guildgpt.feedback.records import LogEntry, LogKind
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.releasing import candidate, promote, rollback
from guildgpt.learn.night import Happened, take_night
from guildgpt.learn.turn import Options

from .conftest import Guild
from .test_nightly import NOON, Nights

FIRST_MEMBER = 10**17
STEPS: tuple[LogKind, ...] = ("canary", "decided", "dropped", "promoted", "rolled_back")


class Fortnight(Nights):
    """Nights, and days on which people vote and the operator does something."""

    def __init__(self, guild: Guild) -> None:
        super().__init__(guild)
        self.options: Callable[[], Options] = lambda: replace(guild.options(), new=3)

    def attempt(self, night: date) -> Happened:
        self.tried.append(self.now)
        return take_night(self.options(), night)

    def night(self) -> LogEntry:
        """The next one, and what the log has of it."""
        self.until((self.now + timedelta(days=1)).replace(hour=12))
        return self.entries()[-1]

    def entries(self) -> list[LogEntry]:
        nights = ("night", "waited", "too_little", "nothing_new", "failed")
        return [one for one in super().entries() if one.kind in nights]


def test_a_fortnight(guild: Guild) -> None:
    guild.answer = False  # nobody is there at night
    nights = Fortnight(guild)
    ancestor = _serving(guild)

    assert nights.night().kind == "too_little"
    guild.do(lambda store: guild.vote(store, 10))
    assert nights.night().detail["state"] == "canary"
    first = _candidate(guild)
    assert nights.night().kind == "waited"
    _decide(guild, 0.0)  # members do not like it
    said = nights.night()
    assert "members do not prefer it" in said.detail["words"]
    assert "nothing new" in said.detail["words"]
    assert _serving(guild) == ancestor
    assert nights.night().kind == "nothing_new"

    guild.do(lambda store: guild.vote(store, 5))
    assert nights.night().detail["state"] == "canary"
    second = _candidate(guild)
    _decide(guild, 1.0)
    said = nights.night()
    assert said.kind == "waited"
    assert "It waits for your yes." in said.detail["words"]
    assert _serving(guild) == ancestor
    guild.do(_say_yes)
    assert _serving(guild) == second

    guild.do(lambda store: store.privacy.erase(FIRST_MEMBER))
    marked = guild.do(lambda store: store.versions.all())
    assert {one.id for one in marked if one.erased_at} == {first, second}
    guild.do(lambda store: guild.vote(store, 3))
    assert nights.night().detail["state"] == "canary"  # made anew, without what was erased
    third = _candidate(guild)
    assert third not in (first, second)
    nights.options = lambda: replace(guild.options(), new=3, promote="by_itself")
    _decide(guild, 1.0)
    said = nights.night()
    assert "it answers from now on" in said.detail["words"]
    assert _serving(guild) == third

    guild.do(lambda store: rollback(store, "it is too short"))
    assert _serving(guild) == ancestor  # what learned from the erased is passed over
    guild.do(lambda store: guild.vote(store, 4))
    strict = ("gate.most_kl=0.001",)  # nats: nothing may change
    nights.options = lambda: replace(guild.options(), new=3, overrides=strict)
    assert "was dropped: it did not pass the gate" in nights.night().detail["words"]
    fourth = guild.do(lambda store: store.decisions.all())[0].candidate_id or ""
    nights.options = lambda: replace(guild.options(), new=3)
    while nights.now < NOON + timedelta(days=14):
        assert nights.night().kind == "nothing_new"
    assert len(nights.tried) == 14
    assert [one.detail["night"] for one in nights.entries()] == [
        f"2026-12-{day:02}" for day in range(2, 16)
    ]
    _ends_in_the_right_state(guild, (first, second, third, fourth), ancestor)


def _ends_in_the_right_state(guild: Guild, tried: tuple[str, ...], ancestor: str) -> None:
    steps = [one.kind for one in guild.do(lambda store: store.log.entries()) if one.kind in STEPS]
    assert steps == [
        *("canary", "decided", "dropped"),
        *("canary", "decided", "promoted"),
        *("canary", "decided", "promoted"),
        *("rolled_back", "dropped"),
    ]
    decisions = guild.do(lambda store: store.decisions.all())[::-1]
    assert [one.candidate_id for one in decisions] == list(tried)
    assert [one.state for one in decisions] == [
        *("not_preferred", "promoted", "promoted", "dropped")
    ]
    assert [bool(one.gate and one.gate["passed"]) for one in decisions] == [True] * 3 + [False]
    gone, still = decisions[:2], decisions[2]
    assert not any((Path(one.folder or "") / "feedback.jsonl").exists() for one in gone)
    assert (Path(still.folder or "") / "feedback.jsonl").exists()
    [release] = guild.do(lambda store: store.releases.current())
    assert (release.version_id, release.kind, release.share) == (ancestor, "rollback", 1.0)


def _serving(guild: Guild) -> str:
    return guild.do(lambda store: store.releases.current())[0].version_id


def _candidate(guild: Guild) -> str:
    decision = guild.do(lambda store: store.decisions.current())
    assert decision is not None
    assert decision.candidate_id
    return decision.candidate_id


def _decide(guild: Guild, for_candidate: float) -> None:
    """Rounds in which this share of members is for the candidate, until it is clear."""

    async def work(store: Store) -> None:
        decision = await store.decisions.current()
        await guild.vote(store, 12, decision, for_candidate)

    guild.do(work)


async def _say_yes(store: Store) -> None:
    await promote(store, await candidate(store))
