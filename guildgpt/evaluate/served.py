"""Models measured where they are served (`--engine`): what is measured of answers needs no weights
here. What is measured of probabilities, held-out rows above all, is read from weights by torch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from guildgpt.bases.base import load_tokenizer
from guildgpt.bases.locate import locate_base
from guildgpt.chat import ChatTemplate, Message
from guildgpt.data.examples import answering
from guildgpt.engines.engine import Completion, SamplingParams
from guildgpt.engines.served_at import ServedAt
from guildgpt.engines.url_engine import UrlEngine, open_at, served_by_folder
from guildgpt.errors import ModelError
from guildgpt.evaluate.answers import Answers
from guildgpt.evaluate.opening import Written, as_trained, borders
from guildgpt.evaluate.samples import complete_all
from guildgpt.model.locate import locate
from guildgpt.network.sampler import Sampled, Sampling


@dataclass(frozen=True)
class ServedModel:
    """A model that a server runs, asked as `Opened` is: by its chat template, or to continue plain
    text."""

    engine: UrlEngine
    template: ChatTemplate
    chat: bool
    opening: tuple[int, ...]  # what the model's own tokenizer puts before every text

    @property
    def holds(self) -> int:
        """Tokens of a prompt and its answer."""
        return self.engine.context

    def plain(self, text: str) -> list[int]:
        """The ids of a text from its beginning; control tokens in it stay text."""
        return [*self.opening, *self.engine.tokenizer.encode(text)]

    def asking(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask for an answer."""
        return self.template.prompt(messages, self.engine.tokenizer)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int = 0,
        stops: Sequence[str] = (),
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[Written]:
        """A text to each prompt, up to the first of `stops` or the model's own end."""
        params = drawn_as(sampling, stops)
        found = asyncio.run(complete_all(self.engine, prompts, params, seed=seed))
        on_progress(len(found))
        return [Written(one.text, one.stop in ("eos", "stop"), one.ids) for one in found]

    def answers(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, *, seed: int
    ) -> Answers:
        """Its answers, told as our own sampler's are, but for probabilities: these are NaN."""
        asked = [self.asking(one) for one in prompts]
        engine, template = self.engine, self.template
        eos_id = template.eos_id(engine.tokenizer)
        found = asyncio.run(complete_all(engine, asked, drawn_as(sampling), seed=seed))
        sampled = tuple(_sampled(one, eos_id) for one in found)
        examples = (
            answering(ids, one.ids, "written", end=eos_id)
            for ids, one in zip(asked, sampled, strict=True)
        )
        return Answers(tuple(examples), sampled, tuple(one.text for one in found))


def open_served(names: Sequence[str], at: ServedAt, *, chat: bool = True) -> list[ServedModel]:
    """Models by their folders, asked where they are served.

    Raises `ModelError` where two of them are one and the same there, and what opening raises.
    """
    found: dict[str, str] = {}
    opened = []
    for name in names:
        place = locate(name)
        if not place.folder:
            raise served_by_folder(place)
        spoken = load_tokenizer(as_trained(name))[0]
        engine, _ = open_at(at, place, spoken.tokenizer, [spoken.eos_id])
        other = found.setdefault(engine.model, name)
        if other != name:
            raise ModelError(
                f"both {other} and {name} would be answered by {engine.model}",
                where=at.url,
                remedy="Have the server name its models by their versions' ids (for vLLM: "
                "--served-model-name), or its adapters, and serve both.",
            )
        opening = () if chat else borders(locate_base(as_trained(name)).tokenizer, spoken)[0]
        opened.append(ServedModel(engine, spoken.template, chat, opening))
    return opened


def drawn_as(sampling: Sampling, stops: Sequence[str] = ()) -> SamplingParams:
    """The same for an engine: our own sampler cuts nothing off."""
    return SamplingParams(
        temperature=sampling.temperature,
        top_k=0,
        top_p=1.0,
        max_tokens=sampling.max_new_tokens,
        stop=tuple(stops),
    )


def _sampled(one: Completion, eos_id: int) -> Sampled:
    ended = one.stop == "eos"
    ids = np.array([*one.ids, *[eos_id] * ended], dtype=np.int32)
    return Sampled(ids, np.full(len(ids), np.nan, dtype=np.float32), ended)
