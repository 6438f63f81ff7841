"""Held-out prompts with constraints, answered by a model, and which constraints it kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from guildgpt.bases.base import Base
from guildgpt.chat import Message
from guildgpt.chat.repetition import loops
from guildgpt.data.constrained import ConstrainedPrompt, held_out_prompts
from guildgpt.evaluate.answers import Answers, write
from guildgpt.evaluate.kept import ConstrainedAnswer
from guildgpt.model.config import Dtype
from guildgpt.network.sampler import Sampled, Sampling
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World

Turns = tuple[Message, ...]


def constrained_answers(
    base: Base,
    world: World,
    count: int,
    max_tokens: int,
    dtype: Dtype = "auto",
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, list[ConstrainedAnswer]]:
    """A model's greedy answers of at most `max_tokens` to the first `count` prompts of each set.

    They are written by a copy in the dtype of the computation; the model stays as it is.
    """
    wanted, chat = world.dtype(dtype), base.chat
    trunk = trunk_for(deepcopy(base.model).to(world.device, wanted).eval(), wanted)

    def written(turns: Sequence[Turns]) -> Answers:
        return write(trunk, chat, turns, Sampling(max_tokens, temperature=0), seed=0)

    return judged_answers(written, count, on_progress)


def judged_answers(
    write: Callable[[Sequence[Turns]], Answers],
    count: int,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, list[ConstrainedAnswer]]:
    """What `write` answers to the first `count` prompts of each set, and what was kept."""
    found = {}
    for name, prompts in held_out_prompts(count).items():
        on_progress(f"answering {len(prompts):,} prompts with constraints of {name}")
        written = write([(Message("user", one.prompt),) for one in prompts])
        found[name] = [
            _judged(*one) for one in zip(prompts, written.sampled, written.texts, strict=True)
        ]
    return found


def _judged(asked: ConstrainedPrompt, sampled: Sampled, text: str) -> ConstrainedAnswer:
    return ConstrainedAnswer(
        prompt=asked.prompt,
        answer=text,
        kinds=tuple(one.kind for one in asked.constraints),
        kept=tuple(one.kept(text) for one in asked.constraints),
        ended=sampled.ended,
        looped=loops(sampled.answer),
        tokens=len(sampled.answer),
    )
