"""What a recipe says of its stages. No torch here: recipes are read without it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from guildgpt.data.provenance import UNKNOWN, WrittenBy
from guildgpt.model.config import AdapterConfig, Dtype
from guildgpt.rewards.config import RewardTerms

Beta = Annotated[float, Field(ge=0, lt=1)]
Score = Annotated[float, Field(ge=-1000, le=1000)]


class TrainConfig(BaseModel):
    """What every stage's loop knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: float = Field(default=1.0, gt=0, le=10_000)
    """How often all rows are seen; 0.5 is half of them."""
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Optimizer steps; goes before `epochs`."""
    batch_size: int = Field(default=16, ge=1, le=1_000_000)
    """Rows per optimizer step, however many passes they take."""
    micro_tokens: int = Field(default=1024, ge=1, le=100_000_000)
    """Tokens per forward and backward pass at most, one row at least. Memory follows it; results
    change by no more than rounding."""
    learning_rate: float = Field(default=2e-4, gt=0, le=10)
    """The highest."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The share of steps over which the learning rate rises from 0."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How it falls afterwards."""
    final: float = Field(default=0.1, ge=0, le=1)
    """The learning rate at the end, as a share of the highest."""
    weight_decay: float = Field(default=0.0, ge=0, le=100)
    """AdamW's, on matrices only."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's."""
    eps: float = Field(default=1e-8, ge=1e-20, le=1)
    """AdamW's: what keeps it from dividing by nothing."""
    clip: float = Field(default=1.0, gt=0, le=1_000_000_000)
    """The gradient's norm at most."""
    dtype: Dtype = "auto"
    """Of the computation. `auto` is bfloat16 where the processor multiplies it natively."""
    checkpoint_minutes: float = Field(default=5.0, ge=0, le=1_000_000)
    """Time between checkpoints; 0 writes one after every step."""
    keep_checkpoints: int = Field(default=2, ge=1, le=1_000_000)
    """How many are kept."""
    tensorboard: bool = False
    """Also write TensorBoard's files."""


class RowsConfig(TrainConfig):
    """What the stages know that learn from rows and hold some of them out."""

    evaluations: int = Field(default=4, ge=0, le=1_000_000)
    """How often held-out rows are measured on the way, evenly spread."""
    evaluation_rows: int = Field(default=32, ge=1, le=1_000_000_000)
    """Rows of each source that these measurements take; those before and after take all."""


class SftConfig(RowsConfig):
    """The `[sft]` section: supervised fine-tuning on conversations."""

    adapter: Literal["lora", "none"] = "lora"
    """Low-rank adapters on all linear layers, or all weights."""
    lora: AdapterConfig = AdapterConfig()
    """The adapters' shape."""
    train_chat_tokens: bool = False
    """With adapters, train the rows of the chat tokens too: for a base whose vocabulary lists them
    although it never saw a chat (SmolLM2's bases). Rows that had to be added are always trained."""
    unlikelihood: float = Field(default=0.0, ge=0, le=1000)
    """The weight of -log(1 - p) of sentences that an answer says again, against loops."""
    repeating: float = Field(default=0.5, ge=0, le=1)
    """The rows made for it, as a share of all rows."""
    too_long: Literal["shorten", "drop"] = "shorten"
    """Rows over the context: keep the first whole exchanges that fit, or leave the row out."""


class PretrainConfig(RowsConfig):
    """The `[pretrain]` section: next-token prediction on packed plain text."""

    documents: list[str] = []
    """Text files, or folders of `*.txt` and `*.md`."""
    separator: str | None = None
    """A line that ends a document, where files hold several."""
    licence: str = UNKNOWN
    """The documents' licence: an SPDX id, or `own`."""
    written_by: WrittenBy = "unknown"
    """Who wrote them."""
    attribution: str = ""
    """Whom to credit on the model card."""
    held_out: float = Field(default=0.05, ge=0, lt=1)
    """The share of documents never trained on."""
    batch_size: int = Field(default=8, ge=1, le=1_000_000)
    """Rows per optimizer step, each a context packed full of documents."""
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    weight_decay: float = Field(default=0.1, ge=0, le=100)


