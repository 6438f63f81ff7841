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
from guildgpt.feedback.prompts import NewPrompt
from guildgpt.feedback.records import Candidate, Decision, Round
from guildgpt.feedback.store import Store
from simguild.fake import FakeMessage, messages

from .house import House

__all__ = ["finished", "here", "unpacked"]
pytestmark = pytest.mark.usefixtures("unhurried", "small_matrix_products")
VOTERS, ROUNDS = 5, 12  # enough to decide


async def command(bot: House, *arguments: str) -> str:
    store = ("--store", str(bot.database))
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *store])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


async def hold(store: Store, bot: House, decision: Decision | None = None) -> Round:
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
    place = {"guild_id": bot.guild.id, "channel_id": bot.channel.id}
    return await store.rounds.open(prompt, pair, "discord", decision_id=id, **place)


def post(bot: House, held: Round) -> FakeMessage:
    """The round's message."""
    buttons = view([Action(kind, held.comparison_id) for kind in ("left", "right", "tie")])
    body = {"content": "Which is better?", "components": buttons.to_components()}
    message = messages.write(bot.channel, body, {}, known=set(body))
    return messages.post(bot.fake.world, message, ping_reply=False)


@pytest.mark.slow
async def test_a_vote_goes_this_way(bot: House, finished: Path, here: Path) -> None:
    recipe = here / "votes.toml"
    recipe.write_text(
        'name = "votes"\npolicy = "open"\nstages = ["dpo"]\nmodel.context = 512\n'
        f'model.base = "{finished / "sft" / "model"}"\n'
        'data = { sources = ["feedback"], held_out = 0.0 }\n'
        'dpo = { steps = 1, dtype = "float32", learning_rate = 1e-2 }\n'
        "evaluate = { prompts = 0, max_tokens = 4 }\n"
    )
    await command(bot, "versions", "serve", str(finished / "sft" / "model"))
    learn = ("learn", "--recipe", str(recipe), "--least", "2", "--yes")
    async with bot.store() as store:
        texts = [f"What is lamp number {number}?" for number in range(20)]
        await store.prompts.add(NewPrompt(text, "tests", "CC0-1.0") for text in texts)
        taught = [await hold(store, bot) for _ in range(2)]
        shown = [post(bot, held) for held in taught]
        with footsteps() as passed:
            # In new threads: those that there are already are not looked at.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            for message in shown:
                await bot.press(message, "left")
            await bot.close()
            for held in taught:
                await store.rounds.end(held.id)
            assert "Rounds decide now" in await command(bot, *learn)
            tried = await store.decisions.current()
            assert tried is not None
            for _ in range(ROUNDS):
                held = await hold(store, bot, tried)
                for number in range(VOTERS):
                    member = await store.members.of_user(10**17 + number)
                    await store.votes.cast(held.comparison_id, member.id, "ranked", (0, 1))
                await store.rounds.end(held.id)
            assert "It answers from now on" in await command(bot, *learn)
            bot.model = None  # type: ignore[assignment]  # the one that the settings name
            await bot.open(model=str(here / "runs" / "learn" / "001" / "dpo" / "model"))
        [release] = await store.releases.current()
        assert release.version_id == tried.candidate_id
    assert astray(walk("Follow one vote"), passed) is None
    learned = "SELECT count(*) FROM lineage WHERE kind = 'vote' AND version_id = ?"
    assert bot.rows(learned, tried.candidate_id) == [(2,)]
