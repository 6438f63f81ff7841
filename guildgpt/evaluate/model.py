"""Measuring a whole model: held-out bits with torch, sampled answers with llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from guildgpt.bases.base import Base, context_limit, load_base
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import Conversation, Message
from guildgpt.data import Loaded, SourceSpec, load, starter_prompts
from guildgpt.data.dataset import distinct_names
from guildgpt.data.examples import Example, conversation_examples
from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import DataError, GuildError, ModelError
from guildgpt.evaluate.bits import Bits, measure_all
from guildgpt.evaluate.config import EvaluateConfig
from guildgpt.evaluate.held_out import NOTE, trained_on, unseen
from guildgpt.evaluate.probes import probes
from guildgpt.evaluate.samples import Sample, measure, sample
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.config import Dtype
from guildgpt.model.locate import locate
from guildgpt.network.hardware import pick_device, pick_dtype
from guildgpt.network.reward_model import REWARD_FILE
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World


@dataclass(frozen=True)
class Measured:
    """A model's figures: held-out bits per source, and its sampled answers."""

    bits: dict[str, Bits]
    samples: list[Sample]  # the probes first, then the starter pack's prompts


def measure_model(
    base: Base,
    held_out: Mapping[str, Sequence[Example]],
    gguf: Path | None,
    config: EvaluateConfig,
    world: World,
    *,
    seed: int = 0,
    dtype: Dtype = "auto",
) -> Measured:
    """All figures of a model; without `gguf` no answers are sampled."""
    trunk = trunk_for(base.model.to(world.device), pick_dtype(dtype, world.device))
    bits = measure_all(trunk, held_out)
    base.model.to("cpu")
    return Measured(bits, sample_answers(base.chat, gguf, config, seed) if gguf else [])


def sample_answers(
    chat: ChatTokenizer, gguf: Path, config: EvaluateConfig, seed: int
) -> list[Sample]:
    """What the model in `gguf` answers to the probes and to the held-out prompts."""
    prompts = [probe.messages for probe in probes()]
    prompts += [(Message("user", p.prompt),) for p in starter_prompts()[: config.prompts]]
    params = SamplingParams(temperature=config.temperature, max_tokens=config.max_tokens)
    longest = max(len(chat.template.prompt(prompt, chat.tokenizer)) for prompt in prompts)

    async def all_of_them() -> list[Sample]:
        async with LlamaCppEngine(
            gguf,
            tokenizer=chat.tokenizer,
            context=longest + params.max_tokens + 16,
            slots=config.concurrency,
        ) as engine:
            return await sample(
                engine, chat.template, prompts, params, seed=seed, concurrency=config.concurrency
            )

    return asyncio.run(all_of_them())


def evaluate_model(
    model: str,
    sources: Sequence[str],
    *,
    limit: int | None = None,
    context: int | None = None,
    samples: bool = False,
) -> dict[str, Any]:
    """What `guildgpt eval` reports, as plain values.

    Of a source that the model folder's provenance names (by its file's hash), only the rows that
    were held out of training are measured. `context` is 1024 tokens if not given, or what the
    model holds if that is less.
    """
    if (Path(model).expanduser() / REWARD_FILE).is_file():
        raise ModelError(
            "this is a reward model: it predicts no text and answers nothing",
            where=model,
            remedy="Give --comparisons SOURCE.",
        )
    if not sources and not samples:
        raise GuildError("there is nothing to measure", remedy="Give --data SOURCE, or --samples.")
    loaded = [load(SourceSpec.parse(text)) for text in sources]
    for text, item in zip(sources, loaded, strict=True):
        if not item.conversations:
            raise _nothing_to_measure(text, item)
    base = load_base(BaseConfig(base=model, context=context or 32))
    context = context or min(1024, context_limit(base.model.config) or 1024)
    trained = trained_on(Path(model))
    held_out: dict[str, list[Example]] = {}
    notes: dict[str, str] = {}
    for name, item in zip(distinct_names([one.name for one in loaded]), loaded, strict=True):
        rows: Sequence[Conversation] = item.conversations
        if (share := trained.get(item.provenance.sha256)) is not None:
            rows = unseen(rows, [share])
            notes[name] = NOTE
        held_out[name], dropped = conversation_examples(
            rows[:limit], base.chat.tokenizer, base.chat.template, context=context
        )
        if not held_out[name]:
            raise _nothing_to_measure(name, item, "trained" if not rows else "dropped")
        if dropped:
            notes[name] = "; ".join(
                [*filter(None, [notes.get(name)]), *(f"{n} {why}" for why, n in dropped.items())]
            )
    gguf = locate(model).gguf if samples else None
    measured = measure_model(base, held_out, gguf, EvaluateConfig(), World(pick_device()))
    result: dict[str, Any] = {"model": model, "sources": {}}
    for name, bits in measured.bits.items():
        result["sources"][name] = {
            "rows": bits.rows,
            "tokens": bits.tokens,
            "bytes": bits.bytes,
            "bits_per_byte": bits.bits_per_byte,
            "perplexity": bits.perplexity,
            "note": notes.get(name, ""),
        }
    if measured.samples:
        result["samples"] = asdict(measure(measured.samples))
        result["answers"] = [
            {"prompt": one.prompt[-1].content, "answer": one.answer_text, "stop": one.stop}
            for one in measured.samples
        ]
    return result


def _nothing_to_measure(where: str, source: Loaded, why: str = "") -> DataError:
    """The error for a source that leaves no conversation to predict."""
    comparisons = len(source.comparisons)
    remedy = "Name a source that has some."
    if why == "trained":
        remedy = "The model was trained on all of them; name a source that it never saw."
    elif why == "dropped":
        remedy = "None fits into the context: raise --context."
    elif comparisons:
        remedy = (
            f"It holds {comparisons:,} comparisons, which a reward model puts in order: guildgpt "
            f"eval runs/NAME/reward/model --comparisons {where}"
        )
    elif source.skipped:
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in source.skipped.most_common())
        remedy = f"All rows were left out ({reasons})."
    return DataError("there is no conversation to measure", where=where, remedy=remedy)


def show(result: Mapping[str, Any], console: Console) -> None:
    """`evaluate_model`'s figures as tables."""
    table = Table(title=f"{result['model']}", title_justify="left")
    for heading in ("source", "rows", "bits/byte", "perplexity", "note"):
        table.add_column(heading, justify="left" if heading in ("source", "note") else "right")
    for name, row in result["sources"].items():
        figures = (f"{row['rows']:,}", f"{row['bits_per_byte']:.4f}", f"{row['perplexity']:.3f}")
        table.add_row(name, *figures, row["note"])
    if result["sources"]:
        console.print(table)
    if "samples" in result:
        answers = Table(title="sampled answers", title_justify="left", show_header=False)
        for key, value in result["samples"].items():
            answers.add_row(key.replace("_", " "), f"{value:.3g}")
        console.print(answers)
