"""Models opened for talking, and the fleet: versions that are open at once, each of which outlives
its engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.chat.template import TEMPLATE_FILE
from guildgpt.engines.engine import Engine, SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.engines.served_at import ServedAt
from guildgpt.engines.torch_engine import TorchEngine
from guildgpt.engines.url_engine import open_at, served_by_folder
from guildgpt.errors import EngineDied, ModelError
from guildgpt.model.locate import Located
from guildgpt.model.starter import STARTER
from guildgpt.model.version import Version, version_of
from guildgpt.talk.foreign import Asked, folder_as_it_is, template_of
from guildgpt.talk.shares import version_for

T = TypeVar("T")


@dataclass(frozen=True)
class OpenedModel:
    """An engine, the template its prompts are written with, and how to tell its version."""

    engine: Engine
    template: ChatTemplate
    identify: Callable[[], Version]
    notices: tuple[str, ...] = ()  # what there is to say of the template

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


def open_model(
    found: Located,
    *,
    context: int = 4096,
    slots: int = 1,
    threads: int | None = None,
    at: ServedAt | None = None,
) -> OpenedModel:
    """Open a GGUF in llama.cpp, with the template and tokenizer of its model folder if it has one,
    else with those that it holds; a model folder without a GGUF in torch, one of others with the
    template that transformers finds there; any folder's model where it is served.

    Blocks while the model loads. Raises `ModelError` where the tokenizer lacks the template's
    control tokens, and what the engine raises.
    """
    asked = _asked(found.folder) if found.folder else None
    if at:
        return _open_at(found, at, asked, context)
    if found.folder and asked and found.weights:
        return _open_in_torch(found, found.folder, asked, context)
    tokenizer = asked.tokenizer if asked else None
    engine = LlamaCppEngine(
        found.gguf, tokenizer=tokenizer, context=context, slots=slots, threads=threads
    )
    try:
        template, notices = (asked.template, []) if asked else _without_folder(found, engine)
        template.eos_id(engine.tokenizer)
    except ModelError as error:
        engine.stop()
        raise ModelError(error.what, where=found.gguf, remedy=error.remedy) from error
    except BaseException:
        engine.stop()
        raise
    return OpenedModel(
        engine, template, lambda: version_of(found, engine.file.sha256()), tuple(notices)
    )


def _asked(folder: Path) -> Asked:
    """How a folder is asked: as it says itself, or as transformers reads it."""
    if not (folder / TEMPLATE_FILE).is_file():
        return folder_as_it_is(folder)
    template = ChatTemplate.load(folder)
    tokenizer = FileTokenizer(folder / "tokenizer.json")
    return Asked(template, tokenizer, [template.eos_id(tokenizer)], [])


def _without_folder(found: Located, engine: LlamaCppEngine) -> tuple[ChatTemplate, list[str]]:
    """The template of a bare GGUF. The starter keeps plain ChatML, in which recipes train it."""
    return (CHATML, []) if found.name == STARTER else template_of(engine)


def _open_in_torch(found: Located, folder: Path, asked: Asked, context: int) -> OpenedModel:
    engine = TorchEngine(folder, asked.tokenizer, asked.ends, context=context)
    return OpenedModel(engine, asked.template, lambda: version_of(found), tuple(asked.notices))


def _open_at(found: Located, at: ServedAt, asked: Asked | None, context: int) -> OpenedModel:
    if asked is None:
        raise served_by_folder(found)
    engine, version = open_at(at, found, asked.tokenizer, asked.ends, context=context)
    return OpenedModel(engine, asked.template, lambda: version, tuple(asked.notices))


Open = Callable[[], OpenedModel]
Opened = Callable[[OpenedModel, EngineDied | None], Awaitable[object]]


@dataclass(eq=False)
class Fleet:
    """The models that are open; who does not ask for a version is answered by the one with the
    largest share, without any `share` by the last opened.

    To swap a model, `open` the new one and `retire` the old one: no answer under way is dropped.
    `opened` is done with each model before it is asked anything: it is told how the engine before
    it died. Where it raises, the model is closed again.
    """

    opened: Opened | None = None
    _models: list[_Kept] = field(default_factory=list)
    _shares: Mapping[str, float] = field(default_factory=dict)
    _number: int = 0

    @property
    def well(self) -> bool:
        """Whether answers come: not from the moment an engine is found dead, or does not open,
        until it has answered again."""
        return all(kept.well for kept in self._models if not kept.retired)

    async def open(self, open_it: Open) -> Version:
        """Open a model in a thread, and again whenever its engine has died; raises what opening
        raises."""
        kept = _Kept(open_it, self.opened)
        try:
            model = await kept.get()
        except BaseException:
            await kept.close()
            raise
        self._models.append(kept)
        return model.version

    def add(self, model: OpenedModel, open_it: Open) -> None:
        """Take in a model that is open; `open_it` opens it again. Its version is not looked at."""
        self._models.append(_Kept(open_it, self.opened, model))

    def share(self, shares: Mapping[str, float], number: int) -> None:
        """From now on these versions answer, each its share of the conversations, as drawn for a
        release of that number; all of them are open. None: the last opened answers."""
        self._shares, self._number = dict(shares), number

    @property
    def release(self) -> int:
        """The number of the release whose shares decide who answers; 0 before the first."""
        return self._number

    @property
    def open_versions(self) -> dict[str, Exception | None]:
        """The versions that can be asked; of one that died and does not open again, why not."""
        return {kept.version: kept.failure for kept in self._models if not kept.retired}

    async def ask(
        self,
        work: Callable[[OpenedModel], Awaitable[T]],
        *,
        version: str | None = None,
        conversation: str | None = None,
        answers: bool = True,
    ) -> T:
        """What `work` makes of a model: of that version, or of the one whose share of the
        conversations this one belongs to. It is done once more where the engine died meanwhile. It
        is an answer, and shows that they come, or `answers` is false.

        Raises `ModelError` where that version is not open, what opening and `work` raise, and
        `EngineDied` where the engine died twice.
        """
        kept = self._find(version) if version else self._find_for(conversation)
        kept.asked += 1
        try:
            return await kept.ask(work, answers)
        finally:
            kept.asked -= 1
            await self._close_if_over(kept)

    async def retire(self, version: str) -> None:
        """Ask a version nothing more; it is closed once its last answer has ended. Raises
        `ModelError` where it is not open."""
        kept = self._find(version)
        kept.retired = True
        await self._close_if_over(kept)

    async def look(self) -> None:
        """See whether the engines live, and open and answer where they did not; raises what `ask`
        raises."""
        serving = [kept for kept in self._models if not kept.retired]
        await asyncio.gather(*(kept.ask(kept.give_a_sign, True) for kept in serving))

    async def close(self) -> None:
        """Close all engines that are open or about to be."""
        while self._models:
            await self._models.pop().close()

    def _find(self, version: str | None) -> _Kept:
        for kept in reversed(self._models):
            if not kept.retired and version in (None, kept.version):
                return kept
        raise ModelError(f"{version or 'a model'} is not open")

    def _find_for(self, conversation: str | None) -> _Kept:
        """Whoever has the conversation's share, or the largest one; anyone where that is closed."""
        there = {id: share for id, share in self._shares.items() if id in self.open_versions}
        if not there:
            return self._find(None)
        if conversation is None:
            return self._find(max(sorted(there), key=lambda id: there[id]))
        return self._find(version_for(conversation, there, self._number))

    async def _close_if_over(self, kept: _Kept) -> None:
        if kept.retired and not kept.asked:
            await kept.close()
            self._models = [other for other in self._models if other is not kept]


