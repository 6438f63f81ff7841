"""The bot on a real llama.cpp whose process dies, hangs, or whose file is replaced under it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from engines.conftest import engine, file_tokenizer  # noqa: F401 (fixtures)
from engines.processes import children
from ports import free_port

from guildgpt.bot.operating import run
from guildgpt.bot.text import sentences as say
from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.data.origin import events_of
from guildgpt.engines import server_link
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import EngineDied, EngineError
from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.exporting.view import Switches
from guildgpt.model.lineage import write_lineage

from .house import FAST, House
from .test_health import get, until_status

NEVER = 1e6  # seconds: nobody looks whether the engine lives


@pytest.fixture
def gguf(starter: Path, tmp_path: Path) -> Path:
    """A file of the starter's own content that can be moved and replaced."""
    path = tmp_path / "tiny.gguf"
    path.symlink_to(starter)
    return path


@pytest.fixture
def folder(starter: Path, file_tokenizer: FileTokenizer, tmp_path: Path) -> Path:  # noqa: F811
    """The same as a model folder, with a tokenizer that needs no engine."""
    folder = tmp_path / "runs" / "model"
    folder.mkdir(parents=True)
    CHATML.save(folder)
    (folder / "model-Q4_1.gguf").symlink_to(starter)
    (folder / "tokenizer.json").symlink_to(file_tokenizer.path)
    return folder


class Real:
    """The bot on the real engine, and its processes."""

    def __init__(self, house: House):
        self.house = house
        self._others = children()  # engines of other tests

    async def open(self, model: Path, **settings: object) -> None:
        """Start the bot, with short answers."""
        self.house.model = None  # type: ignore[assignment]
        told = {"context": 512, "slots": 2, "max_tokens": 8, "health_port": free_port()}
        await self.house.open(model=str(model), **told | settings)
        await until_status(self.house, 200)

    @property
    def process(self) -> psutil.Process:
        """The one that llama.cpp runs in; IndexError while there is none."""
        living = [one for one in children() - self._others if one.status() != "zombie"]
        return living[0]

    async def kill(self) -> psutil.Process:
        """End it as the system does where memory is short; the dead one."""
        dead = self.process
        dead.send_signal(signal.SIGKILL)
        await self.house.fake.until(lambda: not dead.is_running() or dead.status() == "zombie")
        return dead

    async def another(self, before: psutil.Process) -> psutil.Process:
        """The process that came after that one."""
        return await self.house.fake.until(lambda: self.process != before and self.process)

    async def answered(self, text: str) -> None:
        """Ask, and be answered by the model."""
        answer = await self.house.answer(await self.house.say(text))
        assert answer.content not in (say.ENGINE_DOWN, say.FAILED)
        assert answer.buttons


@pytest.fixture
async def real(house: House, monkeypatch: pytest.MonkeyPatch) -> Real:
    """The house with a real engine; nobody looks whether it lives."""
    monkeypatch.setattr(run, "LOOK_SECONDS", NEVER)
    return Real(house)


@pytest.mark.parametrize("kind", ["gguf", "folder"])
async def test_an_engine_that_dies_while_idle_answers_the_next_question(
    real: Real, kind: str, request: pytest.FixtureRequest
) -> None:
    await real.open(request.getfixturevalue(kind))
    await real.answered("What is TLS?")
    dead = await real.kill()
    await real.answered("What is a kettle?")
    assert await real.another(dead)
    dead = await real.kill()
    called = await real.house.command("compare", question="What is a lighthouse?")
    assert "**" in called.responses[0].content
    assert called.responses[0].content != say.ENGINE_DOWN
    assert (await get(real.house, "/healthz"))[0] == 200


