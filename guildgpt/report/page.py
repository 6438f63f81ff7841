"""The report as a page: one HTML file that opens offline, and the same figures as report.json."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from guildgpt.report.before_after import (
    SCORERS,
    columns,
    headline,
    kept_rows,
    sample_rows,
)
from guildgpt.report.curves import charts
from guildgpt.report.environment import environment, part
from guildgpt.report.report import REPORT_JSON, Report

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
    from markupsafe import Markup

    page = environment()
    page.filters["sha256"] = _sha256
    return page.get_template(REPORT_HTML).render(
        report=report,
        script=Markup(part(REPORT_SCRIPT)),
        headline=headline(report),
        columns=columns(report),
        scorers=SCORERS,
        zip=zip,
        sample_rows=sample_rows(report),
        kept_rows=kept_rows(report),
        charts=[charts(stage) for stage in report.stages],
    )


def _sha256(text: str) -> str:
    """The hash of an inline script, as a content security policy states it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
