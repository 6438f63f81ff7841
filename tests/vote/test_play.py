"""A person's rounds, key by key, on what they see: with models that answer at once."""

from __future__ import annotations

import asyncio
import io
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from guildgpt.errors import EngineDied, StoreError
from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.talk.fleet import Fleet
from guildgpt.vote.keys import Keys
from guildgpt.vote.play import Game
from guildgpt.vote.screen import Screen
from guildgpt.vote.session import Session
from guildgpt.vote.summary import Summary, show, summarise

from .conftest import NEW, OLD, Teller, begin

KEYS = "q quit\n"  # the end of a pair that is shown


class Person:
    """At a terminal: waits for what should appear, and presses keys."""

    def __init__(self) -> None:
        self.side, program = pty.openpty()
        self.keys = Keys(program)
        self.seen = io.StringIO()
        self.screen = Screen(Console(file=self.seen, width=120), asks=True)
        self._place = 0

    async def press(self, keys: str, *, after: str = KEYS) -> None:
        """Type, once this has appeared behind what was waited for last."""
        while (found := self.seen.getvalue().find(after, self._place)) < 0:
            await asyncio.sleep(0.001)
        self._place = found + len(after)
        os.write(self.side, keys.encode())

    def play(self, session: Session, rounds: int | None = None) -> asyncio.Task[str]:
        async def play() -> str:
            with self.keys.listening():
                try:
                    return await Game(session, self.keys, self.screen, rounds).play()
                finally:
                    await session.end()

        return asyncio.create_task(play())

    def told(self, summary: Summary) -> str:
        """What is said of it at the end."""
        self.seen.truncate(self.seen.seek(0))
        show(summary, self.screen)
        return self.seen.getvalue()


@pytest.fixture
def person() -> Iterator[Person]:
    made = Person()
    yield made
    os.close(made.side)


async def said(store: Store) -> list[tuple[str, tuple[int, ...]]]:
    """The verdicts of the closed rounds."""
    found = [one.votes for one in await store.rounds.ballots()]
    return [(vote.verdict, vote.ranking) for (vote,) in found]


async def test_a_key_is_a_verdict(store: Store, fleet: Fleet, person: Person) -> None:
    playing = person.play(await begin(store, fleet))
    for key in ("a", "\x1b[C", "t", "x", "s"):
        await person.press(key)
    await person.press("z?")
    await person.press("q", after="The letters are: a A is better")
    assert await playing == "quit"
    assert await said(store) == [
        ("ranked", (0, 1)),
        ("ranked", (1, 0)),
        ("tie", ()),
        ("both_bad", ()),
        ("skip", ()),
    ]
    assert len(await store.rounds.ballots(states=("cancelled",))) == 1


async def test_the_last_verdict_is_taken_back(store: Store, fleet: Fleet, person: Person) -> None:
    playing = person.play(await begin(store, fleet), rounds=2)
    await person.press("u")
    await person.press("a", after="nothing to take back")
    await person.press("u", after="Round 2 of 2")
    await person.press("u", after="Round 1 of 2, once more")
    await person.press("x", after="nothing to take back")
    await person.press("b", after="Round 2 of 2")
    assert await playing == "rounds"
    assert await said(store) == [("both_bad", ()), ("ranked", (1, 0))]


