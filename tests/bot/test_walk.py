"""A vote goes the way that CONTRIBUTING.md says, from the click to the next model."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from old.samples import finished, here, unpacked
from typer.testing import CliRunner
from walks import astray, footsteps, walk

from guildgpt.bot.adapter.controls import view
from guildgpt.bot.answers.buttons import Action
from guildgpt.cli import app
from guildgpt.feedback.records import Candidate, Decision, Round
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from simguild.fake import FakeMessage, messages

from .house import House

__all__ = ["finished", "here", "unpacked"]
pytestmark = pytest.mark.usefixtures("unhurried")
VOTERS, ROUNDS = 5, 12  # enough to decide


async def command(house: House, *arguments: str) -> str:
    store = ("--store", str(house.database))
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *store])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


async def hold(store: Store, house: House, decision: Decision | None = None) -> Round:
    """A round in the channel: two by who serves, or the candidate and who serves."""
    [serving, *_] = await store.releases.current()
    chance, id = Random(0), decision.id if decision else None
    prompt = await store.prompts.next("decide" if id else "train", chance, decision_id=id)
    assert prompt is not None
    first = (decision and decision.candidate_id) or serving.version_id
    pair = [
        Candidate("A protocol that encrypts.", first, None, "eos"),
        Candidate("Nobody knows.", serving.version_id, None, "eos"),
    ]
    place = {"guild_id": house.guild.id, "channel_id": house.channel.id}
    return await store.rounds.open(prompt, pair, "discord", decision_id=id, **place)


def post(house: House, held: Round) -> FakeMessage:
    """The round's message."""
    buttons = view([Action(kind, held.comparison_id) for kind in ("left", "right", "tie")])
    body = {"content": "Which is better?", "components": buttons.to_components()}
    message = messages.write(house.channel, body, {}, known=set(body))
    return messages.post(house.fake.world, message, ping_reply=False)


async def decide(store: Store, held: Round) -> None:
    """All who vote prefer the candidate, and the round closes."""
    for number in range(VOTERS):
        member = await store.members.of_user(10**17 + number)
        await store.votes.cast(held.comparison_id, member.id, "ranked", (0, 1))
    await store.rounds.end(held.id)


@pytest.mark.slow
async def test_a_vote_goes_this_way(house: House, finished: Path, here: Path) -> None:
    ancestor, recipe = str(finished / "sft" / "model"), here / "votes.toml"
    recipe.write_text(
        'name = "votes"\npolicy = "open"\nstages = ["dpo"]\n'
        f'model = {{ base = "{ancestor}", context = 512 }}\n'
        'data = { sources = ["feedback"], held_out = 0.0 }\n'
        'dpo = { steps = 1, dtype = "float32", learning_rate = 1e-2 }\n'
        "evaluate = { prompts = 0, max_tokens = 4 }\n"
    )
    learn = ("learn", "--recipe", str(recipe), "--least", "2", "--yes")
    await command(house, "versions", "serve", ancestor)
    house.model = None  # type: ignore[assignment]  # nothing stands in for who was released
    await house.open()
    async with house.store() as store:
        texts = [f"What is lamp number {number}?" for number in range(20)]
        await store.prompts.add(NewPrompt(text, "tests", "CC0-1.0") for text in texts)
        rounds = [await hold(store, house) for _ in range(2)]
        shown = [post(house, one) for one in rounds]
        with footsteps() as passed:
            # In new threads: those that there are already are not looked at.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            for message in shown:
                await house.press(message, "left")
            await house.close()
            for one in rounds:
                await store.rounds.end(one.id)
            assert "Rounds decide now" in await command(house, *learn)
            tried = await store.decisions.current()
            assert tried is not None
            for _ in range(ROUNDS):
                await decide(store, await hold(store, house, tried))
            assert "It answers from now on" in await command(house, *learn)
            await house.open()
    assert astray(walk("Follow one vote"), passed) is None
    learned = "SELECT count(*) FROM lineage WHERE kind = 'vote' AND version_id = ?"
    assert house.rows(learned, tried.candidate_id) == [(2,)]
    answers = "SELECT version_id FROM messages WHERE role = 'assistant' ORDER BY created_at"
    known = house.rows(answers)
    while (found := house.rows(answers)) == known:  # a tiny model may say nothing: not kept
        await house.ask("What is TLS?")
    assert found == [*known, (tried.candidate_id,)]
