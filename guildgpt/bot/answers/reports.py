"""Reports: made by members, shown to admins, told in a channel of theirs if they want that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from guildgpt.bot.answers.buttons import Action, Page
from guildgpt.bot.answers.outlet import Outlet, Undeliverable
from guildgpt.bot.answers.pacing import ChannelWriter
from guildgpt.bot.answers.recent import Recent
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.errors import StoreError
from guildgpt.feedback.records import AbuseReport
from guildgpt.feedback.store import Store

log = EventLog(__name__)
PAGE = 4  # reports at once: with their buttons they fill a message
REMEMBERED = 100  # messages about reports, to put a reason into that comes later


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
