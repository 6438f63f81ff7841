"""A prompt of the pool with different answers to it: what a round begins with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from guildgpt.errors import EngineError, GuildError
from guildgpt.feedback.records import Candidate, Drawn, PoolPrompt, Purpose
from guildgpt.feedback.store import Store

ENGINE_TRIES = 3  # prompts one after the other on which an engine may die
TRIES = 8  # prompts one after the other to which both may give the same answer

Fit = Callable[[PoolPrompt, Sequence[Candidate]], bool]
Write = Callable[[PoolPrompt], Awaitable[Sequence[Candidate] | None]]


class NoPrompt(GuildError):
    """The pool has none for what is asked of it."""

    def __init__(self, purpose: Purpose):
        what = "decides on a candidate" if purpose == "decide" else "is for learning"
        super().__init__(
            f"the pool has no prompt that {what}",
            remedy="`guildgpt feedback prompts add starter` brings 30 of each kind, "
            "`guildgpt feedback prompts add oasst1 --limit 1000` more.",
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a round shows, and how it was chosen."""

    prompt: PoolPrompt
    answers: Sequence[Candidate]
    drawn: Drawn = "random"


@dataclass
class AskedPrompts:
    """Has prompts answered by `write`, which gives None where there is nothing to choose between.

    `troubles` are what kept answers from being written. With `proposals`, a share of the rounds to
    learn from takes a pair that waits in the store because a reward model is unsure of it, if it is
    `fit` to be shown; rounds that decide never do.
    """

    store: Store
    write: Write
    chance: Random
    troubles: list[EngineError] = field(default_factory=list)
    proposals: bool = False
    fit: Fit = lambda prompt, answers: True

    async def next(self, purpose: Purpose, decision_id: str | None = None) -> Asked:
        """One of the prompts that were asked least, and its answers; or a proposal. Raises
        NoPrompt, what `write` raises once it has failed several times, and GuildError where all
        answers are the same."""
        if self.proposals and purpose == "train" and decision_id is None:
            proposed = await proposed_pair(self.store, self.chance, self.fit)
            if proposed is not None:
                return proposed
        failed = 0
        for _ in range(TRIES):
            prompt = await self.store.prompts.next(purpose, self.chance, decision_id=decision_id)
            if prompt is None:
                raise NoPrompt(purpose)
            try:
                answers = await self.write(prompt)
            except EngineError as error:
                failed += 1
                if failed == ENGINE_TRIES:
                    raise
                self.troubles.append(error)
                continue
            if answers is not None:
                return Asked(prompt, answers)
        raise GuildError(
            f"both answers were the same to {TRIES} prompts",
            remedy="Are they different models? A higher --temperature makes answers differ.",
        )


async def proposed_pair(store: Store, chance: Random, fit: Fit) -> Asked | None:
    """A pair that waits because a reward model is unsure of it, for a share of the calls; what is
    not fit to be shown is passed over for ever."""
    proposal = await store.proposals.drawn(chance)
    while proposal is not None and not fit(*proposal):
        proposal = await store.proposals.take()
    return Asked(*proposal, "unsure") if proposal else None
