"""The bot follows releases: swaps under running answers, shares, versions that do not start."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)
from engines.processes import children
from ports import free_port
from typer.testing import CliRunner

from guildgpt.bot.operating import following, run
from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.cli import app
from guildgpt.errors import EngineError, StoreError
from guildgpt.feedback.registering import register
from guildgpt.feedback.releases import Releases
from guildgpt.feedback.schema import versions
from guildgpt.feedback.versions import KnownVersion
from guildgpt.model.version import Version
from guildgpt.talk.fleet import OpenedModel
from guildgpt.talk.shares import version_for
from simguild.engine import PacedEngine
from simguild.fake import FakeMessage

from .house import FAST, House
from .test_health import get, until_status
from .test_recovery import Process

NEVER = 1e6  # seconds


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It looks often what was released."""
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)
    caplog.set_level("INFO", "guildgpt.bot")


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of every such line."""
    return [
        record.fields  # type: ignore[attr-defined]
        for record in caplog.records
        if record.message == event
    ]


def writer(house: House, asked: FakeMessage) -> str:
    """The version that answered a message."""
    query = (
        "SELECT answer.version_id FROM messages answer JOIN messages asked "
        "ON asked.id = answer.parent_id WHERE asked.discord_id = ?"
    )
    [(version,)] = house.rows(query, asked.id)
    return str(version)


def trouble(house: House) -> dict[str, str | None]:
    """What the store knows of each version."""
    return dict(house.rows("SELECT id, trouble FROM versions"))


async def release(house: House, **shares: float) -> None:
    """Release versions by their names."""
    async with house.store() as store:
        ids = {one.id.partition("@")[0]: one.id for one in await store.versions.all()}
        kind = "serve" if len(shares) == 1 else "canary"
        await store.releases.add({ids[name]: share for name, share in shares.items()}, kind)


# Without a real model: what each version says begins with its name


class StandIns:
    """Versions that an engine stands in for; some of them do not start."""

    def __init__(self, house: House, folder: Path):
        self.house, self.folder = house, folder
        self.broken: dict[str, Exception] = {}
        self.silent: set[str] = set()
        self.tries: list[str] = []
        self.engines: dict[str, list[PacedEngine]] = {}
        self.rate = FAST
        house.open_version = self.open

    async def known(self, *names: str) -> None:
        """Put them into the store."""
        async with self.house.store() as store:
            for name in names:
                path = self.folder / f"{name}.gguf"
                path.write_text(name)
                version = Version(f"{name}@00000000", name, str(path), name)
                await store.versions.register(version)

    def open(self, version: KnownVersion) -> OpenedModel:
        """What the bot opens."""
        self.tries.append(version.name)
        if error := self.broken.get(version.name):
            raise error
        text = "" if version.name in self.silent else f"{version.name} says this and that."
        engine = PacedEngine(self.rate, lambda prompt: text)
        self.engines.setdefault(version.name, []).append(engine)
        hash = Path(version.path).read_text()
        return OpenedModel(
            engine, CHATML, lambda: Version(version.id, version.name, version.path, hash)
        )


@pytest.fixture
async def stand_ins(house: House, tmp_path: Path) -> StandIns:
    """Three versions in the store; nothing is released."""
    made = StandIns(house, tmp_path)
    await made.known("old", "new", "third")
    return made


async def says(house: House, who: str) -> None:
    """Wait until new questions are answered by that version."""
    async with asyncio.timeout(60):
        while not (await house.ask("Who are you?", who=house.teacher)).content.startswith(who):
            await asyncio.sleep(0.05)


async def test_without_a_release_the_model_of_the_settings_answers(
    house: House, stand_ins: StandIns, caplog: pytest.LogCaptureFixture
) -> None:
    await house.open()
    assert (await house.ask("What is TLS?")).content.startswith("You wrote")
    assert stand_ins.engines == {}
    assert set(trouble(house).values()) == {None}
    assert logged(caplog, "serving") == [{"version": "stand-in", "reason": "the settings name it"}]


async def test_a_release_goes_before_the_settings(
    house: House, stand_ins: StandIns, caplog: pytest.LogCaptureFixture
) -> None:
    """Its model is not even opened."""
    await release(house, old=1)
    await house.open(model="/nowhere.gguf")
    assert (await house.ask("What is TLS?")).content.startswith("old says")
    assert house.model.made == []
    assert logged(caplog, "settings_model_not_served")
    assert logged(caplog, "serving") == [{"version": "old@00000000", "share": 1.0, "release": 1}]


async def test_the_first_release_while_it_runs(house: House, stand_ins: StandIns) -> None:
    await house.open(questions_per_user=1000)
    await says(house, "You wrote")
    await release(house, old=1)
    await says(house, "old says")
    await release(house, new=1)
    await says(house, "new says")
    assert house.model.now._closed
    assert stand_ins.engines["old"][0]._closed


async def test_a_share_of_the_conversations_stays_with_the_candidate(
    house: House, stand_ins: StandIns
) -> None:
    await release(house, old=0.6, new=0.4)
    await house.open(questions_per_user=1000)
    drawn: dict[str, set[str]] = {}
    shares = {"old@00000000": 0.6, "new@00000000": 0.4}
    for number in range(8):
        asked = await house.say(f"Question {number}?")
        answer = await house.answer(asked)
        await house.settled()
        followed = await house.fake.say(house.newcomer, house.channel, "And?", reply_to=answer)
        await house.answer(followed)
        [(conversation,)] = house.rows(
            "SELECT conversation_id FROM messages WHERE discord_id = ?", asked.id
        )
        wrote = {writer(house, asked), writer(house, followed)}
        assert wrote == {version_for(conversation, shares, 1)}
        drawn[conversation] = wrote
    await house.restart()
    assert len(drawn) == 8


async def test_who_wants_nothing_kept_stays_with_a_version_too(
    house: House, stand_ins: StandIns
) -> None:
    """Their direct messages are one conversation, though it has no row."""
    await release(house, old=0.5, new=0.5)
    await house.open(questions_per_user=1000)
    await house.command("privacy", consent="none")
    private = house.fake.open_dm(house.newcomer)
    heard = {(await house.ask("Hm?", where=private)).content.split()[0] for _ in range(6)}
    shares = {"old@00000000": 0.5, "new@00000000": 0.5}
    wanted = version_for(f"channel {private.id}", shares, 1)
    assert heard == {wanted.partition("@")[0]}


async def test_both_answers_of_a_comparison_are_one_versions(
    house: House, stand_ins: StandIns
) -> None:
    await release(house, old=0.5, new=0.5)
    await house.open()
    await house.command("compare", question="What is TLS?")
    query = "SELECT version_id FROM messages WHERE role = 'assistant'"
    assert len(house.rows(query)) == 2
    assert len(set(house.rows(query))) == 1


FAILURES: dict[str, Callable[[StandIns], object]] = {
    "does not load": lambda made: made.broken.update(new=EngineError("the file is cut off")),
    "breaks": lambda made: made.broken.update(new=MemoryError()),
    "says nothing": lambda made: made.silent.add("new"),
    "another file": lambda made: (made.folder / "new.gguf").write_text("other"),
}
TROUBLES = {
    "does not load": "the file is cut off",
    "breaks": "MemoryError",
    "says nothing": "it says nothing to a first question",
    "another file": "its file is another one than was registered",
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_candidate_that_does_not_start_is_left_out(
    house: House, stand_ins: StandIns, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    FAILURES[failure](stand_ins)
    await release(house, old=1)
    await house.open(questions_per_user=1000, health_port=free_port())
    await release(house, old=0.01, new=0.99)
    await house.fake.until(lambda: trouble(house)["new@00000000"])
    assert trouble(house) == {
        "old@00000000": None,
        "new@00000000": TROUBLES[failure],
        "third@00000000": None,
    }
    await house.fake.until(lambda: logged(caplog, "serving")[-1]["release"] == 2)
    assert logged(caplog, "serving")[-1] == {"version": "old@00000000", "share": 1.0, "release": 2}
    for _ in range(3):
        assert (await house.ask("Who are you?")).content.startswith("old says")
    [failed] = logged(caplog, "version_failed")  # it is not tried again and again
    assert failed["version"] == "new@00000000"
    status, body = await get(house, "/healthz")
    assert status == 200
    assert json.loads(body)["warnings"] == [f"new@00000000 did not start: {TROUBLES[failure]}"]


async def test_it_is_tried_again_when_its_file_changes(house: House, stand_ins: StandIns) -> None:
    (stand_ins.folder / "new.gguf").write_text("half")
    await release(house, old=1)
    await house.open(questions_per_user=1000, health_port=free_port())
    await release(house, new=1)
    await house.fake.until(lambda: trouble(house)["new@00000000"])
    assert (await house.ask("Who are you?")).content.startswith("old says")
    told = json.loads((await get(house, "/healthz"))[1])["warnings"]
    assert told[-1] == "old@00000000 answers, which is not what was released last"
    (stand_ins.folder / "new.gguf").write_text("new")
    await says(house, "new says")
    assert trouble(house)["new@00000000"] is None
    assert "warnings" not in json.loads((await get(house, "/healthz"))[1])


async def test_it_is_tried_again_now_and_then(
    house: House,
    stand_ins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.1)
    stand_ins.broken["new"] = EngineError("there was no memory")
    await release(house, old=1)
    await house.open(questions_per_user=1000)
    await release(house, old=0.01, new=0.99)
    await house.fake.until(lambda: stand_ins.tries.count("new") >= 3)
    assert len(logged(caplog, "version_failed")) == 1  # it is told of once
    del stand_ins.broken["new"]
    await house.fake.until(
        lambda: "new@00000000" in [line["version"] for line in logged(caplog, "serving")]
    )
    assert trouble(house)["new@00000000"] is None
    # Nothing is said twice of who serves, however often the other one was tried.
    served = [(line["version"], line["share"]) for line in logged(caplog, "serving")]
    assert len(set(served)) == len(served) - 1  # the old one's whole share, by two releases


async def test_that_who_answers_learned_from_what_was_erased(
    house: House, stand_ins: StandIns
) -> None:
    await release(house, old=1)
    await house.open(health_port=free_port())
    assert "warnings" not in json.loads((await get(house, "/healthz"))[1])
    async with house.store() as store:
        marking = versions.update().where(versions.c.id == "old@00000000")
        await store.database.execute(marking.values(erased_at=datetime.now(UTC)))
    async with asyncio.timeout(60):
        while "warnings" not in (told := json.loads((await get(house, "/healthz"))[1])):
            await asyncio.sleep(0.05)
    assert told["warnings"] == ["old@00000000 learned from what was erased since"]


async def test_it_is_tried_again_with_the_next_release(house: House, stand_ins: StandIns) -> None:
    stand_ins.broken["new"] = EngineError("there was no memory")
    await release(house, old=1)
    await house.open(questions_per_user=1000)
    await release(house, new=1)
    await house.fake.until(lambda: trouble(house)["new@00000000"])
    del stand_ins.broken["new"]
    await release(house, new=1)
    await says(house, "new says")


async def test_at_its_start_it_falls_back_to_the_last_release_that_starts(
    house: House, stand_ins: StandIns, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("third", "old", "new"):
        await release(house, **{name: 1})
    stand_ins.broken["new"] = EngineError("there is no such file")
    await house.change("UPDATE versions SET erased_at = '2026-01-01' WHERE name = 'old'")
    await house.open(questions_per_user=1000, health_port=free_port())
    assert (await house.ask("Who are you?")).content.startswith("third says")
    assert logged(caplog, "fallen_back") == [{"version": "third@00000000", "release": 3}]
    await until_status(house, 200)
    assert json.loads((await get(house, "/healthz"))[1])["warnings"] == [
        "new@00000000 did not start: there is no such file",
        "third@00000000 answers, which is not what was released last",
    ]


async def test_what_was_released_is_tried_again_and_what_was_to_stand_in_for_it_is_not(
    house: House, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.1)
    for name in ("third", "old", "new"):
        await release(house, **{name: 1})
    stand_ins.broken = {name: EngineError("there was no memory") for name in ("old", "new")}
    await house.open(questions_per_user=1000)
    await says(house, "third says")
    await house.fake.until(lambda: stand_ins.tries.count("new") >= 3)
    del stand_ins.broken["new"]
    await says(house, "new says")
    assert stand_ins.tries.count("old") == 1
    # Nor is the release taken up again for its sake, at every look.
    calls = dict.fromkeys(("current", "history"), 0)

    def counted(name: str) -> Callable[[Releases], Any]:
        right = getattr(Releases, name)

        def call(self: Releases) -> Any:
            calls[name] += 1
            return right(self)

        return call

    for name in calls:
        monkeypatch.setattr(Releases, name, counted(name))
    await house.fake.until(lambda: calls["current"] > 3)
    assert calls["history"] == 0


async def test_at_its_start_nobody_of_all_releases_starts(
    house: House, stand_ins: StandIns
) -> None:
    """Then it is the settings' model, until one of them does."""
    await release(house, new=1)
    stand_ins.broken["new"] = EngineError("there is no such file")
    await house.open(questions_per_user=1000)
    await says(house, "You wrote")
    del stand_ins.broken["new"]
    (stand_ins.folder / "new.gguf").write_text("new")
    stand_ins.folder.joinpath("new.gguf").touch()
    await release(house, new=1)
    await says(house, "new says")


