"""An answer of a chat: asked for, streamed to the page as it grows, and kept.

A task of its own asks the model and writes down what it said, whatever becomes of who listens: when
a person stops it, or their browser goes, what was said until then stays, marked as `cancelled`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import RecordGone
from guildgpt.feedback.records import Account, Chat, StoredMessage
from guildgpt.feedback.storage.rows import new_id
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.blind import secret_versions
from guildgpt.serve.asking import Asking, Begun, conversation_ids
from guildgpt.serve.problems import Problem, problem_of
from guildgpt.serve.replies import event_of
from guildgpt.serve.web.rendering import Growing, Rendering
from guildgpt.serve.web.telling import Json
from guildgpt.talk.fleet import OpenedModel

LONGEST_ANSWER = 2048  # tokens
AT_ONCE = 4  # answers of one account on their way
PAUSE = 0.08  # seconds between two pieces that a page gets at least
SHARE = 8  # rendering takes at most one part in so many of the time
BROKEN_OFF = "…"  # ends an answer that was stopped, for the model to see as well


@dataclass
class Answer:
    """One answer as far as it has come: by a `version` or by who serves the chat, and how it is
    drawn."""

    version: str | None
    usual: SamplingParams
    id: str = field(default_factory=new_id)
    text: str = ""
    begun: Begun | None = None
    stop: str | None = None
    params: SamplingParams | None = None
    kept: StoredMessage | None = None
    failure: Exception | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False


@dataclass
class Answering:
    """Answers questions of chats; `usual` is how they are drawn."""

    asking: Asking
    usual: SamplingParams
    rendering: Rendering = field(default_factory=Rendering)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _asked: Counter[str] = field(default_factory=Counter)

    def check(self, account: Account) -> None:
        """Raise `Problem` 429 where an account has enough answers on their way."""
        if self._asked[account.id] >= AT_ONCE:
            what = f"{AT_ONCE} answers are on their way to you: wait for one, or stop it"
            raise Problem(429, what, code="rate_limit")

    async def events(
        self,
        store: Store,
        account: Account,
        chat: Chat,
        path: Sequence[StoredMessage],
        gone: asyncio.Future[None],
    ) -> AsyncGenerator[bytes, None]:
        """The answer to the last message of `path` as events of a stream; see `heard`."""
        told = self.heard(store, account, chat, path, gone, self.begin())
        async with aclosing(told):
            async for data, name in told:
                yield event_of(data, name)

    def begin(self, version: str | None = None, usual: SamplingParams | None = None) -> Answer:
        """An answer that nobody was asked for yet."""
        return Answer(version, usual or self.usual)

    async def heard(
        self,
        store: Store,
        account: Account,
        chat: Chat,
        path: Sequence[StoredMessage],
        gone: asyncio.Future[None],
        answer: Answer,
    ) -> AsyncGenerator[tuple[Json, str], None]:
        """The answer to the last message of `path` as what happens and its name: `begun` (its id,
        and the version where that may be told), `text` (HTML that is done, and its open end), and
        at last `whole` (HTML in place of all that came) where that is something else, then `end`,
        or `error`. It is stopped by closing the generator, and as soon as who asked is `gone`."""
        secret = await secret_versions(store)
        try:
            self.check(account)  # once more: others came at the same moment
        except Problem as full:
            yield {"message": str(full), "kept": False}, "error"
            return
        task = asyncio.create_task(self._write(answer, store, account, chat, path))
        gone.add_done_callback(lambda _: task.cancel())
        self._tasks.add(task)
        self._asked[account.id] += 1
        task.add_done_callback(lambda _: self._ended(task, account))
        try:
            async for event in self._told(answer, secret):
                yield event
        finally:
            task.cancel()

    async def finish(self) -> None:
        """Wait until what was said is written down; for the end of the server."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None], account: Account) -> None:
        self._tasks.discard(task)
        self._asked[account.id] -= 1
        self._asked += Counter()  # without those who have none
        if not task.cancelled():
            task.exception()

    async def _told(
        self, answer: Answer, secret: Collection[str]
    ) -> AsyncGenerator[tuple[Json, str], None]:
        growing, shown, told = Growing(self.rendering), "", False
        while True:
            await answer.news.wait()
            answer.news.clear()
            over = answer.over  # what comes after this moment is told the next time
            if answer.begun and not told:
                told = True
                version = answer.begun.model.version.id
                yield {"id": answer.id, "version": None if version in secret else version}, "begun"
            began = time.monotonic()
            if answer.text != shown and not over:
                shown = answer.text
                done, rest = await asyncio.to_thread(growing.grow, shown)
                yield {"done": done, "rest": rest}, "text"
            if over:
                break
            await asyncio.sleep(max(PAUSE, SHARE * (time.monotonic() - began)))
        if answer.text:
            done, rest, whole = await asyncio.to_thread(growing.end, answer.text)
            yield {"done": done, "rest": rest}, "text"
            if whole is not None:
                yield {"html": whole}, "whole"
        if answer.failure:
            error = problem_of(answer.failure).body["error"]
            yield {"message": error["message"], "kept": bool(answer.kept)}, "error"
        else:
            yield {"id": answer.id, "stop": answer.stop}, "end"

    async def _write(
        self,
        answer: Answer,
        store: Store,
        account: Account,
        chat: Chat,
        path: Sequence[StoredMessage],
    ) -> None:
        """Ask the model, and keep what it says."""
        try:
            await self._ask(answer, account, chat, path)
            await self._keep(answer, store, chat, path)
        except asyncio.CancelledError:
            answer.stop = "cancelled"
            await self._keep(answer, store, chat, path)
        except Exception as error:
            answer.failure, answer.stop = error, "cancelled"
            if answer.kept is None and not isinstance(error, RecordGone):
                await self._keep(answer, store, chat, path)
        finally:
            answer.over = True
            answer.news.set()

    async def _ask(
        self, answer: Answer, account: Account, chat: Chat, path: Sequence[StoredMessage]
    ) -> None:
        *said, question = _messages(path)

        def prompts(model: OpenedModel) -> list[list[int]]:
            return [conversation_ids(model, "", said, question, LONGEST_ANSWER)]

        def params(model: OpenedModel, tokens: int) -> SamplingParams:
            room = min(LONGEST_ANSWER, model.engine.context - tokens)
            answer.params = replace(answer.usual, max_tokens=room)
            return answer.params

        asked = self.asking.answers(
            prompts, params, n=1, version=answer.version, caller=account.id, conversation=chat.id
        )
        async with aclosing(asked) as pieces:
            async for one in pieces:
                if isinstance(one, Begun):
                    answer.begun = one
                else:
                    answer.text += one.chunk.text
                    answer.stop = one.chunk.stop or answer.stop
                answer.news.set()

    async def _keep(
        self, answer: Answer, store: Store, chat: Chat, path: Sequence[StoredMessage]
    ) -> None:
        """Write the answer down, if there is one."""
        if answer.begun is None or (not answer.text and answer.stop == "cancelled"):
            return
        answer.kept = await store.conversations.add_message(
            conversation_id=chat.id,
            parent_id=path[-1].id,
            role="assistant",
            text=answer.text,
            version_id=answer.begun.model.version.id,
            sampling=asdict(answer.params) if answer.params else None,
            stop=answer.stop or "cancelled",
            told=path,
            id=answer.id,
        )
        await store.chats.changed(chat.id)


def _messages(path: Sequence[StoredMessage]) -> list[Message]:
    """What the model is told of a path: what is gone is not."""
    return [
        Message(one.role, one.text + (BROKEN_OFF if one.stop == "cancelled" else ""))
        for one in path
        if not one.deleted
    ]
