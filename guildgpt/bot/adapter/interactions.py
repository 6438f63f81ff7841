"""Clicks, commands and forms: each is heard once, acknowledged in time, and then worked on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
import discord

from guildgpt.bot.adapter.controls import Form, view
from guildgpt.bot.adapter.discord_time import DiscordTime
from guildgpt.bot.adapter.incoming import interaction_event
from guildgpt.bot.adapter.marks import Marks
from guildgpt.bot.adapter.outlets import InteractionOutlet
from guildgpt.bot.answers.buttons import Action
from guildgpt.bot.answers.download import as_files
from guildgpt.bot.answers.events import Event
from guildgpt.bot.answers.opinions import Opinions
from guildgpt.bot.answers.outlet import Outlet
from guildgpt.bot.answers.recent import Recent
from guildgpt.bot.answers.reports import ReportDesk
from guildgpt.bot.answers.service import Rest, Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.splitting import split
from guildgpt.errors import StoreError

log = EventLog(__name__)
ACKNOWLEDGE_SECONDS = 0.25  # work that takes longer than this is acknowledged before it is done
At = discord.Interaction[Any]


class Interactions:
    """What members do with the bot's buttons, commands and forms."""

    def __init__(
        self,
        client: discord.Client,
        service: Service,
        opinions: Opinions,
        marks: Marks,
        time: DiscordTime,
        reports: ReportDesk,
        spawn: Callable[[Coroutine[Any, Any, object]], None],
    ):
        self.service = service
        self.opinions = opinions
        self.reports = reports
        self.spawn = spawn
        self._client = client
        self._marks = marks
        self._time = time
        self._seen: Recent[int, None] = Recent()  # interactions

    def is_new(self, at: At) -> bool:
        """Whether it comes for the first time: a resumed session may bring it again."""
        self._time.heard(at.id)
        is_new = at.id not in self._seen
        self._seen[at.id] = None
        self.service.metrics.duplicates.inc(not is_new)
        return is_new

    async def begin(
        self, at: At, event: Event, step: Callable[[Event, Outlet], Awaitable[Rest]]
    ) -> None:
        """Claim an interaction, acknowledge it in time, and work on it.

        The claim comes first, so that what was acknowledged is never forgotten, whatever happens to
        this process. But nobody waits long for it: while the store is slow the acknowledgement
        overtakes it. There are no two answers in either order: without a claim there is none.
        """
        if self.service.ignores(at.user.id):
            log("blocked", guild=at.guild_id)
            return
        outlet = InteractionOutlet(self._client, event.channel_id, at.token)
        claim = asyncio.ensure_future(step(event, outlet))
        await asyncio.wait({claim}, timeout=ACKNOWLEDGE_SECONDS)
        if claim.done() and claim.result() is None:
            return  # nobody we answer
        try:
            await at.response.defer(thinking=True)
            self.service.metrics.acknowledged.observe(self._time.age(at.id))
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log("not_acknowledged", kind=event.kind, error=error)
            outlet.unheard = isinstance(error, discord.NotFound)
        if work := await claim:
            self.spawn(work)

    async def tell(
        self,
        at: At,
        sentence: Awaitable[str],
        *,
        form: Form | None = None,
        in_place: bool = False,
        buttons: Sequence[Action] = (),
    ) -> None:
        """Tell the member alone, when it is done; acknowledge before where that takes long.

        `buttons` stand under the sentence. `form` opens in place of the sentence that a 👎 or
        a report is noted; `in_place` writes over the message that was clicked.
        """
        work = asyncio.ensure_future(_or_sorry(sentence))
        # An erasure looks through all conversations of theirs: that may take long.
        await asyncio.wait({work}, timeout=0 if in_place else ACKNOWLEDGE_SECONDS)
        with may_be_too_late():
            answer = at.response
            if not work.done():
                await answer.defer(ephemeral=True, thinking=not in_place)
                text = await work
                if in_place:
                    await at.edit_original_response(content=text, view=None)
                else:
                    await _follow_up(at, split(text), buttons)
            elif form and work.result() in (say.RATED_DOWN, say.REPORTED):
                await answer.send_modal(form)
            elif in_place:
                await answer.edit_message(content=work.result(), view=None)
            else:
                first, *more = split(work.result())
                under = view(() if more else buttons)
                await answer.send_message(first, view=under, ephemeral=True)
                await _follow_up(at, more, buttons)

    async def clicked(self, at: At, action: Action) -> None:
        """A button under one of the bot's messages."""
        user, channel = at.user.id, at.channel_id or 0
        if not self.is_new(at):
            return
        if action.kind == "forget":
            await self.tell(at, self._forget(user), in_place=True)
        elif action.kind == "keep":
            with may_be_too_late():
                await at.response.edit_message(content=say.FORGET_KEPT, view=None)
        elif action.kind == "download":
            await self._give_data(at)
        elif self.service.ignores(user):
            log("blocked", guild=at.guild_id)
        elif action.kind == "again":
            await self.begin(
                at,
                interaction_event(at, "retry"),
                lambda event, outlet: self.service.again(event, outlet, action.id),
            )
        elif action.kind == "stop":
            stopping = self.service.stop(
                user,
                answer_id=action.id,
                channel_id=channel,
                admin=at.permissions.manage_messages,
            )
            await self.tell(at, self._stopped(at, stopping))
        elif action.kind in ("resolve", "seen", "older", "newest"):
            await self._about_reports(at, action)
        elif action.kind == "report":
            await self.tell(at, self._reported(at, action), form=self._report_form(action))
        else:
            giving = self.opinions.give(user, action, channel_id=channel)
            form = self._reason_form(action) if action.kind == "down" else None
            await self.tell(at, giving, form=form)

    def form(
        self,
        title: str,
        field: discord.ui.TextInput[Any],
        submitted: Callable[[At, str], Awaitable[None]],
    ) -> Form:
        """A form whose text is given to `submitted`, once."""

        async def once(at: At, text: str) -> None:
            if self.is_new(at):
                await submitted(at, text)

        return Form(title, field, once)

    def _reason_form(self, action: Action) -> Form:
        """What was wrong with an answer; may be left empty."""

        async def submitted(at: At, reason: str) -> None:
            giving = self.opinions.give(
                at.user.id, action, channel_id=at.channel_id or 0, reason=reason
            )
            await self.tell(at, giving)

        return self.form("Noted: 👎", _why(), submitted)

    def _report_form(self, action: Action) -> Form:
        """Why somebody should look at an answer; may be left empty."""

        async def submitted(at: At, reason: str) -> None:
            await self.tell(at, self._reported(at, action, reason))

        return self.form("Reported: 🚩", _why(), submitted)

    async def _reported(self, at: At, action: Action, reason: str = "") -> str:
        said, report = await self.opinions.report(
            at.user.id, action.id, channel_id=at.channel_id or 0, reason=reason
        )
        if report and (reason or report.reason is None):
            self.spawn(self.reports.tell(report))
        return said

    # Reports, for admins

    async def show_reports(
        self, at: At, *, older_than: str | None = None, looked_at: str | None = None
    ) -> None:
        """A page of what was reported; over the page where a button of it was pressed."""
        over = at.type is discord.InteractionType.component
        with may_be_too_late():
            await at.response.defer(ephemeral=True, thinking=not over)
            try:
                if looked_at:
                    await self.reports.resolve(at.guild_id or 0, looked_at)
                text, buttons = await self.reports.page(at.guild_id or 0, older_than=older_than)
            except StoreError as error:
                log("store_failed", error=error)
                text, buttons = say.STORE_DOWN, []
            await at.edit_original_response(content=text, view=view(buttons))

    async def _about_reports(self, at: At, action: Action) -> None:
        allowed = at.permissions.manage_guild or at.permissions.manage_messages
        if at.guild_id is None or not allowed:
            with may_be_too_late():
                await at.response.send_message(say.NOT_ADMIN, ephemeral=True)
        elif action.kind == "seen":
            await self.tell(at, self._looked_at(at, action), in_place=True)
        else:
            await self.show_reports(
                at,
                older_than=action.id if action.kind == "older" else None,
                looked_at=action.id if action.kind == "resolve" else None,
            )

    async def _looked_at(self, at: At, action: Action) -> str:
        await self.reports.resolve(at.guild_id or 0, action.id)
        said = at.message.content if at.message else ""
        return f"{said}\n{say.LOOKED_AT}"

    async def _stopped(self, at: At, stopping: Awaitable[str]) -> str:
        """What came of a click on the stop button. Where there is nothing to stop any more, the
        button is a leftover of an answer that could not be finished, and goes."""
        sentence = await stopping
        if sentence == say.NOTHING_TO_STOP and at.message is not None:
            self.spawn(self._without_buttons(at.message))
        return sentence

    async def _without_buttons(self, message: discord.Message) -> None:
        with may_be_too_late():
            await message.edit(view=None)

    async def _give_data(self, at: At) -> None:
        """Everything that is kept of the member, as files that they alone see."""
        with may_be_too_late():
            await at.response.defer(ephemeral=True, thinking=True)
            try:
                kept = await self.opinions.own_data(at.user.id)
            except StoreError as error:
                log("store_failed", error=error)
                await at.followup.send(say.STORE_DOWN, ephemeral=True)
                return
            if kept is None:
                await at.followup.send(say.NOTHING_KEPT, ephemeral=True)
                return
            files = await asyncio.to_thread(as_files, kept, at.filesize_limit)
            said = say.your_data(len(files))
            try:
                for name, content in files:  # the limit is a file's, and that of all in a message
                    file = discord.File(io.BytesIO(content), name)
                    await at.followup.send(said, file=file, ephemeral=True)
                    said = ""
            except discord.HTTPException as error:  # "thinking…" must not stay
                log("file_not_taken", error=error)
                await at.followup.send(say.DATA_NOT_TAKEN, ephemeral=True)

    async def _forget(self, user_id: int) -> str:
        """Erase a member's everything, with what is not yet written of it."""
        await self._marks.save()
        return await self.opinions.forget(user_id)


@contextmanager
def may_be_too_late() -> Iterator[None]:
    """What answers an interaction: if its time is over, nobody is told."""
    try:
        yield
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        log("not_told", error=error)


def _why() -> discord.ui.TextInput[Any]:
    return discord.ui.TextInput(
        label="What was wrong? (optional)",
        style=discord.TextStyle.paragraph,
        required=False,
        max_length=500,
    )


async def _follow_up(at: At, texts: Sequence[str], buttons: Sequence[Action]) -> None:
    for number, text in enumerate(texts, start=1):
        under = view(buttons if number == len(texts) else ())
        await at.followup.send(text, view=under, ephemeral=True)


async def _or_sorry(sentence: Awaitable[str]) -> str:
    """The sentence, or a friendly one where it cannot be had."""
    try:
        return await sentence
    except StoreError as error:
        log("store_failed", error=error)
        return say.STORE_DOWN
    except Exception as error:
        log.unforeseen("interaction failed", error)
        return say.FAILED
