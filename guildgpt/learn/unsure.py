"""Which pairs are worth a vote: those of which the votes so far do not say what people like better.

    train     a reward model with several heads learns from the votes, each without a part of them
    write     who serves answers prompts of the pool that are for training, twice each
    score     where the heads disagree which of the two is the better one, it is unsure
    put       the pairs that it is least sure of wait for rounds to learn from

Rounds that decide ask none of them (see `talk.asked_prompts`). The reward model learned from votes,
and goes once it has scored.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

import torch
from rich.console import Console
from torch import Tensor

from guildgpt.bases.base import load_tokenizer
from guildgpt.chat import Message
from guildgpt.data.examples import answering
from guildgpt.engines.engine import SamplingParams
from guildgpt.evaluate.opening import as_trained
from guildgpt.evaluate.samples import complete_all
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.exporting.learnable import take
from guildgpt.feedback.records import Candidate, PoolPrompt
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.proposals import NewProposal
from guildgpt.feedback.voting.teaching import EVERYBODY, Teaching
from guildgpt.learn.answering import open_engine
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.network.reward_model import RewardModel, load_reward_model
from guildgpt.network.world import World
from guildgpt.pipeline.run import run
from guildgpt.recipe import Recipe, find_recipe, load_recipe

LEAST = 40  # comparisons; of fewer all heads know nothing, and disagree on everything
HEADS = 5
WRITTEN = 48  # pairs that are scored
KEPT = 16  # and of these so many are proposed
CONTEXT = 512
PARAMS = SamplingParams(temperature=0.8, top_k=0, top_p=1.0, max_tokens=96)
CONCURRENCY = 4


def propose(
    store: str,
    recipe: str,
    overrides: Sequence[str],
    work: Path,
    console: Console,
    say: Callable[[str], None],
    *,
    teaching: Teaching = EVERYBODY,
    members: bool = False,
) -> int:
    """Write, score and put down the pairs that rounds may ask; how many wait now. Nothing where
    nobody serves.

    `recipe` is the turn's, `teaching` whose votes it takes, `members` its switch for their own
    text; `work` is a folder of its own,
    and gone afterwards.
    """

    async def asked(opened: Store) -> tuple[str, str, list[PoolPrompt]]:
        serving = await opened.releases.current()
        version = await opened.versions.by_id(serving[0].version_id) if serving else None
        prompts = [one for one in await opened.prompts.all("accepted") if one.purpose == "train"]
        return (version.id, version.path, prompts) if version else ("", "", [])

    version_id, model, prompts = with_store(store, asked)
    chosen = Random(f"unsure {version_id}").sample(prompts, min(WRITTEN, len(prompts)))
    if not chosen:
        return 0
    shutil.rmtree(work, ignore_errors=True)
    try:
        say("A reward model learns from the votes, to see where it is unsure.")
        with_store(
            store,
            lambda opened: take(opened, work, teaching=teaching, ratings=False, members=members),
        )
        ensemble = _ensemble(recipe, overrides, work, console)
        chat = load_tokenizer(as_trained(model))[0]
        say(f"{len(chosen):,} prompts are answered twice.")
        pairs = asyncio.run(_pairs(model, version_id, chat, chosen))
        unsure = disagreement(_differences(ensemble, chat, pairs))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found = [
        NewProposal(prompt.id, answers, float(value))
        for (prompt, answers), value in zip(pairs, unsure, strict=True)
    ]
    found.sort(key=lambda one: -one.unsure)
    return with_store(store, lambda opened: opened.proposals.put(found[:KEPT]))


def disagreement(differences: Tensor) -> Tensor:
    """s / √(m² + s²) of each row of score differences (pairs, heads): 0 where all heads agree, near
    1 where their spread s is large beside their mean m."""
    mean, spread = differences.mean(1), differences.std(1, correction=0)
    return spread / torch.hypot(mean, spread).clamp(min=torch.finfo(spread.dtype).tiny)


def _ensemble(name: str, overrides: Sequence[str], work: Path, console: Console) -> RewardModel:
    """A reward model of several heads, from the votes that were taken into `work`."""
    heads = [f"reward.heads={HEADS}", 'stages=["reward"]', "data.held_out=0"]
    recipe = load_recipe(find_recipe(name), [*overrides, *heads])
    run(recipe, find_recipe(name).read_text(encoding="utf-8"), work, console=console)
    return _opened(recipe, work / "reward" / "model")


def _opened(recipe: Recipe, folder: Path) -> RewardModel:
    world = World()
    tokens = recipe.reward.micro_tokens
    return load_reward_model(folder, world.dtype(recipe.reward.dtype), world.device, tokens)


async def _pairs(
    model: str, version_id: str, chat: ChatTokenizer, prompts: Sequence[PoolPrompt]
) -> list[tuple[PoolPrompt, tuple[Candidate, Candidate]]]:
    """Two different answers to each prompt; one that is answered alike has none."""
    ids = [chat.template.prompt([Message("user", one.text)], chat.tokenizer) for one in prompts]
    fits = [at for at, one in enumerate(ids) if len(one) + PARAMS.max_tokens < CONTEXT]
    engine = open_engine(model, chat, CONTEXT, CONCURRENCY)
    try:
        said = await complete_all(
            engine,
            [ids[at] for at in fits for _ in (0, 1)],
            PARAMS,
            seed=0,
            concurrency=CONCURRENCY,
        )
    finally:
        await engine.close()
    sampling = asdict(PARAMS)
    written = [Candidate(one.text.rstrip(), version_id, sampling, one.stop) for one in said]
    pairs = zip(written[::2], written[1::2], strict=True)
    return [
        (prompts[at], (first, second))
        for at, (first, second) in zip(fits, pairs, strict=True)
        if first.text.strip() and second.text.strip() and first.text != second.text
    ]


def _differences(
    ensemble: RewardModel,
    chat: ChatTokenizer,
    pairs: Sequence[tuple[PoolPrompt, tuple[Candidate, Candidate]]],
) -> Tensor:
    """By how much each head scores the first answer higher than the second (pairs, heads)."""
    examples = []
    for prompt, answers in pairs:
        asked = chat.template.prompt([Message("user", prompt.text)], chat.tokenizer)
        for one in answers:
            examples.append(answering(asked, chat.template.answer(one.text, chat.tokenizer), ""))
    if not examples:
        return torch.zeros(0, HEADS)
    scores = ensemble.scores_by_head(examples)
    return scores[::2] - scores[1::2]
