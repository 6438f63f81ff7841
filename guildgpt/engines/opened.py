"""A model opened for talking: its engine, and the template it was trained with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.engines.engine import Engine
from guildgpt.errors import ModelError


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """An engine and the template its prompts are written with."""

    engine: Engine
    template: ChatTemplate

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask for an answer; may block for a few milliseconds."""
        return self.template.prompt(messages, self.engine.tokenizer)


def open_model(
    gguf: Path, folder: Path | None, *, context: int = 4096, slots: int = 1
) -> OpenedModel:
    """Open a GGUF in llama.cpp, with the template and tokenizer of its model folder if it has one.

    Blocks while the model loads. Raises `ModelError` where the tokenizer lacks the template's
    control tokens, and what `LlamaCppEngine` raises.
    """
    from guildgpt.engines.llamacpp import LlamaCppEngine

    template, tokenizer = CHATML, None
    if folder:
        template = ChatTemplate.load(folder)
        tokenizer = FileTokenizer(folder / "tokenizer.json")
    engine = LlamaCppEngine(gguf, tokenizer=tokenizer, context=context, slots=slots)
    try:
        template.eos_id(engine.tokenizer)
    except ModelError as error:
        engine.stop()
        raise ModelError(error.what, where=gguf, remedy=error.remedy) from error
    return OpenedModel(engine, template)


class ReopeningModel:
    """A model that is opened again after its engine died; at most once every few seconds."""

    def __init__(self, open_it: Callable[[], OpenedModel]):
        self._open = open_it
        self._lock = asyncio.Lock()
        self._now: OpenedModel | None = None

    async def get(self) -> OpenedModel:
        """The model, opened in a thread where it is not open. Raises what opening raises."""
        async with self._lock:
            if self._now is None:
                self._now = await asyncio.to_thread(self._open)
            return self._now

    async def failed(self, model: OpenedModel) -> None:
        """Close `model`, whose engine died: `get` opens it anew."""
        async with self._lock:
            if self._now is model:
                self._now = None
                await model.engine.close()

    async def close(self) -> None:
        """Close the engine, if it is open."""
        async with self._lock:
            if self._now is not None:
                await self._now.engine.close()
                self._now = None
