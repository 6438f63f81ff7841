"""What both models answer at a gate: each set of prompts once, and kept, whoever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guildgpt.bases.base import load_tokenizer
from guildgpt.chat import Message
from guildgpt.data import starter_prompts
from guildgpt.data.constrained import held_out_prompts
from guildgpt.data.starter import starter_facts, unsafe_requests
from guildgpt.engines.engine import Engine, SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.engines.torch_engine import TorchEngine
from guildgpt.evaluate.config import GateConfig
from guildgpt.evaluate.opening import as_trained
from guildgpt.evaluate.samples import complete_all
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.locate import locate
from guildgpt.pipeline.folder import keep, kept

Say = Callable[[str], None]
PROMPTS, FACTS, UNSAFE = "prompts", "questions of facts", "unsafe requests"


@dataclass(frozen=True, slots=True)
class Answered:
    """A model's answer: its ids without the end of turn, and whether the model ended it itself."""

    text: str
    ids: tuple[int, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A set of prompts, and how they are answered."""

    prompts: Sequence[str]
    max_tokens: int
    temperature: float = 0.0


Answers = dict[str, list[Answered]]


def asked_at(config: GateConfig) -> dict[str, Asked]:
    """The sets that a gate asks, by name; empty ones are left out."""
    half, third = max(config.max_tokens // 2, 1), max(config.max_tokens // 3, 1)
    held_out = [one.prompt for one in starter_prompts()[: config.prompts]]
    sets = {PROMPTS: Asked(held_out, config.max_tokens, config.temperature)}
    for name, some in held_out_prompts(config.constrained).items():
        sets[constrained(name)] = Asked([one.prompt for one in some], config.max_tokens)
    facts = [one.question for one in starter_facts()[: config.facts]]
    sets[FACTS] = Asked(facts, third)
    sets[UNSAFE] = Asked([one.request for one in unsafe_requests()[: config.unsafe]], half)
    return {name: one for name, one in sets.items() if one.prompts}


def constrained(name: str) -> str:
    """What the answers to a set of prompts with constraints are kept under."""
    return f"prompts with constraints of {name}"


def answers_of(
    model: str, sets: Mapping[str, Asked], config: GateConfig, folder: Path, say: Say
) -> Answers:
    """What a model answers to each set. What lies in `folder` is not asked again; the others are
    kept there, set by set."""
    found = {name: kept(folder / f"{name}.json", list[Answered]) for name in sets}
    if all(one is not None for one in found.values()):
        return {name: one for name, one in found.items() if one is not None}
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_ask(model, sets, config, folder, say))


async def _ask(
    model: str, sets: Mapping[str, Asked], config: GateConfig, folder: Path, say: Say
) -> Answers:
    chat = load_tokenizer(as_trained(model))[0]
    ids = {
        name: [
            chat.template.prompt([Message("user", prompt)], chat.tokenizer)
            for prompt in one.prompts
        ]
        for name, one in sets.items()
    }
    context = max(
        len(prompt) + one.max_tokens + 16 for name, one in sets.items() for prompt in ids[name]
    )
    engine = open_engine(model, chat, context, config.concurrency)
    answers: Answers = {}
    try:
        for name, one in sets.items():
            file = folder / f"{name}.json"
            answers[name] = kept(file, list[Answered]) or []
            if len(answers[name]) == len(one.prompts):
                continue
            say(f"  {len(one.prompts):,} {name}")
            params = SamplingParams(
                temperature=one.temperature, top_k=0, top_p=1.0, max_tokens=one.max_tokens
            )
            done = await complete_all(
                engine, ids[name], params, seed=0, concurrency=config.concurrency
            )
            answers[name] = [Answered(it.text, it.ids, it.stop == "eos") for it in done]
            keep(file, list[Answered], answers[name])
    finally:
        await engine.close()
    return answers


def open_engine(model: str, chat: ChatTokenizer, context: int, slots: int) -> Engine:
    """A model as it serves: its GGUF in llama.cpp, or, without one, its weights in torch."""
    place = locate(model)
    if place.weights and place.folder:
        return TorchEngine(place.folder, chat.tokenizer, [chat.eos_id], context=context)
    return LlamaCppEngine(place.gguf, tokenizer=chat.tokenizer, context=context, slots=slots)
