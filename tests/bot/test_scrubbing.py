"""When the traces of what was deleted are taken out of the store's files, while the bot runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from guildgpt.bot.operating import run
from guildgpt.feedback.storage.traces import Traces
from simguild.fake import FakeMessage

from .house import SLOW, House

DUE = "SELECT value FROM facts WHERE name = 'unscrubbed'"


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that a store's file was written anew."""
    counted: list[int] = []
    scrub = Traces.scrub

    async def counting(self: Traces) -> None:
        counted.append(len(counted))
        await scrub(self)

    monkeypatch.setattr(Traces, "scrub", counting)
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.05)
    return counted


async def asked(house: House, text: str) -> FakeMessage:
    """A question that was answered, and is written into the file itself."""
    question = await house.say(text)
    await house.answer(question)
    await house.settled()
    return question


def log_size(house: House) -> int:
    """Bytes in SQLite's log."""
    log = house.database.with_name(house.database.name + "-wal")
    return log.stat().st_size if log.exists() else 0


async def test_many_deletions_write_the_file_anew_once(
    house: House, rewritten: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "REWRITE_SECONDS", 3600.0)
    house.model.answer = lambda prompt: "Noted."
    await house.open()
    questions = [await asked(house, f"Xyzzy{n}?") for n in range(4)]
    before = len(rewritten)  # at its opening
    await house.fake.delete(questions[0])
    await house.fake.until(lambda: len(rewritten) == before + 1)
    await house.scrubbed()
    for question in questions[1:]:
        await house.fake.delete(question)
        await house.fake.until(lambda q=question: q.content[-7:] not in house.tables())
        # The log is emptied all the same, and soon.
        await house.fake.until(lambda: log_size(house) == 0)
    assert house.rows(DUE)
    assert len(rewritten) == before + 1
    await house.restart()  # whoever opens the store looks first
    assert not house.rows(DUE)
    assert "Xyzzy" not in house.everything()


@pytest.mark.parametrize("late", [False, True])
async def test_nobody_waits_for_it_but_at_last(
    house: House, rewritten: list[int], monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    if late:
        monkeypatch.setattr(run, "REWRITE_AT_LATEST", 0.0)
    house.model.answer = lambda prompt: "Noted."
    await house.open()
    question = await asked(house, "Xyzzy?")
    house.model.now._rate = SLOW
    house.model.answer = lambda prompt: "word " * 100
    growing = await house.say("And then?", who=house.teacher)
    await house.begun(growing)
    before = len(rewritten)
    await house.fake.delete(question)
    await house.fake.until(lambda: house.rows(DUE) or len(rewritten) > before)
    if late:
        await house.scrubbed()
        assert "stop" in str(house.answers(growing)[0].buttons)
        return
    await house.fake.until(lambda: log_size(house) == 0)
    assert len(rewritten) == before
    await house.answer(growing, 60)
    await house.scrubbed()
    assert "Xyzzy" not in house.everything()


async def test_the_folders_of_turns_that_learned_from_what_is_erased_are_emptied(
    house: House, rewritten: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "PURGE_SECONDS", 0.0)
    await house.open()
    question = await asked(house, "Xyzzy?")
    rows = tmp_path / "turn" / "feedback.jsonl"
    rows.parent.mkdir()
    rows.write_text("Xyzzy?")
    [(id,)] = house.rows("SELECT id FROM messages WHERE role = 'user'")
    async with house.store() as store:
        decision = await store.decisions.begin(folder=str(rows.parent))
        await store.versions.learned(decision.id, [("message", id)])
    await house.fake.delete(question)
    await house.fake.until(lambda: not rows.exists())
