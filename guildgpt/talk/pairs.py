"""Different answers to one prompt, for people to say which is better not knowing whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from random import Random

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.feedback.records import Candidate
from guildgpt.talk.fleet import Fleet, OpenedModel

TRIES = 3
HOTTER = 1.2  # what the temperature is raised by where both said the same
COOLEST = 0.5  # at which one version does not say the same twice


async def write_pair(
    fleet: Fleet,
    text: str,
    versions: tuple[str | None, str | None],
    params: SamplingParams,
    chance: Random,
    *,
    system: str = "",
) -> tuple[Candidate, Candidate] | None:
    """Answers to a prompt by two versions, or two by one, in the order in which they are shown.

    None stands for the version that serves. The order is drawn. Where both said the same, they are
    asked again, more warmly; None if they said the same to the end. Raises what `Fleet.ask` raises.
    """
    written = await write_answers(fleet, text, versions, params, chance, system=system)
    return (written[0], written[1]) if written else None


async def write_answers(
    fleet: Fleet,
    text: str,
    versions: Sequence[str | None],
    params: SamplingParams,
    chance: Random,
    *,
    system: str = "",
) -> list[Candidate] | None:
    """The same with an answer for each of the versions, no two of which say the same."""
    if len(set(versions)) < len(versions):
        params = replace(params, temperature=max(params.temperature, COOLEST))
    for _ in range(TRIES):
        seeds = [chance.getrandbits(31) for _ in versions]
        written = await asyncio.gather(
            *(
                _write(fleet, text, version, replace(params, seed=seed), system)
                for version, seed in zip(versions, seeds, strict=True)
            )
        )
        said = {one.text.strip() for one in written}
        if len(said) == len(versions) and all(said):
            chance.shuffle(written)
            return written
        params = replace(params, temperature=max(params.temperature, COOLEST) * HOTTER)
    return None


async def _write(
    fleet: Fleet, text: str, version: str | None, params: SamplingParams, system: str
) -> Candidate:
    messages = [Message("system", system)] * bool(system) + [Message("user", text)]

    async def work(model: OpenedModel) -> Candidate:
        ids = await asyncio.to_thread(model.prompt, messages)
        said = await complete(model.engine, ids, params)
        return Candidate(said.text.rstrip(), model.version.id, asdict(params), said.stop)

    return await fleet.ask(work, version=version)
