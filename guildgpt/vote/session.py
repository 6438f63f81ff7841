"""A session of rounds: the next pair is written while one is read, and no verdict is ever lost.

A verdict is in the store before the next pair is shown. Its round stays open until the one after
it, so that it can be taken back, and is closed then, or when the session ends. What a session that
was killed left behind, the next one settles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import EngineError, GuildError, RoundClosed
from guildgpt.feedback.records import (
    Candidate,
    Decision,
    Drawn,
    PoolPrompt,
    Purpose,
    Round,
    Verdict,
)
from guildgpt.feedback.store import Store
from guildgpt.talk.asked_prompts import Asked, AskedPrompts
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.pairs import write_pair

LEFT_ALONE = timedelta(hours=1)  # after which a round of another session was left behind


@dataclass(eq=False, slots=True)
class Played:
    """A pair that was shown, its round, and what was said of it."""

    prompt: PoolPrompt
    answers: tuple[Candidate, Candidate]
    round: Round
    verdict: Verdict | None = None
    ranking: tuple[int, ...] = ()
    corrected: str | None = None  # the message that they worded better
    closed: bool = False


@dataclass(eq=False)
class Session:
    """Rounds of one person at a terminal; `versions` answer, on prompts of the decision if there
    is one. `troubles` are what kept a pair from being written."""

    store: Store
    fleet: Fleet
    versions: tuple[str, str]
    decision: Decision | None
    member_id: str
    params: SamplingParams
    chance: Random
    played: list[Played] = field(default_factory=list)
    troubles: list[EngineError] = field(default_factory=list)
    _shown: Played | None = None
    _writing: asyncio.Task[Asked] | None = None

    @property
    def purpose(self) -> Purpose:
        """Which prompts are asked."""
        return "decide" if self.decision else "train"

    @property
    def last(self) -> Played | None:
        """The verdict that can be taken back."""
        return self.played[-1] if self.played and not self.played[-1].closed else None

    async def settle(self) -> None:
        """Close what this person voted on in a session that was killed; of others' sessions, what
        was left alone: with a vote it is closed, without it is cancelled."""
        long_ago = datetime.now(UTC) - LEFT_ALONE
        for ballots in await self.store.rounds.ballots(states=("open",)):
            mine = any(vote.member_id == self.member_id for vote in ballots.votes)
            left = ballots.round.created_at < long_ago
            if ballots.round.place == "terminal" and (mine or left):
                await self.store.rounds.end(
                    ballots.round.id, "closed" if ballots.votes else "cancelled"
                )

    def write_ahead(self) -> None:
        """Begin with the next pair."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def next(self) -> Played | None:
        """The next pair, put to the vote; None if the decision has fallen meanwhile.

        Raises NoPrompt, and what asking the models raises once it has failed several times.
        """
        self.write_ahead()
        assert self._writing is not None
        try:
            asked = await self._writing
        finally:
            self._writing = None
        if self.decision:
            now = await self.store.decisions.by_id(self.decision.id)
            if now is None or now.state != "canary":
                return None
        prompt, (first, second) = asked.prompt, asked.answers
        made = await self._open(prompt, (first, second), asked.drawn)
        self._shown = Played(prompt, (first, second), made)
        return self._shown

    async def say(self, played: Played, verdict: Verdict, ranking: Sequence[int] = ()) -> None:
        """Note a verdict, the first or another one, which takes back what was worded better. Raises
        RoundClosed where it is too late."""
        told = (self.member_id, verdict, ranking)
        try:
            await self.store.votes.cast(played.round.comparison_id, *told)
        except RoundClosed:
            found = await self.store.rounds.by_id(played.round.id)
            if found and found.state == "closed":
                played.closed = True
                raise
            # Another session took it for one that was left behind: it is asked anew.
            drawn = played.round.drawn
            played.round = await self._open(played.prompt, played.answers, drawn)
            await self.store.votes.cast(played.round.comparison_id, *told)
        if played.corrected:
            await self.store.corrections.take_back(played.corrected, self.member_id)
            played.corrected = None
        played.verdict, played.ranking = verdict, tuple(ranking)
        if played is self._shown:
            await self._close(self.last)
            self.played.append(played)
            self._shown = None

    async def correct(self, played: Played, position: int, text: str) -> None:
        """Note that an answer is the better one, and how this person would have worded it."""
        await self.say(played, "ranked", (position, 1 - position))
        comparison = await self.store.votes.comparison(played.round.comparison_id)
        if comparison is not None:
            message = comparison.candidates[position]
            await self.store.corrections.add(message, self.member_id, text)
            played.corrected = message

    async def end(self) -> None:
        """Close what was voted on, cancel what was not."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError, GuildError):
                await self._writing
            self._writing = None
        await self._close(self.last)
        if self._shown is not None:
            await self.store.rounds.end(self._shown.round.id, "cancelled")
            self._shown = None

    async def _close(self, played: Played | None) -> None:
        if played is not None:
            await self.store.rounds.end(played.round.id)
            played.closed = True

    async def _open(
        self, prompt: PoolPrompt, answers: tuple[Candidate, Candidate], drawn: Drawn
    ) -> Round:
        decision_id = self.decision.id if self.decision else None
        return await self.store.rounds.open(
            prompt, answers, "terminal", decision_id=decision_id, drawn=drawn
        )

    async def _write(self) -> Asked:
        """A prompt and two different answers to it; by who serves, they may be proposed ones."""

        async def write(prompt: PoolPrompt) -> Sequence[Candidate] | None:
            return await write_pair(
                self.fleet, prompt.text, self.versions, self.params, self.chance
            )

        serving = {one.version_id for one in await self.store.releases.current()}
        asked = AskedPrompts(
            self.store, write, self.chance, self.troubles, proposals={*self.versions} == serving
        )
        return await asked.next(self.purpose, self.decision.id if self.decision else None)
