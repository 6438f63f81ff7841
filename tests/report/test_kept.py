"""Constraints kept, in the report's sentences, rows and page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from guildgpt.evaluate.kept import KeptChange, KeptFigures, KeptShare
from guildgpt.report.before_after import headline, kept_rows
from guildgpt.report.page import write_report
from guildgpt.report.report import REPORT_JSON, KeptReport, Report, read_report


def figures(rate: float) -> KeptFigures:
    share = KeptShare(rate, rate - 0.03, rate + 0.03)
    return KeptFigures(500, 800, share, share, {"bullets": rate})


GAIN = KeptChange(KeptShare(0.16, 0.11, 0.21), KeptShare(0.1, 0.06, 0.14))
UNSURE = KeptChange(KeptShare(0.02, -0.01, 0.05), KeptShare(-0.01, -0.03, 0.01))
KEPT = (
    KeptReport("known kinds", figures(0.12), figures(0.2), figures(0.36), GAIN),
    KeptReport("held-out kinds", None, figures(0.1), figures(0.12), UNSURE),
)


def test_rows_and_sentences(report: Report) -> None:
    kept = replace(report, kept=KEPT)
    rows = kept_rows(kept)
    assert [row.measure for row in rows] == [
        "constraints of known kinds kept, all of a prompt",
        "constraints of known kinds kept, each",
        "constraints of held-out kinds kept, all of a prompt",
        "constraints of held-out kinds kept, each",
    ]
    assert rows[0].base == "12.0%"
    assert (rows[0].before, rows[0].after) == ("20.0%", "36.0%")
    assert rows[0].change == "+16.0 points (+11.0 to +21.0)"
    assert [row.better for row in rows] == [True, True, None, None]
    said = [line for line in headline(kept) if "prompts with constraints" in line]
    assert len(said) == 2
    assert "+16.0 points, +11.0 to +21.0" in said[0]


def test_it_comes_back_and_reports_of_before_are_still_read(report: Report, tmp_path: Path) -> None:
    kept = replace(report, kept=KEPT)
    page = write_report(tmp_path, kept)
    assert "constraints of held-out kinds kept, each" in page.read_text(encoding="utf-8")
    assert read_report(tmp_path) == kept
    values = json.loads((tmp_path / REPORT_JSON).read_text(encoding="utf-8"))
    del values["kept"]
    (tmp_path / REPORT_JSON).write_text(json.dumps(values), encoding="utf-8")
    assert read_report(tmp_path) == report
    assert kept_rows(report) == []
