"""A vote goes the way that CONTRIBUTING.md says, from the click to the next model."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from old.samples import finished, here, unpacked
from typer.testing import CliRunner
from walks import astray, footsteps, walk

from guildgpt.cli import app

from .house import House

__all__ = ["finished", "here", "unpacked"]
pytestmark = pytest.mark.usefixtures("unhurried", "small_matrix_products")


async def command(*arguments: str) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)


@pytest.mark.slow
async def test_a_vote_goes_this_way(bot: House, finished: Path, here: Path) -> None:
    answers = iter(["A protocol that encrypts.", "Nobody knows."])
    bot.model.answer = lambda prompt: next(answers)
    await bot.command("privacy", consent="train")
    shown = (await bot.command("compare", question="What is TLS?")).responses[0]
    recipe = here / "votes.toml"
    recipe.write_text(
        'name = "votes"\npolicy = "open"\nstages = ["reward", "ppo"]\nmodel.context = 512\n'
        f'model.base = "{finished / "sft" / "model"}"\n'
        'data.sources = [{ source = "jsonl:votes.jsonl", licence = "own" }]\n'
        'reward = { steps = 1, dtype = "float32" }\n'
        'ppo = { steps = 1, dtype = "float32", batch_size = 4, max_new_tokens = 8 }\n'
        "evaluate = { prompts = 0, max_tokens = 4 }\n"
    )
    with footsteps() as passed:
        # In new threads: those that there are already are not looked at.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        await bot.press(shown, "left")
        await bot.close()
        store = ("--store", str(bot.database))
        export = ("feedback", "export", "preference", "--out", "votes.jsonl", "--train-on-members")
        await command(*export, *store)
        await command("train", str(recipe))
        model = here / "runs" / "votes" / "ppo" / "model"
        bot.model = None  # type: ignore[assignment]  # the one that the settings name
        await bot.open(model=str(model))
    assert astray(walk("Follow one vote"), passed) is None
    learned = bot.rows("SELECT count(*) FROM lineage WHERE kind = 'vote'")
    assert learned == [(1,)]
