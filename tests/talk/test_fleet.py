"""The fleet on real llama.cpp: versions side by side, swapped, dying, and none left behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from engines.processes import children

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.errors import EngineDied, EngineError, ModelError
from guildgpt.model.locate import locate
from guildgpt.talk.fleet import Fleet, OpenedModel, open_model

PATIENCE = 240.0
SHORT = SamplingParams(temperature=0, max_tokens=4)
LONG = SamplingParams(temperature=0, max_tokens=150)
Open = Callable[[], OpenedModel]


def opening(gguf: Path) -> Open:
    """How to open a file."""
    found = locate(str(gguf))
    return lambda: open_model(found, context=256)


@pytest.fixture
def old(starter: Path, tmp_path: Path) -> Path:
    """The starter's own file, under a name that can be taken away."""
    path = tmp_path / "old.gguf"
    path.symlink_to(starter)
    return path


@pytest.fixture
def new(starter: Path, tmp_path: Path) -> Path:
    """The same model with another word in its metadata, so another version."""
    path = tmp_path / "new.gguf"
    path.write_bytes(starter.read_bytes().replace(b"HuggingFaceTB", b"Another guild", 1))
    return path


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """An empty fleet; at its end every process that it began is gone."""
    before = children()
    made = Fleet()
    yield made
    await made.close()
    assert children() == before


async def name(model: OpenedModel) -> str:
    """Which version answers; one short answer shows that it does."""
    ids = model.prompt([Message("user", "Say hi")])
    assert (await complete(model.engine, ids, SHORT)).ids
    return model.version.name


class Story:
    """A long answer, and what is known of it while it is being written. It is not over before it
    `may_end`, however fast it is written."""

    def __init__(self, fleet: Fleet, version: str | None = None, *, held: bool = False):
        self.text = ""
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        if not held:
            self.may_end.set()
        self.task = asyncio.create_task(fleet.ask(self._tell, version=version))

    async def _tell(self, model: OpenedModel) -> tuple[str, int]:
        def heard(text: str) -> None:
            self.text = text
            self.begun.set()

        ids = model.prompt([Message("user", "Write a very long story about a lighthouse.")])
        told = await complete(model.engine, ids, LONG, heard)
        await self.may_end.wait()
        return model.version.name, len(told.ids)


def process(before: set[psutil.Process]) -> psutil.Process:
    """The one that came since."""
    [one] = [child for child in children() - before if child.status() != psutil.STATUS_ZOMBIE]
    return one


async def test_two_versions_are_open_at_once(fleet: Fleet, old: Path, new: Path) -> None:
    first = await fleet.open(opening(old))
    second = await fleet.open(opening(new))
    assert first.sha256 != second.sha256
    assert await fleet.ask(name) == "new"  # the last opened answers
    asked = [fleet.ask(name, version=version.id) for version in (first, second, first)]
    assert await asyncio.gather(*asked) == ["old", "new", "old"]
    with pytest.raises(ModelError, match="old@12345678 is not open"):
        await fleet.ask(name, version="old@12345678")
    await fleet.look()
    assert fleet.well


async def test_a_swap_drops_no_stream_and_closes_the_old_one_after_its_last(
    fleet: Fleet, old: Path, new: Path
) -> None:
    before = children()
    first = await fleet.open(opening(old))
    [engine] = children() - before
    stories = [Story(fleet, held=True), Story(fleet, first.id, held=True)]
    await asyncio.wait_for(stories[0].begun.wait(), PATIENCE)
    await fleet.open(opening(new))
    await fleet.retire(first.id)
    assert await fleet.ask(name) == "new"
    with pytest.raises(ModelError, match="is not open"):
        await fleet.ask(name, version=first.id)
    assert engine.is_running()  # for its streams
    for story in stories:
        assert not story.task.done()
        story.may_end.set()
    for story in stories:
        told_by, tokens = await asyncio.wait_for(story.task, PATIENCE)
        assert (told_by, tokens) == ("old", LONG.max_tokens)
    assert not engine.is_running()
    assert await fleet.ask(name) == "new"


async def test_who_is_idle_is_closed_at_once(fleet: Fleet, old: Path) -> None:
    before = children()
    first = await fleet.open(opening(old))
    await fleet.retire(first.id)
    assert children() == before
    with pytest.raises(ModelError, match="a model is not open"):
        await fleet.ask(name)


