"""What the tests of votes have in common: models that never say the same, and a candidate."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from uuid import uuid4

import httpx

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.feedback.records import Decision
from guildgpt.model.version import Version
from guildgpt.talk.fleet import OpenedModel

from ...conftest import VERSION
from ..conftest import Site
from ..scripted import Scripted

NEW = Version("night@3f2c91ab", "night", "/nowhere/night.gguf", "3f2c91ab")
_NUMBERS = itertools.count(1)
SENTENCES = (
    "**Bread rises** because yeast eats sugar and breathes out gas.",
    "The gas is caught in the dough, which a long kneading has made *elastic*.",
    "Warmth helps: at 25 °C an hour is enough, in the fridge it takes a night.",
)


class Talker(Scripted):
    """Says something else each time."""

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        number = next(_NUMBERS)
        said = " ".join(SENTENCES[: 1 + number % 3])
        self.says = [f"{said}\n\nThat is answer {number}."]
        async for chunk in super().generate(ids, params):
            yield chunk

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def try_out(site: Site) -> Decision:
    """Open a second version beside the starter, and try it."""
    model = Talker(site.engine.tokenizer)
    site.run(site.asking.fleet.open(lambda: OpenedModel(model, CHATML, lambda: NEW)))

    async def work() -> Decision:
        store = site.store
        for one in (VERSION, NEW):
            await store.versions.register(one)
        await store.releases.add({VERSION.id: 1.0}, "serve", "the first one")
        decision = await store.decisions.begin(candidate_id=NEW.id, baseline_id=VERSION.id)
        await store.releases.add({VERSION.id: 0.8, NEW.id: 0.2}, "canary", "")
        return await store.decisions.change(decision.id, state="canary")

    return site.run(work())


def next_round(client: httpx.Client, **how: object) -> dict:
    """A round, once it is written."""
    for _ in range(100):
        reply = client.get("/api/rounds/next", params=how)
        reply.raise_for_status()
        if found := reply.json()["round"]:
            return found
    raise AssertionError("no round came")


def ballot(shown: dict, verdict: str = "left", **more: object) -> dict:
    """A vote on what was shown."""
    given = {"id": uuid4().hex, "comparison": shown["comparison"], "ticket": shown["ticket"]}
    return given | {"verdict": verdict} | more
