"""A model without a GGUF behind the contract of engines: torch, in a process of its own.

Slower than llama.cpp, and it takes whatever transformers takes. The process is `python -m
guildgpt.network.answering`; nothing here imports torch.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

from guildgpt.chat.tokenizer import FileTokenizer
from guildgpt.engines.engine import Chunk, SamplingParams, TokenLogprob, check_prompt
from guildgpt.engines.stop_texts import until_stop
from guildgpt.errors import EngineDied, EngineError
from guildgpt.terminal import missing_for_training

HALF = "\ufffd"  # what a piece of a character decodes to
_PROGRAM = "guildgpt.network.answering"


def check_torch(folder: Path) -> None:
    """EngineError where what answers for a model without a GGUF is not installed."""
    if missing := missing_for_training():
        raise EngineError(
            f"a model without a GGUF answers through torch, and {', '.join(missing)} is not "
            "installed here",
            where=folder,
            remedy="pip install 'guildgpt[train]'",
        )


class TorchEngine:
    """A model folder behind the `Engine` contract; `ends` are the ids that end an answer.

    `context` counts the tokens of one prompt and its answer; several answers take turns. Opening it
    blocks while the model loads. Raises `EngineError` where torch is not installed, and for a
    folder that transformers does not take.
    """

    def __init__(
        self, folder: Path, tokenizer: FileTokenizer, ends: Sequence[int], *, context: int = 4096
    ):
        check_torch(folder)
        self.tokenizer = tokenizer
        self._numbers = count()
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Queue[Any]]] = {}
        self._writing = Lock()
        self._words: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # the terminal's Ctrl-C is not for it
        )
        self._closed = False
        self._listeners = [Thread(target=self._hear_words, daemon=True)]
        self._listeners[0].start()
        with suppress(EngineDied):
            self._tell(folder=str(folder), context=context, ends=list(ends))
        assert self._process.stdout
        reply = _message(self._process.stdout.readline())
        if "ready" not in reply:
            self._process.wait()
            self.stop()
            raise EngineError(
                f"transformers cannot load this model: {reply.get('error') or self._last_word()}",
                where=folder,
                remedy="Is the folder whole, and memory large enough?",
            )
        self.context = int(reply["context"])
        self._listeners.append(Thread(target=self._listen, daemon=True))
        self._listeners[1].start()

    def generate(self, ids: Sequence[int], params: SamplingParams) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to a prompt; see `Engine.generate`."""
        return until_stop(self._generate(ids, params), params.stop)

    async def _generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        check_prompt(ids, self.context)
        number, messages = next(self._numbers), asyncio.Queue[dict[str, Any]]()
        self._waiting[number] = (asyncio.get_running_loop(), messages)
        text = _Growing(self.tokenizer)
        try:
            self._tell(id=number, ids=list(ids), params=asdict(params))
            if self._process.poll() is not None:
                raise self._gone()
            while True:
                message = await messages.get()
                if "token" in message:
                    if shown := text.add(message["token"], message.get("logprob")):
                        yield shown
                elif "stop" in message:
                    yield text.rest(message["stop"])
                    return
                elif "failed" in message:
                    raise EngineError(f"the model failed: {message['failed']}")
                else:
                    raise self._gone()
        finally:
            del self._waiting[number]
            with suppress(EngineDied):
                self._tell(cancel=number)

    async def check(self) -> None:
        """Raise `EngineDied` where the process is gone; see `Engine.check`."""
        if self._closed or self._process.poll() is not None:
            raise self._gone()

    async def close(self) -> None:
        """End the process and give its memory back; answers under way end in `EngineDied`."""
        self.stop()

    def stop(self) -> None:
        """What `close` does, where no event loop runs."""
        self._closed = True
        with suppress(OSError):
            self._process.kill()
            self._process.wait()
        for listener in self._listeners:
            listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe
            with suppress(OSError):  # what was not written yet
                pipe.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    def _tell(self, **message: Any) -> None:
        assert self._process.stdin
        try:
            with self._writing:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._gone() from error

    def _listen(self) -> None:
        """Hand each message to who waits for it; at the end tell all of them that it is over."""
        assert self._process.stdout
        for line in self._process.stdout:
            message = _message(line)
            if waiting := self._waiting.get(message.get("id", -1)):
                _hand(*waiting, message)
        for waiting in list(self._waiting.values()):
            _hand(*waiting, {})

    def _hear_words(self) -> None:
        assert self._process.stderr
        self._words.extend(self._process.stderr)

    def _last_word(self) -> str:
        return next((line.strip() for line in reversed(list(self._words))), "it does not say why")

    def _gone(self) -> EngineDied:
        if self._closed:
            return EngineDied("the engine is closed")
        return EngineDied(f"torch does not answer any more: {self._last_word()}")


class _Growing:
    """An answer's text as its tokens come: characters are held back until they are whole."""

    def __init__(self, tokenizer: FileTokenizer):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._shown = 0  # tokens whose text was given
        self._before = 0  # where the token before those begins, which a space may depend on

    def add(self, token: int, told: tuple[float, list[tuple[int, float]]] | None) -> Chunk | None:
        self._ids.append(token)
        if told:
            logprob, top = told
            self._logprobs.append(
                TokenLogprob(token, logprob, tuple((id, value) for id, value in top))
            )
        text = self._new()
        return None if not text or text.endswith(HALF) else self._give(text)

    def rest(self, stop: Any) -> Chunk:
        chunk = self._give(self._new())
        return replace(chunk, stop=stop)

    def _new(self) -> str:
        known = self._tokenizer.decode(self._ids[self._before : self._shown])
        return self._tokenizer.decode(self._ids[self._before :])[len(known) :]

    def _give(self, text: str) -> Chunk:
        new = slice(self._shown, None)
        self._before, self._shown = self._shown, len(self._ids)
        return Chunk(tuple(self._ids[new]), text, logprobs=tuple(self._logprobs[new]))


def _hand(
    loop: asyncio.AbstractEventLoop, messages: asyncio.Queue[Any], message: dict[str, Any]
) -> None:
    with suppress(RuntimeError):  # its loop is closed: nobody waits any more
        loop.call_soon_threadsafe(messages.put_nowait, message)


def _message(line: str) -> dict[str, Any]:
    """A line of the process; empty where it ended within one."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