async def test_a_stream_that_is_given_up_is_the_last_one_too(fleet: Fleet, old: Path) -> None:
    before = children()
    first = await fleet.open(opening(old))
    story = Story(fleet)
    await asyncio.wait_for(story.begun.wait(), PATIENCE)
    await fleet.retire(first.id)
    story.task.cancel()
    await asyncio.wait({story.task})
    assert children() == before


@pytest.mark.parametrize("retired", [False, True])
async def test_an_engine_that_dies_is_opened_again(
    fleet: Fleet, old: Path, new: Path, retired: bool
) -> None:
    """Under its streams, which begin anew, and for the version that was asked for."""
    before = children()
    first = await fleet.open(opening(old))
    dead = process(before)
    story = Story(fleet, first.id, held=True)
    await asyncio.wait_for(story.begun.wait(), PATIENCE)
    if retired:
        await fleet.open(opening(new))
        await fleet.retire(first.id)
    dead.send_signal(signal.SIGKILL)
    story.may_end.set()
    assert await asyncio.wait_for(story.task, PATIENCE) == ("old", LONG.max_tokens)
    assert await fleet.ask(name) == ("new" if retired else "old")
    assert fleet.well
    assert len(children() - before) == 1


async def test_many_who_wait_open_one_engine(fleet: Fleet, old: Path) -> None:
    before = children()
    await fleet.open(opening(old))
    process(before).send_signal(signal.SIGKILL)
    assert await asyncio.gather(*(fleet.ask(name) for _ in range(4))) == ["old"] * 4
    assert len(children() - before) == 1


async def test_a_file_that_was_replaced_is_another_version(
    fleet: Fleet, old: Path, new: Path
) -> None:
    before = children()
    first = await fleet.open(opening(old))
    new.replace(old)
    process(before).send_signal(signal.SIGKILL)

    async def version(model: OpenedModel) -> str:
        await name(model)
        return model.version.id

    second = await fleet.ask(version, version=first.id)  # whoever asked is answered
    assert second != first.id
    assert await fleet.ask(version, version=second) == second


async def test_nothing_is_left_of_what_does_not_open(fleet: Fleet, old: Path, new: Path) -> None:
    before = children()

    async def refuse(model: OpenedModel, death: EngineDied | None) -> None:
        raise EngineError("not this one")

    strict = Fleet(opened=refuse)
    with pytest.raises(EngineError, match="not this one"):
        await strict.open(opening(old))
    open_it = opening(new)
    new.write_bytes(b"GGUF, but no model")
    with pytest.raises(EngineError):
        await fleet.open(open_it)
    with pytest.raises(ModelError, match="is not open"):
        await fleet.ask(name)
    assert children() == before


async def test_nothing_is_left_of_an_opening_that_is_given_up(fleet: Fleet, old: Path) -> None:
    before = children()
    opened = asyncio.create_task(fleet.open(opening(old)))
    while children() == before:
        await asyncio.sleep(0.01)
    opened.cancel()
    await asyncio.wait({opened})
    assert opened.cancelled()
    assert children() == before


async def test_closing_ends_what_is_open_and_what_is_opening(
    fleet: Fleet, old: Path, new: Path
) -> None:
    before = children()
    first = await fleet.open(opening(old))
    await fleet.open(opening(new))
    await fleet.retire(first.id)
    await fleet.open(opening(old))
    story = Story(fleet)
    await asyncio.wait_for(story.begun.wait(), PATIENCE)
    for one in children() - before:
        one.send_signal(signal.SIGKILL)
    waiting = asyncio.create_task(fleet.ask(name))
    await asyncio.sleep(0)  # it is found dead, and opened
    await fleet.close()
    told, asked = await asyncio.gather(story.task, waiting, return_exceptions=True)
    assert isinstance(asked, EngineDied | ModelError)
    whole = told == ("old", LONG.max_tokens)  # all of it was on its way before the end
    assert whole or isinstance(told, EngineDied | ModelError)
    assert children() == before


async def test_health_tells_of_each(fleet: Fleet, old: Path, new: Path) -> None:
    before = children()
    await fleet.open(opening(old))
    dead = process(before)
    await fleet.open(opening(new))
    away = old.rename(old.with_suffix(".away"))
    dead.send_signal(signal.SIGKILL)
    with pytest.raises(EngineError):
        await fleet.look()
    assert not fleet.well
    assert await fleet.ask(name) == "new"  # which is well
    assert not fleet.well
    away.rename(old)
    await fleet.look()
    assert fleet.well
