"""The curves of a stage: which are drawn, how they are thinned and smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from guildgpt.evaluate.figures import finite, visible

if TYPE_CHECKING:
    from guildgpt.evaluate.report import StageReport

Point = tuple[float, float | None]  # step and value; None is a gap

MAX_POINTS = 1000  # of one curve on the page; report.json keeps them all
FROM_ZERO = {"lr", "tokens_per_second"}  # on an axis cut short, their noise looks like news
SMOOTHED = {"loss", "tokens_per_second"}
TITLES = {
    "reward": "Reward",
    "kl": "KL from the reference, nats an answer",
    "entropy": "Entropy, nats a token",
    "length": "Tokens an answer",
    "loops": "Share of answers that loop",
    "loss": "Training loss",
    "lr": "Learning rate",
    "tokens_per_second": "Tokens per second",
}
CLOCKS = {"step", "epoch", "seconds", "time", "tokens"}  # these only rise


def charts(stage: StageReport) -> list[dict[str, Any]]:
    """What the page draws of one stage: a list of `{"title", "note", "main", "zero", "series"}`.

    A series is `{"name", "raw", "points"}` with points `[step, value or None]`; raw ones are drawn
    faintly behind their smoothed line. Figures without a title of their own (`main` is false)
    stand below the others; with `zero` the axis starts there.
    """
    logged = list(dict.fromkeys(key for row in stage.metrics for key in row))
    drawn = [_chart(stage, key) for key in TITLES if key in logged]
    if stage.evaluations:
        drawn.insert(1 if "loss" in logged else 0, _held_out(stage))
    if {"reward", "kl"} <= set(logged):
        drawn.insert(0, _frontier(stage))
    return drawn + [_chart(stage, key) for key in logged if key not in {*TITLES, *CLOCKS}]


def smooth(values: Sequence[float | None]) -> list[float | None]:
    """An exponential moving average over a twentieth of the curve; gaps stay gaps.

    `m_t = b m_{t-1} + (1 - b) x_t`, shown as `m_t / (1 - b^t)` so that its start is not biased
    (Kingma and Ba 2015, section 3).
    """
    decay = 1 - 2 / (max(1.0, len(values) / 20) + 1)
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


def _chart(stage: StageReport, key: str) -> dict[str, Any]:
    rows = [(row.get("step"), finite(row.get(key))) for row in stage.metrics]
    points = [(step, value) for step, value in rows if step is not None]
    title = TITLES.get(key, visible(key.replace("_", " ")))
    shown = thin(points)
    series = [_series(title, shown)]
    if key in SMOOTHED and len(shown) > 2:
        line = smooth([value for _, value in shown])
        steps = [step for step, _ in shown]
        smoothed = list(zip(steps, line, strict=True))
        series = [_series("as logged", shown, raw=True), _series("smoothed", smoothed)]
    width = _width(points, MAX_POINTS)
    note = f"Each point is the mean of {width} logged steps." if width > 1 else ""
    return {
        "title": title,
        "note": note,
        "main": key in TITLES,
        "zero": key in FROM_ZERO,
        "series": series,
    }


def _frontier(stage: StageReport) -> dict[str, Any]:
    """Reward against KL: what each nat of distance from the reference has bought."""
    pairs = [(finite(row.get("kl")), finite(row.get("reward"))) for row in stage.metrics]
    points = sorted((kl, reward) for kl, reward in pairs if kl is not None and reward is not None)
    return {
        "title": "Reward against KL",
        "note": "Across: KL from the reference, in nats an answer.",
        "main": True,
        "zero": False,
        "series": [_series("an iteration each", thin(points))],
    }


def _held_out(stage: StageReport) -> dict[str, Any]:
    of_pairs = all(one.bits_per_byte is None for one in stage.evaluations)
    points: dict[str, list[Point]] = {}
    for one in stage.evaluations:
        value = one.accuracy if of_pairs else one.bits_per_byte
        points.setdefault(one.source, []).append((one.step, finite(value)))
    series = [_series(source, thin(line)) for source, line in points.items()]
    title = "Held-out pairs in the right order" if of_pairs else "Held-out bits per byte"
    return {"title": title, "note": "", "main": True, "zero": False, "series": series}


def _series(name: str, points: Sequence[Point], raw: bool = False) -> dict[str, Any]:
    return {"name": visible(name), "raw": raw, "points": [list(point) for point in points]}
