"""A recipe's conversations, comparisons and ratings as token ids, made once for all its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from guildgpt.chat import Comparison, Conversation, Rejected
from guildgpt.data.examples import (
    Example,
    Ranking,
    conversation_examples,
    rankings,
    without_held_out_prompts,
)
from guildgpt.data.rated import RatedExample, of_rankings, rated_examples
from guildgpt.data.split import in_first_half, wording
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.pipeline.stage import Gathered
from guildgpt.recipe import Recipe


class Reading:
    """A recipe's rows as token ids, those of each kind made once, whatever stages they are for."""

    def __init__(self, recipe: Recipe, data: Gathered, chat: ChatTokenizer):
        self.recipe, self.data, self.chat = recipe, data, chat
        self.context = recipe.model.context
        self._halves: dict[bool | None, tuple[list[Ranking], Counter[str]]] = {}

    @cached_property
    def conversations(self) -> tuple[list[Example], Counter[str]]:
        """Those to train on, and what was left out; DataError for one that would train nothing."""
        rows, too_long = self.data.dataset.train, self.recipe.sft.too_long
        found, dropped = self._examples(rows, too_long=too_long, checked=True)
        end = self.chat.eos_id
        if found and all((example.ids[example.mask] == end).all() for example in found):
            raise ModelError(
                "its tokenizer makes no token of any answer's text",
                where="model.base",
                remedy="Its vocabulary is empty or another model's: take the tokenizer's files "
                "again from where the base came from.",
            )
        return found, dropped

    @cached_property
    def demonstrations(self) -> list[Example]:
        """Those to train on that are no answers which were only rated."""
        written = [row for row in self.data.dataset.train if not row.rated]
        if len(written) == len(self.data.dataset.train):
            return self.conversations[0]
        return self._examples(written, too_long=self.recipe.sft.too_long)[0]

    @cached_property
    def held_out(self) -> dict[str, list[Example]]:
        """Held-out conversations by source."""
        rows = self.data.dataset.held_out
        return {name: self._examples(some)[0] for name, some in rows.items()}

    @cached_property
    def held_out_comparisons(self) -> dict[str, list[Ranking]]:
        """Held-out comparisons by source."""
        found: dict[str, list[Ranking]] = {}
        for ranking in self._rankings(self.data.dataset.held_out_comparisons)[0]:
            found.setdefault(ranking.source, []).append(ranking)
        return found

    def comparisons(self, half: bool | None) -> tuple[list[Ranking], Counter[str]]:
        """Comparisons to train on, all of them or one half, and what was left out."""
        if half not in self._halves:
            rows, overlapping = self._to_train_on
            some = [row for row in rows if half is None or in_first_half(row) == half]
            train, dropped = self._rankings(some)
            if overlapping:
                dropped["whose prompt is held out too"] = overlapping
            self._halves[half] = train, dropped
        return self._halves[half]

    def ratings(self, half: bool | None) -> tuple[list[RatedExample], Counter[str]]:
        """Answers called good or bad to train on, those of comparisons (all or one half) among
        them, and what was left out: rows whose prompt is held out, too, among others."""
        dataset = self.data.dataset
        rows: list[Conversation | Rejected] = [row for row in dataset.train if row.rated]
        rows += dataset.train_rejected
        held_out = (*self._held_out_ratings, *dataset.held_out_comparisons)
        known = {wording(row.prompt) for row in held_out}
        kept = [row for row in rows if wording(row.prompt) not in known]
        found, dropped = self._rated(kept)
        compared, more = self.comparisons(half)
        if len(kept) < len(rows):
            dropped["whose prompt is held out too"] += len(rows) - len(kept)
        return [*found, *of_rankings(compared)], dropped + more

    @cached_property
    def held_out_ratings(self) -> dict[str, list[RatedExample]]:
        """Held-out answers called good or bad by source, those of comparisons among them."""
        found: dict[str, list[RatedExample]] = {}
        for row in self._rated(self._held_out_ratings)[0]:
            found.setdefault(row.source, []).append(row)
        for name, compared in self.held_out_comparisons.items():
            found.setdefault(name, []).extend(of_rankings(compared))
        return found

    @cached_property
    def _held_out_ratings(self) -> list[Conversation | Rejected]:
        dataset = self.data.dataset
        good = [row for rows in dataset.held_out.values() for row in rows if row.rated]
        return [*good, *dataset.held_out_rejected]

    @cached_property
    def _to_train_on(self) -> tuple[list[Comparison], int]:
        """A train row whose prompt is held out too is left out; how many were."""
        dataset = self.data.dataset
        return without_held_out_prompts(dataset.train_comparisons, dataset.held_out_comparisons)

    def _examples(
        self, rows: Sequence[Conversation], **how: Any
    ) -> tuple[list[Example], Counter[str]]:
        chat, context = self.chat, self.context
        return conversation_examples(rows, chat.tokenizer, chat.template, context=context, **how)

    def _rankings(self, rows: Sequence[Comparison]) -> tuple[list[Ranking], Counter[str]]:
        return rankings(rows, self.chat.tokenizer, self.chat.template, context=self.context)

    def _rated(
        self, rows: Sequence[Conversation | Rejected]
    ) -> tuple[list[RatedExample], Counter[str]]:
        return rated_examples(rows, self.chat.tokenizer, self.chat.template, context=self.context)
