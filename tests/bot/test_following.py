"""The bot follows releases: shares, takeovers, versions that do not start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from typer.testing import CliRunner

from guildgpt.cli import app
from guildgpt.errors import EngineError, StoreError
from guildgpt.feedback.storage.schema import versions
from guildgpt.feedback.versions.releases import Releases
from guildgpt.talk import following
from guildgpt.talk.shares import version_for

from .house import FAST, House
from .released import (
    StandIns,
    logged,
    quick,  # noqa: F401 (a fixture)
    release,
    says,
    trouble,
    writer,
)
from .test_health import get, until_status


@pytest.fixture
async def stand_ins(house: House, tmp_path: Path) -> StandIns:
    """Three versions in the store; nothing is released."""
    made = StandIns(house, tmp_path)
    await made.known("old", "new", "third")
    return made


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
    monkeypatch.setattr("guildgpt.bot.operating.check.check_model", lambda path: None)
    told = await checked()
    assert "✓ version old@00000000: it answers 90%" in told
    assert "! model" in told
    assert "It can start" in told
