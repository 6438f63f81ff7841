"""One round on Discord: written, posted, and closed with what came of it.

A round is in the store before its message is sent, as `posting`; `open` once the message is there;
`closing`, when no vote is taken any more and its message does not say so yet; then `closed`. So
whenever the process ends, the next one finds what is left to do, and does nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from guildgpt.bot.answers.answering import LiveAnswer
from guildgpt.bot.answers.buttons import Action, Kind
from guildgpt.bot.answers.outlet import Outlet, Undeliverable
from guildgpt.bot.answers.round_pairs import NoRound, Pairs
from guildgpt.bot.answers.service import Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import rounds as say
from guildgpt.bot.text.shown import answer_text
from guildgpt.bot.text.splitting import split
from guildgpt.errors import RecordGone
from guildgpt.feedback.records import Decision, Round
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.rounds import UNENDED
from guildgpt.feedback.voting.teaching import Teaching

log = EventLog(__name__)
UNKNOWN_CHANNEL = 10003  # Discord's code for one that was deleted
LONGEST_SECONDS = 7 * 86_400  # that a round is open
CHOICES: tuple[Kind, ...] = ("a", "b", "tie", "both_bad")


class MayNotWrite(Exception):
    """The bot may not write in that channel."""


class RoundOutlet(Outlet, Protocol):
    """A channel in which a round is held."""

    async def find(self, texts: Sequence[str], since: float) -> list[int] | None:
        """The bot's own messages of that moment or later that say these texts, as many as are there
        of the first; None where it may not look."""


@dataclass
class RoundDesk:
    """Holds rounds; `place` makes the outlet of a channel."""

    service: Service
    place: Callable[[int], RoundOutlet]
    _parts: dict[str, list[int]] = field(default_factory=dict)  # messages of a round that is open
    _deciding: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.store, self.writer = self.service.store, self.service.writer
        self._pairs = Pairs(self.service)

    async def purpose(
        self, guild_id: int | None = None
    ) -> tuple[Decision | None, tuple[str | None, str | None]]:
        """The candidate that a round would be about, if there is one (and this guild decides on
        it), and whose answers it shows: None stands for who serves."""
        decision = await self.store.decisions.current()
        if decision is None or decision.state != "canary":
            return None, (None, None)
        if not Teaching.of(decision.settings).counts(guild_id):
            return None, (None, None)
        return decision, (decision.baseline_id, decision.candidate_id)

    async def open(self, guild_id: int, channel_id: int, closes_at: int) -> None:
        """Write a round and post it; the one before it in the channel closes. Raises `NoRound`,
        `MayNotWrite` and `StoreError`."""
        decision, versions = await self.purpose(guild_id)
        asked = await self._pairs.next(guild_id, decision, versions)
        for earlier in await self.unended(channel_id):
            await self.close(earlier)
        try:
            made = await self.store.rounds.open(
                asked.prompt,
                asked.answers,
                "discord",
                decision_id=decision.id if decision else None,
                guild_id=guild_id,
                channel_id=channel_id,
                closes_at=datetime.fromtimestamp(closes_at, UTC),
                state="posting",
                drawn=asked.drawn,
            )
        except RecordGone as error:  # the prompt was taken back just now
            raise NoRound("unfit") from error
        await self.post(made)

    async def unended(self, channel_id: int | None = None) -> list[Round]:
        """The rounds on Discord that are not over, the oldest first; those of a channel, or all."""
        found = await self.store.rounds.in_state(*UNENDED, place="discord")
        return [one for one in found if channel_id in (None, one.channel_id)]

    # Its message

    async def post(self, round: Round, *, again: bool = False) -> None:
        """Post a round's message; `again`: it may be there, or a part of it. Raises what `open`
        raises."""
        shown = await self._shown(round)
        if shown is None or round.channel_id is None:
            await self.store.rounds.end(round.id, "cancelled")
            return
        text = say.open_round(shown)
        outlet = self.place(round.channel_id)
        try:
            found = await self._found(round, outlet, text) if again else []
            if found is None:  # it may be there or not: one too few is better than two
                await self.store.rounds.end(round.id, "cancelled")
                return
            live = self._live(round, outlet, found, again=again)
            await self._finish(round, live, text)
        except Undeliverable as error:
            await self._not_posted(round, error)

    async def _finish(self, round: Round, live: LiveAnswer, text: str) -> None:
        comparison = round.comparison_id
        try:
            await live.finish(text, [Action(kind, comparison) for kind in CHOICES])
        except Undeliverable as error:
            if error.why in ("withheld", "refused", "forbidden"):
                await live.take_back()
            raise
        await self.store.rounds.posted(round.id, live.message_ids[-1])
        self._parts[round.id] = live.message_ids
        log("round_opened", guild=round.guild_id, decides=round.decision_id is not None)

    async def _not_posted(self, round: Round, error: Undeliverable) -> None:
        log("round_not_posted", guild=round.guild_id, reason=str(error))
        if error.why == "unreachable":
            raise NoRound("discord") from error
        await self.store.rounds.end(round.id, "cancelled")
        if error.code == UNKNOWN_CHANNEL:
            changes = self.service.changes
            await changes.channel_deleted(round.guild_id or 0, round.channel_id or 0)
        elif error.why == "forbidden":
            raise MayNotWrite from error
        elif error.why != "gone":
            self._pairs.unfit.add(round.prompt_id)
            raise NoRound("withheld") from error

    async def _found(self, round: Round, outlet: RoundOutlet, text: str) -> list[int] | None:
        """The round's messages that are there."""
        if parts := self._parts.get(round.id):
            return parts
        closes_at = (round.closes_at or round.created_at).timestamp()
        return await outlet.find(split(answer_text(text)), closes_at - LONGEST_SECONDS)

    def _live(
        self, round: Round, outlet: Outlet, earlier: Sequence[int], *, again: bool
    ) -> LiveAnswer:
        async def noted(parts: Sequence[int]) -> None:
            self._parts[round.id] = list(parts)

        return LiveAnswer(
            outlet,
            self.writer,
            noted=noted,
            allowed=lambda text: True,
            nonce=round.id.replace("-", "")[:20],
            earlier=earlier,
            was_begun=again,
        )

    async def _shown(self, round: Round) -> say.Shown | None:
        """What it shows; None if something of it was erased."""
        comparison = await self.store.votes.comparison(round.comparison_id)
        prompt = await self.store.prompts.by_id(round.prompt_id)
        if comparison is None or prompt is None:
            return None
        answers = [await self.store.conversations.message(id) for id in comparison.candidates]
        texts = [one.text for one in answers if one is not None and not one.deleted]
        if len(texts) < 2:
            return None
        closes_at = round.closes_at or round.created_at
        return say.Shown(prompt.text, prompt.credit, texts, int(closes_at.timestamp()))

    # When it is over

    async def close(self, round: Round) -> None:
        """Take no more votes, and say what came of it. Raises `NoRound` while Discord cannot be
        reached, and `StoreError`: then it is done again."""
        if round.state == "posting":  # nobody has voted; nobody knows whether its message is there
            await self._take_back(round)
            await self.store.rounds.end(round.id, "cancelled")
            return
        if round.state != "closing" and not await self.store.rounds.end(round.id, "closing"):
            return
        try:
            await self._tell(round)
        except Undeliverable as error:
            if error.why == "unreachable":
                raise NoRound("discord") from error
            log("round_end_not_told", guild=round.guild_id, reason=str(error))
        await self.store.rounds.end(round.id, "closed")
        self._parts.pop(round.id, None)
        log("round_closed", guild=round.guild_id)
        if round.decision_id:
            await self.decide(round.channel_id)

    async def _tell(self, round: Round) -> None:
        """Write over the round's message what came of it; its buttons go."""
        found = await self.store.rounds.ballots(round_id=round.id, states=("closing",))
        shown = await self._shown(round)
        if not found or shown is None or round.channel_id is None or round.discord_id is None:
            return
        text = say.closed_round(shown, found[0])
        outlet = self.place(round.channel_id)
        parts: Sequence[int] | None = [round.discord_id]
        if len(split(answer_text(text))) > 1:
            parts = await self._found(round, outlet, say.open_round(shown))
        if parts and parts[-1] == round.discord_id:
            await self._live(round, outlet, parts, again=False).finish(text)
        else:  # the others are not to be found
            await self.writer.turn(round.channel_id)
            await outlet.edit(round.discord_id, split(answer_text(text))[-1], ())

    async def _take_back(self, round: Round) -> None:
        """Delete what there is of a round's message."""
        shown = await self._shown(round)
        if shown is None or round.channel_id is None:
            return
        outlet = self.place(round.channel_id)
        with suppress(Undeliverable):
            found = await self._found(round, outlet, say.open_round(shown))
            await self._live(round, outlet, found or (), again=False).take_back()

    async def decide(self, channel_id: int | None = None) -> None:
        """See what the closed rounds say of the candidate; that it is clear now is told in the
        channel, not what it is."""
        async with self._deciding:  # of two rounds that close at once the first has decided
            decision, _ = await self.purpose()
            if decision is None:
                return
            after, outcome = await look(self.store, decision)
            if after.state == "canary":
                return
        log("decision_fell", state=after.state, rounds=outcome.rounds)
        if channel_id is not None:
            await self.writer.whisper(self.place(channel_id), say.FELL)

    # What happens to it meanwhile

    async def recall(self, round: Round) -> None:
        """Find all messages of a round that an earlier process posted; one of them has the id."""
        shown = await self._shown(round)
        if shown is None or round.channel_id is None:
            return
        text = say.open_round(shown)
        if len(split(answer_text(text))) > 1:
            with suppress(Undeliverable):
                found = await self._found(round, self.place(round.channel_id), text)
                if found and found[-1] == round.discord_id:
                    self._parts.setdefault(round.id, found)

    def knows(self, round: Round) -> bool:
        """Whether all messages of a round are known."""
        return round.id in self._parts

    def holding(self, message_id: int, rounds: Iterable[Round]) -> str | None:
        """Which of the rounds, or of those that are being posted, the message belongs to."""
        held = (id for id, parts in self._parts.items() if message_id in parts)
        return next(held, None) or next(
            (one.id for one in rounds if one.discord_id == message_id), None
        )

    async def message_deleted(self, id: str, message_id: int) -> None:
        """A moderator deleted a message of a round: it is closed with the votes it has, and the
        rest of it goes."""
        rest = [part for part in self._parts.pop(id, []) if part != message_id]
        round = await self.store.rounds.by_id(id)
        if round is None or not await self.store.rounds.end(id, "closed"):
            return
        log("round_deleted", guild=round.guild_id)
        if round.channel_id:
            outlet = self.place(round.channel_id)
            with suppress(Undeliverable):
                await self._live(round, outlet, rest, again=False).take_back()
            self._parts.pop(id, None)
        if round.decision_id:
            await self.decide(round.channel_id)

    async def withdrawn(self, round: Round) -> None:
        """A round is gone from the store: who offered its prompt had everything erased."""
        parts = self._parts.pop(round.id, None) or [round.discord_id or 0]
        if round.channel_id and parts[-1]:
            live = self._live(round, self.place(round.channel_id), parts, again=False)
            with suppress(Undeliverable):
                await live.finish(say.WITHDRAWN)
            self._parts.pop(round.id, None)
