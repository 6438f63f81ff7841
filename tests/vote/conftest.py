"""A store of the test's own, and models that answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from letters import Letters

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.errors import EngineDied
from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.pool import starter_pool
from guildgpt.model.version import Version
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.vote.session import Session

KEY = b"the key of the tests, 32 bytes. "


class Teller:
    """An engine that says its name and its seed; or always the same; or dies some times."""

    def __init__(self, name: str):
        self.name = name
        self.tokenizer = Letters()
        self.context = 4000
        self.answers = 0
        self.fixed: str | None = None
        self.deaths = 0
        self.thinking: asyncio.Event | None = None  # it is, and goes on for ever

    async def generate(self, ids, params):
        if self.deaths:
            self.deaths -= 1
            raise EngineDied(f"{self.name} died")
        if self.thinking:
            self.thinking.set()
            await asyncio.Event().wait()
        self.answers += 1
        yield Chunk((1,), self.fixed or f"{self.name} says {params.seed}")
        yield Chunk((), "", "eos")

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def version(name: str) -> Version:
    return Version(f"{name}@{8 * name[0]}", name, f"/nowhere/{name}.gguf", 64 * name[0])


OLD, NEW = version("a-old"), version("b-new")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with the starter pack's prompts and two versions."""
    async with await Store.open(f"sqlite:///{tmp_path / 'feedback.db'}", key=KEY) as opened:
        await opened.prompts.add(starter_pool())
        for one in (OLD, NEW):
            await opened.versions.register(one)
        yield opened


@pytest.fixture
async def canary(store: Store) -> Decision:
    """The new one is tried against the old one."""
    decision = await store.decisions.begin(candidate_id=NEW.id, baseline_id=OLD.id)
    return await store.decisions.change(decision.id, state="canary")


@pytest.fixture
def engines() -> dict[str, Teller]:
    return {one.id: Teller(one.name) for one in (OLD, NEW)}


@pytest.fixture
async def fleet(engines: dict[str, Teller]) -> AsyncIterator[Fleet]:
    made = Fleet()
    for one in (OLD, NEW):

        def open_it(one: Version = one) -> OpenedModel:
            return OpenedModel(engines[one.id], CHATML, lambda: one)

        await made.open(open_it)
    yield made
    await made.close()


async def begin(
    store: Store, fleet: Fleet, *, voter: str = "anna", decision: Decision | None = None
) -> Session:
    """A session in which the old one meets the new one."""
    member = await store.members.of_account("terminal", voter)
    params = SamplingParams(max_tokens=8)
    return Session(store, fleet, (OLD.id, NEW.id), decision, member.id, params, Random(0))
