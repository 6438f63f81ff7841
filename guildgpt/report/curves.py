"""The curves of a stage: which are drawn, how they are thinned and smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guildgpt.report.report import StageReport
from guildgpt.text.figures import finite, visible

Point = tuple[float, float | None]  # step and value; None is a gap

MAX_POINTS = 1000  # of one curve on the page; report.json keeps them all
FROM_ZERO = {
    "lr",
    "tokens_per_second",
    "length",
    "loops",
    "cut",
}  # cut short, noise looks like news
SMOOTHED = {"loss", "tokens_per_second"}
# What is drawn first, in this order: a title, and a sentence on how to read it.
MAIN = {
    "reward": (
        "Reward",
        "What the model’s own answers are worth to the reward model, on average. It should rise.",
    ),
    "kl": (
        "KL from the reference, nats an answer",
        "How far the model’s answers have moved from those it began with. It should rise slowly.",
    ),
    "entropy": (
        "Entropy, nats a token",
        "How open the next word still is. Near nothing, the model says the same again and again.",
    ),
    "length": (
        "Tokens an answer",
        "How long the answers are. A model that found out that length pays gets longer and longer.",
    ),
    "loops": (
        "Share of answers that loop",
        "How many answers repeat themselves until they are cut off. It should stay low.",
    ),
    "loss": (
        "Training loss",
        "How wrong the model was on the rows it trained on, just before it learned from them.",
    ),
    "lr": (
        "Learning rate",
        "How large a step was taken each time: a warm-up, then smaller and smaller.",
    ),
    "tokens_per_second": ("Tokens per second", "How fast the training went."),
}
# Of a stage that learns from rewards these say little: they stand below the others.
BELOW_REWARDS = {"loss", "lr", "tokens_per_second"}
OTHERS = {
    "score": ("Score", "The reward after everything that was taken off or added to it."),
    "reward_model": ("Reward model", "The reward model’s part of the reward."),
    "cut": ("Share of answers cut", "Answers that did not end before the longest length allowed."),
    "left_out": (
        "Share of answers left out",
        "Answers that were cut while they went well: nothing is learned from them.",
    ),
    "kl_k3": ("KL, another estimate", "The same distance, by an estimate that is never negative."),
    "kl_beta": ("Price of KL", "What a nat of distance costs in reward."),
    "approx_kl": ("KL of one iteration", "How far a single iteration moved the model."),
    "clip_fraction": ("Share clipped", "Tokens whose change was larger than a step may make it."),
    "ratio": (
        "Ratio",
        "New probability over old, of the tokens written: near 1 if steps are small.",
    ),
    "value_loss": ("Value loss", "How wrong the value model’s forecasts of the reward were."),
    "demonstration_loss": (
        "Loss on demonstrations",
        "How wrong the model is on fine-tuning’s rows: what rises is being forgotten.",
    ),
    "explained_variance": (
        "Explained variance",
        "How much of the reward the value model foresaw: 1 all of it, 0 or less nothing.",
    ),
    "memory_bytes": ("Memory, bytes", "The most that was held so far."),
}
PAIRS = (
    "Held-out pairs in the right order",
    "Of comparisons that were never trained on; a coin gets half of them right.",
)
BITS = (
    "Held-out bits per byte",
    "How badly it predicts answers that were never trained on. Lower is better.",
)
CLOCKS = {"step", "epoch", "seconds", "time", "tokens"}  # these only rise


def charts(stage: StageReport) -> list[dict[str, Any]]:
    """What the page draws of one stage: `{"title", "note", "main", "zero", "across", "series"}`.

    A series is `{"name", "raw", "dots", "points"}` with points `[step, value or None]`; raw ones
    stand faintly behind their smoothed line, dots without a line. Figures of minor interest (`main`
    is false) stand below the others; with `zero` the axis starts there. `across` names what
    stands in the place of steps, "" for steps.
    """
    logged = list(dict.fromkeys(key for row in stage.metrics for key in row))
    minor = BELOW_REWARDS if "reward" in logged else ()
    drawn = [_chart(stage, key, key not in minor) for key in MAIN if key in logged]
    if stage.evaluations:
        drawn.insert(1 if "loss" in logged else 0, _held_out(stage))
    if {"reward", "kl"} <= set(logged):
        drawn.insert(0, _frontier(stage))
    rest = [key for key in logged if key not in {*MAIN, *CLOCKS}]
    return drawn + [_chart(stage, key, main=False) for key in rest]


def smooth(values: Sequence[float | None], part: int = 20) -> list[float | None]:
    """An exponential moving average over a `part`-th of the curve; gaps stay gaps.

    `m_t = b m_{t-1} + (1 - b) x_t`, shown as `m_t / (1 - b^t)` so that its start is not biased
    (Kingma and Ba 2015, section 3).
    """
    decay = 1 - 2 / (max(1.0, len(values) / part) + 1)
    mean, weight = 0.0, 0.0
    smoothed: list[float | None] = []
    for value in values:
        if value is None:
            smoothed.append(None)
            continue
        mean = decay * mean + (1 - decay) * value
        weight = decay * weight + (1 - decay)
        smoothed.append(mean / weight)
    return smoothed


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points, each the mean of as many neighbours, at the last one's step."""
    width = _width(points, most)
    thinned: list[Point] = []
    for start in range(0, len(points), width):
        bucket = points[start : start + width]
        values = [value for _, value in bucket if value is not None]
        thinned.append((bucket[-1][0], sum(values) / len(values) if values else None))
    return thinned


