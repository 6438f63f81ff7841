"""A model that an OpenAI-compatible server runs (vLLM, llama-server, another GuildGPT), by its URL.

It is asked at `/completions` with token ids, so that nothing that a member writes becomes a control
token there. A server that takes texts alone cannot keep that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import groupby, repeat
from typing import Any, Self

from guildgpt.chat.tokenizer import FileTokenizer
from guildgpt.engines.engine import Chunk, SamplingParams, StopReason, TokenLogprob, check_prompt
from guildgpt.engines.llamacpp import logprob_of, sampling_fields
from guildgpt.engines.served_at import ServedAt
from guildgpt.engines.server_link import KeyRefused, ServerLink
from guildgpt.engines.stop_texts import until_stop
from guildgpt.errors import EngineDied, EngineError, ModelError
from guildgpt.model.locate import Located
from guildgpt.model.version import Version, is_id, version_of

PROBE = "Is the fox quick? Très vite: 42 km/h."  # a text that tells tokenizers apart
_STOPS: dict[str, StopReason] = {"stop": "eos", "length": "length"}


class UrlEngine:
    """One model of a server behind the `Engine` contract; `ends` are the ids that end an answer.

    The server's model is the one that `at` names, or else the first of `names` that it has, or its
    only one; `tokenizer` is that model's. `context` counts where the server names none. With
    `at.as_text` prompts are sent as text: what a member writes can then become a control token.

    An answer's ids are those that the server tells, or else its text's, encoded again. vLLM's
    repeat penalty looks back on the whole text.

    Opening it blocks for a few requests. Raises `EngineError` where the server refuses the key or
    the ids, has no such model or another tokenizer, and `EngineDied` where nobody answers.
    """

    def __init__(
        self,
        at: ServedAt,
        tokenizer: FileTokenizer,
        ends: Sequence[int],
        *,
        names: Sequence[str] = (),
        context: int = 4096,
    ):
        self.url = at.url
        self.tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._as_text = at.as_text
        root = at.url.removesuffix("/v1")
        self._api = at.url.removeprefix(root)
        self._link = ServerLink(root, at.key, name=at.url, alive=f"{self._api}/models")
        model = self._find([at.model] if at.model else names, named=bool(at.model))
        self.model = str(model["id"])
        self.context = _context(model) or context
        self._check_tokenizer()
        if not at.as_text:
            self._check_ids()

    def generate(self, ids: Sequence[int], params: SamplingParams) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to a prompt; see `Engine.generate`."""
        return until_stop(self._generate(ids, params), params.stop)

    async def _generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        check_prompt(ids, self.context)
        request = self._request(ids, params) | {
            "max_tokens": min(params.max_tokens, self.context - len(ids)),
            "stream": True,
        }
        async with aclosing(self._link.events(f"{self._api}/completions", request)) as events:
            async for event in events:
                for choice in event.get("choices") or ():
                    try:
                        chunk = self._chunk(choice, params)
                    except (AttributeError, LookupError, TypeError, ValueError) as error:
                        raise EngineDied(f"{self.url} sent an event that is none") from error
                    yield chunk
                    if chunk.stop:
                        return
        raise EngineDied(f"{self.url} ended an answer without a word")

    async def check(self) -> None:
        """Raise `EngineDied` where the server gives no sign of life; see `Engine.check`."""
        await self._link.check()

    async def close(self) -> None:
        """Ask it nothing more; the server goes on."""
        self.stop()

    def stop(self) -> None:
        """What `close` does, where no event loop runs."""
        self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    def _request(self, ids: Sequence[int], params: SamplingParams) -> dict[str, Any]:
        """A prompt and its sampling in llama-server's words and in vLLM's."""
        fields = sampling_fields(params) | {
            "model": self.model,
            "prompt": self._text(ids) if self._as_text else list(ids),
            "add_special_tokens": False,
            "stop_token_ids": sorted(self._ends),
            "return_token_ids": True,
            "top_k": params.top_k or -1,  # all of them, to both
            "repetition_penalty": params.repeat_penalty,
        }
        if params.seed is None:
            del fields["seed"]  # llama.cpp's word for none is a seed to others
        if params.logprobs is not None:
            fields |= {"logprobs": max(params.logprobs, 1), "return_tokens_as_token_ids": True}
        return fields

    def _chunk(self, choice: dict[str, Any], params: SamplingParams) -> Chunk:
        text, ended = choice.get("text") or "", choice.get("finish_reason")
        told = []
        if params.logprobs is not None:
            told = _logprobs(choice.get("logprobs") or {}, params.logprobs)
            told = [one for one in told if one.id not in self._ends]
        ids = choice.get("token_ids")
        if ids is None:
            ids = [one.id for one in told]
            if self.tokenizer.decode(ids) != text:
                ids = self.tokenizer.encode(text, "text")
        ids = tuple(token for token in ids if token not in self._ends)
        # Whatever else a server may say has ended the answer for it.
        return Chunk(ids, text, _STOPS.get(ended, "cancelled") if ended else None, tuple(told))

    def _text(self, ids: Sequence[int]) -> str:
        """Ids as a text in which control tokens stand by their names."""
        parts = groupby(ids, self.tokenizer.control_ids.__contains__)
        return "".join(
            "".join(map(self.tokenizer.token_text, run))
            if is_control
            else self.tokenizer.decode(list(run))
            for is_control, run in parts
        )

    def _find(self, names: Sequence[str], *, named: bool) -> dict[str, Any]:
        """The model among those that the server has; `named`: the only one will not do."""
        try:
            listed = self._link.call(f"{self._api}/models")["data"]
            there = {str(one["id"]): dict(one) for one in listed}
        except EngineDied as error:
            raise EngineDied(
                f"nobody answers at {self.url}",
                remedy="Is the server up, and its address right? Most end in /v1.",
            ) from error
        except (EngineError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, KeyRefused) or getattr(error, "remedy", None):
                raise
            why = error.what if isinstance(error, EngineError) else "it lists no models"
            raise EngineError(
                f"there is no OpenAI-compatible server at {self.url}: {why}",
                remedy="Most of their addresses end in /v1.",
            ) from error
        for name in names:
            if name in there:
                return there[name]
        # The only one is taken by whatever name, but for a name that says it is another version.
        if len(there) == 1 and not named and not (names and is_id(next(iter(there)))):
            return there.popitem()[1]
        raise EngineError(
            f"{self.url} serves {len(there)} models, none by the name of {' or '.join(names)}"
            if names
            else f"{self.url} serves {len(there)} models",
            remedy=f"Name one as in {self.url}#NAME: {', '.join(there) or 'it has none'}.",
        )

    def _check_tokenizer(self) -> None:
        """Compare a text's ids, where the server tells them: vLLM and llama-server do."""
        body = {"model": self.model, "prompt": PROBE, "add_special_tokens": False}
        body |= {"content": PROBE, "add_special": False}
        try:
            found = self._link.call("/tokenize", body)["tokens"]
        except (EngineError, LookupError, TypeError):
            return  # this one does not
        if found not in (self.tokenizer.encode(PROBE), self.tokenizer.encode(PROBE, "text")):
            raise EngineError(
                f"{self.model} at {self.url} has another tokenizer than this model",
                where=self.tokenizer.path,
                remedy="Name the model folder that the server runs, or another of its models.",
            )

    def _check_ids(self) -> None:
        """Ask for one token with a prompt of ids, and look how many the server has read."""
        ids = self.tokenizer.encode(PROBE)
        request = self._request(ids, SamplingParams(temperature=0)) | {"max_tokens": 1}
        try:
            reply = self._link.call(f"{self._api}/completions", request)
            read = reply["usage"]["prompt_tokens"]
            why = f"it read {read} tokens where {len(ids)} were sent"
        except (KeyRefused, EngineDied):
            raise
        except EngineError as error:
            read, why = None, error.what
        except (LookupError, TypeError):
            read, why = None, "it does not say how many tokens it read"
        if read != len(ids):
            raise EngineError(
                f"{self.url} does not take token ids: {why}",
                remedy="As text, what a member writes could become a control token, and speak for "
                "the model or the operator. vLLM, llama-server and GuildGPT take ids; "
                f"text+{self.url} sends text all the same.",
            )


