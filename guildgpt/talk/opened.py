"""A model opened for talking: its engine, the template it was trained with, and its version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.engines.engine import Engine
from guildgpt.errors import ModelError
from guildgpt.model.locate import Located
from guildgpt.model.version import Version, version_of


@dataclass(frozen=True)
class OpenedModel:
    """An engine, the template its prompts are written with, and how to tell its version."""

    engine: Engine
    template: ChatTemplate
    identify: Callable[[], Version]

    @cached_property
    def version(self) -> Version:
        """Which version it is, by the file that was loaded; reads all of it the first time."""
        return self.identify()

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask for an answer; may block for a few milliseconds."""
        return self.template.prompt(messages, self.engine.tokenizer)

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that asks for an answer."""
        return len(self.prompt(messages))

    def room(self, max_tokens: int) -> int:
        """Tokens that a prompt may have beside an answer of `max_tokens`: that may be long, but not
        longer than a quarter of the context."""
        context = self.engine.context
        return context - min(max_tokens, context // 4)


def open_model(found: Located, *, context: int = 4096, slots: int = 1) -> OpenedModel:
    """Open a GGUF in llama.cpp, with the template and tokenizer of its model folder if it has one.

    Blocks while the model loads. Raises `ModelError` where the tokenizer lacks the template's
    control tokens, and what `LlamaCppEngine` raises.
    """
    from guildgpt.engines.llamacpp import LlamaCppEngine

    template, tokenizer = CHATML, None
    if found.folder:
        template = ChatTemplate.load(found.folder)
        tokenizer = FileTokenizer(found.folder / "tokenizer.json")
    engine = LlamaCppEngine(found.gguf, tokenizer=tokenizer, context=context, slots=slots)
    try:
        template.eos_id(engine.tokenizer)
    except ModelError as error:
        engine.stop()
        raise ModelError(error.what, where=found.gguf, remedy=error.remedy) from error
    except BaseException:
        engine.stop()
        raise
    return OpenedModel(engine, template, lambda: version_of(found, engine.file.sha256()))
