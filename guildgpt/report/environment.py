"""What makes pages of values: jinja2 over the files beside this one, every value escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from guildgpt.text import figures

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    """What turns the files of a page into text: every value is escaped, hidden characters named."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        loader=FunctionLoader(part),
        autoescape=True,
        finalize=figures.visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "blocks": figures.blocks,
        "decimals": figures.decimals,
        "duration": figures.duration,
        "percent": figures.percent,
        "sign": figures.sign,
        "signed": figures.signed,
        "size": figures.size,
        "whole": figures.whole,
    }
    return made


def part(name: str) -> str:
    """A file of the page: its frame, a section, its style, its script."""
    return files("guildgpt.report").joinpath(name).read_text(encoding="utf-8")
