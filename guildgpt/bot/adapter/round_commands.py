"""The commands of the rounds: admins switch them on, members offer prompts."""

from __future__ import annotations

from typing import Any, Literal

import discord
from discord import app_commands

from guildgpt.bot.adapter.interactions import At, Interactions, may_be_too_late
from guildgpt.bot.adapter.options import Readable, for_admins
from guildgpt.bot.answers.offers import LONGEST, Offers
from guildgpt.bot.answers.round_keeper import RoundKeeper
from guildgpt.bot.text import rounds as say
from guildgpt.text.visible import clean

HOURS = 24  # that a round is open which is wanted now
FORM_SECONDS = 14 * 60.0  # that a form may stay open


class PromptForm(discord.ui.Modal):
    """A prompt, given under the rule that stands beside it and with two boxes ticked."""

    def __init__(self, desk: Interactions, offers: Offers):
        super().__init__(title=say.PROMPT_TITLE, timeout=FORM_SECONDS)
        self._desk, self._offers = desk, offers
        self._text: discord.ui.TextInput[Any] = discord.ui.TextInput(
            custom_id="prompt", style=discord.TextStyle.paragraph, max_length=LONGEST
        )
        self._ticks: discord.ui.CheckboxGroup[Any] = discord.ui.CheckboxGroup(
            custom_id="rights",
            options=[
                discord.CheckboxGroupOption(label=label, value=value)
                for value, label in say.PROMPT_TICKS.items()
            ],
            min_values=len(say.PROMPT_TICKS),
            max_values=len(say.PROMPT_TICKS),
        )
        self.add_item(discord.ui.Label(text=say.PROMPT_FIELD, component=self._text))
        self.add_item(discord.ui.TextDisplay(say.PROMPT_RULES))
        self.add_item(discord.ui.Label(text=say.PROMPT_TICK_BOTH, component=self._ticks))

    async def interaction_check(self, interaction: At) -> bool:
        """Each only once."""
        return self._desk.is_new(interaction)

    async def on_submit(self, interaction: At) -> None:
        """See the class."""
        offering = self._offers.offer(
            interaction.user.id, clean(self._text.value), self._ticks.values
        )
        await self._desk.tell(interaction, offering)


def add_rounds(
    tree: app_commands.CommandTree[Any], desk: Interactions, keeper: RoundKeeper
) -> None:
    """`/rounds` and `/prompt`."""

    offers = Offers(desk.service.store, desk.service.moderator)

    @tree.command(description="Give me a prompt for the rounds, in which answers are voted on")
    async def prompt(at: At) -> None:
        if not desk.service.ignores(at.user.id):
            with may_be_too_late():
                await at.response.send_modal(PromptForm(desk, offers))

    @tree.command(description="Two blind answers to vote on, in a channel (for admins)")
    @app_commands.describe(
        when="When rounds open; leave it out to see how they stand",
        channel="Where; else here",
        hours="How long one that opens now is open (24)",
    )
    @for_admins
    async def rounds(
        at: At,
        when: Literal["now", "daily", "weekly", "off", "status"] = "status",
        channel: Readable | None = None,
        hours: app_commands.Range[int, 1, 168] = HOURS,
    ) -> None:
        guild_id = at.guild_id or 0
        where = channel.id if channel else at.channel_id or 0
        mention = f"<#{where}>"
        if when == "status":
            await desk.tell(at, keeper.status(guild_id))
        elif when == "off":
            await desk.tell(at, keeper.off(guild_id, where, mention))
        elif when == "now":
            await desk.tell(at, keeper.now_in(guild_id, where, mention, hours))
        else:
            await desk.tell(at, keeper.every(guild_id, where, mention, when))
