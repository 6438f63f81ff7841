"""vLLM as far as its wire format goes: models, tokenize, and completions of token ids, streamed.

It answers with what a real engine says to the ids. vLLM itself needs a GPU.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from aiohttp import web

from guildgpt.chat import FileTokenizer
from guildgpt.engines.engine import Engine, SamplingParams

KEY = "token-abc123"


@dataclass
class FakeVllm:
    """What it was asked stands in `asked`; `ids` is false for a server that takes texts alone."""

    engine: Engine
    tokenizer: FileTokenizer
    eos_id: int
    models: tuple[str, ...] = ("guild",)
    ids: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    url: str = ""

    async def list_models(self, request: web.Request) -> web.Response:
        if (refused := self._stranger(request)) is not None:
            return refused
        listed = [{"id": one, "object": "model", "max_model_len": 300} for one in self.models]
        return web.json_response({"object": "list", "data": listed})

    async def tokenize(self, request: web.Request) -> web.Response:
        text = (await request.json())["prompt"]
        ids = self.tokenizer.encode(text)
        return web.json_response({"count": len(ids), "max_model_len": 300, "tokens": ids})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._stranger(request)) is not None:
            return refused
        asked = await request.json()
        self.asked.append(asked)
        if asked["model"] not in self.models:
            return _error(404, f"The model `{asked['model']}` does not exist.")
        prompt = asked["prompt"]
        if isinstance(prompt, str) or not self.ids:
            if not isinstance(prompt, str):
                return _error(400, "prompt must be a string")
            prompt = self.tokenizer.encode(prompt)
        if not asked.get("stream"):
            usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
            choice = {"index": 0, "text": "a", "finish_reason": "length", "logprobs": None}
            return web.json_response({"choices": [choice], "usage": usage})
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        try:
            async with aclosing(self.engine.generate(prompt, _params(asked))) as chunks:
                async for chunk in chunks:
                    reason = {None: None, "eos": "stop"}.get(chunk.stop, chunk.stop)
                    ids = [*chunk.ids, *[self.eos_id] * (chunk.stop == "eos")]
                    choice = {"index": 0, "text": chunk.text, "finish_reason": reason}
                    choice |= {"token_ids": ids, "logprobs": None}
                    if asked.get("logprobs") is not None:
                        choice["logprobs"] = {
                            "tokens": [f"token_id:{one.id}" for one in chunk.logprobs],
                            "token_logprobs": [one.logprob for one in chunk.logprobs],
                            "top_logprobs": [
                                {f"token_id:{id}": value for id, value in one.top}
                                for one in chunk.logprobs
                            ],
                        }
                    event = {"object": "text_completion", "choices": [choice]}
                    await reply.write(f"data: {json.dumps(event)}\n\n".encode())
            await reply.write(b"data: [DONE]\n\n")
        except (ConnectionResetError, asyncio.CancelledError):
            self.cancelled += 1
            raise
        return reply

    def _stranger(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") == f"Bearer {KEY}":
            return None
        return web.json_response({"error": "Unauthorized"}, status=401)

    @contextmanager
    def serving(self) -> Iterator[FakeVllm]:
        """Be there, at `url`."""
        app = web.Application()
        app.router.add_get("/v1/models", self.list_models)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/tokenize", self.tokenize)
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever, daemon=True)
        thread.start()
        runner = web.AppRunner(app, handler_cancellation=True)

        async def start() -> int:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return int(runner.addresses[0][1])

        port = asyncio.run_coroutine_threadsafe(start(), loop).result()
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


def _params(asked: dict[str, Any]) -> SamplingParams:
    return SamplingParams(
        temperature=asked["temperature"],
        top_k=max(asked["top_k"], 0),
        top_p=asked["top_p"],
        min_p=asked["min_p"],
        repeat_penalty=asked["repetition_penalty"],
        max_tokens=asked["max_tokens"],
        seed=asked.get("seed"),
        logprobs=asked.get("logprobs"),
    )
