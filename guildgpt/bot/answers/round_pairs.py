"""What a round shows: a prompt of the pool and two different answers that may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from guildgpt.bot.answers.service import Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import rounds as say
from guildgpt.bot.text.shown import NOTHING_YET, answer_text
from guildgpt.errors import EngineDied, EngineError, ModelError
from guildgpt.feedback.records import Candidate, Decision, PoolPrompt
from guildgpt.feedback.voting.pool import fill_if_empty
from guildgpt.talk.asked_prompts import Asked, proposed_pair
from guildgpt.talk.pairs import write_pair

log = EventLog(__name__)
PROMPTS = 4  # that are tried for a round before the model has a rest


class NoRound(Exception):
    """There is no round now, and why; one may be tried later."""

    def __init__(self, trouble: say.Trouble):
        super().__init__(trouble)
        self.trouble = trouble


@dataclass
class Pairs:
    """Has them written. Prompts that are `unfit` gave nothing to choose between."""

    service: Service
    unfit: set[str] = field(default_factory=set)

    async def next(
        self,
        guild_id: int,
        decision: Decision | None,
        versions: tuple[str | None, str | None],
    ) -> Asked:
        """A prompt with two answers that may be shown; for a share of the rounds to learn from, a
        pair that was proposed. Raises `NoRound` and `StoreError`."""
        store = self.service.store
        if decision is None:
            proposed = await proposed_pair(store, self.service.chance, self._fit)
            if proposed is not None:
                return proposed
        for _ in range(PROMPTS):
            prompt = await store.prompts.next(
                "decide" if decision else "train",
                self.service.chance,
                decision_id=decision.id if decision else None,
                without=self.unfit,
            )
            if prompt is None and await fill_if_empty(store):
                continue
            if prompt is None:
                trouble: say.Trouble = "unfit" if self.unfit else "empty"
                self.unfit.clear()  # another model may have more to say to them
                raise NoRound(trouble)
            pair = await self._pair(guild_id, prompt, versions)
            if pair and all(self._may_be_shown(one.text) for one in pair):
                return Asked(prompt, pair)
            log("round_without_choice", guild=guild_id)
            self.unfit.add(prompt.id)
        raise NoRound("unfit")

    async def _pair(
        self, guild_id: int, prompt: PoolPrompt, versions: tuple[str | None, str | None]
    ) -> tuple[Candidate, Candidate] | None:
        service = self.service
        if service.moderator.before(prompt.text):
            return None
        try:
            async with service.queue.turn(guild=guild_id, user="rounds", admitted=True):
                return await write_pair(
                    service.fleet, prompt.text, versions, service.sampling, service.chance
                )
        except (EngineDied, ModelError) as error:
            log("round_not_written", error=error, guild=guild_id)
            is_known = any(versions) and not isinstance(error, EngineDied)
            raise NoRound("version" if is_known else "engine") from error
        except EngineError as error:  # a prompt that is too long, say
            log("round_not_written", error=error, guild=guild_id)
            return None

    def _fit(self, prompt: PoolPrompt, answers: Sequence[Candidate]) -> bool:
        if self.service.moderator.before(prompt.text):
            return False
        return all(self._may_be_shown(one.text) for one in answers)

    def _may_be_shown(self, text: str) -> bool:
        return self.service.moderator.after(text) is None and answer_text(text) != NOTHING_YET
