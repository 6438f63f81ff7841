"""`guildgpt eval`: a model, or a reward model, measured on rows that it was not trained on."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from guildgpt.bases.base import context_limit, load_base
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.data import Loaded, SourceSpec, load
from guildgpt.data.dataset import distinct_names
from guildgpt.data.examples import Example, Ranking, conversation_examples, rankings
from guildgpt.data.split import unseen
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import DataError, GuildError, ModelError
from guildgpt.evaluate.bits import measure_bits
from guildgpt.evaluate.config import EvaluateConfig
from guildgpt.evaluate.constrained import constrained_answers, judged_answers
from guildgpt.evaluate.kept import ConstrainedAnswer, kept_figures
from guildgpt.evaluate.preferences import measure_preferences
from guildgpt.evaluate.samples import Measured, Sample, answers_of, sample_answers
from guildgpt.evaluate.served import open_served
from guildgpt.model.locate import locate
from guildgpt.model.provenance import trained_on
from guildgpt.network.reward_model import REWARD_FILE, load_reward_model, read_record
from guildgpt.network.sampler import Sampling
from guildgpt.network.world import World
from guildgpt.terminal import say, visible
from guildgpt.text.figures import percent

CONTEXT = 1024  # tokens of a conversation at most, if nothing else is asked for
HELD_OUT_ONLY = "held-out rows only: the model was trained on the others"
TRAINED_ON_ALL = "The model was trained on all of them; name a source that it never saw."
NO_COMPARISONS = "It has none: sources with rankings, or with prompt, chosen and rejected, do."


def evaluate_model(
    model: str,
    sources: Sequence[str],
    world: World,
    *,
    limit: int | None = None,
    context: int | None = None,
    samples: bool = False,
    constraints: int = 0,
    at: ServedAt | None = None,
) -> dict[str, Any]:
    """What `guildgpt eval` reports, as plain values.

    Of a source that the model folder's provenance names (by its file's hash), only the rows that
    were held out of training are measured. With `constraints`, so many prompts of each set of
    `guildgpt.data.constrained` are answered greedily. `context` is 1024 tokens if not given, or
    what the model holds if that is less. `at` is where its answers come from, if it is served: then
    there are no `sources`, whose bits are read from its weights.
    """
    if (Path(model).expanduser() / REWARD_FILE).is_file():
        raise ModelError(
            "this is a reward model: it predicts no text and answers nothing",
            where=model,
            remedy="Give --comparisons SOURCE.",
        )
    if not sources and not samples and not constraints:
        raise GuildError(
            "there is nothing to measure",
            remedy="Give --data SOURCE, --samples, --constraints N, --code TASKS or --harness "
            "TASK.",
        )
    if at:
        return _evaluate_served(model, at, samples=samples, constraints=constraints)
    loaded = [load(SourceSpec.parse(text)) for text in sources]
    for text, item in zip(sources, loaded, strict=True):
        if not item.conversations:
            raise _no_conversation(text, _why_none(text, item))
    base = load_base(BaseConfig(base=model, context=context or 32))
    chat = base.chat
    context = context or min(CONTEXT, context_limit(base.model.config) or CONTEXT)
    held_out: dict[str, list[Example]] = {}
    notes: dict[str, str] = {}
    for name, item, shares in _named(loaded, Path(model).expanduser()):
        rows = unseen(item.conversations, shares)
        held_out[name], dropped = conversation_examples(
            rows[:limit], chat.tokenizer, chat.template, context=context
        )
        if not held_out[name]:
            too_long = _too_long(context, context_limit(base.model.config))
            raise _no_conversation(name, too_long if rows else TRAINED_ON_ALL)
        notes[name] = "; ".join(
            filter(None, [_note(shares, dropped), _not_measured(item), *chat.notices])
        )
    gguf = _gguf(model) if samples else None
    bits = measure_bits(base, held_out, world)
    result: dict[str, Any] = {
        "model": model,
        "sources": {
            name: {
                "rows": one.rows,
                "tokens": one.tokens,
                "bytes": one.bytes,
                "bits_per_byte": one.bits_per_byte,
                "perplexity": one.perplexity,
                "note": notes[name],
            }
            for name, one in bits.items()
        },
        "warnings": [line for item in loaded for line in item.warnings],
    }
    if gguf:
        result |= _of_samples(sample_answers(chat, gguf, EvaluateConfig(), seed=0))
    if constraints:
        answered = constrained_answers(base, world, constraints, EvaluateConfig().max_tokens)
        result |= _of_constraints(answered)
    return result


def _evaluate_served(
    model: str, at: ServedAt, *, samples: bool, constraints: int
) -> dict[str, Any]:
    """What `evaluate_model` reports of a model's answers alone."""
    config = EvaluateConfig()
    [served] = open_served([model], at)
    result: dict[str, Any] = {"model": model, "engine": at.url, "sources": {}, "warnings": []}
    if samples:
        answers = answers_of(served.engine, served.template, config, seed=0)
        result |= _of_samples(asyncio.run(answers))
    if constraints:
        greedy = Sampling(config.max_tokens, temperature=0)
        write = partial(served.answers, sampling=greedy, seed=0)
        result |= _of_constraints(judged_answers(write, constraints))
    return result


