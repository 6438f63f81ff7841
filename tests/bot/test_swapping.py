"""The bot follows releases of real models: swapped, deleted, cut off, killed meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)
from engines.processes import children
from ports import free_port

from guildgpt.bot.operating import run
from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.feedback.versions.registering import register

from .house import House
from .process import Process
from .released import logged, quick, release, trouble, writer  # noqa: F401 (a fixture)
from .test_health import until_status

NEVER = 1e6  # seconds


@pytest.fixture
def gguf(starter: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes the starter's own model with another word in its metadata, so another version."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.gguf"
        word = name[:13].ljust(13).encode()
        path.write_bytes(starter.read_bytes().replace(b"HuggingFaceTB", word, 1))
        return path

    return make


async def registered(house: House, *paths: Path) -> list[str]:
    """Put models into the store; their ids."""
    async with house.store() as store:
        return [(await register(store, str(path))).version.id for path in paths]


SMALL = {"context": 512, "slots": 2, "questions_per_user": 1000}


@pytest.mark.slow
async def test_real_engines_are_swapped_under_running_answers(
    house: House,
    tmp_path: Path,
    gguf: Callable[[str], Path],
    file_tokenizer: FileTokenizer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The new one is a model folder, and opened as one."""
    monkeypatch.setattr(run, "LOOK_SECONDS", NEVER)
    before = children()
    folder = tmp_path / "night" / "model"
    folder.mkdir(parents=True)
    CHATML.save(folder)
    (folder / "tokenizer.json").symlink_to(file_tokenizer.path)
    gguf("new").rename(folder / "model-Q4_1.gguf")
    old, new = await registered(house, gguf("old"), folder)
    assert new.startswith("night@")
    await release(house, old=1)
    await house.open(max_tokens=120, **SMALL)
    [process] = children() - before
    asked = [await house.say(text) for text in ("Tell me of a lighthouse.", "Tell me of a cat.")]
    for one in asked:  # on a busy machine it may be whole by then
        await house.fake.until(lambda one=one: house.answers(one)[-1].content)
    await release(house, night=1)
    await house.fake.until(lambda: logged(caplog, "serving")[-1]["version"] == new)
    # The old one writes still, unless the machine was busy and it has ended by now.
    later = await house.say("Tell me of a dog.")
    for one in (*asked, later):
        assert (await house.answer(one)).buttons
    assert [writer(house, one) for one in (*asked, later)] == [old, old, new]
    stops = {stop for (stop,) in house.rows("SELECT stop FROM messages WHERE stop IS NOT NULL")}
    assert stops <= {"eos", "length"}
    await house.fake.until(lambda: not process.is_running() or process.status() == "zombie")
    assert await house.settled(3) == ["done"] * 3


async def test_a_file_that_is_deleted_while_its_model_serves(
    house: House,
    gguf: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It goes on from memory; where its engine dies, and after a restart, it is the one before."""
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.05)
    before = children()
    paths = [gguf("old"), gguf("new")]
    old, new = await registered(house, *paths)
    await release(house, old=1)
    await release(house, new=1)
    await house.open(max_tokens=4, health_port=free_port(), **SMALL)
    away = paths[1].rename(paths[1].with_suffix(".away"))
    asked = [await house.say("What is TLS?")]
    await house.answer(asked[0])
    [process] = children() - before
    process.send_signal(signal.SIGKILL)
    await house.fake.until(lambda: logged(caplog, "serving")[-1]["version"] == old)
    assert trouble(house)[new] == "there is no such file"
    asked.append(await house.say("What is SSH?"))
    await house.answer(asked[-1])
    await until_status(house, 200)
    await house.restart()
    asked.append(await house.say("What is UDP?"))
    await house.answer(asked[-1])
    away.rename(paths[1])
    await house.fake.until(lambda: trouble(house)[new] is None)
    assert [writer(house, one) for one in asked] == [new, old, old]


async def test_a_file_that_is_cut_off(house: House, gguf: Callable[[str], Path]) -> None:
    old, new = gguf("old"), gguf("new")
    ids = await registered(house, old, new)
    await release(house, old=0.1, new=0.9)
    content = new.read_bytes()
    new.write_bytes(content[: len(content) // 2])
    await house.open(max_tokens=4, **SMALL)
    assert "cut off" in (trouble(house)[ids[1]] or "")
    asked = await house.say("What is TLS?")
    await house.answer(asked)
    assert writer(house, asked) == ids[0]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["the new engine starts", "both are open"])
async def test_kill_9_during_a_swap(
    house: House, gguf: Callable[[str], Path], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started again, it ends what it had begun, and everything has one answer."""
    old, new = await registered(house, gguf("old"), gguf("new"))
    await release(house, old=1)
    environment = {"CONTEXT": "2048", "SLOTS": "2", "MAX_TOKENS": "150", "QUESTIONS_PER_USER": "50"}
    for name, value in environment.items():
        monkeypatch.setenv(f"GUILDGPT_{name}", value)
    process = Process(house, None)
    await process.start()
    await house.fake.until(lambda: house.fake.connected)
    asked = [await house.say("Write a very long story about a lighthouse.")]
    begun = await house.begun(asked[0])
    await release(house, new=1)
    bot = psutil.Process(process.pid)
    if moment == "both are open":
        await house.fake.until(lambda: len(bot.children(recursive=True)) > 1)
    asked.append(await house.say("Tell me of a dog."))
    await process.end(signal.SIGKILL)
    asked.append(await house.say("Tell me of a horse."))
    await process.start()
    for one in asked:
        await house.answer(one)
    await house.settled(3)
    await process.end(signal.SIGTERM)
    assert [len(house.answers(one)) for one in asked] == [1] * 3
    assert house.answers(asked[0]) == [begun]
    assert {writer(house, one) for one in asked} <= {old, new}
    assert writer(house, asked[-1]) == new