async def test_a_model_that_is_served_elsewhere(
    real: Real,
    folder: Path,
    engine: LlamaCppEngine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bot asks llama.cpp's own server by its address, and starts no engine."""
    monkeypatch.setenv("GUILDGPT_ENGINE_KEY", engine._link.key or "")
    before = children()
    await real.open(folder, engine=engine._link.address)
    await real.answered("What is TLS?")
    assert children() == before


async def test_an_engine_that_dies_while_nobody_asks_comes_back(
    real: Real, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.05)
    await real.open(gguf)
    dead = await real.kill()
    await real.another(dead)
    await until_status(real.house, 200)
    await real.answered("What is TLS?")


async def test_health_says_that_answers_do_not_come(
    real: Real, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.05)
    await real.open(gguf)
    away = gguf.rename(gguf.with_suffix(".away"))
    await real.kill()
    await until_status(real.house, 503)  # nobody asked anything
    assert '"engine": false' in (await get(real.house, "/healthz"))[1]
    assert (await real.house.ask("What is TLS?")).content == say.ENGINE_DOWN
    away.rename(gguf)
    await until_status(real.house, 200)  # nor now
    await real.answered("What is TLS?")


async def test_a_file_that_is_gone_and_nobody_looks(real: Real, gguf: Path) -> None:
    """Health follows the answers themselves."""
    await real.open(gguf)
    away = gguf.rename(gguf.with_suffix(".away"))
    await real.kill()
    assert (await get(real.house, "/healthz"))[0] == 200  # nobody knows
    assert (await real.house.ask("What is TLS?")).content == say.ENGINE_DOWN
    assert (await get(real.house, "/healthz"))[0] == 503
    away.rename(gguf)
    await real.answered("What is TLS?")
    assert (await get(real.house, "/healthz"))[0] == 200


async def test_an_engine_that_hangs_while_idle_is_replaced(
    real: Real, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.open(gguf)
    monkeypatch.setattr(server_link, "TIMEOUT", 0.5)
    hanging = real.process
    hanging.send_signal(signal.SIGSTOP)
    await real.answered("What is TLS?")
    assert await real.another(hanging)
    assert not hanging.is_running()


async def test_an_engine_that_hangs_mid_answer_is_replaced(
    real: Real, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_link, "TIMEOUT", 2.0)
    monkeypatch.setattr(server_link, "SIGN_SECONDS", 0.1)
    await real.open(folder, max_tokens=600, context=2048)  # it must not be whole too soon
    asked = await real.house.say("Tell me a very long story about a lighthouse.")
    await real.house.begun(asked)
    hanging = real.process
    hanging.send_signal(signal.SIGSTOP)
    assert await real.another(hanging)
    assert (await real.house.answer(asked)).content  # the first part; a long story has two
    assert await real.house.settled(1) == ["done"]
    assert (await get(real.house, "/healthz"))[0] == 200


async def test_a_question_can_be_stopped_while_its_engine_hangs(real: Real, gguf: Path) -> None:
    await real.open(gguf)
    real.process.send_signal(signal.SIGSTOP)
    asked = await real.house.say("What is TLS?")
    await real.house.fake.until(lambda: real.house.rows("SELECT 1 FROM messages"))
    stopped = await real.house.command("stop")
    assert stopped.responses[0].ephemeral
    assert (await real.house.answer(asked)).content == say.STOPPED
    await real.kill()  # nobody waits for it


async def test_health_is_about_answers_not_about_processes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each engine opens and gives signs of life, and breaks down at the third token."""
    monkeypatch.setattr(run, "LOOK_SECONDS", NEVER)
    house.model.rate, house.model.dies_after = FAST, 3
    await house.open(health_port=free_port())
    assert (await house.ask("What is TLS?")).content
    await house.settled(1)
    assert (await get(house, "/healthz"))[0] == 503
    await house.command("system", who=house.teacher, text="Be brief.")  # counted by the tokenizer
    assert (await get(house, "/healthz"))[0] == 503
    house.model.dies_after = None
    await house.ask("And now?")
    assert (await get(house, "/healthz"))[0] == 200


# The file is replaced


def renamed(gguf: Path, starter: Path, name: bytes) -> str:
    """Put a model of another content under the same name, at once; its hash's first digits."""
    import hashlib

    content = starter.read_bytes()
    at = content.index(b"HuggingFaceTB")  # a word of the metadata
    other = content[:at] + name[:7].ljust(7) + content[at + 7 :]
    new = gguf.with_suffix(".new")
    new.write_bytes(other)
    os.replace(new, gguf)
    return hashlib.sha256(other).hexdigest()[:8]


def versions(house: House) -> list[str]:
    """Those that wrote the answers, in their order."""
    query = "SELECT version_id FROM messages WHERE role = 'assistant' ORDER BY created_at, rowid"
    return [version for (version,) in house.rows(query)]


async def test_an_answer_carries_the_version_that_wrote_it(
    real: Real, gguf: Path, starter: Path
) -> None:
    first = f"tiny@{renamed(gguf, starter, b'FIRST')}"
    await real.open(gguf)
    await real.answered("What is TLS?")
    second = f"tiny@{renamed(gguf, starter, b'SECOND')}"
    await real.answered("What is a kettle?")  # the process that runs has the old file still
    assert versions(real.house) == [first, first]
    await real.kill()
    await real.answered("What is a lighthouse?")
    await real.house.command("compare", question="What is a lamp?")
    assert versions(real.house) == [first, first, second, second, second]
    known = dict(real.house.rows("SELECT id, sha256 FROM versions"))
    assert set(known) == {first, second}
    assert all(id.endswith(digest[:8]) for id, digest in known.items())


async def test_an_erasure_names_the_model_that_learned_from_what_it_takes(
    real: Real, folder: Path
) -> None:
    """From a click to the version: nobody has to say what the model was trained on."""
    house = real.house
    await house.open()
    answer = await house.ask("What is TLS?")
    await house.press(answer, "up")
    await house.close()
    async with house.store() as store:
        member = await store.members.of_user(house.newcomer.id)
        await store.members.set_consent(member.id, "train")
        rows = export(await store.snapshot(), "kto", switches=Switches(members=True)).rows
    events = [events_of(row, "") for row in rows]
    write_lineage(folder, {("vote", "of another store")}.union(*events))
    await real.open(folder)
    version = f"runs@{house.rows('SELECT sha256 FROM versions')[-1][0][:8]}"
    noted = house.rows("SELECT version_id, kind, event_id FROM lineage")
    assert noted
    assert set(noted) == {(version, *event) for event in set().union(*events)}
    async with house.store() as store:
        assert (await store.privacy.erase(house.newcomer.id)).versions == (version,)
    await house.restart()
    assert house.rows("SELECT * FROM lineage") == []  # what was erased does not come back


async def test_a_stopped_answer_carries_it_too(house: House) -> None:
    house.model.rate = 25.0
    await house.open()
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    await house.press(begun, "stop")
    await house.answer(asked)
    assert versions(house) == ["stand-in"]


async def test_a_file_that_is_overwritten_in_use_is_opened_anew(
    real: Real, tmp_path: Path, starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cp` writes into the file itself: what runs by then is neither the old model nor the new."""
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.05)
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(starter.read_bytes())
    await real.open(gguf)
    before = real.process
    with gguf.open("r+b") as file:
        at = starter.read_bytes().index(b"HuggingFaceTB")
        file.seek(at)
        file.write(b"THIRD  ")
    await real.another(before)
    await real.house.fake.until(lambda: len(real.house.rows("SELECT id FROM versions")) == 2)


def replacing(gguf: Path, starter: Path) -> Callable[..., object]:
    """What llama.cpp's process is, in whose start the file is replaced."""
    from guildgpt.engines.llamacpp_process import LlamaCppProcess

    def start() -> LlamaCppProcess:
        renamed(gguf, starter, b"OTHER")
        return LlamaCppProcess()

    return start


def test_a_file_that_is_replaced_while_it_is_opened_is_noticed(
    gguf: Path, starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guildgpt.engines import llamacpp

    before = children()
    monkeypatch.setattr(llamacpp, "LlamaCppProcess", replacing(gguf, starter))
    with pytest.raises(EngineDied, match="replaced or changed"):
        LlamaCppEngine(gguf, context=256, threads=1)
    assert children() == before


def test_a_child_that_never_gets_ready_is_given_up(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from guildgpt.engines import llamacpp_process

    (tmp_path / "xllamacpp.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(llamacpp_process, "LOAD_SECONDS", 0.5)
    monkeypatch.setattr(llamacpp_process, "LOAD_BYTES_A_SECOND", 1e12)
    before = children()
    with pytest.raises(EngineError, match="not ready after"):
        LlamaCppEngine(gguf, context=256, threads=1)
    assert children() == before