def _of_samples(found: list[Sample]) -> dict[str, Any]:
    return {
        "samples": asdict(Measured({}, found).of_samples),
        "answers": [
            {"prompt": one.prompt[-1].content, "answer": one.answer_text, "stop": one.stop}
            for one in found
        ],
    }


def _of_constraints(answered: Mapping[str, list[ConstrainedAnswer]]) -> dict[str, Any]:
    return {
        "constraints": {name: asdict(kept_figures(one)) for name, one in answered.items()},
        "constrained_answers": {
            name: [asdict(one) for one in found] for name, found in answered.items()
        },
    }


def _too_long(context: int, holds: int | None) -> str:
    """What to do where no conversation fits."""
    if holds and context >= holds:
        return f"None fits into the {holds:,} tokens that the model holds: shorten the rows."
    most = f", to {holds:,} at most" if holds else ""
    return f"None fits into {context:,} tokens: raise --context{most}."


def evaluate_reward_model(
    model: str,
    sources: Sequence[str],
    world: World,
    *,
    limit: int | None = None,
    context: int | None = None,
) -> dict[str, Any]:
    """What `guildgpt eval --comparisons` reports, as plain values.

    Of a source that the reward model was trained on, only held-out comparisons are measured;
    `limit` counts after that. `context` as in `evaluate_model`. DataError for a source that leaves
    nothing to measure.
    """
    folder = Path(model).expanduser()
    read_record(folder)  # what is no reward model is refused before anything is read
    loaded = [load(SourceSpec.parse(text)) for text in sources]
    scorer = load_reward_model(folder, world.dtype("auto"), world.device)
    holds = context_limit(scorer.trunk.model.config)
    if context and holds and context > holds:
        raise ModelError(
            f"the reward model holds {holds:,} tokens, and --context asks for {context:,}",
            where="--context",
            remedy=f"Set it to {holds} or less.",
        )
    context = context or min(CONTEXT, holds or CONTEXT)
    shape = FileTokenizer(folder / "tokenizer.json"), ChatTemplate.load(folder)
    compared: dict[str, list[Ranking]] = {}
    notes: dict[str, str] = {}
    for name, item, shares in _named(loaded, folder):
        rows = unseen(item.comparisons, shares)
        compared[name], dropped = rankings(rows[:limit], *shape, context=context)
        if not compared[name]:
            remedy = f"Left out: {', '.join(_counted(dropped))}." if rows else TRAINED_ON_ALL
            raise DataError(
                "there is no comparison to measure",
                where=name,
                remedy=remedy if item.comparisons else _why_no_pair(item),
            )
        notes[name] = _note(shares, dropped)
    figures = measure_preferences(scorer, compared)
    return {
        "model": model,
        "sources": {
            name: {
                **asdict(one),
                "by_length": one.by_length,
                "further": one.further,
                "chance": 0.5,
                "better_than_length": one.beats_length,
                "note": notes[name],
            }
            for name, one in figures.items()
        },
        "warnings": [line for item in loaded for line in item.warnings],
    }


def show_model(result: Mapping[str, Any], console: Console) -> None:
    """`evaluate_model`'s figures as tables."""
    table = Table(
        "source",
        *(Column(heading, justify="right") for heading in ("rows", "bits/byte", "perplexity")),
        "note",
        title=visible(result["model"]),
        title_justify="left",
    )
    for name, row in result["sources"].items():
        figures = (f"{row['rows']:,}", f"{row['bits_per_byte']:.4f}", f"{row['perplexity']:.3f}")
        table.add_row(name, *figures, row["note"])
    say(console, *result["warnings"])
    if result["sources"]:
        console.print(table)
    if "samples" in result:
        answers = Table(title="sampled answers", title_justify="left", show_header=False)
        for key, value in result["samples"].items():
            answers.add_row(key.replace("_", " "), f"{value:.3g}")
        console.print(answers)
    if "constraints" in result:
        console.print(_kept(result["constraints"]))


def show_reward_model(result: Mapping[str, Any], console: Console) -> None:
    """`evaluate_reward_model`'s figures as tables, and each source's in a sentence."""
    say(console, *result["warnings"])
    headings = ("prompts", "pairs", "right", "95% interval", "length", "chance")
    table = Table(
        "source",
        *(Column(heading, justify="right") for heading in headings),
        title=visible(result["model"]),
        title_justify="left",
    )
    for name, row in result["sources"].items():
        table.add_row(
            visible(name),
            f"{row['prompts']:,}",
            f"{row['pairs']:,}",
            percent(row["accuracy"]),
            f"{percent(row['low'])} to {percent(row['high'])}",
            percent(row["by_length"]),
            percent(row["chance"]),
        )
    console.print(table)
    for name, row in result["sources"].items():
        console.print(_margins(name, row))
        say(console, _said(name, row))
        say(console, f"{name}: {row['further']}.")
        if row["note"]:
            say(console, f"{name}: {row['note']}")