def _width(points: Sequence[Point], most: int) -> int:
    return max(1, -(-len(points) // most))


def _chart(stage: StageReport, key: str, main: bool) -> dict[str, Any]:
    rows = [(row.get("step"), finite(row.get(key))) for row in stage.metrics]
    points = [(step, value) for step, value in rows if step is not None]
    known = MAIN.get(key) or OTHERS.get(key)
    title, note = known or (visible(key.replace("_", " ")), "")
    shown = thin(points)
    series = [_series(title, shown)]
    if key in SMOOTHED and len(shown) > 2:
        steps, values = zip(*shown, strict=True)
        smoothed = list(zip(steps, smooth(values), strict=True))
        series = [_series("as logged", shown, raw=True), _series("smoothed", smoothed)]
    width = _width(points, MAX_POINTS)
    if width > 1:
        note = f"{note} Each point is the mean of {width} logged steps.".strip()
    return _drawn(title, note, series, main=main, zero=key in FROM_ZERO)


def _frontier(stage: StageReport) -> dict[str, Any]:
    """Reward against KL: what each nat of distance from the reference has bought."""
    pairs = [(finite(row.get("kl")), finite(row.get("reward"))) for row in stage.metrics]
    points = sorted((kl, reward) for kl, reward in pairs if kl is not None and reward is not None)
    shown: list[Point] = thin(points)
    series = [_series("an iteration each", shown, dots=True)]
    if len(shown) > 4:
        line = smooth([reward for _, reward in shown], part=3)
        trend = list(zip((kl for kl, _ in shown), line, strict=True))
        series.append(_series("smoothed", trend))
    return _drawn(
        "Reward against KL",
        "What the reward has cost: up is better liked by the reward model, right is further from "
        "where the model began. A gain that lasts rises early and then flattens; a reward that "
        "keeps rising far to the right is often no gain to people.",
        series,
        across="KL, nats an answer",
    )


def _held_out(stage: StageReport) -> dict[str, Any]:
    of_pairs = all(one.bits_per_byte is None for one in stage.evaluations)
    points: dict[str, list[Point]] = {}
    for one in stage.evaluations:
        value = one.accuracy if of_pairs else one.bits_per_byte
        points.setdefault(one.source, []).append((one.step, finite(value)))
    series = [_series(source, thin(line)) for source, line in points.items()]
    return _drawn(*(PAIRS if of_pairs else BITS), series)


def _drawn(
    title: str,
    note: str,
    series: list[dict[str, Any]],
    *,
    main: bool = True,
    zero: bool = False,
    across: str = "",
) -> dict[str, Any]:
    return {
        "title": title,
        "note": note,
        "main": main,
        "zero": zero,
        "across": across,
        "series": series,
    }


def _series(
    name: str, points: Sequence[Point], *, raw: bool = False, dots: bool = False
) -> dict[str, Any]:
    return {"name": visible(name), "raw": raw, "dots": dots, "points": list(map(list, points))}