class RewardConfig(RowsConfig):
    """The `[reward]` section: a scalar model that learns which of two answers is better.

    The `judge` stage trains with the same settings on the other half of the comparisons.
    """

    lora: AdapterConfig = AdapterConfig()
    """The adapters' shape."""
    batch_size: int = Field(default=8, ge=1, le=1_000_000)
    """Prompts per optimizer step, each with all its answers."""
    learning_rate: float = Field(default=2e-4, gt=0, le=10)
    centring: float = Field(default=0.01, ge=0, le=1000)
    """The weight of (r_better + r_worse)², which holds scores around zero."""
    margin: float = Field(default=0.0, ge=0, le=1000)
    """How far apart two answers should score, for each place between them in a ranking."""
    balance_length: bool = False
    """Pairs whose lengths foretell the better answer count less, those that go against them more,
    so that length tells nothing."""
    length_weight: float = Field(default=0.0, ge=0, le=1000)
    """The weight of the squared correlation of score differences with length differences
    (arXiv 2402.07319)."""
    heads: int = Field(default=1, ge=1, le=16)
    """Scalar heads on the one trunk, each trained without a part of the prompts of its own; the
    score is their mean, and the report says how far they disagree."""
    best_by: Literal["accuracy", "equal_length"] = "accuracy"
    """What tells the best weights, and when to stop: accuracy on held-out comparisons, or that with
    length regressed out of the score."""
    evaluations: int = Field(default=6, ge=0, le=1_000_000)
    patience: int = Field(default=3, ge=0, le=1_000_000)
    """Measurements in a row without a gain before training stops; 0 never stops."""


class PolicyConfig(TrainConfig):
    """What every stage knows that teaches a model which answers already, by an adapter."""

    lora: AdapterConfig = AdapterConfig()
    """The adapters' shape."""


class DemonstrationsConfig(BaseModel):
    """Conversations beside what a policy learns from otherwise: so that what fine-tuning taught is
    not forgotten (PPO-ptx: Ouyang et al. 2022, arXiv 2203.02155, eq. 2), or that what people
    worded better is imitated. Answers that were only rated are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: float = Field(default=0.0, ge=0, le=1000)
    """Of the mean of -log p over these rows' trained tokens, beside the mean of the method's own
    loss, over tokens or prompts; 0 leaves them out."""
    rows: int = Field(default=8, ge=1, le=1_000_000)
    """Rows an optimizer step."""


class DpoConfig(PolicyConfig, RowsConfig):
    """The `[dpo]` section: the policy learns from comparisons directly, without a reward model."""

    batch_size: int = Field(default=8, ge=1, le=1_000_000)
    """Prompts per optimizer step, each with all its answers."""
    learning_rate: float = Field(default=5e-5, gt=0, le=10)
    beta: float = Field(default=0.1, gt=0, le=1000)
    """How dearly the policy is held to the model it starts from."""
    smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of comparisons taken to be the wrong way round."""
    demonstrations: DemonstrationsConfig = DemonstrationsConfig()
    """What is imitated beside them."""


class KtoConfig(PolicyConfig, RowsConfig):
    """The `[kto]` section: the policy learns from answers that somebody called good or bad, one by
    one (Ethayarajh et al. 2024, arXiv 2402.01306). Comparisons give such answers, too."""

    batch_size: int = Field(default=16, ge=1, le=1_000_000)
    """Answers per optimizer step; of few, it is hardly known how far the policy has moved."""
    learning_rate: float = Field(default=5e-5, gt=0, le=10)
    beta: float = Field(default=0.1, gt=0, le=1000)
    """How dearly the policy is held to the model it starts from."""
    good_weight: float = Field(default=1.0, gt=0, le=1000)
    """What a good answer counts."""
    bad_weight: float = Field(default=1.0, gt=0, le=1000)
    """What a bad one counts."""
    balance: bool = True
    """The rarer ones count more, so that by these weights all good answers together count as much
    as all bad ones."""