@dataclass(eq=False)
class _Kept:
    """One model: opened where it is not open, and again when its engine died."""

    _open: Open
    _opened: Opened | None
    _now: OpenedModel | None = None
    version: str = ""
    well: bool = True
    failure: Exception | None = None  # for which it did not open again
    asked: int = 0  # what it is answering
    retired: bool = False
    _death: EngineDied | None = None
    _opening: asyncio.Task[None] | None = None
    _closed: bool = False

    async def ask(self, work: Callable[[OpenedModel], Awaitable[T]], answers: bool) -> T:
        """See `Fleet.ask`."""
        try:
            return await self._try(work, answers)
        except EngineDied:
            return await self._try(work, answers)

    async def get(self) -> OpenedModel:
        """The model, opened where it is not open. Raises what opening raises.

        Who does not want to wait may be cancelled: the opening goes on for the next.
        """
        while self._now is None:
            if self._closed:
                raise EngineDied("the engine is closed")
            if self._opening is None:
                self._opening = asyncio.create_task(self._open_anew())
                self._opening.add_done_callback(_seen)
            await asyncio.shield(self._opening)
        return self._now

    async def give_a_sign(self, model: OpenedModel) -> None:
        """Raise `EngineDied` where the engine does not live, or has not answered since it died."""
        if self.well:
            await model.engine.check()
            return
        ids = await asyncio.to_thread(model.prompt, [Message("user", "Hello")])
        await complete(model.engine, ids, SamplingParams(max_tokens=1))

    async def close(self) -> None:
        """Close the engine, if it is open or about to be."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait({self._opening})
        if self._now is not None:
            await self._now.engine.close()

    async def _try(self, work: Callable[[OpenedModel], Awaitable[T]], answers: bool) -> T:
        model = None
        try:
            model = await self.get()
            result = await work(model)
        except EngineDied as death:
            self.well = False
            if model is not None and model is self._now:
                self._now, self._death = None, death
                await model.engine.close()
            raise
        self.well = self.well or answers
        return result

    async def _open_anew(self) -> None:
        try:
            model = await asyncio.to_thread(self._open)
            try:
                version = await asyncio.to_thread(lambda: model.version)  # reads the whole file
                if self._opened:
                    await self._opened(model, self._death)
            except BaseException:
                await model.engine.close()
                raise
            self._now, self.version = model, version.id
            self._death = self.failure = None
        except Exception as error:
            self.well, self.failure = False, error
            raise
        finally:
            self._opening = None


def _seen(opening: asyncio.Task[None]) -> None:
    """Its failure is seen, even if nobody waits for it any more."""
    if not opening.cancelled():
        opening.exception()
