"""What a recipe says of the rewards that a program gives. A term that is not named is off."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from guildgpt.rewards.confine import Limits
from guildgpt.rewards.formats import rule

TERM_OF = {"tests": "verify", "format": "format", "constraints": "constraints"}
"""The term that goes by a row's rule."""


class Term(BaseModel):
    """What every term has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: float = Field(default=1.0, ge=0, le=1000)
    """What its value is multiplied by; 0 turns it off."""


class RepetitionTerm(Term):
    """Minus the share of repeated n-grams; minus one for a loop."""

    ngram: int = Field(default=4, ge=1, le=1000)
    """Tokens of what counts as repeated."""


class LengthTerm(Term):
    """Nothing inside a band of tokens, down to minus one outside it. It leaves alone the answers to
    prompts with constraints."""

    shortest: int = Field(default=1, ge=0, le=10_000_000)
    """Tokens, without the end of turn."""
    longest: int = Field(default=256, ge=1, le=10_000_000)
    """Likewise."""
    slack: int = Field(default=64, ge=1, le=10_000_000)
    """So many tokens outside the band the whole weight is lost."""

    @model_validator(mode="after")
    def _a_band(self) -> Self:
        if self.longest < self.shortest:
            raise ValueError(f"longest ({self.longest}) is below shortest ({self.shortest})")
        return self


class FormatTerm(Term):
    """The share of rules about its form that an answer keeps."""

    rules: tuple[str, ...] = ()
    """For every prompt: json, python, list, ends, sentences<=N, words<=N, lines<=N. A row's own
    rules take their place."""

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for text in rules:
            rule(text)
        return rules


class ConstraintsTerm(Term):
    """What a prompt asks of form and words, kept by the answer: 1 for all of it."""

    partial: float = Field(default=0.5, ge=0, lt=1)
    """What coming as near as can be to all constraints is worth; keeping all is worth 1."""
    without_model: bool = False
    """Answers to prompts with constraints are not scored by the reward model, which may not know
    what they ask; the terms alone reward them."""


class WordsTerm(Term):
    """Minus one for an unwanted word."""

    lists: tuple[Literal["slurs", "cruelty"], ...] = ("slurs", "cruelty")
    """Of the built-in lists, which the bot uses too."""
    file: str | None = None
    """More words and phrases, one a line; lines that begin with # are notes."""


class VerifyTerm(Term):
    """The tests of a row, if it has any, passed by the answer's Python code in the sandbox."""

    partial: float = Field(default=0.5, ge=0, lt=1)
    """What passing nearly all tests is worth; passing all is worth 1."""
    seconds: float = Field(default=10.0, ge=0.01, le=86_400)
    """Wall time of one answer with its tests."""
    cpu_seconds: int = Field(default=4, ge=1, le=86_400)
    """Processor time of an answer with its tests."""
    memory_mib: int = Field(default=512, ge=64, le=1_000_000)
    """Memory of an answer with its tests, in MiB."""
    workers: int = Field(default=2, ge=1, le=1024)
    """How many answers are tried side by side."""

    @property
    def limits(self) -> Limits:
        """The limits as the sandbox takes them."""
        return Limits(self.seconds, self.cpu_seconds, self.memory_mib)


class RewardTerms(BaseModel):
    """The terms that are added to the reward model's score, or stand for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    repetition: RepetitionTerm | None = None
    """Minus the share of repeated n-grams; minus one for a loop."""
    length: LengthTerm | None = None
    """Nothing inside a band of tokens, down to minus one outside it; not where a prompt has
    constraints, which say themselves how long its answer may be."""
    format: FormatTerm | None = None
    """The share of rules about its form that an answer keeps."""
    constraints: ConstraintsTerm | None = None
    """The constraints of a prompt that has any, kept by the answer; see `constrained_share`."""
    words: WordsTerm | None = None
    """Minus one for an unwanted word."""
    verify: VerifyTerm | None = None
    """The tests of a row, if it has any, passed in the sandbox. With it, and without rows that have
    tests of their own, the starter pack's Python tasks join the prompts."""

    @property
    def reads(self) -> frozenset[str]:
        """The rules of a row that these terms go by: `tests`, `format`, `constraints`."""
        terms = {rule: getattr(self, name) for rule, name in TERM_OF.items()}
        return frozenset(rule for rule, term in terms.items() if term and term.weight)
