"""What members think of the answers, and what they want kept; reports, and a member's own data as
files.

What is told to members stands in the store before they are told that it was noted. Raises
`StoreError`.
"""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from guildgpt.bot.answers.buttons import Action, Page
from guildgpt.bot.answers.ending import Refused
from guildgpt.bot.answers.events import Recent
from guildgpt.bot.answers.outlet import Outlet, Undeliverable
from guildgpt.bot.answers.pacing import ChannelWriter
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.health import Metrics
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text import sentences as say
from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.erasing.own_data import SECTIONS, as_json
from guildgpt.feedback.records import AbuseReport, Consent, Member, StoredMessage, Verdict
from guildgpt.feedback.store import Store

log = EventLog(__name__)
PAGE = 4  # reports at once: with their buttons they fill a message
REMEMBERED = 100  # messages about reports, to put a reason into that comes later
NAME = "guildgpt-data"
RATINGS = {"up": (1, say.RATED_UP), "down": (-1, say.RATED_DOWN)}
# Verdict and ranking, of candidates by their places as they are shown.
VOTES: dict[str, tuple[Verdict, tuple[int, ...]]] = {
    "left": ("ranked", (0, 1)),
    "right": ("ranked", (1, 0)),
    "a": ("ranked", (0, 1)),
    "b": ("ranked", (1, 0)),
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


@dataclass
class ReportDesk:
    """Where reports go; `place` makes the outlet of a channel."""

    store: Store
    guilds: Guilds
    writer: ChannelWriter
    place: Callable[[int], Outlet]
    _told: Recent[str, tuple[Outlet, int]] = field(default_factory=lambda: Recent(REMEMBERED))

    async def page(self, guild_id: int, *, older_than: str | None = None) -> Page:
        """Some of the guild's reports that nobody has looked at, the newest first, each with a
        button that says that somebody has."""
        found = await self.store.reports.newest(guild_id, older_than=older_than, limit=PAGE + 1)
        if not found and older_than:
            return await self.page(guild_id)
        shown = found[:PAGE]
        buttons = [Action("resolve", one.id, str(n)) for n, one in enumerate(shown, start=1)]
        if len(found) > PAGE:
            buttons.append(Action("older", shown[-1].id))
        if older_than:
            buttons.append(Action("newest", older_than))
        return say.reports(shown, await self.store.reports.count_open(guild_id)), buttons

    async def resolve(self, guild_id: int, report_id: str) -> None:
        """An admin has looked at one."""
        await self.store.reports.resolve(report_id, guild_id)

    async def tell(self, report: AbuseReport) -> None:
        """Tell the guild's channel for reports of a new one, or of one that has a reason now.
        Nothing hangs on it."""
        if report.guild_id is None:
            return
        text, buttons = say.new_report(report), [Action("seen", report.id)]
        try:
            rules = await self.guilds.rules(report.guild_id)
            if rules.reports_channel is None:
                return
            if report.id in self._told:
                outlet, message_id = self._told[report.id]
                await self.writer.turn(outlet.channel_id)
                await outlet.edit(message_id, text, buttons)
            else:
                outlet = self.place(rules.reports_channel)
                await self.writer.turn(outlet.channel_id, new=True)
                nonce = report.id.replace("-", "")[:20]
                self._told[report.id] = outlet, await outlet.send(text, buttons, nonce)
        except (StoreError, Undeliverable) as error:
            log("report_not_told", error=error, guild=report.guild_id)


def as_files(record: Mapping[str, Any], limit: int) -> list[tuple[str, bytes]]:
    """Names and contents of files of at most `limit` bytes: JSON if that is short enough, else
    zipped, else as many zipped parts as it takes. A single row that is longer is left in its part.
    """
    whole = as_json(record)
    if len(whole) <= limit:
        return [(f"{NAME}.json", whole)]
    rows = [(section, row) for section in SECTIONS for row in record[section]]
    count = 1
    while True:
        size = max(-(-len(rows) // count), 1)
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)] or [[]]
        files = [
            _zipped(record, piece, number, len(pieces))
            for number, piece in enumerate(pieces, start=1)
        ]
        if size == 1 or max(len(content) for _, content in files) <= limit:
            return files
        count *= 2


def _zipped(
    record: Mapping[str, Any], rows: list[tuple[str, Any]], number: int, of: int
) -> tuple[str, bytes]:
    name = NAME if of == 1 else f"{NAME}-{number}-of-{of}"
    part = {**record, **{section: [] for section in SECTIONS}}
    for section, row in rows:
        part[section].append(row)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.json", as_json(part))
    return f"{name}.zip", packed.getvalue()
