"""Stages that teach a model to answer as people like it: DPO, GRPO and PPO.

Read `policy_stage` from top to bottom: load, put on the hats, train, save, hold the answers against
those it gave before, measure, report.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from guildgpt.bases.base import Base, load_base
from guildgpt.data.origin import learned_from
from guildgpt.errors import RecipeError
from guildgpt.evaluate.head_to_head import divergence, head_to_head, write
from guildgpt.evaluate.model import Measured
from guildgpt.evaluate.win_rate import HeadToHead
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import (
    RewardModel,
    check_same_language,
    load_reward_model,
    wear_reward_model,
)
from guildgpt.network.sampler import Sampling
from guildgpt.pipeline.before_after import measured_after, measured_before
from guildgpt.pipeline.folder import keep, kept, read_outcome, write_outcome
from guildgpt.pipeline.language import save_language_model
from guildgpt.pipeline.prepare import (
    Prepared,
    judged_prompts,
    prepare_comparisons,
    prepare_prompts,
    reward_folder,
)
from guildgpt.pipeline.report import stage_report
from guildgpt.pipeline.reward import base_sha256
from guildgpt.pipeline.stage import StageRun, language_before, stage_rows
from guildgpt.report.report import Report
from guildgpt.train.config import DpoConfig, RolloutConfig
from guildgpt.train.dpo import train_dpo
from guildgpt.train.grpo import train_grpo
from guildgpt.train.loop import Outcome
from guildgpt.train.on_policy import POLICY
from guildgpt.train.ppo import train_ppo
from guildgpt.train.progress import ProgressWatcher
from guildgpt.train.scoring import Scoring

REWARD = "reward"
ADAPTER = "policy.safetensors"
HEAD_TO_HEAD = "head_to_head.json"


def policy_stage(run: StageRun) -> Report:
    """One of DPO, GRPO and PPO, from the model before it to a report that compares the two."""
    recipe, place = run.recipe, run.place
    with run.phase("load"):
        torch.manual_seed(recipe.seed)
        base = load_base(run.base)
        parameters = sum(p.numel() for p in base.model.parameters())
        prepared, provenance = stage_rows(run, base)
        _warn_of_untrained_tokens(run, base)

    with run.phase("measure before"):
        before = _before(run, base, prepared)

    outcome = read_outcome(place)
    if outcome is None:
        hats = _hats(run, base)
        reward = _reward(run, hats, base)
        with run.phase("train"):
            outcome = _train(run, hats, reward, base, prepared)
        with run.phase("save"):
            (place / ADAPTER).write_bytes(to_bytes(hats.adapter_weights(POLICY)))
            model = hats.merged(POLICY)
            save_language_model(run, model, base.chat, provenance, outcome)
            write_outcome(place, outcome)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        del model, hats, reward
    del base
    gc.collect()  # before a model is loaded again: memory holds one of them

    result = kept(place / HEAD_TO_HEAD, HeadToHead)
    if result is None and (place / ADAPTER).is_file():
        with run.phase("compare"):
            result = run.measured("the policy beside what it came from", lambda: _compare(run))
    (place / ADAPTER).unlink(missing_ok=True)

    with run.phase("measure after"):
        after = run.measured(
            "the trained model",
            lambda: measured_after(recipe, run.stage, place, prepared, run.console, run.world),
        )
    return stage_report(
        run,
        prepared=prepared,
        provenance=provenance,
        parameters=parameters,
        outcome=outcome,
        before=before,
        after=after,
        head_to_head=result,
    )


@dataclass(frozen=True)
class Rewarding:
    """The reward model, and the hat it is if it is one."""

    model: RewardModel
    hat: str | None


def _warn_of_untrained_tokens(run: StageRun, base: Base) -> None:
    """Adapters train no row of the embedding: who never saw a chat does not learn to end a turn."""
    new = set(base.chat.new_tokens) & set(base.chat.control_ids)
    if new:
        names = " and ".join(base.chat.tokenizer.token_text(token) for token in sorted(new))
        run.warn(
            f"the base never saw {names}, and `{run.stage}` does not train them: put `sft` before "
            "it, or its answers will not end"
        )


def _hats(run: StageRun, base: Base) -> Hats:
    device = run.world.device
    return Hats(base.model, pick_dtype(run.recipe.settings(run.stage).dtype, device), device)


def _reward(run: StageRun, hats: Hats, base: Base) -> Rewarding | None:
    """The reward model that the stage is trained against: the recipe's own, or one named."""
    settings = run.recipe.settings(run.stage)
    folder = reward_folder(run.stage, run.recipe, run.folder)
    if folder is None:
        return None
    check_same_language(folder, base.chat)
    model = wear_reward_model(hats, REWARD, folder, base_sha256(run), settings.micro_tokens)
    return Rewarding(model, REWARD if model.trunk.model is hats.model else None)