def _named(loaded: Sequence[Loaded], model: Path) -> Iterator[tuple[str, Loaded, Sequence[float]]]:
    """The sources, each under a name of its own, and the share of it that was held out of the
    model's training; nothing for one that the model never saw."""
    trained = trained_on(model)
    for name, item in zip(distinct_names([one.name for one in loaded]), loaded, strict=True):
        sha256 = item.provenance.sha256
        yield name, item, [trained[sha256]] if sha256 in trained else []


def _note(shares: Sequence[float], dropped: Mapping[str, int]) -> str:
    """Which rows are measured, and which were left out."""
    return "; ".join([HELD_OUT_ONLY] * len(shares) + _counted(dropped))


def _not_measured(source: Loaded) -> str:
    """What a model that predicts text is not measured on."""
    pairs, tasks = len(source.comparisons), len(source.tasks)
    left = [f"{pairs:,} comparison{'s' * (pairs != 1)}, which a reward model orders"] * bool(pairs)
    left += [f"{tasks:,} task{'s' * (tasks != 1)} without an answer"] * bool(tasks)
    return f"not measured: {' and '.join(left)}" if left else ""


def _counted(dropped: Mapping[str, int]) -> list[str]:
    return [f"{count:,} {reason}" for reason, count in dropped.items()]


def _gguf(model: str) -> Path:
    """The GGUF that answers are sampled with; ModelError where there is none."""
    found = locate(model)
    if found.weights:
        raise ModelError(
            "answers are sampled with a GGUF, and this model folder has none",
            where=found.folder,
            remedy="Leave --samples out, and talk to it: "
            f"guildgpt chat {shlex.quote(str(found.folder))}",
        )
    return found.gguf


def _no_conversation(where: str, remedy: str) -> DataError:
    return DataError("there is no conversation to measure", where=where, remedy=remedy)


def _why_no_pair(source: Loaded) -> str:
    """What became of a source's rows, where none is a comparison."""
    none = not (source.conversations or source.tasks or source.rejected)
    return _left_out(source) if source.skipped and none else NO_COMPARISONS


def _left_out(source: Loaded) -> str:
    reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in source.skipped.most_common())
    return f"All rows were left out ({reasons})."


def _why_none(where: str, source: Loaded) -> str:
    """What a source without a conversation holds in their place."""
    if source.comparisons:
        return (
            f"It holds {len(source.comparisons):,} comparisons, which a reward model puts in "
            f"order: guildgpt eval runs/NAME/reward/model --comparisons {where}"
        )
    if source.rejected:
        count = len(source.rejected)
        return f"It holds {count:,} answer{'s' * (count != 1)} rated bad, and none to imitate."
    if source.skipped:
        return _left_out(source)
    return "Name a source that has some."


def _kept(sets: Mapping[str, Any]) -> Table:
    """Constraints kept: of each set all of a prompt and each, then of each kind."""
    table = Table(
        "constraints kept",
        *(Column(heading, justify="right") for heading in ("asked", "kept", "95% interval")),
        title="held-out prompts with constraints",
        title_justify="left",
    )
    for name, row in sets.items():
        for what, count, share in (
            ("all of a prompt", row["prompts"], row["all_kept"]),
            ("each", row["constraints"], row["each_kept"]),
        ):
            between = f"{percent(share['low'])} to {percent(share['high'])}"
            table.add_row(f"{name}, {what}", f"{count:,}", percent(share["rate"]), between)
        for kind, rate in row["by_kind"].items():
            table.add_row(f"  {kind.replace('_', ' ')}", "", percent(rate), "")
    return table


def _margins(name: str, row: Mapping[str, Any]) -> Table:
    """Accuracy by how far apart the two scores lie: is it right more often where it is surer?"""
    headings = ("scores apart", "pairs", "expected right", "were right")
    table = Table(
        *(Column(heading, justify="right") for heading in headings),
        title=visible(f"{name}, by margin"),
        title_justify="left",
    )
    for one in row["bins"]:
        figures = percent(one["expected"]), percent(one["accuracy"])
        table.add_row(f"{one['margin']:.2f}", f"{one['pairs']:,}", *figures)
    return table


def _said(name: str, row: Mapping[str, Any]) -> str:
    verdict = "clearly" if row["better_than_length"] else "not clearly"
    return (
        f"{name}: {percent(row['accuracy'])} of {row['pairs']:,} pairs in the right order, "
        f"{verdict} better than length alone ({percent(row['by_length'])}); what it expects of "
        f"itself and what came out lie {percent(row['calibration_error'])} apart on average."
    )