class KlConfig(BaseModel):
    """The price of moving away from the reference, in reward per nat."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    beta: float = Field(default=0.05, ge=0, le=1000)
    """Reward per nat; with `adaptive`, the one to start from."""
    adaptive: bool = False
    """Steer the price so that the KL nears `target`."""
    target: float = Field(default=6.0, ge=1e-6, le=1_000_000)
    """Nats an answer."""
    horizon: int = Field(default=10_000, ge=1, le=1_000_000_000)
    """Episodes over which the price may change by a fifth."""


class GuardConfig(BaseModel):
    """Limits at which reinforcement learning stops and says why; each is a mean over `window`
    iterations."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    window: int = Field(default=3, ge=1, le=1_000_000)
    """Iterations whose mean is looked at."""
    max_kl: float = Field(default=30.0, gt=0, le=1_000_000_000)
    """Nats an answer."""
    min_entropy: float = Field(default=0.2, ge=0, le=1)
    """Of the entropy that a token had at the start."""
    min_length: float = Field(default=0.25, ge=0, le=1)
    """Of the tokens that an answer had at the start."""
    max_length: float = Field(default=2.0, ge=1, le=1_000_000_000)
    """Of the tokens that an answer had at the start."""
    max_cut: float = Field(default=0.25, gt=0, le=1_000_000_000)
    """How far the share of answers that do not end may rise."""
    max_loops: float = Field(default=0.15, gt=0, le=1_000_000_000)
    """How far the share of answers that loop may rise while the reward rises."""