def _train(
    run: StageRun, hats: Hats, reward: Rewarding | None, base: Base, prepared: Prepared
) -> Outcome:
    watcher = ProgressWatcher(run.console, run.stage)
    recipe = run.recipe
    job = run.job(watcher)
    try:
        if run.stage == "dpo":
            compared = prepare_comparisons(run.stage, recipe, run.data, base.chat)
            run.say(f"{len(compared.train):,} comparisons to train on")
            run.learned.update(learned_from(compared.train))
            return train_dpo(hats, compared.train, compared.held_out, recipe.dpo, job)
        settings = recipe.settings(run.stage)
        assert isinstance(settings, RolloutConfig)
        prompts, too_long = prepare_prompts(run.stage, recipe, run.data, base.chat)
        run.say(f"{len(prompts):,} prompts to answer, {too_long:,} left out as too long")
        run.learned.update(learned_from(prompts))
        scorer = Scoring(
            reward.model if reward else None,
            settings.reward_weight,
            settings.terms,
            base.chat.eos_id,
        )
        rest = (base.chat.tokenizer, base.chat.eos_id, job)
        if run.stage == "grpo":
            return train_grpo(hats, prompts, scorer, recipe.grpo, *rest)
        return train_ppo(
            hats,
            reward.model if reward else None,
            reward.hat if reward else None,
            prompts,
            scorer,
            recipe.ppo,
            *rest,
        )
    finally:
        watcher.close()


def _before(run: StageRun, base: Base, prepared: Prepared) -> Measured:
    """The figures of what the stage starts from; those that its own stage measured, if one did.

    Where that one could not, nor is it tried again here.
    """
    if measured := kept(Path(run.base.base).parent / "after.json", Measured):
        return measured
    if language_before(run.stage, run.recipe):
        return Measured({}, [])
    return measured_before(
        run.recipe, run.stage, run.place, base, run.base, prepared, run.console, run.world
    )


def _compare(run: StageRun) -> HeadToHead:
    """The policy against what it came from, on prompts that no stage was trained on."""
    settings, evaluation = run.recipe.settings(run.stage), run.recipe.evaluate
    assert isinstance(settings, DpoConfig | RolloutConfig)
    base = load_base(run.base)
    asked = judged_prompts(run.recipe, run.data)
    limit = run.recipe.model.context - evaluation.max_tokens
    fits = [
        index
        for index, prompt in enumerate(asked)
        if len(base.chat.template.prompt(prompt, base.chat.tokenizer)) <= limit
    ]
    if not fits:
        raise RecipeError(
            f"none of {len(asked):,} prompts leaves room for an answer of "
            f"{evaluation.max_tokens:,} tokens in a context of {run.recipe.model.context:,}"
        )
    places = [index for index in fits for _ in range(evaluation.judged_answers)]
    prompts = [asked[index] for index in places]
    temperature = getattr(settings, "temperature", 1.0)
    sampling = Sampling(evaluation.max_tokens, temperature)
    hats = _hats(run, base)
    reward = _reward(run, hats, base)
    hats.add(
        POLICY,
        settings.lora,
        seed=run.recipe.seed,
        weights=load_file(run.place / ADAPTER),
    )
    policy, reference = hats.trunk(POLICY), hats.trunk(None)
    with run.console.status("answering held-out prompts before and after"):
        before, after = (
            write(trunk, base.chat, prompts, sampling, seed=run.recipe.seed)
            for trunk in (reference, policy)
        )
        kl = divergence(policy, reference, after, temperature, settings.micro_tokens)
        result = head_to_head(
            before,
            after,
            base.chat.eos_id,
            judge=_judge(run, base),
            reward=reward.model if reward else None,
            kl=kl,
            prompts=places,
        )
    keep(run.place / HEAD_TO_HEAD, HeadToHead, result)
    for line in head_to_head_lines(result):
        run.say(line)
    return result


def _judge(run: StageRun, base: Base) -> RewardModel | None:
    """The second reward model, which the policy was never trained against."""
    folder = run.folder / "judge" / "model"
    if "judge" not in run.recipe.stages[: run.recipe.stages.index(run.stage)]:
        return None
    check_same_language(folder, base.chat)
    device = run.world.device
    dtype = pick_dtype(run.recipe.reward.dtype, device)
    return load_reward_model(folder, dtype, device, run.recipe.reward.micro_tokens)


def head_to_head_lines(result: HeadToHead) -> Sequence[str]:
    """A comparison of two models in sentences."""
    lines = []
    if result.verdicts:
        v = result.verdicts
        lines.append(
            f"the judge prefers it to the model it came from in {v.controlled:.1%} of "
            f"{v.comparisons:,} comparisons at equal length (95 % interval {v.controlled_low:.1%} "
            f"to {v.controlled_high:.1%}), {v.rate:.1%} as they are"
        )
    if result.reward_after is not None and result.reward_before is not None:
        lines.append(
            f"held-out reward {result.reward_before:+.2f} before, {result.reward_after:+.2f} after"
        )
    if result.kl is not None:
        lines.append(f"{result.kl:.1f} nats an answer away from it")
    return lines
