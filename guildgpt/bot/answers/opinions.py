"""What members think of the answers, and what they want kept: each a sentence to tell them.

The opinion stands in the store before they are told that it was noted. Raises `StoreError`.
"""

from __future__ import annotations

from typing import Any

from guildgpt.bot.answers.buttons import Action
from guildgpt.bot.operating.metrics import Metrics
from guildgpt.bot.text import sentences as say
from guildgpt.errors import RecordGone
from guildgpt.feedback.records import AbuseReport, Consent, Member, StoredMessage, Verdict
from guildgpt.feedback.store import Store

SHOWN = {"left": 0, "right": 1}  # the candidates' places, as the buttons name them


class NotHere(Exception):
    """A button that was copied to where its answer was never shown."""


class Opinions:
    """Ratings, votes, reports, consent and erasure."""

    def __init__(self, store: Store, metrics: Metrics, *, retention_days: int, trains: bool):
        self._store = store
        self._metrics = metrics
        self._days = retention_days
        self._trains = trains

    async def report(
        self, user_id: int, answer_id: str, *, channel_id: int, reason: str = ""
    ) -> tuple[str, AbuseReport | None]:
        """A click on 🚩, and later perhaps why: what to tell them, and the report. Who wants
        nothing kept is not named, and gives no reason."""
        member = await self._store.members.of_user(user_id)
        try:
            answer = await self._here(answer_id, channel_id)
            named = member.consent != "none"
            made = await self._store.reports.add(
                answer.id, member.id if named else None, (named and reason.strip()) or None
            )
        except RecordGone:
            return say.RECORD_GONE, None
        except NotHere:
            return say.WRONG_PLACE, None
        self._metrics.feedback.labels("reason" if reason else "report").inc()
        if not named:
            return say.REPORTED_UNNAMED, made
        return (say.REASON_NOTED if reason else say.REPORTED), made

    async def give(self, user_id: int, action: Action, *, channel_id: int, reason: str = "") -> str:
        """A click on a button under a message in the channel; `reason` says more about a 👎."""
        member = await self._store.members.of_user(user_id)
        if member.consent == "none":
            return say.CONSENT_NONE
        try:
            if action.kind in ("up", "down"):
                said = await self._rate(member, action, channel_id, reason.strip())
            else:
                said = await self._vote(member, action, channel_id)
        except RecordGone:
            return say.RECORD_GONE
        except NotHere:
            return say.WRONG_PLACE
        self._metrics.feedback.labels("reason" if reason else action.kind).inc()
        return said

    async def _rate(self, member: Member, action: Action, channel_id: int, reason: str) -> str:
        answer = await self._here(action.id, channel_id)
        await self._store.ratings.add(
            answer.id, member.id, 1 if action.kind == "up" else -1, reason or None
        )
        if reason:
            return say.REASON_NOTED
        return say.RATED_UP if action.kind == "up" else say.RATED_DOWN

    async def _vote(self, member: Member, action: Action, channel_id: int) -> str:
        comparison = await self._store.votes.comparison(action.id)
        if comparison is None:
            raise RecordGone("the comparison is no longer in the store")
        await self._here(comparison.question_id, channel_id)
        if action.kind in SHOWN:
            first = SHOWN[action.kind]
            await self._store.votes.cast(comparison.id, member.id, "ranked", (first, 1 - first))
        else:
            verdict: Verdict = "tie" if action.kind == "tie" else "both_bad"
            await self._store.votes.cast(comparison.id, member.id, verdict)
        return say.VOTED[action.kind]

    async def _here(self, message_id: str, channel_id: int) -> StoredMessage:
        """The message, which has to be one of this channel's."""
        message = await self._store.conversations.message(message_id)
        if message is None:
            raise RecordGone("the message is no longer in the store")
        if await self._store.conversations.channel_of(message.conversation_id) != channel_id:
            raise NotHere
        return message

    async def privacy(self, user_id: int, choice: Consent | None) -> str:
        """What is kept; with `choice`, after changing the member's consent."""
        member = await self._store.members.of_user(user_id)
        if choice is not None:
            await self._store.members.set_consent(member.id, choice)
        return say.privacy(choice or member.consent, self._days, self._trains)

    async def own_data(self, user_id: int) -> dict[str, Any] | None:
        """Everything that is kept under the member, for them to read; None if nothing is."""
        kept = await self._store.privacy.kept_of(user_id)
        return kept and {"kept_for_days": self._days, **kept}

    async def forget(self, user_id: int) -> str:
        """Erase everything of the member's; the housekeeper scrubs the file."""
        erasure = await self._store.privacy.erase(user_id, scrub=False)
        return say.forgotten(sum(erasure.counts.values()), len(erasure.versions))

    async def stats(self, guild_id: int | None) -> str:
        """The guild's counts."""
        return say.stats(await self._store.stats(guild_id))
