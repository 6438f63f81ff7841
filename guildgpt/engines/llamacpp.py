"""llama.cpp, in a process of its own, through the `xllamacpp` wheel.

The wheel starts llama.cpp's own server on a loopback port that the system picks. Prompts are
posted to `/completion` as token ids: nothing here ever parses a text for control tokens.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

from guildgpt.chat.tokenizer import After, Tokenizer
from guildgpt.engines.cores import spare_threads
from guildgpt.engines.engine import Chunk, SamplingParams, TokenLogprob, check_prompt
from guildgpt.engines.held_file import HeldFile
from guildgpt.engines.llamacpp_process import LlamaCppProcess
from guildgpt.engines.server_link import ServerLink
from guildgpt.engines.stop_texts import until_stop
from guildgpt.model.gguf_file import CONTROL_TOKEN, user_defined

ADDS_BOS = "tokenizer.ggml.add_bos_token"
RANDOM_SEED = 0xFFFF_FFFF
REMEMBERED = 1024  # texts: a chat encodes "user\n" and all its earlier turns at every turn


class LlamaCppEngine:
    """A GGUF file behind the `Engine` contract.

    `context` is counted in tokens and per slot, and `slots` prompts are worked on together
    (continuous batching); more of them wait their turn inside llama.cpp. One slot answers soonest,
    8 to 32 serve a batch or a server. Memory is set aside for `context * slots` tokens, 23 kB for
    each with the starter. `threads` defaults to the cores that are idle at the moment.

    Opening it takes as long as the model takes to load (half a second for the starter) and blocks.
    Raises `EngineError` for a file that is missing, truncated, or not a model llama.cpp knows, and
    `EngineDied` for one that is replaced meanwhile. `file` is what was loaded.
    """

    def __init__(
        self,
        gguf: str | Path,
        *,
        tokenizer: Tokenizer | None = None,
        context: int = 4096,
        slots: int = 1,
        threads: int | None = None,
    ):
        path = Path(gguf)
        key = secrets.token_hex(16)
        with ExitStack() as held:
            self.file = held.enter_context(closing(HeldFile(path)))
            # Before the process starts: loading llama.cpp keeps a core busy.
            threads = threads or spare_threads()
            process = LlamaCppProcess()
            held.callback(process.stop)
            address = process.load(path, key, context, slots, threads)
            self._link = ServerLink(address, key, process.how_it_ended)
            held.callback(self._link.close)
            self.file.check_in_place()
            # llama.cpp rounds the context to whole blocks and stops at what the model was trained
            # for.
            settings = self._link.call("/props")["default_generation_settings"]
            self.context = int(settings["n_ctx"])
            self.tokenizer: Tokenizer = tokenizer or GgufTokenizer(self._link, self.file)
            self._held = held.pop_all()

    def generate(self, ids: Sequence[int], params: SamplingParams) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to a prompt; see `Engine.generate`."""
        return until_stop(self._generate(ids, params), params.stop)

    async def _generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        check_prompt(ids, self.context)
        request = {
            "prompt": list(ids),
            "n_predict": params.max_tokens,
            "n_probs": 0 if params.logprobs is None else max(params.logprobs, 1),
            **sampling_fields(params),
            **_STREAM,
        }
        held: list[int] = []  # tokens that show as nothing; the last may be the end of turn
        logprobs: list[TokenLogprob] = []
        counted = 0
        async with aclosing(self._link.events("/completion", request)) as events:
            async for event in events:
                new = event["tokens_predicted"] - counted
                counted = event["tokens_predicted"]
                if event["stop"]:
                    ended = event["stop_type"] == "eos"
                    if ended and held and not new:
                        held.pop()
                        del logprobs[-1:]
                    yield Chunk(tuple(held), "", "eos" if ended else "length", tuple(logprobs))
                    return
                tokens, text = event["tokens"], event["content"]
                if new > len(tokens):
                    # Of a character split over tokens llama.cpp sends the last token alone, with
                    # the whole character: the others are found by encoding it again.
                    tokens = self.tokenizer.encode(text, "text")
                held += tokens
                for told in event.get("completion_probabilities", ()):
                    logprobs.append(logprob_of(told, params.logprobs))
                if text:
                    yield Chunk(tuple(held), text, logprobs=tuple(logprobs))
                    held.clear()
                    logprobs.clear()

    def in_own_template(self, turns: Sequence[Mapping[str, str]], asks: bool) -> list[int]:
        """The ids of a conversation in the chat template that the file itself holds, with what asks
        for an answer or without; blocks. Raises what `written` raises."""
        request = {"content": self.written(turns, asks), "parse_special": True}
        return list(self._link.call("/tokenize", {**request, "add_special": False})["tokens"])

    def written(self, turns: Sequence[Mapping[str, str]], asks: bool) -> str:
        """Its text, control tokens among it. Raises `EngineError` (or `EngineDied`, which llama.cpp
        does not tell apart) for what the template refuses."""
        request = {
            "messages": [dict(turn) for turn in turns],
            "add_generation_prompt": asks,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        text = str(self._link.call("/apply-template", request)["prompt"])
        # llama.cpp leaves a BOS out of the text that it writes itself as it splits a text.
        bos, adds_it = self.bos
        return bos + text.removeprefix(bos) if bos and adds_it else text

    @cached_property
    def bos(self) -> tuple[str | None, bool]:
        """The token that begins a text, where the file names one, and whether llama.cpp puts it
        before what it splits."""
        metadata = self.file.head().metadata
        names = metadata.get("tokenizer.ggml.tokens")
        number = metadata.get("tokenizer.ggml.bos_token_id")
        if not names or not isinstance(number, int):
            return None, False
        kind = metadata.get("tokenizer.ggml.model")
        return names[number].decode(), bool(metadata.get(ADDS_BOS, kind == "llama"))

    async def check(self) -> None:
        """Raise `EngineDied` where it gives no sign of life; see `Engine.check`."""
        await self._link.check()
        self.file.check_unchanged()

    async def close(self) -> None:
        """Stop llama.cpp and give its memory back; answers under way end in `EngineDied`."""
        self.stop()

    def stop(self) -> None:
        """What `close` does, where no event loop runs."""
        self._held.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


_STREAM = {
    "stream": True,
    "return_tokens": True,
    "cache_prompt": True,
    # The last event would else repeat the whole prompt as text.
    "response_fields": [
        "tokens",
        "content",
        "stop",
        "stop_type",
        "tokens_predicted",
        "completion_probabilities",
    ],
}


def sampling_fields(params: SamplingParams) -> dict[str, Any]:
    """How llama.cpp is told to choose tokens, nothing left to its defaults."""
    return {
        "temperature": params.temperature,
        "top_k": params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        "repeat_penalty": params.repeat_penalty,
        "repeat_last_n": 64,
        "seed": RANDOM_SEED if params.seed is None else params.seed % RANDOM_SEED,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
    }


def logprob_of(told: dict[str, Any], most: int | None) -> TokenLogprob:
    """A token's log-probability as llama.cpp tells it, with `most` of those in its place."""
    top = tuple((one["id"], one["logprob"]) for one in told["top_logprobs"][:most])
    return TokenLogprob(told["id"], told["logprob"], top)


class GgufTokenizer:
    """The tokenizer inside a bare GGUF file, over llama.cpp's `/tokenize` and `/detokenize`; blocks
    for about a millisecond.

    Raises `EngineDied` when the engine it belongs to is gone.
    """

    def __init__(self, link: ServerLink, gguf: HeldFile):
        self._link = link
        self._gguf = gguf
        self._encode = lru_cache(REMEMBERED)(self._ask)
        self._decode = lru_cache(REMEMBERED)(self._ask_text)

    def encode(self, text: str, after: After = "nothing", /) -> list[int]:
        """The ids of plain text: no BOS, and never a control token."""
        first, *others = self._parts(text)
        ids = self._ids(first, after)
        for part in others:
            ids += self._ids(part, "text")
        return ids

    def _ids(self, text: str, after: After) -> list[int]:
        if after == "text" and self._prefixed:
            # llama.cpp puts a space before every text; a line break keeps it from this one.
            return list(self._encode(f"\n{text}")[len(self._encode("\n")) :])
        return list(self._encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens left out."""
        return self._decode(tuple(token for token in ids if token not in self.control_ids))

    def token_id(self, token: str) -> int | None:
        """The id of a token by its exact name, or None."""
        request = {"content": token, "parse_special": True, "add_special": False}
        found = self._link.call("/tokenize", {**request, "with_pieces": True})["tokens"]
        return int(found[0]["id"]) if [piece["piece"] for piece in found] == [token] else None

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The ids that stand for no text."""
        types = self._gguf.head().metadata.get("tokenizer.ggml.token_type", ())
        return frozenset(i for i, kind in enumerate(types) if kind == CONTROL_TOKEN)

    def _parts(self, text: str) -> list[str]:
        """A text, cut within whatever llama.cpp takes for one of the file's user-defined tokens: it
        does so in any text, and a turn may begin or end with one."""
        parts = []
        while self._whole and (found := self._whole.search(text)):
            cut = found.start() + 1
            parts.append(text[:cut])
            text = text[cut:]
        return [*parts, text]

    @cached_property
    def _whole(self) -> re.Pattern[str] | None:
        """Finds the user-defined tokens that are more than whitespace and one character."""
        metadata = self._gguf.head().metadata
        kinds = metadata.get("tokenizer.ggml.token_type", ())
        names = metadata.get("tokenizer.ggml.tokens", ())
        found = user_defined(names, kinds)
        longest_first = sorted((one for one in found if len(one) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @cached_property
    def _prefixed(self) -> bool:
        """Whether it puts a space before a text, as SentencePiece does."""
        metadata = self._gguf.head().metadata
        spaces = metadata.get("tokenizer.ggml.model") in ("llama", "t5")
        return bool(metadata.get("tokenizer.ggml.add_space_prefix", spaces))

    def _ask_text(self, ids: tuple[int, ...]) -> str:
        return str(self._link.call("/detokenize", {"tokens": ids})["content"])

    def _ask(self, text: str) -> tuple[int, ...]:
        request = {"content": text, "parse_special": False, "add_special": False}
        found = self._link.call("/tokenize", request)["tokens"]
        if not self.control_ids.isdisjoint(found):
            found = [byte for token in found for byte in self._as_text(token)]
        return tuple(found)

    def _as_text(self, token: int) -> list[int]:
        """A token; a control token as the bytes of its name.

        llama.cpp's SentencePiece makes any two pieces one whose text is a token's: with the pieces
        `</s` and `>` in a vocabulary, `</s>` in a text would end it.
        """
        if token not in self.control_ids:
            return [token]
        names = self._gguf.head().metadata["tokenizer.ggml.tokens"]
        return [names.index(b"<0x%02X>" % byte) for byte in names[token]]