async def test_an_answer_is_written_better_in_lines(
    store: Store, fleet: Fleet, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    playing = person.play(await begin(store, fleet), rounds=1)
    await person.press("e")
    await person.press("x", after="a or b.")
    await person.press("e", after="Nothing was written.")
    await person.press("b", after="a or b.")
    await person.press("My own.\nTwo lines.\n.\n", after="Ctrl-D too")
    assert await playing == "rounds"
    assert await said(store) == [("ranked", (1, 0))]
    (correction,) = (await store.snapshot()).corrections
    assert correction.text == "My own.\nTwo lines."


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ('echo " and more" >> "$1"', "{answer}\n and more"),
        ("true", None),
        (': > "$1"', None),
        ('echo mine > "$1"; exit 3', None),
    ],
    ids=["written", "unchanged", "emptied", "failed"],
)
async def test_an_answer_is_written_better_in_an_editor(
    store: Store,
    fleet: Fleet,
    person: Person,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    text: str | None,
) -> None:
    editor = tmp_path / "my editor"
    editor.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"'{editor}'")
    session = await begin(store, fleet)
    playing = person.play(session, rounds=1)
    await person.press("e")
    await person.press("a", after="a or b.")
    if text is None:
        await person.press("t", after="Nothing was written. Your verdict?")
    assert await playing == "rounds"
    (played,) = session.played
    corrections = [one.text for one in (await store.snapshot()).corrections]
    assert corrections == ([text.format(answer=played.answers[0].text)] if text else [])
    assert await said(store) == [("ranked", (0, 1)) if text else ("tie", ())]


async def test_an_editor_that_is_not_there(
    store: Store, fleet: Fleet, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "/nowhere/editor")
    playing = person.play(await begin(store, fleet), rounds=1)
    await person.press("e")
    await person.press("a", after="a or b.")
    await person.press("a", after="The editor cannot be started (No such file or directory)")
    assert await playing == "rounds"


async def test_who_waits_for_a_pair_may_leave(
    store: Store, fleet: Fleet, person: Person, engines: dict[str, Teller]
) -> None:
    engines[OLD.id].thinking = asyncio.Event()
    playing = person.play(await begin(store, fleet))
    await engines[OLD.id].thinking.wait()
    engines[OLD.id].thinking.clear()
    os.write(person.side, b"aq")
    assert await playing == "quit"
    assert await store.rounds.ballots(states=("open", "closed", "cancelled")) == []


async def test_a_store_that_takes_nothing_is_said_and_the_key_asked_again(
    store: Store, fleet: Fleet, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await begin(store, fleet)
    playing = person.play(session, rounds=1)

    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(type(store.votes), "cast", full)
        await person.press("a")
        await person.press("", after="Not noted: the disk is full")
    await person.press("a", after="Press the key again")
    assert await playing == "rounds"
    assert await said(store) == [("ranked", (0, 1))]


async def test_an_engine_that_dies_is_said_and_the_next_round_comes(
    store: Store, fleet: Fleet, person: Person, engines: dict[str, Teller]
) -> None:
    engines[NEW.id].deaths = 2
    playing = person.play(await begin(store, fleet))
    await person.press("", after="A round was left out: b-new died")
    await person.press("a")
    engines[NEW.id].deaths = 100
    voting = asyncio.create_task(person.press("a"))  # the second pair may have been there before
    with pytest.raises(EngineDied):
        await playing
    voting.cancel()
    assert {verdict for verdict, _ in await said(store)} == {"ranked"}


async def test_the_end_of_a_session_names_who_wrote_what(
    store: Store, fleet: Fleet, person: Person
) -> None:
    session = await begin(store, fleet)
    playing = person.play(session, rounds=2)
    await person.press("a")
    await person.press("t")
    summary = await summarise(store, session, await playing)  # type: ignore[arg-type]
    told = person.told(summary)
    assert "2 rounds: 1 preferred, 1 tied." in told
    better = session.played[0].answers[0].version_id
    assert f"{better}       1" in told
    assert summary.as_dict()["played"][0]["better"] == 0
    assert summary.as_dict()["played"][0]["versions"][0] == better


async def test_a_decision_that_fell_ends_the_session_and_is_told(
    store: Store, fleet: Fleet, person: Person, canary: Decision
) -> None:
    session = await begin(store, fleet, decision=canary)
    playing = person.play(session)
    await person.press("a")
    await person.press("")
    await store.decisions.change(canary.id, state="preferred", why="members prefer it")
    await person.press("b", after="")
    assert await playing == "decided"
    summary = await summarise(store, session, "decided")
    told = person.told(summary)
    assert f"The decision on {NEW.id}: members prefer it." in told
    assert OLD.id in told  # nothing is to be kept from them any more
    assert not summary.hidden