def open_at(
    at: ServedAt,
    found: Located,
    tokenizer: FileTokenizer,
    ends: Sequence[int],
    *,
    context: int = 4096,
) -> tuple[UrlEngine, Version]:
    """A model folder's model where it is served: under its version's id, or the name of its run or
    stage. Raises `ModelError` for what is no folder, and what `UrlEngine` raises."""
    if not found.folder:
        raise served_by_folder(found)
    version = version_of(found)
    names = (version.id, found.name, found.folder.parent.name)
    return UrlEngine(at, tokenizer, ends, names=names, context=context), version


def served_by_folder(found: Located) -> ModelError:
    """The error for a file alone, of which nobody knows how it is asked."""
    return ModelError(
        "a model that is served elsewhere is asked in its own words, and this file has neither "
        "template nor tokenizer beside it",
        where=found.gguf,
        remedy="Name the model folder that the server runs.",
    )


def _context(model: dict[str, Any]) -> int | None:
    """The context that a server names for a model, in vLLM's words or in llama-server's."""
    meta = model.get("meta")
    told = model.get("max_model_len") or (isinstance(meta, dict) and meta.get("n_ctx"))
    return told if isinstance(told, int) and told > 0 else None


def _logprobs(told: dict[str, Any], most: int) -> list[TokenLogprob]:
    """The log-probabilities of a choice, in llama-server's form or in vLLM's."""
    if "content" in told:
        return [logprob_of(one, most) for one in told["content"]]
    names, tops = told.get("tokens") or [], told.get("top_logprobs") or repeat({})
    found = []
    for name, logprob, top in zip(names, told.get("token_logprobs") or [], tops, strict=False):
        ranked = sorted(((_id(one), value) for one, value in top.items()), key=lambda one: -one[1])
        found.append(TokenLogprob(_id(name), logprob, tuple(ranked[:most])))
    return found


def _id(name: str) -> int:
    """The id in vLLM's "token_id:17"."""
    return int(name.rpartition(":")[2])
