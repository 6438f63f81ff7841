"""What is exported of a guild, and what training makes of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from guildgpt.data import forms
from guildgpt.data.notes import Notes
from guildgpt.feedback.exporting.exports import Form, export
from guildgpt.feedback.exporting.view import Switches

from .guild import Guild

MEMBERS = Switches(members=True)
SLASH = Switches(slash=True)


def rows(guild: Guild, form: Form, **more: Any) -> list[dict[str, Any]]:
    return export(guild.snapshot, form, **more).rows


def left_out(guild: Guild, form: Form, **more: Any) -> Counter[str]:
    return export(guild.snapshot, form, **more).left_out


def origins(row: dict[str, Any]) -> set[tuple[str, str]]:
    """What a row says it rests on."""
    pairs = [item.partition(":") for item in row.get("origin", [])]
    return {(kind, id) for kind, _, id in pairs}


def load(tmp_path: Path, found: list[dict[str, Any]]) -> tuple[list[Any], Counter[str]]:
    """What training's reader makes of the rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8"
    )
    skipped: Counter[str] = Counter()
    return list(forms.read(path, name="feedback", notes=Notes(skipped))), skipped


def judged(guild: Guild | None = None, **question: Any) -> Guild:
    """A question with two answers: vote and thumb for the second, thumb against the first."""
    guild = guild or Guild()
    asked = guild.say(question.pop("text", "What is TLS?"), **question)
    worse, better = guild.answer("No idea.", asked), guild.answer("A protocol.", asked)
    voter = guild.member("teacher")
    guild.vote(guild.compare(asked, worse, better), voter, 1, 0)
    guild.rate(better, voter, 1)
    guild.rate(worse, voter, -1)
    return guild
