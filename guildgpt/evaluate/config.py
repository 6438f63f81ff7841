"""What a recipe says of evaluation. No torch here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EvaluateConfig(BaseModel):
    """The `[evaluate]` section: which answers are sampled before and after."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompts: int = Field(default=60, ge=0, le=60)
    """How many of the starter pack's held-out prompts join the twelve probes."""
    max_tokens: int = Field(default=160, ge=1, le=10_000_000)
    """Tokens of a sampled answer at most."""
    temperature: float = Field(default=0.0, ge=0, le=100)
    """0 is greedy: what the model does without the help of chance."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Answers that are worked on at the same time."""
    constrained: int = Field(default=0, ge=0, le=1000)
    """Held-out prompts with constraints of each of two sets, known kinds and held-out kinds, that
    are answered greedily before and after; 500 give intervals of some points."""
    judged_prompts: int = Field(default=128, ge=1, le=1_000_000)
    """Prompts at most on which a policy is compared with the model it came from: those of held-out
    conversations, then the starter pack's."""
    judged_answers: int = Field(default=1, ge=1, le=1000)
    """Answers to each of them."""
