"""How figures, and text that someone else wrote, are shown to a reader."""

from __future__ import annotations

import math
import re
from typing import Any

from guildgpt.text.visible import named

NONE = "–"  # what stands where nothing was measured


def visible(value: Any) -> Any:
    """Text with its hidden characters named (⟨U+202E⟩); what is not text passes through."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # already escaped by jinja2
        return value
    return named(value)


def blocks(text: str) -> list[tuple[str, str]]:
    """An answer cut at its ``` fences: ("text" or "code", content) in order, blank ones left out.

    A fence that is never closed, as in an answer that was cut at its length, runs to the end.
    """
    parts: list[tuple[str, str]] = []
    end = 0
    for code in re.finditer(r"^ *```[^\n]*\n(.*?)(?:^ *```[ \t]*$|\Z)", text, re.M | re.S):
        parts += [("text", text[end : code.start()]), ("code", code[1])]
        end = code.end()
    parts.append(("text", text[end:]))
    return [(kind, part.strip("\n")) for kind, part in parts if part.strip()]


def duration(seconds: float) -> str:
    """Seconds as a person says them: "4.2 s", "48 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def size(count: float | None) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    if count is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def whole(value: float | None) -> str:
    """A count: "1,234"."""
    return NONE if value is None else f"{value:,.0f}"


def decimals(value: float | None, digits: int = 3) -> str:
    """A measure: "1.052"."""
    return NONE if value is None else f"{value:z,.{digits}f}"


def percent(share: float | None) -> str:
    """A share in 0..1: "38.0%"."""
    return NONE if share is None else f"{100 * share:.1f}%"


def signed(value: float | None, unit: str = "%") -> str:
    """A change in hundredths: "−14.6%", "+56.0 points"."""
    return NONE if value is None else f"{100 * value:+z.1f}{unit}".replace("-", "−")


def sign(value: float | None, digits: int = 2) -> str:
    """A score, or a difference of scores, with its sign: "+0.15", "−0.16"."""
    return NONE if value is None else f"{value:+z,.{digits}f}".replace("-", "−")


def finite(value: float | None) -> float | None:
    """The value, or None where it is not a number that a page (or JSON) can show."""
    return value if value is not None and math.isfinite(value) else None
