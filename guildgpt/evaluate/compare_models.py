"""Two models answer the same held-out prompts, and a reward model judges; `guildgpt compare`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from guildgpt.bases.base import context_limit, load_base, load_tokenizer
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.chat import Message
from guildgpt.data import SourceSpec, load, starter_prompts
from guildgpt.data.split import digest, unseen
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import DataError, GuildError, ModelError
from guildgpt.evaluate.agreement import judge_data
from guildgpt.evaluate.answers import Answers, write
from guildgpt.evaluate.head_to_head import (
    HeadToHead,
    head_to_head,
    verdict_sentence,
)
from guildgpt.evaluate.opening import as_trained
from guildgpt.evaluate.served import open_served
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.provenance import PROVENANCE_FILE, trained_on
from guildgpt.network.lean import in_format
from guildgpt.network.reward_model import (
    REWARD_FILE,
    RewardModel,
    check_same_language,
    load_reward_model,
    read_record,
)
from guildgpt.network.sampler import Sampling
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World
from guildgpt.terminal import say
from guildgpt.text.figures import decimals, percent, sign, visible

Turns = tuple[Message, ...]
BEFORE_FEEDBACK = ("pretrain", "sft")  # stages that learn from nobody's preferences


def compare_models(
    model_a: str,
    model_b: str,
    judge: str,
    sources: Sequence[str],
    world: World,
    *,
    limit: int | None = None,
    max_tokens: int = 160,
    temperature: float = 0.7,
    seed: int = 0,
    at: ServedAt | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What `guildgpt compare` reports, as plain values; the win rate is B's over A.

    Prompts are the starter pack's held-out ones, or those of `sources`; of a source that any of
    the three models was trained on, only what was held out from all of them is asked. Both models
    draw with the same seed, so that with A and B exchanged the same answers meet again. One of
    them is in memory at a time. Where B's or A's run has the reward model that it was trained
    against, the judge is held against it. `at` is where both are served, if they are not computed
    here; the judge is, in any case.
    """
    models = {"a": model_a, "b": model_b}
    folder = Path(judge).expanduser()
    read_record(folder)
    chats = {side: _checked(name, folder) for side, name in models.items()}
    asked = _prompts(
        sources, [trained_on(Path(name).expanduser()) for name in (*models.values(), judge)]
    )
    if limit is not None:  # some of every source
        asked = sorted(asked, key=lambda prompt: digest("compare", _key(prompt)))[:limit]
    served = dict(zip(models, open_served([*models.values()], at), strict=True)) if at else {}
    room_there = [one.holds for one in served.values()]
    holds = min([*(_holds(name) for name in (*models.values(), judge)), *room_there])
    chat = chats["a"]
    room = holds - max_tokens
    fits = [one for one in asked if len(chat.template.prompt(one, chat.tokenizer)) <= room]
    if not fits:
        raise DataError(
            f"none of {len(asked):,} prompts leaves room for an answer of {max_tokens:,} tokens",
            remedy=f"The models hold {holds:,} tokens: lower --max-tokens, or name other prompts.",
        )
    sampling = Sampling(max_tokens, temperature)
    written = {}
    for side, name in models.items():
        on_progress(f"{visible(name)} answers {len(fits):,} prompts")
        written[side] = (
            served[side].answers(fits, sampling, seed=seed)
            if at
            else _answers(name, chats[side], fits, sampling, seed, world)
        )
    on_progress("the judge reads")
    scorer = load_reward_model(folder, world.dtype("auto"), world.device)
    against = _reward_model((model_b, model_a), folder, chat, world)
    data = judge_data(folder)
    answers = written["a"], written["b"]
    result = head_to_head(*answers, judge=scorer, reward=against, judge_data=data)
    return {
        "model_a": model_a,
        "model_b": model_b,
        "judge": judge,
        "prompts": len(fits),
        "prompts_from": list(sources) or ["starter"],
        "too_long": len(asked) - len(fits),
        "sampling": {"max_tokens": max_tokens, "temperature": temperature, "seed": seed},
        "engine": at.url if at else None,
        **_verdict(result),
        "notes": [
            f"{name} was trained against this judge, or on the comparisons that it learned from: "
            "its verdict flatters it. Take the stage `judge`, which is kept apart for this."
            for name in dict.fromkeys(models.values())
            if _learned_from(Path(name).expanduser(), folder)
        ],
        "answers": [
            {"prompt": prompt[-1].content, "a": first, "b": second}
            for prompt, first, second in zip(
                fits, written["a"].texts, written["b"].texts, strict=True
            )
        ],
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """`compare_models`' figures as a table, and who won in a sentence."""
    rate, scores = result["win_rate"], result["judge_scores"]
    say(console, f"A: {result['model_a']}", f"B: {result['model_b']}")
    table = Table(
        "measure",
        *(Column(side, justify="right") for side in ("A", "B")),
        title=f"{result['prompts']:,} held-out prompts",
        title_justify="left",
    )
    for name, key in (("wins at equal length", "controlled"), ("wins as they are", "rate")):
        table.add_row(name, percent(1 - rate[key]), percent(rate[key]))
    table.add_row("wins, ties apart", f"{rate['losses']:,}", f"{rate['wins']:,}")
    table.add_row("the judge's mean score", sign(scores["a"]), sign(scores["b"]))
    a, b = result["samples"]["a"], result["samples"]["b"]
    for name, key in (
        ("ends its turn by itself", "end_of_turn_rate"),
        ("runs into a loop", "loop_rate"),
    ):
        table.add_row(name, percent(a[key]), percent(b[key]))
    table.add_row("tokens, mean", *(decimals(one["tokens_mean"], 1) for one in (a, b)))
    console.print(table)
    say(console, result["verdict"], result["judge_words"])
    if rate["ties"]:
        say(console, f"{rate['ties']:,} of {rate['comparisons']:,} were ties.")
    say(console, *result["notes"])
    if result["too_long"]:
        say(console, f"{result['too_long']:,} prompts were left out as too long.")


def _verdict(result: HeadToHead) -> dict[str, Any]:
    verdicts = result.verdicts
    assert verdicts is not None  # there is a judge
    better = {True: "b", False: "a", None: None}[verdicts.favours]
    if better == "a":
        sentence = verdict_sentence(verdicts.mirrored, "A's answers", "B's answers")
    else:
        sentence = verdict_sentence(verdicts, "B's answers", "A's answers")
    return {
        "better": better,
        "verdict": sentence,
        "win_rate": asdict(verdicts),
        "judge_data": list(result.judge_data),
        "agreement": asdict(result.agreement) if result.agreement else None,
        "judge_words": result.judge_words,
        "judge_scores": {"a": result.judge_before, "b": result.judge_after},
        "samples": {"a": asdict(result.measures_before), "b": asdict(result.measures_after)},
    }


def _checked(model: str, judge: Path) -> ChatTokenizer:
    """A model's tokenizer; ModelError if it writes no answers, or none that the judge can read."""
    if (Path(model).expanduser() / REWARD_FILE).is_file():
        raise ModelError(
            "this is a reward model: it scores answers and writes none",
            where=model,
            remedy="Name two models that answer, and this one after --judge.",
        )
    chat = load_tokenizer(as_trained(model))[0]
    try:
        check_same_language(judge, chat)
    except ModelError as error:
        raise ModelError(
            f"this judge cannot read what {model} writes: "
            + error.what.replace("the policy", "that model"),
            where=judge,
            remedy="A judge scores models of the base that it was trained on itself.",
        ) from error
    return chat


def _prompts(sources: Sequence[str], learned: Sequence[Mapping[str, float]]) -> list[Turns]:
    """What is asked, each prompt once."""
    asked: list[Turns] = []
    if not sources:
        asked += [(Message("user", one.prompt),) for one in starter_prompts()]
    for text in sources:
        loaded = load(SourceSpec.parse(text))
        sha256 = loaded.provenance.sha256
        shares = [one[sha256] for one in learned if sha256 in one]
        found = [row.prompt for row in unseen(loaded.conversations, shares)]
        found += [row.prompt for row in unseen(loaded.comparisons, shares)]
        if not any(found):
            raise DataError(
                "there is no prompt here that none of the models was trained on",
                where=text,
                remedy="Name another source, or none for the starter pack's held-out prompts.",
            )
        asked += [prompt for prompt in found if prompt]
    return list({_key(prompt): prompt for prompt in asked}.values())


def _key(prompt: Turns) -> str:
    return json.dumps([[m.role, m.content] for m in prompt])


def _holds(model: str) -> int:
    """The most tokens that a model says it holds."""
    folder = locate_base(BaseConfig(base=model, context=32)).folder
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return context_limit(SimpleNamespace(**record)) or 1024


def _answers(
    model: str,
    chat: ChatTokenizer,
    prompts: Sequence[Turns],
    sampling: Sampling,
    seed: int,
    world: World,
) -> Answers:
    dtype = world.dtype("auto")
    network = in_format(load_base(as_trained(model)).model, dtype).to(world.device).eval()
    return write(trunk_for(network, dtype), chat, prompts, sampling, seed=seed)


def _learned_from(model: Path, judge: Path) -> bool:
    """Whether a model's own run trained it against this judge, or both on the same comparisons."""
    against = _trained_against(model)
    return against is not None and against.resolve() == judge.resolve()


def _trained_against(model: Path) -> Path | None:
    """Where the reward model lies that a model's own run trained it against, as far as its folder
    says."""
    stage, run = model.resolve().parent.name, model.resolve().parent.parent
    if stage in BEFORE_FEEDBACK:
        return None
    try:
        record = json.loads((model / PROVENANCE_FILE).read_text(encoding="utf-8"))
        named = record["recipe"][stage].get("reward_model")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # its folder is not named after a stage of ours
    return Path(named).expanduser() if named else run / "reward" / "model"


def _reward_model(
    models: Sequence[str], judge: Path, chat: ChatTokenizer, world: World
) -> RewardModel | None:
    """The reward model that one of the models was trained against, if it is there, is not the judge
    and reads the same language."""
    for name in models:
        folder = _trained_against(Path(name).expanduser())
        if folder is None or folder.resolve() == judge.resolve():
            continue
        with suppress(GuildError, OSError):
            check_same_language(folder, chat)
            return load_reward_model(folder, world.dtype("auto"), world.device)
    return None
