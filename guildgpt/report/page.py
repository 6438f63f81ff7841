"""The report as a page: one HTML file that opens offline, and the same figures as report.json."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path

from guildgpt.report.before_after import (
    SCORERS,
    columns,
    headline,
    kept_rows,
    sample_rows,
)
from guildgpt.report.curves import charts
from guildgpt.report.report import REPORT_JSON, Report
from guildgpt.text import figures

REPORT_HTML = "report.html"
REPORT_SCRIPT = "report.js"


def write_report(folder: str | Path, report: Report) -> Path:
    """Write `report.json` and `report.html` into `folder`; the path of the page is returned."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = json.dumps(report.as_dict(), indent=1, allow_nan=False)
    (folder / REPORT_JSON).write_text(values + "\n", encoding="utf-8")
    page = folder / REPORT_HTML
    page.write_text(render(report), encoding="utf-8", newline="\n")
    return page


def render(report: Report) -> str:
    """The page as text.

    Three locks keep what a model wrote from becoming part of the page: jinja2 escapes every value,
    `figures.visible` names control and direction characters, and the page's own content security
    policy runs no script but the one whose hash it states and loads nothing from anywhere.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        finalize=figures.visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "blocks": figures.blocks,
        "decimals": figures.decimals,
        "duration": figures.duration,
        "percent": figures.percent,
        "sha256": _sha256,
        "sign": figures.sign,
        "signed": figures.signed,
        "size": figures.size,
        "whole": figures.whole,
    }
    return environment.get_template(REPORT_HTML).render(
        report=report,
        script=Markup(_part(REPORT_SCRIPT)),
        headline=headline(report),
        columns=columns(report),
        scorers=SCORERS,
        zip=zip,
        sample_rows=sample_rows(report),
        kept_rows=kept_rows(report),
        charts=[charts(stage) for stage in report.stages],
    )


def _part(name: str) -> str:
    """A file of the page: its frame, a section, its style, its script."""
    return files("guildgpt.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    """The hash of an inline script, as a content security policy states it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
