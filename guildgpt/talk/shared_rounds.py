"""Rounds that several people vote on, each when they come by: those of the web page.

What a decision counts is a closed round, so a round must not be one person's who plays many. It
closes when five have voted, or after a day; one that decides and that fewer than two have voted on
waits for others, a week at most. Of those that decide only a few are open at once: whoever has
voted on all of them waits for the others, too. What ends a round is who voted and when, never what
they said. Until somebody comes by invitation, there is one person, at the machine itself: their
rounds are those of a terminal (`guildgpt vote`), and what they say is advice.

A round stands in the store: any process opens it, takes its votes and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Literal

from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import GuildError
from guildgpt.feedback.records import Ballots, Candidate, Decision, Place, PoolPrompt, Round, Vote
from guildgpt.feedback.storage.rows import utcnow
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.blind import check_keeps
from guildgpt.feedback.voting.pool import fill_if_empty
from guildgpt.talk.asked_prompts import AskedPrompts
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.moderation import Moderator
from guildgpt.talk.pairs import write_answers
from guildgpt.talk.waiting import FairQueue

VOTERS = 5  # after whose votes a round closes
LEAST = 2  # who have to have voted for one that decides to close in time
OPEN_FOR = timedelta(days=1)
LONGEST = timedelta(days=7)
UNDO = timedelta(seconds=30)  # in which the last vote can be taken back
DECIDING = 5  # rounds that decide and are open at once
AHEAD = 4  # rounds that wait for one person's vote, at most
PATIENCE = 20.0  # seconds that somebody waits for answers; then they ask again


class AllVoted(GuildError):
    """There is nothing to vote on until others have voted."""

    def __init__(self) -> None:
        super().__init__(
            "you have voted on every round that is open",
            remedy="A candidate is decided on round by round: the next one opens when others have "
            "voted on these, or a day is over.",
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """A round as somebody sees it: its answers in their own order and which of them were `cut` at
    their length, the ticket with which they vote, and what they said of it before."""

    round: Round
    prompt: PoolPrompt
    answers: tuple[str, ...]
    cut: tuple[bool, ...]
    ticket: str
    said: Vote | None = None


def ending(
    held: Ballots, current: Decision | None, now: datetime
) -> Literal["closed", "cancelled"] | None:
    """What becomes of an open round now: it is closed, or nobody voted on it and it is cancelled;
    None while it stays open. `current` is the candidate that is being tried."""
    voters = [vote for vote in held.votes if vote.verdict != "skip"]
    over: Literal["closed", "cancelled"] = "closed" if held.votes else "cancelled"
    decides = held.round.decision_id is not None
    if len(held.versions) == 2 and held.round.decision_id != (current.id if current else None):
        return over  # the candidate that it was about is decided on, or there is another one
    if is_full(held) and max(vote.created_at for vote in held.votes) + UNDO <= now:
        return over
    waits = decides and held.round.place == "web" and len(voters) < LEAST
    return over if now >= held.round.created_at + (LONGEST if waits else OPEN_FOR) else None


def is_full(held: Ballots) -> bool:
    """Whether all have voted who are asked to."""
    wanted = 1 if held.round.place == "terminal" else VOTERS
    said = [vote for vote in held.votes if vote.verdict != "skip" or wanted == 1]
    return len(said) >= wanted


@dataclass(eq=False)
class SharedRounds:
    """Opens rounds as people want to vote, shows each of them what they have not voted on, and
    closes what is over."""

    store: Store
    fleet: Fleet
    queue: FairQueue
    params: SamplingParams
    moderator: Moderator
    chance: Random = field(default_factory=Random)
    now: Callable[[], datetime] = utcnow
    patience: float = PATIENCE
    _writing: dict[object, asyncio.Task[None]] = field(default_factory=dict)

    async def next(
        self, member_id: str, *, count: int = 2, without: Sequence[str] = ()
    ) -> Shown | None:
        """A round of `count` answers that the member has not voted on, but for those `without`
        (which they see already); None while its answers are being written: ask again.

        Two answers are the candidate's and who serves', while one is being tried. Raises AllVoted,
        NoPrompt, and what asking the models raises.
        """
        await check_keeps(self.store, member_id)
        await self.settle()
        for _ in range(2):
            current = await self.trial() if count == 2 else None
            place = await self.place()
            held = [
                one
                for one in await self._open()
                if len(one.versions) == count
                and one.round.place == place
                and one.round.decision_id == (current.id if current else None)
            ]
            theirs = [one for one in held if not is_full(one) and not _said(one, member_id)]
            fresh = [one for one in theirs if one.round.id not in without]
            if not fresh and len(theirs) >= AHEAD:  # nobody has rounds written without end
                fresh = theirs
            for one in fresh:
                if shown := await self._shown(one, member_id):
                    return shown
            if current and place == "web" and len(held) >= DECIDING:
                raise AllVoted
            task = self._write(count, place, current)
            await asyncio.wait({task}, timeout=self.patience)
            if not task.done():
                return None
            task.result()
        return None

    async def again(self, member_id: str, round_id: str) -> Shown | None:
        """A round that the member was shown before; None if it is gone."""
        found = await self.store.rounds.ballots(round_id=round_id, states=("open",))
        return await self._shown(found[0], member_id) if found else None

    async def settle(self) -> None:
        """Close what is over; what that says of the candidate is looked at."""
        current = await self.trial()
        counts = False
        for held in await self._open():
            state = ending(held, current, self.now())
            if state and await self.store.rounds.end(held.round.id, state):
                counts |= held.round.decision_id is not None
        if counts and current:
            await look(self.store, current)

    async def trial(self) -> Decision | None:
        """The decision on a candidate that is being tried."""
        current = await self.store.decisions.current()
        return current if current and current.state == "canary" else None

    async def place(self) -> Place:
        """Where rounds are held: one person alone votes as at a terminal."""
        return "web" if await self.store.accounts.somebody_came() else "terminal"

    async def close(self) -> None:
        """Write nothing more."""
        for task in self._writing.values():
            task.cancel()
        if self._writing:
            await asyncio.wait(self._writing.values())

    async def _open(self) -> list[Ballots]:
        """The open rounds of this kind, the oldest first. A terminal's own have no end."""
        found = await self.store.rounds.ballots(states=("open",))
        ours = [one for one in found if one.round.place != "discord" and one.round.closes_at]
        return sorted(ours, key=lambda one: one.round.created_at)

    async def _shown(self, held: Ballots, member_id: str) -> Shown | None:
        comparison = await self.store.votes.comparison(held.round.comparison_id)
        prompt = await self.store.prompts.by_id(held.round.prompt_id)
        if comparison is None or prompt is None:
            return None
        order = self.store.seen.order(comparison.id, member_id, len(comparison.candidates))
        written = [
            await self.store.conversations.message(comparison.candidates[place]) for place in order
        ]
        answers = [one for one in written if one is not None and not one.deleted]
        if len(answers) < len(order):  # erased just now
            return None
        ticket = self.store.seen.ticket(comparison.id, member_id)
        texts = tuple(one.text for one in answers)
        cut = tuple(one.stop == "length" for one in answers)
        return Shown(held.round, prompt, texts, cut, ticket, _said(held, member_id))

    def _write(self, count: int, place: Place, current: Decision | None) -> asyncio.Task[None]:
        """Write a round's answers, for whoever waits for one of this kind: one at a time."""
        key = (count, place, current.id if current else None)
        if key not in self._writing:
            task = asyncio.create_task(self._begin(count, place, current))
            self._writing[key] = task
            task.add_done_callback(lambda done: self._written(key, done))
        return self._writing[key]

    def _written(self, key: object, task: asyncio.Task[None]) -> None:
        self._writing.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waits is told; nobody may wait any more

    async def _begin(self, count: int, place: Place, current: Decision | None) -> None:
        versions: list[str | None] = [None] * count
        if current:
            versions = [current.baseline_id, current.candidate_id]

        def fit(prompt: PoolPrompt, written: Sequence[Candidate]) -> bool:
            texts = [self.moderator.after(one.text) for one in written]
            return not any((self.moderator.before(prompt.text), *texts))

        async def write(prompt: PoolPrompt) -> Sequence[Candidate] | None:
            if self.moderator.before(prompt.text):
                return None
            async with self.queue.turn(guild=None, user="rounds", admitted=True):
                written = await write_answers(
                    self.fleet, prompt.text, versions, self.params, self.chance
                )
            return written if written and fit(prompt, written) else None

        await fill_if_empty(self.store)
        asked = AskedPrompts(self.store, write, self.chance, proposals=count == 2, fit=fit)
        decision_id = current.id if current else None
        found = await asked.next("decide" if current else "train", decision_id)
        await self.store.rounds.open(
            found.prompt,
            found.answers,
            place,
            decision_id=decision_id,
            closes_at=self.now() + OPEN_FOR,
            drawn=found.drawn,
        )


def _said(held: Ballots, member_id: str) -> Vote | None:
    """What a member said in a round."""
    return next((vote for vote in held.votes if vote.member_id == member_id), None)
