"""Replies of /v1/responses: one message of one text, whole and as OpenAI's semantic events.

As the Open Responses specification says: https://www.openresponses.org/specification
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from guildgpt.engines.engine import SamplingParams
from guildgpt.serve.asking import Begun
from guildgpt.serve.problems import problem_of
from guildgpt.serve.replies import Answer, Answers, Json, Token, event_of, logprob_of, tokens_of
from guildgpt.serve.requests import ResponsesRequest

Keep = Callable[[Json], Awaitable[None]]
PLACE = {"output_index": 0, "content_index": 0}


@dataclass
class ResponseReply:
    """The reply to a request whose answers are drawn as `params` says."""

    asked: ResponsesRequest
    params: SamplingParams
    keep: Keep | None = None  # stores the whole response, before its end is told
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(24)}")
    item_id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(24)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _number: int = 0  # of the next event

    async def whole(self, answers: Answers) -> Json:
        """The reply in one piece; raises what `answers` raises."""
        answer, begun = Answer(), None
        async with aclosing(answers):
            async for one in answers:
                if isinstance(one, Begun):
                    begun = one
                elif begun:
                    answer.add(one.chunk, await tokens_of(begun, one.chunk))
        assert begun
        response = self._ended(begun, answer)
        if self.keep:
            await self.keep(response)
        return response

    async def events(self, answers: Answers) -> AsyncIterator[bytes]:
        """The reply as server-sent events; a failure on the way is the last of them."""
        answer, begun = Answer(), None
        try:
            async with aclosing(answers):
                async for one in answers:
                    if isinstance(one, Begun):
                        begun = one
                        for event in self._beginning(begun):
                            yield event
                        continue
                    assert begun
                    told = await tokens_of(begun, one.chunk)
                    answer.add(one.chunk, told)
                    if one.chunk.text or told:
                        logprobs = self._logprobs(told)
                        yield self._of_text(
                            "output_text.delta", delta=one.chunk.text, logprobs=logprobs
                        )
        except Exception as error:
            failure = problem_of(error).body["error"]
            if begun is None:
                yield self._event("error", **failure | {"code": failure["code"] or failure["type"]})
            else:
                yield self._failed(begun, failure["message"])
            return
        assert begun
        response = self._ended(begun, answer)
        for event in self._ending(response, answer):
            yield event
        try:  # whoever has read the end may go on from it at once
            if self.keep:
                await self.keep(response)
        except Exception as error:
            yield self._failed(begun, problem_of(error).body["error"]["message"])
        else:
            yield self._event(f"response.{response['status']}", response=response)

    def _beginning(self, begun: Begun) -> list[bytes]:
        response = self._response(begun, "in_progress", [])
        item = self._item("in_progress", [])
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
            self._event("response.output_item.added", output_index=0, item=item),
            self._of_text("content_part.added", part=_part("", [])),
        ]

    def _failed(self, begun: Begun, message: str | None) -> bytes:
        error = {"code": "server_error", "message": message}
        response = self._response(begun, "failed", []) | {"error": error}
        return self._event("response.failed", response=response)

    def _ending(self, response: Json, answer: Answer) -> list[bytes]:
        [item] = response["output"]
        [part] = item["content"]
        logprobs = self._logprobs(answer.told)
        return [
            self._of_text("output_text.done", text=answer.text, logprobs=logprobs),
            self._of_text("content_part.done", part=part),
            self._event("response.output_item.done", output_index=0, item=item),
        ]

    def _ended(self, begun: Begun, answer: Answer) -> Json:
        """The response with the whole answer."""
        cut = answer.stop == "length"
        status = "incomplete" if cut else "completed"
        item = self._item(status, [_part(answer.text, self._logprobs(answer.told))])
        usage = {
            "input_tokens": begun.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": len(answer.ids),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": begun.prompt_tokens + len(answer.ids),
        }
        return self._response(begun, status, [item]) | {
            "usage": usage,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        }

    def _response(self, begun: Begun, status: str, output: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "background": False,
            "frequency_penalty": 0,
            "instructions": self.asked.instructions,
            "max_output_tokens": self.asked.max_output_tokens,
            "max_tool_calls": None,
            "metadata": self.asked.metadata or {},
            "model": begun.model.version.id,
            "output": output,
            "parallel_tool_calls": False,
            "presence_penalty": 0,
            "previous_response_id": self.asked.previous_response_id or None,
            "prompt_cache_key": self.asked.prompt_cache_key,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": self.asked.safety_identifier,
            "service_tier": "default",
            "store": self.keep is not None,
            "temperature": self.params.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": self.asked.top_logprobs or 0,
            "top_p": self.params.top_p,
            "truncation": "auto",
            "usage": None,
        }

    def _item(self, status: str, content: list[Json]) -> Json:
        return {
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _logprobs(self, told: Sequence[Token]) -> list[Json]:
        return [logprob_of(one) for one in told]

    def _of_text(self, kind: str, **more: object) -> bytes:
        return self._event(f"response.{kind}", item_id=self.item_id, **PLACE, **more)

    def _event(self, kind: str, **more: object) -> bytes:
        self._number += 1
        return event_of({"type": kind, "sequence_number": self._number - 1, **more}, kind)


def _part(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
