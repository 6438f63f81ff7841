"""What a gate reads from weights, by torch: held-out bits, and how probable answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from guildgpt.bases.base import load_base
from guildgpt.chat import Conversation, Message
from guildgpt.data import SourceSpec, load
from guildgpt.data.examples import answering, conversation_examples
from guildgpt.data.split import digest, unseen, wording
from guildgpt.evaluate.bits import Bits, measure_all
from guildgpt.evaluate.opening import as_trained
from guildgpt.learn.answering import Answered
from guildgpt.model.locate import WEIGHTS
from guildgpt.model.provenance import trained_on
from guildgpt.network.lean import in_format
from guildgpt.network.trunk import token_logprobs, trunk_for
from guildgpt.network.world import World
from guildgpt.pipeline.folder import once

HELD_OUT = ("starter", "constrained")  # what comes with GuildGPT, as far as no model learned it
CONTEXT = 512  # tokens of a held-out row at most


@dataclass(frozen=True, slots=True)
class Written:
    """An answer that was written to a prompt."""

    prompt: str
    answer: Answered


@dataclass(frozen=True, slots=True)
class Read:
    """One model's losses on held-out rows, and its log-probabilities, in nats, of whole answers.

    `speaks` is what a text becomes in its tokens: where two differ, answers in the tokens of the
    one mean nothing to the other.
    """

    bits: list[Bits]
    logprobs: list[float]
    speaks: tuple[int, ...]


def has_weights(model: str) -> bool:
    """Whether torch can read a model as it lies there."""
    return any((Path(model) / name).is_file() for name in WEIGHTS)


def held_out_rows(models: Sequence[str], count: int) -> list[Conversation]:
    """Conversations that none of the models was trained on, always the same ones."""
    learned = [trained_on(Path(model).expanduser()) for model in models]
    found: list[Conversation] = []
    for name in HELD_OUT:
        source = load(SourceSpec.parse(name))
        sha256 = source.provenance.sha256
        found += unseen(source.conversations, [one[sha256] for one in learned if sha256 in one])
    return sorted(found, key=lambda row: digest("gate", wording(row.messages)))[:count]


def read(
    model: str,
    rows: Sequence[Conversation],
    answers: Sequence[Written],
    temperature: float,
    world: World,
    file: Path,
) -> Read:
    """Read a model, or what was read and kept in `file`."""
    return once(file, Read, lambda: _read(model, rows, answers, temperature, world))


@torch.no_grad()
def _read(
    model: str,
    rows: Sequence[Conversation],
    answers: Sequence[Written],
    temperature: float,
    world: World,
) -> Read:
    base, dtype = load_base(as_trained(model)), world.dtype("auto")
    template, tokenizer = base.chat.template, base.chat.tokenizer
    trunk = trunk_for(in_format(base.model, dtype).to(world.device).eval(), dtype)
    examples = {
        str(number): conversation_examples([row], tokenizer, template, context=CONTEXT)[0]
        for number, row in enumerate(rows)
    }
    measured = measure_all(trunk, examples)
    logprobs = []
    for one in answers:
        asked = template.prompt([Message("user", one.prompt)], tokenizer)
        ids = [*one.answer.ids, *[base.chat.eos_id] * one.answer.ended]
        row = answering(asked, ids, "written")
        logprobs.append(float(token_logprobs(trunk, [row], temperature).sum()) if ids else 0.0)
    speaks = template.prompt([Message("user", "Does é ≠ 10 200?\n日本語 🙂")], tokenizer)
    bits = [measured.get(name, Bits(0, 0, 0, 0.0)) for name in examples]
    return Read(bits, logprobs, tuple(speaks))
