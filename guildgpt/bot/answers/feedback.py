"""What members think of the answers, and what they want kept: each a sentence to tell them.

It stands in the store before they are told that it was noted. Raises `StoreError`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import uuid4

from guildgpt.bot.answers.buttons import Action, Page
from guildgpt.bot.answers.download import as_files
from guildgpt.bot.answers.ending import Refused
from guildgpt.bot.operating.metrics import Metrics
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text import sentences as say
from guildgpt.errors import RecordGone
from guildgpt.feedback.records import AbuseReport, Consent, Member, StoredMessage, Verdict
from guildgpt.feedback.store import Store

RATINGS = {"up": (1, say.RATED_UP), "down": (-1, say.RATED_DOWN)}
# Verdict and ranking, of candidates by their places as they are shown.
VOTES: dict[str, tuple[Verdict, tuple[int, ...]]] = {
    "left": ("ranked", (0, 1)),
    "right": ("ranked", (1, 0)),
    "tie": ("tie", ()),
    "both_bad": ("both_bad", ()),
}


@dataclass
class MemberFeedback:
    """Ratings, votes, reports, consent and erasure. Raises `Refused` and `RecordGone`, too."""

    store: Store
    metrics: Metrics
    settings: BotSettings

    async def report(
        self, user_id: int, answer_id: str, *, channel_id: int, reason: str = ""
    ) -> tuple[str, AbuseReport]:
        """A click on 🚩, and later perhaps why: what to tell them, and the report. Who wants
        nothing kept is not named, and gives no reason."""
        member = await self.store.members.of_user(user_id)
        answer = await self._here(answer_id, channel_id)
        named = member.consent != "none"
        made = await self.store.reports.add(
            answer.id, member.id if named else None, (named and reason.strip()) or None
        )
        self.metrics.feedback.labels("reason" if reason else "report").inc()
        if not named:
            return say.REPORTED_UNNAMED, made
        return (say.REASON_NOTED if reason else say.REPORTED), made

    async def give(self, user_id: int, action: Action, *, channel_id: int, reason: str = "") -> str:
        """A click on a button under a message in the channel; `reason` says more about a 👎."""
        member = await self.store.members.of_user(user_id)
        if member.consent == "none":
            return say.CONSENT_NONE
        give = self._rate if action.kind in RATINGS else self._vote
        said = await give(member, action, channel_id, reason.strip())
        self.metrics.feedback.labels("reason" if reason else action.kind).inc()
        return said

    async def _rate(self, member: Member, action: Action, channel_id: int, reason: str) -> str:
        answer = await self._here(action.id, channel_id)
        value, said = RATINGS[action.kind]
        await self.store.ratings.add(answer.id, member.id, value, reason or None)
        return say.REASON_NOTED if reason else said

    async def _vote(self, member: Member, action: Action, channel_id: int, reason: str) -> str:
        comparison = await self.store.votes.comparison(action.id)
        if comparison is None:
            raise RecordGone("the comparison is no longer in the store")
        await self._here(comparison.question_id, channel_id)
        verdict, ranking = VOTES[action.kind]
        await self.store.votes.cast(comparison.id, member.id, verdict, ranking)
        return say.VOTED[action.kind]

    async def _here(self, message_id: str, channel_id: int) -> StoredMessage:
        """The message, which has to be one of this channel's."""
        message = await self.store.conversations.message(message_id)
        if message is None:
            raise RecordGone("the message is no longer in the store")
        if await self.store.conversations.channel_of(message.conversation_id) != channel_id:
            raise Refused(say.WRONG_PLACE, "wrong-place")
        return message

    async def privacy(self, user_id: int, choice: Consent | None) -> Page:
        """What is kept; with `choice`, after changing the member's consent."""
        member = await self.store.members.of_user(user_id)
        if choice is not None:
            await self.store.members.set_consent(member.id, choice)
        days, trains = self.settings.retention_days, self.settings.train_on_members
        text = say.privacy(choice or member.consent, days, trains)
        return text, [Action("download", str(uuid4()))]

    async def own_data(self, user_id: int, limit: int) -> tuple[str, list[tuple[str, bytes]]]:
        """Everything that is kept under the member, in files of at most `limit` bytes."""
        kept = await self.store.privacy.kept_of(user_id)
        if kept is None:
            raise Refused(say.NOTHING_KEPT, "nothing-kept")
        record = {"kept_for_days": self.settings.retention_days, **kept}
        files = await asyncio.to_thread(as_files, record, limit)
        return say.your_data(len(files)), files

    async def forget(self, user_id: int) -> str:
        """Erase everything of the member's; the housekeeper scrubs the file."""
        erasure = await self.store.privacy.erase(user_id, scrub=False)
        return say.forgotten(sum(erasure.counts.values()), len(erasure.versions))

    async def stats(self, guild_id: int | None) -> str:
        """The guild's counts."""
        return say.stats(await self.store.stats(guild_id))
