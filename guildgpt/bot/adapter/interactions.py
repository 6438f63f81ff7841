"""Clicks, commands and forms: each is heard once, acknowledged in time, and then worked on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any

import discord

from guildgpt.bot.adapter.controls import Form, view
from guildgpt.bot.adapter.discord_time import DiscordTime
from guildgpt.bot.adapter.incoming import interaction_event
from guildgpt.bot.adapter.marks import Marks
from guildgpt.bot.adapter.outlets import InteractionOutlet, MessageOutlet
from guildgpt.bot.adapter.reaching import FAULTS, T
from guildgpt.bot.answers.buttons import Action, Page
from guildgpt.bot.answers.ending import Refused
from guildgpt.bot.answers.events import Event, Recent
from guildgpt.bot.answers.feedback import MemberFeedback, ReportDesk
from guildgpt.bot.answers.outlet import Outlet
from guildgpt.bot.answers.service import Rest, Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.rounds import CLOSED
from guildgpt.bot.text.splitting import split
from guildgpt.errors import RecordGone, RoundClosed, StoreError

log = EventLog(__name__)
ACKNOWLEDGE_SECONDS = 0.25  # work that takes longer than this is acknowledged before it is done
At = discord.Interaction[Any]
Told = str | Page
"""What a member is told: a sentence, or one with buttons under it."""


@dataclass
class Interactions:
    """What members do with the bot's buttons, commands and forms."""

    client: discord.Client
    service: Service
    marks: Marks
    time: DiscordTime
    spawn: Callable[[Coroutine[Any, Any, object]], None]

    def __post_init__(self) -> None:
        service = self.service
        self.feedback = MemberFeedback(service.store, service.metrics, service.settings)
        self.reports = ReportDesk(
            service.store, service.guilds, service.writer, partial(MessageOutlet, self.client)
        )
        self._seen: Recent[int, None] = Recent()  # interactions

    def is_new(self, at: At) -> bool:
        """Whether it comes for the first time: a resumed session may bring it again."""
        self.time.happened(at.id)
        is_new = at.id not in self._seen
        self._seen[at.id] = None
        self.service.metrics.duplicates.inc(not is_new)
        return is_new

    async def begin(
        self, at: At, event: Event, claim: Callable[[Event, Outlet], Awaitable[Rest]] | None = None
    ) -> None:
        """Claim an interaction, acknowledge it in time, and work on it.

        The claim comes first, so that what was acknowledged is never forgotten, whatever happens to
        this process. But nobody waits long for it: while the store is slow the acknowledgement
        overtakes it. There are no two answers in either order: without a claim there is none.
        """
        if self.service.ignores(at.user.id):
            log("blocked", guild=at.guild_id)
            return
        outlet = InteractionOutlet(self.client, event.channel_id, at.token)
        claiming = asyncio.ensure_future((claim or self.service.claim)(event, outlet))
        await asyncio.wait({claiming}, timeout=ACKNOWLEDGE_SECONDS)
        if claiming.done() and claiming.result() is None:
            return  # nobody we answer
        try:
            await at.response.defer(thinking=True)
            self.service.metrics.acknowledged.observe(self.time.age(at.id))
        except FAULTS as error:
            log("not_acknowledged", kind=event.kind, error=error)
            outlet.is_over = isinstance(error, discord.NotFound)
        if work := await claiming:
            self.spawn(work)

    async def tell(
        self,
        at: At,
        what: Told | Awaitable[Told],
        *,
        form: Form | None = None,
        in_place: bool = False,
    ) -> None:
        """Tell the member alone, when it is done; acknowledge before where that takes long.

        `form` opens in place of the sentence that a 👎 or a report is noted; `in_place` writes over
        the message that was clicked.
        """
        work = asyncio.ensure_future(_or_sorry(what))
        # An erasure looks through all conversations of theirs: that may take long.
        await asyncio.wait({work}, timeout=0 if in_place else ACKNOWLEDGE_SECONDS)
        with may_be_too_late():
            is_late = in_place or not work.done()
            if is_late:
                await at.response.defer(ephemeral=True, thinking=not in_place)
            text, buttons = await work
            if in_place:
                await at.edit_original_response(content=text, view=view(buttons))
            elif form and not is_late and text in (say.RATED_DOWN, say.REPORTED):
                await at.response.send_modal(form)
            else:
                await send(at, text, buttons)

    async def clicked(self, at: At, action: Action) -> None:
        """A button under one of the bot's messages."""
        if not self.is_new(at):
            return
        match action.kind:
            case "forget":
                await self.tell(at, self._forget(at), in_place=True)
            case "keep":
                await self.tell(at, say.FORGET_KEPT, in_place=True)
            case "download":
                await self._give_data(at)
            case _ if self.service.ignores(at.user.id):
                log("blocked", guild=at.guild_id)
            case "again":
                await self.begin(at, interaction_event(at, "retry", again=action.id))
            case "stop":
                await self.tell(at, self._stop(at, action))
            case "resolve" | "seen" | "older" | "newest":
                await self._about_reports(at, action)
            case "report":
                await self._ask_why(at, "Reported: 🚩", partial(self._report, action))
            case "down":
                await self._ask_why(at, "Noted: 👎", partial(self._give, action))
            case _:
                await self.tell(at, self._give(action, at))

    async def _ask_why(self, at: At, title: str, note: Callable[..., Awaitable[str]]) -> None:
        """Note an opinion, and then, in a form, what was wrong; that may be left empty."""

        async def submitted(at: At, reason: str) -> None:
            await self.tell(at, note(at, reason))

        why: discord.ui.TextInput[Any] = discord.ui.TextInput(
            label="What was wrong? (optional)",
            style=discord.TextStyle.paragraph,
            required=False,
            max_length=500,
        )
        await self.tell(at, note(at), form=Form(title, why, submitted))

    async def _give(self, action: Action, at: At, reason: str = "") -> str:
        return await self.feedback.give(
            at.user.id, action, channel_id=at.channel_id or 0, reason=reason
        )

    async def _report(self, action: Action, at: At, reason: str = "") -> str:
        said, report = await self.feedback.report(
            at.user.id, action.id, channel_id=at.channel_id or 0, reason=reason
        )
        if reason or report.reason is None:
            self.spawn(self.reports.tell(report))
        return said

    async def _about_reports(self, at: At, action: Action) -> None:
        """A click of an admin's, on the list of reports or under a single one."""
        allowed = at.permissions.manage_guild or at.permissions.manage_messages
        if at.guild_id and allowed:
            await self.tell(at, self._looked_at(at, at.guild_id, action), in_place=True)
        else:
            await self.tell(at, say.NOT_ADMIN)

    async def _looked_at(self, at: At, guild_id: int, action: Action) -> Told:
        if action.kind in ("seen", "resolve"):
            await self.reports.resolve(guild_id, action.id)
        if action.kind == "seen":
            return f"{at.message.content if at.message else ''}\n{say.LOOKED_AT}"
        return await self.reports.page(
            guild_id, older_than=action.id if action.kind == "older" else None
        )

    async def _stop(self, at: At, action: Action) -> str:
        """What came of a click on the stop button. Where there is nothing to stop any more, the
        button is a leftover of an answer that could not be finished, and goes."""
        sentence = await self.service.stop(
            at.user.id,
            answer_id=action.id,
            channel_id=at.channel_id or 0,
            admin=at.permissions.manage_messages,
        )
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
            text, files = await _or_sorry(self.feedback.own_data(at.user.id, at.filesize_limit))
            try:
                if not files:
                    await send(at, text)
                for name, content in files:  # the limit is a file's, and that of all in a message
                    file = discord.File(io.BytesIO(content), name)
                    await at.followup.send(text, file=file, ephemeral=True)
                    text = ""
            except discord.HTTPException as error:  # "thinking…" must not stay
                log("file_not_taken", error=error)
                await send(at, say.DATA_NOT_TAKEN)

    async def _forget(self, at: At) -> str:
        """Erase a member's everything, with what is not yet written of it."""
        await self.marks.save()
        return await self.feedback.forget(at.user.id)


