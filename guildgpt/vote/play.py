"""The rounds: a pair is shown, a key is the verdict, the next pair is there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from guildgpt.errors import RecordGone, RoundClosed, StoreError
from guildgpt.feedback.records import Verdict
from guildgpt.vote.editing import write_better
from guildgpt.vote.keys import Keys
from guildgpt.vote.screen import LEGEND, Screen
from guildgpt.vote.session import Played, Session

Ended = Literal["quit", "rounds", "decided"]

VERDICTS: dict[str, tuple[Verdict, tuple[int, ...], str]] = {
    "a": ("ranked", (0, 1), "A is better."),
    "b": ("ranked", (1, 0), "B is better."),
    "t": ("tie", (), "A tie."),
    "x": ("both_bad", (), "Both are bad."),
    "s": ("skip", (), "Skipped."),
}


@dataclass
class Game:
    """A person who plays the rounds of a session, `rounds` of them at most."""

    session: Session
    keys: Keys
    screen: Screen
    rounds: int | None = None

    async def play(self) -> Ended:
        """Until the person leaves, all rounds are played or the decision has fallen. Raises what
        `Session.next` raises, and a StoreError where nobody is there to try again."""
        while self.rounds is None or len(self.session.played) < self.rounds:
            with self.screen.console.status("Two answers are being written …"):
                played = await self._next()
            while self.session.troubles:
                self.screen.say(f"A round was left out: {self.session.troubles.pop(0)}")
            if not isinstance(played, Played):
                return played
            if self.rounds is None or len(self.session.played) + 1 < self.rounds:
                self.session.write_ahead()
            if not await self._ask(played):
                return "quit"
        return "rounds"

    async def _next(self) -> Played | Ended:
        """The next pair. Who waits for it may leave; any other key they typed is forgotten."""
        writing = asyncio.ensure_future(self.session.next())
        typing = None
        try:
            while self.keys.single and not writing.done():
                typing = asyncio.ensure_future(self.keys.key())
                await asyncio.wait({writing, typing}, return_when=asyncio.FIRST_COMPLETED)
                if typing.done() and typing.result() in (None, "q"):
                    return "quit"
            return await writing or "decided"
        finally:
            for task in (writing, typing):
                if task is not None:
                    task.cancel()
            await asyncio.wait({task for task in (writing, typing) if task is not None})

    async def _ask(self, current: Played) -> bool:
        """Ask until there is a verdict on the current pair; False if the person leaves."""
        asked = current
        self._show(asked)
        while (key := await self.keys.key()) not in (None, "q"):
            if key == "u":
                last = self.session.last
                if last is None or asked is not current:
                    self.screen.note("There is nothing to take back.")
                else:
                    asked = last
                    self._show(asked, "once more")
            elif await self._take(key or "", asked):
                if asked is current:
                    return True
                asked = current
                self._show(asked)
        return False

    async def _take(self, key: str, asked: Played) -> bool:
        """Do what a key says; whether the pair has a verdict now."""
        try:
            if key == "e":
                return await self._write_better(asked)
            if key not in VERDICTS:
                if not self.keys.single or key == "?":
                    meanings = ", ".join(f"{keys[0]} {meaning}" for keys, meaning in LEGEND)
                    self.screen.note(f"The letters are: {meanings}.")
                return False
            verdict, ranking, told = VERDICTS[key]
            await self.session.say(asked, verdict, ranking)
        except RoundClosed:
            self.screen.say("That round is closed by now: what you said first stands.")
            return True
        except RecordGone as error:
            self.screen.say(f"This round is gone: {error}")
            return True
        except StoreError as error:
            if not self.keys.at_terminal:
                raise
            self.screen.say(f"Not noted: {error}", "Press the key again once that is mended.")
            return False
        self.screen.note(told)
        return True

    async def _write_better(self, asked: Played) -> bool:
        """Ask for a better wording of the better answer; False if there is none."""
        self.screen.note("Which one is better, for you to write better still? a or b.")
        key = await self.keys.key()
        position = {"a": 0, "b": 1}.get(key or "")
        text = ""
        if position is not None:
            text = await write_better(asked.answers[position].text, self.keys, self.screen)
        if position is None or not text:
            self.screen.note("Nothing was written. Your verdict?")
            return False
        await self.session.correct(asked, position, text)
        self.screen.note(f"{'AB'[position]} is better, and yours better still.")
        return True

    def _show(self, played: Played, note: str = "") -> None:
        played_before = self.session.played
        number = (
            played_before.index(played) if played in played_before else len(played_before)
        ) + 1
        self.keys.forget()  # nobody has an opinion on what they have not seen
        self.screen.pair(played, number, self.rounds, note)
