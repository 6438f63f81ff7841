"""The slash commands and the context menu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal
from uuid import uuid4

import discord
from discord import app_commands

from guildgpt.bot.adapter.controls import Form
from guildgpt.bot.adapter.incoming import interaction_event
from guildgpt.bot.adapter.interactions import At, Interactions, may_be_too_late, send
from guildgpt.bot.adapter.options import AnyPlace, for_admins
from guildgpt.bot.adapter.outlets import MessageOutlet
from guildgpt.bot.adapter.reading import Reader
from guildgpt.bot.adapter.round_commands import add_rounds
from guildgpt.bot.adapter.threads import open_thread
from guildgpt.bot.answers.buttons import Action
from guildgpt.bot.answers.events import Event
from guildgpt.bot.answers.outlet import Outlet
from guildgpt.bot.answers.service import Rest
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.text.visible import clean

log = EventLog(__name__)
Text = app_commands.Range[str, 1, 4000]


class Commands(app_commands.CommandTree[Any]):
    """What members can call, each handed to `desk`."""

    def __init__(self, client: Any, desk: Interactions, reader: Reader):
        super().__init__(client)
        self._desk = desk
        _add_questions(self, desk, reader)
        _add_rights(self, desk)
        _add_admin(self, desk)
        add_rounds(self, desk, client.rounds)

    async def interaction_check(self, at: At) -> bool:
        """Each only once."""
        return self._desk.is_new(at)

    async def on_error(self, at: At, error: app_commands.AppCommandError) -> None:
        """What nobody has foreseen."""
        log.unforeseen("command failed", error)
        with may_be_too_late():
            await send(at, say.FAILED)


def _add_questions(tree: Commands, desk: Interactions, reader: Reader) -> None:
    """What is answered."""
    service = desk.service

    async def answer(at: At, event: Event, attached: Sequence[discord.Attachment] = ()) -> None:
        async def claim(event: Event, outlet: Outlet) -> Rest:
            return await service.claim(await reader.completed(event, at.channel, attached), outlet)

        await desk.begin(at, event, claim)

    @tree.command(description="Ask me something")
    @app_commands.describe(question="What you want to know", file="A text file to read with it")
    async def ask(at: At, question: Text, file: discord.Attachment | None = None) -> None:
        await answer(at, interaction_event(at, "slash", question), [file] if file else [])

    @tree.command(description="Talk with me in a thread of its own")
    @app_commands.describe(topic="What it is about; I answer it as your first question")
    @app_commands.guild_only()
    async def chat(at: At, topic: app_commands.Range[str, 1, 2000] | None = None) -> None:
        asked = clean(topic or "")
        title = asked or say.chat_with(clean(at.user.display_name))
        event = interaction_event(at, "slash", title)

        async def opened() -> str:
            if topic and not asked:
                return say.NO_TOPIC
            await service.check(event)
            thread = await open_thread(at, title)
            if topic:
                first = replace(
                    event,
                    channel_id=thread.id,
                    home_id=event.channel_id,
                    continues=True,
                    token=None,
                )
                if work := await service.claim(first, MessageOutlet(at.client, thread.id)):
                    desk.spawn(work)
            return say.here(thread.mention)

        if not service.ignores(at.user.id):
            await desk.tell(at, opened())

    @tree.command(description="Answer my last question here once more")
    async def retry(at: At) -> None:
        await desk.begin(at, interaction_event(at, "retry"))

    @tree.command(description="Two answers to one question: you say which is better")
    @app_commands.describe(question="What you want to know")
    async def compare(at: At, question: Text) -> None:
        await answer(at, interaction_event(at, "compare", question))

    @tree.context_menu(name="Ask about this")
    async def ask_about_this(at: At, message: discord.Message) -> None:
        async def submitted(at: At, question: str) -> None:
            async def about(event: Event, outlet: Outlet) -> Rest:
                if found := await reader.quoted(message):
                    return await service.claim(replace(event, quoted=[found]), outlet)
                return service.writer.whisper(outlet, say.NO_TEXT)

            event = replace(interaction_event(at, "context", question), answers_to=message.id)
            await desk.begin(at, event, about)

        if reader.may_have_text(message):
            field: discord.ui.TextInput[Any] = discord.ui.TextInput(
                label="What do you want to know?", default="What does this mean?", max_length=1000
            )
            with may_be_too_late():
                await at.response.send_modal(Form("Ask about this", field, submitted))
        else:
            await desk.tell(at, say.NO_TEXT)

    @tree.command(description="Stop the answer you are getting here")
    async def stop(at: At) -> None:
        await desk.tell(
            at,
            service.stop(at.user.id, answer_id=None, channel_id=at.channel_id or 0, admin=False),
        )


def _add_rights(tree: Commands, desk: Interactions) -> None:
    """What everybody may know and decide."""

    @tree.command(name="help", description="How to talk to me")
    async def help_(at: At) -> None:
        await desk.tell(at, say.HELP)

    @tree.command(description="What people here think of my answers")
    async def stats(at: At) -> None:
        await desk.tell(at, desk.feedback.stats(at.guild_id))

    @tree.command(description="What I keep of you, and for how long")
    @app_commands.describe(consent="What I may keep and use; leave it out to see what you chose")
    async def privacy(at: At, consent: Literal["none", "chat", "train"] | None = None) -> None:
        await desk.tell(at, desk.feedback.privacy(at.user.id, consent))

    @tree.command(name="forget-me", description="Delete everything I keep about you")
    async def forget_me(at: At) -> None:
        choices = [Action("forget", str(uuid4())), Action("keep", str(uuid4()))]
        await desk.tell(at, (say.FORGET_ASK, choices))


def _add_admin(tree: Commands, desk: Interactions) -> None:
    """What the admins of a guild decide."""

    guilds = desk.service.guilds

    @tree.command(description="How I should behave in this server (for admins)")
    @app_commands.describe(
        text="Instructions that I always see; leave it out to read the present ones",
        channel="For this channel or thread only, in place of the server's",
        reset="Forget the text",
    )
    @for_admins
    async def system(
        at: At,
        text: app_commands.Range[str, 1, 2000] | None = None,
        channel: AnyPlace | None = None,
        reset: bool = False,
    ) -> None:
        systems, guild_id = desk.service.systems, at.guild_id or 0
        channel_id = channel.id if channel else None
        if text:
            await desk.tell(at, systems.put(guild_id, channel_id, text))
        elif reset:
            await desk.tell(at, systems.reset(guild_id, channel_id))
        else:
            await desk.tell(at, systems.show(guild_id, channel_id))

    @tree.command(description="What was reported (🚩), the newest first (for admins)")
    @for_admins
    async def reports(at: At) -> None:
        await desk.tell(at, desk.reports.page(at.guild_id or 0))

    @tree.command(description="Where I answer, and whether I ask for opinions (for admins)")
    @app_commands.describe(
        channel="Answer in this channel; the first one ends my answering everywhere",
        remove="Take this channel off the list; without any on it I answer everywhere",
        everywhere="Answer in every channel again",
        feedback="Show 👍 👎 under my answers",
        reports="Tell new reports (🚩) in this channel; the same one again ends that",
    )
    @for_admins
    async def settings(
        at: At,
        channel: AnyPlace | None = None,
        remove: AnyPlace | None = None,
        everywhere: bool | None = None,
        feedback: bool | None = None,
        reports: AnyPlace | None = None,
    ) -> None:
        async def changed() -> str:
            before = await guilds.rules(at.guild_id)
            changes: dict[str, Any] = {
                "channels": [] if everywhere else None,
                "add_channel": channel and channel.id,
                "remove_channel": remove and remove.id,
                "feedback": feedback,
            }
            changes = {name: value for name, value in changes.items() if value is not None}
            if reports:  # the same one again ends that
                is_same = reports.id == before.reports_channel
                changes["reports_channel"] = None if is_same else reports.id
            rules = await guilds.change(at.guild_id or 0, **changes)
            channels = [f"<#{id}>" for id in rules.channels]
            told = say.rules(channels, rules.feedback, emptied=rules.channels_deleted)
            if reports or rules.reports_channel:
                place = rules.reports_channel and f"<#{rules.reports_channel}>"
                told = f"{told} {say.reports_go(place or None)}"
            if remove and remove.id not in before.channels:
                return f"{say.not_listed(remove.mention)} {told}"
            return told

        await desk.tell(at, changed())
