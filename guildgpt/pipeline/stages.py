"""The stages, in the order in which a recipe may name them: what each starts from, what rows it
reads, how it is trained from them to a plain transformers model, and what it leaves.

`run_stage` in `run.py` takes every row of the table below down the same road; nothing else knows
one stage from another. To add one that reads rows of a kind known here (another loss on
`comparisons`, say), write its loop in `train/`, name it and its section in `recipe.py`, and add its
trainer and its row here. Rows of a new kind are made ready in `prepare.py` and counted in
`plan.py`.
"""

from __future__ import annotations

from collections import Counter

from safetensors.torch import save as to_bytes

from guildgpt.bases.base import Base
from guildgpt.bases.locate import locate_base
from guildgpt.network.hats import POLICY, REWARD, Hats
from guildgpt.network.reward_model import (
    RewardModel,
    RewardRecord,
    check_same_language,
    classifier,
    mean_head,
    reward_files,
    wear_reward_model,
)
from guildgpt.pipeline.stage import Prepared, StageKind, StageRun, Trained
from guildgpt.recipe import Stage
from guildgpt.rewards.terms import Rewards
from guildgpt.train.config import RolloutConfig
from guildgpt.train.dpo import train_dpo
from guildgpt.train.grpo import Grpo
from guildgpt.train.kto import train_kto
from guildgpt.train.loop import Job, Outcome
from guildgpt.train.next_token import pretrain, sft
from guildgpt.train.on_policy import Method, train_on_policy
from guildgpt.train.ppo import Ppo, value_model
from guildgpt.train.reward import train_reward
from guildgpt.train.rollout import Scoring


def train_on_documents(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """Pretraining."""
    config, context = run.recipe.pretrain, run.recipe.model.context
    return Trained(*pretrain(base, rows.train, rows.held_out, config, job, context=context))


def train_on_conversations(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """Supervised fine-tuning."""
    return Trained(*sft(base, rows.train, rows.held_out, run.recipe.sft, job))


def train_to_score(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """A reward model, its scores shifted so that what people wrote scores 0."""
    demonstrations = [example for some in rows.held_out.values() for example in some]
    demonstrations = demonstrations or rows.train[:64]
    if not demonstrations:
        run.say("no conversation is there to score 0: scores are not shifted")
    trained = train_reward(
        base,
        rows.compared.train,
        rows.compared.held_out,
        demonstrations,
        run.recipe.reward,
        job,
    )
    heads = trained.model.heads
    head = mean_head(heads)
    record = RewardRecord(
        bias=float(head.bias),
        base_sha256=base_sha256(run),
        adapter=trained.hats.config(REWARD).model_dump(),
        learned=dict(Counter(row.source for row in rows.compared.train)),
    )
    files = reward_files(trained.hats, REWARD, record, heads)
    model = classifier(trained.hats.merged(REWARD), head.to("cpu"), base.chat)
    best = trained.best_step
    notes = [f"the weights of step {best} were the best and kept"] if best is not None else []
    return Trained(model, trained.outcome, files, notes)


def train_with_dpo(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """A policy, from comparisons directly."""
    hats, compared, config = bare(run, base), rows.compared, run.recipe.dpo
    some = compared.train, compared.held_out
    return _policy(hats, train_dpo(hats, *some, config, job, rows.demonstrations))


def train_with_kto(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """A policy, from answers that somebody called good or bad."""
    hats, rated = bare(run, base), rows.rated
    return _policy(hats, train_kto(hats, rated.train, rated.held_out, run.recipe.kto, job))


def train_with_grpo(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """A policy, from answers of its own held against each other."""
    config = run.recipe.grpo
    hats = bare(run, base)
    reward = wear_reward(run, hats, base)
    return _on_policy(Grpo(config), hats, rows, reward, config, base, job)


def train_with_ppo(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
    """A policy, from answers of its own and a value model's forecasts."""
    config = run.recipe.ppo
    hats = bare(run, base)
    reward = wear_reward(run, hats, base)
    value = value_model(hats, reward, config, job.seed)
    states = config.value_trunk == "reward"
    return _on_policy(Ppo(config, value), hats, rows, reward, config, base, job, states=states)


def bare(run: StageRun, base: Base) -> Hats:
    """The base, ready to be worn hats on."""
    return Hats(base.model, run.world.dtype(run.settings.dtype), run.world.device)


def wear_reward(run: StageRun, hats: Hats, base: Base) -> RewardModel | None:
    """The reward model that a policy is trained against, if there is one: as a hat, where it was
    trained on this base."""
    folder = run.start.reward
    if folder is None:
        return None
    check_same_language(folder, base.chat)
    return wear_reward_model(hats, REWARD, folder, base_sha256(run), run.settings.micro_tokens)


def base_sha256(run: StageRun) -> str:
    """The hash of the weights that a stage starts from."""
    return locate_base(run.start.base).sha256()


def _on_policy(
    method: Method,
    hats: Hats,
    rows: Prepared,
    reward: RewardModel | None,
    config: RolloutConfig,
    base: Base,
    job: Job,
    *,
    states: bool = False,
) -> Trained:
    """A policy that learns from answers of its own; with `states`, scoring returns what the value
    head reads."""
    tokenizer, eos_id = base.chat.tokenizer, base.chat.eos_id
    scorer = Scoring(reward, config.reward_weight, Rewards(config.terms), states=states)
    outcome = train_on_policy(
        method,
        hats,
        rows.prompts,
        scorer,
        tokenizer,
        eos_id,
        job,
        demonstrations=rows.demonstrations,
    )
    return _policy(hats, outcome)


def _policy(hats: Hats, outcome: Outcome) -> Trained:
    adapter = to_bytes(hats.adapter_weights(POLICY))
    return Trained(hats.merged(POLICY), outcome, adapter=adapter)


STAGES: dict[Stage, StageKind] = {
    "pretrain": StageKind("documents", train_on_documents),
    "sft": StageKind("conversations", train_on_conversations),
    "reward": StageKind("comparisons", train_to_score, scores=True),
    "judge": StageKind("comparisons", train_to_score, scores=True, judges=True),
    "dpo": StageKind("comparisons", train_with_dpo, changes_answers=True),
    "kto": StageKind("ratings", train_with_kto, changes_answers=True),
    "grpo": StageKind("prompts", train_with_grpo, changes_answers=True),
    "ppo": StageKind("prompts", train_with_ppo, changes_answers=True),
}
