"""The page of the circle: what it did, turn by turn, for whoever reads it in the morning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from guildgpt.report.environment import environment

WIDTH, HEIGHT = 640, 220  # of the curve, in its own units
STATES = {
    "training": "is being trained",
    "gate": "is being measured",
    "canary": "is being tried: rounds decide",
    "preferred": "is preferred, and waits for your yes",
    "not_preferred": "dropped: members did not prefer it",
    "undecided": "dropped: it stayed undecided",
    "promoted": "promoted",
    "dropped": "dropped",
}
PLACES = {"discord": "on Discord", "web": "on the web page", "terminal": "at a terminal"}


def render(story: Mapping[str, Any]) -> str:
    """The page as text, of what `feedback.versions.story.story` gives."""
    page = environment()
    page.filters |= {"when": when, "points": lambda value: f"{100 * value:+.1f} points"}
    return page.get_template("circle.html").render(
        story=story,
        turns=[turn | {"curve": drawn(turn["canary"])} for turn in story["turns"]],
        states=STATES,
        places=PLACES,
        figure=figure,
        width=WIDTH,
        height=HEIGHT,
    )


def when(moment: str) -> str:
    """A moment as people read it, in UTC."""
    return f"{datetime.fromisoformat(moment):%d %B %Y, %H:%M} UTC"


def figure(measure: Mapping[str, Any], key: str) -> str:
    """One of a gate's figures, in its unit; a dash where there is none."""
    value = measure.get(key)
    if value is None:
        return "–"
    if measure["unit"] == "share":
        return f"{100 * value:+.1f} points" if key == "difference" else f"{100 * value:.1f} %"
    if key == "difference" and measure["name"] == "length":
        return f"{value:.2f} times"
    return f"{value:+.3g}" if key == "difference" else f"{value:.3g}"


def drawn(canary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The curve of a canary's rounds in the units of its picture: the mean as a line, its interval
    as a band; None where no round has been counted."""
    rounds: Sequence[Mapping[str, float]] = canary["rounds"]
    if not rounds:
        return None
    last = max(len(rounds), 10)

    def place(number: float, value: float) -> str:
        return f"{WIDTH * (number - 1) / (last - 1):.1f},{HEIGHT * (1 - value):.1f}"

    line = [place(one["round"], one["mean"]) for one in rounds]
    upper = [place(one["round"], one["high"]) for one in rounds]
    lower = [place(one["round"], one["low"]) for one in rounds]
    end = rounds[-1]
    return {
        "line": " ".join(line),
        "band": " ".join([*upper, *reversed(lower)]),
        "dot": dict(zip(("x", "y"), line[-1].split(","), strict=True)),
        "rounds": len(rounds),
        "mean": end["mean"],
        "low": end["low"],
        "high": end["high"],
        "for_it": end["preferred"],
        "against": end["not_preferred"],
        "needed": 1 / canary["rule"]["alpha"],
    }