@contextmanager
def may_be_too_late() -> Iterator[None]:
    """What answers an interaction: if its time is over, nobody is told."""
    try:
        yield
    except FAULTS as error:
        log("not_told", error=error)


async def send(at: At, text: str, buttons: Sequence[Action] = ()) -> None:
    """Tell the member alone, in as many messages as it takes, the buttons under the last."""
    parts = split(text)
    for number, part in enumerate(parts, start=1):
        under = view(buttons if number == len(parts) else ())
        tell: Any = at.followup.send if at.response.is_done() else at.response.send_message
        await tell(part, view=under, ephemeral=True)


async def _or_sorry(
    what: str | tuple[str, Sequence[T]] | Awaitable[str | tuple[str, Sequence[T]]],
) -> tuple[str, Sequence[T]]:
    """The sentence and what comes with it, or a friendly one where it cannot be had."""
    try:
        told = await what if isawaitable(what) else what
    except Refused as refusal:
        told = refusal.say or say.FAILED
    except RecordGone:
        told = say.RECORD_GONE
    except RoundClosed:
        told = CLOSED
    except StoreError as error:
        log("store_failed", error=error)
        told = say.STORE_DOWN
    except Exception as error:
        log.unforeseen("interaction failed", error)
        told = say.FAILED
    return (told, ()) if isinstance(told, str) else told
