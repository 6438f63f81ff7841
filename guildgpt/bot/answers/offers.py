"""Prompts that members offer for the rounds, in the form made for that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from guildgpt.bot.answers.ending import Refused
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import rounds as say
from guildgpt.bot.text.sentences import CONSENT_NONE
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.talk.moderation import Moderator

log = EventLog(__name__)
LONGEST = 300  # characters, as of every prompt of the pool
WAITING = 10  # offers of one member that nobody has looked at, at most
LICENCE = "CC0-1.0"


@dataclass
class Offers:
    """Takes them into the pool, where they wait for the operator."""

    store: Store
    moderator: Moderator

    async def offer(self, user_id: int, text: str, ticked: Collection[str]) -> str:
        """Keep a prompt; the sentence to tell. Raises `Refused` where moderation is against it, and
        `StoreError`."""
        text = text.strip()
        if not text:
            return say.NO_PROMPT
        if not say.PROMPT_TICKS.keys() <= set(ticked):
            return say.NOT_TICKED
        if decision := self.moderator.before(text):
            raise Refused(decision.say, f"moderation-{decision.rule}")
        member = await self.store.members.of_user(user_id)
        if member.consent == "none":
            return CONSENT_NONE
        offered = await self.store.prompts.all("offered")
        if sum(one.member_id == member.id for one in offered) >= WAITING:
            return say.TOO_MANY_OFFERED
        made = await self.store.prompts.submit(member.id, NewPrompt(text, "member", LICENCE))
        if made is None:
            return say.OFFERED_BEFORE
        log("prompt_offered")
        return say.OFFERED