class RolloutConfig(PolicyConfig):
    """What PPO and GRPO have in common: answers are written, scored, and learned from."""

    epochs: float = Field(default=1.0, gt=0, le=10_000)
    """How often each prompt is answered; 0.5 is half of them."""
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Iterations: answers are written, scored and learned from. Goes before `epochs`."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Answers an iteration."""
    group: int = Field(default=1, ge=1, le=1_000_000)
    """Answers to each prompt; `batch_size` is a multiple of it. With several, a score counts by how
    far it is above the mean of the others'."""
    learning_rate: float = Field(default=1e-4, gt=0, le=10)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    decay: Literal["cosine", "linear", "constant"] = "linear"
    final: float = Field(default=0.0, ge=0, le=1)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-5, ge=1e-20, le=1)
    max_prompt_tokens: int = Field(default=256, ge=1, le=10_000_000)
    """Longer prompts are left out and counted."""
    max_new_tokens: int = Field(default=64, ge=1, le=10_000_000)
    """Tokens of an answer at most."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Divides the logits when answers are written and when they are learned from."""
    sample_rows: int = Field(default=32, ge=1, le=1_000_000)
    """Answers that are written at the same time."""
    passes: int = Field(default=4, ge=1, le=10_000)
    """How often an iteration goes over its answers."""
    minibatches: int = Field(default=1, ge=1, le=1_000_000)
    """Optimizer steps in each pass."""
    clip_ratio: float = Field(default=0.2, gt=0, le=1000)
    """How far a token's probability may move before new answers are written."""
    reward_model: str | None = None
    """A reward model's folder; that of the recipe's `reward` stage if not given."""
    reward_weight: float = Field(default=1.0, ge=0, le=1000)
    """What its score is multiplied by."""
    terms: RewardTerms = RewardTerms()
    """Programmatic rewards that are added to it, or stand for it."""
    constrained_share: float = Field(default=0.0, ge=0, le=1)
    """The share of prompts that have constraints, drawn anew from topics of the starter pack; for
    `terms.constraints`."""
    normalize: bool = False
    """Scores count in spreads above the mean of the first iteration's, so that `missing_eos` and
    `kl.beta` mean the same for every reward model. With `value_from = "reward"` the value model
    begins on the old scale."""
    missing_eos: Score | Literal["leave_out", "score"] = -1.0
    """The score of an answer that was cut, in place of the reward's, which `score` keeps. With
    `leave_out` nothing is learned from one that was cut while it went well, and one that was cut
    in a loop has its score (overlong filtering: Yu et al. 2025, DAPO, arXiv 2503.14476, 3.4)."""
    kl: KlConfig = KlConfig()
    """The price of moving away."""
    demonstrations: DemonstrationsConfig = DemonstrationsConfig()
    """What is not to be forgotten."""
    guards: GuardConfig = GuardConfig()
    """When to stop."""
    show_every: int = Field(default=5, ge=0, le=1_000_000)
    """Iterations between samples on screen and in `samples.jsonl`; 0 shows none."""

    @model_validator(mode="before")
    @classmethod
    def _no_held_out_rows(cls, values: Any) -> Any:
        """Older recipes and runs name how those are measured, which was never read here."""
        unread = RowsConfig.model_fields.keys() - TrainConfig.model_fields.keys()
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key not in unread}

    @model_validator(mode="after")
    def _constraints_count(self) -> Self:
        if self.constrained_share and "constraints" not in self.terms.reads:
            raise ValueError("constrained_share needs terms.constraints, or nothing rewards them")
        return self

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.batch_size % self.group:
            raise ValueError(
                f"batch_size ({self.batch_size}) is not made of groups of {self.group} answers"
            )
        return self

    @model_validator(mode="after")
    def _steered_in_small_steps(self) -> Self:
        if self.kl.adaptive and self.kl.horizon < self.batch_size:
            raise ValueError(
                f"kl.horizon ({self.kl.horizon}) is below batch_size ({self.batch_size}), so that "
                "the price of KL could leap in one iteration"
            )
        return self

    @property
    def prompts_a_step(self) -> int:
        """Prompts an iteration."""
        return self.batch_size // self.group

    @property
    def updates(self) -> int:
        """Optimizer steps an iteration."""
        return self.passes * self.minibatches


class PpoConfig(RolloutConfig):
    """The `[ppo]` section: reinforcement learning of the model on its own answers, with a value
    model (Schulman et al. 2017, arXiv 1707.06347; Ouyang et al. 2022, arXiv 2203.02155)."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    """How much a later reward counts."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """λ of generalised advantage estimation."""
    clip_value: float = Field(default=0.2, gt=0, le=1_000_000)
    """How far a value may move before new answers are written."""
    value_weight: float = Field(default=0.1, ge=0, le=1000)
    """Of the value model's loss."""
    value_pace: float = Field(default=1.0, gt=0, le=1000)
    """The value model's learning rate, as a multiple of the policy's."""
    value_from: Literal["reward", "zero"] = "reward"
    """The value model starts as the reward model, or with a head of zeros."""
    value_trunk: Literal["own", "reward"] = "own"
    """An adapter of its own, or a head alone on the reward model's hidden states: half the work,
    and a little coarser."""
    whiten_advantages: bool = True
    """Mean 0 and variance 1 over the tokens of an iteration."""
    whiten_rewards: bool = False
    """Variance 1, the mean stays."""


class GrpoConfig(RolloutConfig):
    """The `[grpo]` section: several answers to each prompt are held against each other; there is
    no value model (GRPO, arXiv 2402.03300; RLOO, arXiv 2402.14740)."""

    group: int = Field(default=4, ge=2, le=1_000_000)
    """Answers to each prompt; `batch_size` is a multiple of it."""
    baseline: Literal["group", "leave_one_out"] = "group"
    """What a score is held against: its group (GRPO), or the mean of the others (RLOO)."""
    by_spread: bool = True
    """With `group`: divide by the group's spread."""