async def test_a_store_that_is_gone_changes_nothing(
    house: House, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    await release(house, old=1)
    await house.open(questions_per_user=1000)
    right, asked = Releases.current, 0

    async def gone(self: Releases) -> Any:
        nonlocal asked
        asked += 1
        raise StoreError("the database server cannot be reached")

    monkeypatch.setattr(Releases, "current", gone)
    await house.fake.until(lambda: asked > 3)
    assert (await house.ask("Who are you?")).content.startswith("old says")
    await release(house, new=1)
    monkeypatch.setattr(Releases, "current", right)
    await says(house, "new says")


async def test_an_answer_under_way_is_ended_by_who_began_it(
    house: House, stand_ins: StandIns, caplog: pytest.LogCaptureFixture
) -> None:
    stand_ins.rate = 2.0
    await release(house, old=1)
    await house.open(questions_per_user=1000)
    asked = await house.say("What is TLS?")
    await house.begun(asked)
    stand_ins.rate = FAST
    await release(house, new=1)
    await house.fake.until(lambda: logged(caplog, "serving")[-1]["version"] == "new@00000000")
    later = await house.say("And SSH?")
    assert (await house.answer(later)).content.startswith("new says")
    [old] = stand_ins.engines["old"]
    assert old.active == 1
    assert (await house.answer(asked)).content == "old says this and that."
    assert (writer(house, asked), writer(house, later)) == ("old@00000000", "new@00000000")
    await house.fake.until(lambda: old._closed)
    assert old.cancelled == 0


async def test_check_names_what_is_released(
    house: House, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", house.fake.token)
    monkeypatch.setenv("GUILDGPT_STORE", str(house.database))
    monkeypatch.setenv("GUILDGPT_MODEL", "/nowhere.gguf")
    monkeypatch.setenv("COLUMNS", "1000")
    await release(house, old=0.9, new=0.1)
    async with house.store() as store:
        await store.versions.started("new@00000000", "the file is cut off")

    async def checked() -> str:
        return (await asyncio.to_thread(CliRunner().invoke, app, ["bot", "--check"])).output

    told = await checked()
    assert "! version new@00000000: it did not start: the file is cut off" in told
    assert "! version old@00000000: it is left out: this is not a GGUF file" in told
    assert "✗ model" in told
    monkeypatch.setattr("guildgpt.bot.operating.check.check_whole", lambda path: None)
    told = await checked()
    assert "✓ version old@00000000: it answers 90%" in told
    assert "! model" in told
    assert "It can start" in told


# Real models


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
    for one in asked:
        await house.begun(one)
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
