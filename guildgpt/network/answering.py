"""The process that answers for a model without a GGUF: `TorchEngine` starts it and kills it.

One line of JSON on standard input names a folder; the answer is `ready` or an `error`. Each further
line asks (`id`, `ids`, `params`) or cancels (`cancel`), each line of output is a token of an
answer, or why it stopped. Answers that are under way take turns, a token each. It lives until
standard input ends: with its parent at the latest.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor

from guildgpt.network.sampler import Sampling, choose

LAST = 64  # tokens that the repeat penalty looks back on


def restrict(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repeat_penalty: float = 1.0,
    last: Tensor | None = None,
) -> Tensor:
    """Logits (V,) in float32 of which those that may not be drawn are -inf; as `SamplingParams` of
    the engines says, in its order. `last` are the ids that the penalty falls on."""
    logits = logits.float().clone()
    if last is not None and repeat_penalty != 1.0:
        seen = logits[last]
        logits[last] = torch.where(seen > 0, seen / repeat_penalty, seen * repeat_penalty)
    if temperature == 0:
        return logits
    logits /= temperature
    ordered, places = logits.sort(descending=True, stable=True)
    odds = ordered.softmax(-1)
    keep = torch.ones_like(odds, dtype=torch.bool)
    if top_k:
        keep[top_k:] = False
        odds = (odds * keep) / (odds * keep).sum()
    # The fewest that hold `top_p`: those before which there is less than it.
    keep &= odds.cumsum(-1) - odds < top_p
    keep &= odds >= min_p * odds[0]
    logits[places[~keep]] = -torch.inf
    return logits


def logprobs(logits: Tensor, token: int, most: int) -> tuple[float, list[tuple[int, float]]]:
    """The log-probability in nats of a token under logits (V,), and of the `most` most probable
    ones, these with their ids, the likeliest first."""
    known = logits.float().log_softmax(-1)
    values, ids = known.topk(min(most, len(known)))
    return float(known[token]), list(zip(ids.tolist(), values.tolist(), strict=True))


@dataclass
class Answer:
    """One answer under way: what is to be read next, what the model keeps of what it read."""

    ids: list[int]
    params: dict[str, Any]
    chances: torch.Generator
    room: int
    top: int | None = None  # of how many tokens in each place the log-probability is told
    new: list[int] = field(default_factory=list)
    kept: Any = None

    def next_token(self, model: Any, cached: bool) -> tuple[int, dict[str, Any]]:
        """Read on, and draw a token; with what is told of it beside."""
        every = self.ids + self.new
        reading = self.new[-1:] if cached and self.kept is not None else every
        ids = torch.tensor([reading], device=model.device)
        with torch.no_grad():
            if cached:
                out = model(input_ids=ids, past_key_values=self.kept, use_cache=True)
                self.kept = out.past_key_values
            else:
                out = model(input_ids=ids)
        last = torch.tensor(sorted(set(every[-LAST:])), device=model.device)
        logits = restrict(out.logits[0, -1], last=last, **self.params)
        chance = torch.rand(1, generator=self.chances).to(model.device)
        sampling = Sampling(temperature=0.0 if self.params["temperature"] == 0 else 1.0)
        token = int(choose(logits[None], chance, sampling)[0])
        self.new.append(token)
        told = {} if self.top is None else {"logprob": logprobs(out.logits[0, -1], token, self.top)}
        return token, told


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops an answer, not the engine
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(**message: Any) -> None:
        print(json.dumps(message), file=output, flush=True)

    start = json.loads(sys.stdin.readline())
    try:
        model = load(Path(start["folder"]))
    except Exception as error:  # transformers has many kinds; the parent puts it into words
        say(error=str(error).strip().partition("\n")[0] or type(error).__name__)
        return
    context = min(start["context"], context_of(model) or start["context"])
    say(ready=True, context=context)
    serve(model, context, set(start["ends"]), _requests(), say)


def load(folder: Path) -> Any:
    """The model of a folder, in its own format, where it computes fastest."""
    from transformers import AutoModelForCausalLM

    from guildgpt.model.quiet import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    model.eval()
    return model.cuda() if torch.cuda.is_available() else model


def context_of(model: Any) -> int | None:
    """How many tokens the model was made for, where its configuration says so."""
    for option in ("max_position_embeddings", "max_seq_len", "seq_length"):
        if found := getattr(model.config, option, None):
            return int(found)
    return None


def serve(
    model: Any, context: int, ends: set[int], requests: SimpleQueue[dict[str, Any] | None], say: Any
) -> None:
    """Work on all answers in turn until the queue gives None."""
    # A model that keeps something else than keys and values reads its whole text anew.
    cached = "past_key_values" in inspect.signature(model.forward).parameters
    answers: dict[int, Answer] = {}
    turns: deque[int] = deque()
    while True:
        try:
            request = requests.get(block=not turns)
        except Empty:
            request = {}
        if request is None:
            return
        if "cancel" in request:
            answers.pop(request["cancel"], None)
        elif "id" in request:
            params = dict(request["params"])
            del params["stop"]  # the parent looks for texts
            top = params.pop("logprobs")
            chances, seed = torch.Generator(), params.pop("seed")
            chances.seed() if seed is None else chances.manual_seed(seed)
            room = min(params.pop("max_tokens"), context - len(request["ids"]))
            answers[request["id"]] = Answer(request["ids"], params, chances, room, top)
            turns.append(request["id"])
        if request or not turns:
            continue
        number = turns.popleft()
        if (answer := answers.get(number)) is None:  # cancelled
            continue
        try:
            token, told = answer.next_token(model, cached)
        except Exception as error:  # out of memory, say: the others go on
            answers.pop(number)
            say(id=number, failed=str(error).partition("\n")[0])
            continue
        if token in ends:
            say(id=number, stop="eos")
        elif len(answer.new) < answer.room:
            say(id=number, token=token, **told)
            turns.append(number)
            continue
        else:
            say(id=number, token=token, **told)
            say(id=number, stop="length")
        answers.pop(number)


def _requests() -> SimpleQueue[dict[str, Any] | None]:
    """The further lines of standard input as they come, None at its end."""
    queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            queue.put(json.loads(line))
        queue.put(None)

    threading.Thread(target=read, daemon=True).start()
    return queue


if __name__ == "__main__":
    main()
