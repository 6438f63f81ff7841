"""Pairs of answers by real llama.cpp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from guildgpt.engines.engine import SamplingParams
from guildgpt.model.locate import locate
from guildgpt.talk.fleet import Fleet, OpenedModel, open_model
from guildgpt.talk.pairs import write_pair

SHORT = SamplingParams(temperature=0.9, max_tokens=12)


@pytest.fixture
async def fleet(starter: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two versions of the starter."""
    other = tmp_path / "other.gguf"
    other.write_bytes(starter.read_bytes().replace(b"HuggingFaceTB", b"Another guild", 1))
    made = Fleet()
    for path in (starter, other):
        found = locate(str(path))

        def open_it(found=found) -> OpenedModel:  # type: ignore[no-untyped-def]
            return open_model(found, context=256, slots=2)

        await made.open(open_it)
    yield made
    await made.close()


async def test_one_answer_by_each_version_on_either_side(fleet: Fleet) -> None:
    versions = [kept.version for kept in fleet._models]
    firsts = set()
    for seed in range(8):
        pair = await write_pair(
            fleet, "Name an animal.", (versions[0], versions[1]), SHORT, Random(seed)
        )
        assert pair is not None
        assert {one.version_id for one in pair} == set(versions)
        assert pair[0].text != pair[1].text
        firsts.add(pair[0].version_id)
    assert firsts == set(versions)


async def test_two_answers_by_who_serves_differ(fleet: Fleet) -> None:
    pair = await write_pair(
        fleet, "Name an animal.", (None, None), replace(SHORT, temperature=0), Random(0)
    )
    assert pair is not None
    first, second = pair
    assert first.version_id == second.version_id
    assert first.text != second.text
    assert first.sampling is not None
    assert second.sampling is not None
    assert first.sampling["seed"] != second.sampling["seed"]


async def test_the_same_seed_writes_the_same_pair(fleet: Fleet) -> None:
    one = await write_pair(fleet, "Name a colour.", (None, None), SHORT, Random(3))
    assert one == await write_pair(fleet, "Name a colour.", (None, None), SHORT, Random(3))


async def test_no_pair_of_equal_answers(fleet: Fleet) -> None:
    only_one_token = replace(SHORT, top_k=1, temperature=1.0)
    assert await write_pair(fleet, "Say hi", (None, None), only_one_token, Random(0)) is None
