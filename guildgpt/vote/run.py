"""`guildgpt vote` from its start to its end: store, pool, engines, rounds, summary."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from rich.console import Console

from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import GuildError
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.pool import fill_if_empty
from guildgpt.talk.asked_prompts import NoPrompt
from guildgpt.talk.fleet import Fleet
from guildgpt.vote.contest import Contest, find, open_fleet
from guildgpt.vote.keys import Keys
from guildgpt.vote.play import Game
from guildgpt.vote.screen import Screen
from guildgpt.vote.session import Session
from guildgpt.vote.summary import Summary, show, summarise


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for."""

    models: Sequence[str]
    store_url: str
    voter: str
    params: SamplingParams
    rounds: int | None = None
    seed: int | None = None
    at: ServedAt | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What a session came to, if there was one, and the signal or the trouble that ended it."""

    summary: Summary | None
    signal: int | None = None
    trouble: GuildError | None = None


def run(settings: Settings, console: Console) -> Ending:
    """Play until the person leaves, the input ends, a signal comes or the models fail; every
    verdict is kept. Raises GuildError where it cannot begin."""
    signals: list[int] = []
    try:
        return asyncio.run(_run(settings, console, signals))
    except asyncio.CancelledError:  # before the first round
        return Ending(None, signals[0] if signals else signal.SIGINT)


async def _run(settings: Settings, console: Console, signals: list[int]) -> Ending:
    keys = Keys()
    screen = Screen(console, asks=keys.at_terminal)
    async with await Store.open(settings.store_url, key=member_key(settings.store_url)) as store:
        if filled := await fill_if_empty(store):
            screen.note(f"The pool was empty: the starter pack's {filled} prompts are in it now.")
        contest = await find(store, settings.models, on_progress=screen.note)
        decision_id = contest.decision.id if contest.decision else None
        if await store.prompts.next(contest.purpose, Random(), decision_id=decision_id) is None:
            raise NoPrompt(contest.purpose)
        _take(signals)
        with keys.listening():
            async with _opened(store, contest, screen, settings.at) as (fleet, versions):
                screen.note(_introduction(contest, versions))
                member = await store.members.of_account("terminal", settings.voter)
                session = Session(
                    store,
                    fleet,
                    versions,
                    contest.decision,
                    member.id,
                    settings.params,
                    Random(settings.seed),
                )
                await session.settle()
                ended, trouble = "stopped", None
                try:
                    ended = await Game(session, keys, screen, settings.rounds).play()
                except asyncio.CancelledError:  # a signal: the votes stand, and are summed up
                    signals.append(signal.SIGINT)
                except GuildError as error:
                    trouble = error
                finally:
                    await session.end()
        summary = await summarise(store, session, ended)
    with suppress(OSError):  # the terminal is gone
        show(summary, screen)
    return Ending(summary, signals[0] if signals else None, trouble)


@asynccontextmanager
async def _opened(
    store: Store, contest: Contest, screen: Screen, at: ServedAt | None
) -> AsyncIterator[tuple[Fleet, tuple[str, str]]]:
    with screen.console.status("The model is being opened …"):
        fleet, versions = await open_fleet(store, contest, at)
    try:
        yield fleet, versions
    finally:
        await fleet.close()


def _introduction(contest: Contest, versions: tuple[str, str]) -> str:
    """Who meets whom; never in the order in which they are shown."""
    first, second = versions
    if contest.decision:
        return f"{second} is being tried: its answers meet those of {first}, blind."
    if first == second:
        return f"Two answers by {first} a round: votes to learn from."
    return f"{first} meets {second}, blind: votes to learn from."


def _take(signals: list[int]) -> None:
    """Let what ends a process end the session, as Ctrl-C does, and note which it was."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop(number: int) -> None:
        signals.append(number)
        if task is not None:
            task.cancel()

    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            with suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, stop, number)
