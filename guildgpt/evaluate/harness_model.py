"""Our models as lm-evaluation-harness asks them: log-likelihoods, and text up to a stop.

Nothing imports this module but the command that needs `lm_eval`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from pydantic import TypeAdapter

from guildgpt.chat import Message
from guildgpt.evaluate.opening import Opened
from guildgpt.network.sampler import Sampling
from guildgpt.network.scoring import score

NEW_TOKENS = 256  # of an answer, where a task does not say, as in the harness's own models
MESSAGE = TypeAdapter(Message)
KNOWN = {"until", "do_sample", "temperature", "max_gen_toks"}

Told = Callable[[str, int, int], None]  # what is done, how many are done, of how many


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """An opened model as the harness's `LM`.

    A conversation goes through the harness as text, in which a forged `<|im_end|>` could not be
    told from a real one. So what `apply_chat_template` returns is a name that nobody can guess, and
    the ids of our own template are kept under it.
    """

    def __init__(self, opened: Opened, on_progress: Told = lambda what, done, total: None):
        super().__init__()
        self.opened = opened
        self.on_progress = on_progress
        self.ignored: set[str] = set()  # settings of tasks that our sampler does not know
        self.cut = 0  # texts that were longer than the model holds
        self._key = secrets.token_hex(8)
        self._named = re.compile(rf"⟨{self._key}:(\d+)⟩")
        self._asked: list[list[int]] = []

    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return min(self.opened.ends)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that nothing stands before."""
        return self.opened.begin

    @property
    def max_length(self) -> int:
        """How many tokens the model holds."""
        return self.opened.holds

    @property
    def tokenizer_name(self) -> str:
        """Names the template in the harness's caches, which are not used here."""
        return "guildgpt"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template in Jinja."""
        template = self.opened.template
        return template.jinja if chat_template and template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A name for the ids that ask for an answer, or for the rest of one that is begun."""
        turns = [MESSAGE.validate_python(turn) for turn in chat_history]
        begun = turns.pop().content if turns and turns[-1].role == "assistant" else ""
        ids = self.opened.asking(turns)
        if begun:
            ids += self._answered(begun)
        self._asked.append(ids)
        return f"⟨{self._key}:{len(self._asked) - 1}⟩"

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """The ids of a text; of a conversation, those of the template."""
        named = self._named.match(string)
        if named is None:
            encoded = self.opened.tokenizer.encode(string)
            return encoded if add_special_tokens is False else self.opened.plain(string)
        return self._asked[int(named[1])] + self._answered(string[named.end() :])

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self._named.match(context):
            return self.tok_encode(context), self._answered(continuation)
        pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return pair

    def _answered(self, text: str) -> list[int]:
        """The ids of an answer's beginning, as the template writes it."""
        template = self.opened.template
        if template is None or not text:
            return []
        ids = template.answer(text, self.opened.tokenizer)
        return ids[: len(ids) - ids[::-1].index(self.eot_token_id) - 1]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        texts = []
        for _, context, continuation in requests:
            whole = [*context, *continuation]
            last = whole[-(self.max_length + 1) :]
            self.cut += len(last) < len(whole)
            texts.append((last, max(len(last) - len(continuation), 1)))
        told = self._teller("scoring texts", len(texts))
        return [
            (one.logprob, one.greedy) for one in score(self.opened.trunk, texts, on_progress=told)
        ]

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """See `LM.loglikelihood`."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """See `LM.loglikelihood_rolling`: a long text is read in windows."""
        windows, whose = [], []
        for index, request in enumerate(requests):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, rolling):
                windows.append((None, context, continuation))
                whose.append(index)
        sums = [0.0] * len(requests)
        for index, (logprob, _) in zip(whose, self._loglikelihood_tokens(windows), strict=True):
            sums[index] += logprob
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """See `LM.generate_until`. A text that leaves no room for its answer loses its beginning,
        as in the harness's own models."""
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        answers: dict[int, str] = {}
        for settings, group in groups.items():
            asked = normalize_gen_kwargs(json.loads(settings), NEW_TOKENS)
            self.ignored |= {key for key in asked if key not in KNOWN}
            heat = float(asked.get("temperature", 1.0)) if asked.get("do_sample") else 0.0
            new = min(asked["max_gen_toks"], self.max_length - 1)
            prompts = []
            for index in group:
                ids = self.tok_encode(requests[index].args[0]) or [self.prefix_token_id]
                prompts.append(ids[-(self.max_length - new) :])
                self.cut += len(prompts[-1]) < len(ids)
            told = self._teller("writing answers", len(requests), len(answers))
            written = self.opened.write(
                prompts,
                Sampling(new, heat),
                stops=[stop for stop in asked["until"] if stop],
                on_progress=told,
            )
            answers |= dict(zip(group, (one.text for one in written), strict=True))
        return [answers[index] for index in range(len(requests))]

    def _teller(self, what: str, total: int, before: int = 0) -> Callable[[int], None]:
        return lambda done: self.on_progress(what, before + done, total)
