"""`guildgpt learn` night after night: a sentence each on a terminal, elsewhere JSON lines."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import typer

from guildgpt.feedback.storage.rows import utcnow
from guildgpt.inherited import Terminated
from guildgpt.learn.apart import Wanted, take_night_apart
from guildgpt.learn.calendar import Calendar, time_of_day, time_zone
from guildgpt.learn.nightly import Nightly
from guildgpt.learn.turn import check_ancestor
from guildgpt.recipe import find_recipe, load_recipe
from guildgpt.terminal import console_for, say

NOW = "now"


def take_nights(wanted: Wanted, at: str, zone: str | None) -> None:
    """Take the circle each night at a time of day, until Ctrl-C or SIGTERM; or once, `now`: what a
    timer calls. Exits with 1 if that night failed.

    What is wrong before the first night (the time, the recipe, its ancestor) is raised.
    """
    options = wanted.options()
    check_ancestor(load_recipe(find_recipe(options.recipe), options.overrides))
    is_now = at == NOW
    calendar = Calendar(datetime.now().time() if is_now else time_of_day(at), time_zone(zone))
    tells = _on_a_terminal if sys.stdout.isatty() else _as_json
    nightly = Nightly(
        options.store,
        calendar,
        lambda night: take_night_apart(wanted, night),
        lambda happened: tells(happened.kind, happened.words, happened.detail, happened.night),
        lambda words: tells("notice", words),
    )
    try:
        if is_now:
            happened = nightly.one(utcnow().astimezone(calendar.zone).date())
            if happened.kind == "failed":
                raise typer.Exit(1)
            return
        nightly.run()
    except (KeyboardInterrupt, Terminated):
        tells("notice", "Stopped. Started again, it goes on from where it stands.")
        raise


def _on_a_terminal(kind: str, words: str, detail: Any = None, night: Any = None) -> None:
    sentence = words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
    remedy = [detail["remedy"]] if detail and "remedy" in detail else []
    say(console_for(), f"{datetime.now():%Y-%m-%d %H:%M} {sentence}", *remedy)


def _as_json(kind: str, words: str, detail: Any = None, night: Any = None) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "error" if kind == "failed" else "info",
        "logger": "guildgpt.learn",
        "event": kind,
        "words": words,
    }
    line |= {"night": night.isoformat()} if night else {}
    print(json.dumps(line | (detail or {}), ensure_ascii=False, default=str), flush=True)
