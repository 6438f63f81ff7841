from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from guildgpt.chat import Message
from guildgpt.data.dataset import SourceReport
from guildgpt.data.provenance import Provenance
from guildgpt.errors import DataError
from guildgpt.evaluate.probes import Probe
from guildgpt.report.before_after import headline, summary_table
from guildgpt.report.curves import charts, smooth, thin
from guildgpt.report.page import write_report
from guildgpt.report.report import (
    REPORT,
    Evaluation,
    HeldOut,
    ProbeAnswer,
    Report,
    StageReport,
    read_metrics,
    read_report,
)
from guildgpt.text.figures import decimals, duration, sign, signed, size
from guildgpt.train.loop import Outcome
from tests.report.conftest import EMPTY, UNTRAINED

numbers = st.floats(-1e6, 1e6)


def test_a_report_comes_back_as_it_was_written(report: Report, tmp_path: Path) -> None:
    page = write_report(tmp_path / "run", report)
    assert page == tmp_path / "run" / "report.html"
    assert read_report(page.parent) == report
    assert REPORT.validate_python(report.as_dict()) == report


def test_the_least_report_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path, EMPTY)
    assert read_report(tmp_path) == EMPTY


# What a report.json held of its records before it held the records.
SIDE_BY_SIDE = {
    "stages": [
        {
            "name": "sft",
            "steps": 2,
            "seconds": 8.5,
            "tokens": 60,
            "tokens_per_second": 7.1,
            "share_of_peak": 0.1,  # as older runs have it
            "peak_memory_bytes": 1024,
            "metrics": [{"step": 1, "loss": 2.5}],
            "evaluations": [],
        }
    ],
    "probes": [
        {
            "id": "tls",
            "messages": [{"role": "user", "content": "What is TLS?", "source": None}],
            "asks": "a definition",
            "before": None,
            "after": {"text": "A protocol.", "stop": "eos", "looped": False, "tokens": 3},
            "seen": False,
            "base": None,
        }
    ],
    "sources": [
        {
            "name": "dolly",
            "rows": 12,
            "train": 9,
            "held_out": 2,
            "duplicates": 1,
            "skipped": {"too long": 3},
            "licence": "CC-BY-SA-3.0",
            "origin": "https://example.org",
            "revision": "bdd27f4d",
            "hash": "2df90833",
            "written_by": "people",
        }
    ],
    "base": {
        "name": "starter",
        "parameters": 134515008,
        "licence": "Apache-2.0",
        "origin": "",
        "revision": "",
        "hash": "57f9bc54",
        "written_by": "mixed",
        "note": "small",
    },
}


def test_a_report_of_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    others = {key: value for key, value in EMPTY.as_dict().items() if key != "parameters"}
    path.write_text(json.dumps({**others, **SIDE_BY_SIDE}))
    read = read_report(tmp_path)
    (stage,), (asked,), ((source, rows),) = read.stages, read.probes, read.sources
    assert stage.outcome == Outcome(2, 60, 8.5, 7.1, 1024, 0, Path("metrics.jsonl"))
    assert stage.metrics == ({"step": 1, "loss": 2.5},)
    assert asked.probe == Probe("tls", (Message("user", "What is TLS?"),), "a definition")
    assert asked.after == ProbeAnswer("A protocol.", "eos", looped=False, tokens=3)
    assert (source.name, source.sha256, source.written_by) == ("dolly", "2df90833", "people")
    assert rows == SourceReport(12, 9, 2, 1, skipped={"too long": 3})
    base = Provenance("starter", "base", "Apache-2.0", sha256="57f9bc54", written_by="mixed")
    assert read.base == replace(base, note="small")
    assert read.parameters == 134515008
    assert read.seconds == 8.5
    write_report(tmp_path, read)
    assert read_report(tmp_path) == read


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"title": "half'])
def test_what_is_no_report_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError, match=r"report\.json"):
        read_report(tmp_path)


def test_a_loss_that_is_not_a_number_leaves_valid_json(report: Report, tmp_path: Path) -> None:
    rows = ({"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}, {"step": 3, "loss": 2.0})
    diverged = replace(report, stages=(StageReport("sft", UNTRAINED, rows, ()),))
    write_report(tmp_path, diverged)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    losses = [row["loss"] for row in read_report(tmp_path).stages[0].metrics]
    assert losses == [None, None, 2.0]


def test_a_report_that_cannot_be_read_says_where_and_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report\.json"):
        read_report(tmp_path)
    write_report(tmp_path, EMPTY)
    path = tmp_path / "report.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"title"', '"name"'))
    with pytest.raises(DataError, match="title"):
        read_report(tmp_path)


def test_time_and_cost(report: Report) -> None:
    assert report.seconds == 3124.2
    assert report.cost == pytest.approx(3124.2 / 3600 * 0.5)
    assert replace(report, phases=()).seconds == 3120
    assert replace(report, price_per_hour=0).cost == 0


# --- metrics.jsonl ---


def test_metrics_are_read_by_step_and_the_later_row_of_a_step_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"step": 0, "source": "dolly", "bits_per_byte": 1.3, "perplexity": 9.0, "rows": 3},
        {"step": 1, "loss": 3.0, "note": "text is no figure"},
        {"step": 2, "loss": 2.5},
        {"step": 2, "loss": 2.4},
        {"step": 2, "source": "dolly", "bits_per_byte": 1.2},
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 3, "lo', encoding="utf-8")
    metrics, evaluations = read_metrics(path)
    assert metrics == ({"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.4})
    assert evaluations == (
        Evaluation(0, "dolly", 1.3, 9.0, None),
        Evaluation(2, "dolly", 1.2, None, None),
    )


# --- the headline and the terminal's table ---


def test_the_headline_says_what_fell_and_what_rose(report: Report) -> None:
    fell, rose, answered = headline(report)
    assert fell == "Held-out bits per byte fell from 1.231 to 1.052 on dolly."
    assert rose.startswith("Held-out bits per byte rose from 1.200 to 1.250 on oasst1, so")
    assert answered == (
        "Of 200 sampled answers it ended 97% by itself (41% before); "
        "2% ran into a loop (24% before)."
    )


def test_the_headline_of_a_run_without_measures_says_so() -> None:
    assert headline(EMPTY) == [
        "Nothing was measured on held-out rows both before and after training."
    ]
    level = HeldOut("dolly", 1, 1, 1.2341, 1.2339, None, None)
    said = headline(replace(EMPTY, held_out=(level,)))
    assert said == ["Held-out bits per byte stayed at 1.234 on dolly."]


def test_the_terminals_table(report: Report) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary_table(replace(report, title="[bold]not markup[/bold]")))
    text = console.export_text()
    for piece in ("[bold]not", "1.231", "1.052", "−14.5%", "+4.2%", "+56.0 points", "188.2"):
        assert piece in text


def test_a_run_that_only_learns_to_score_has_no_rows_to_show() -> None:
    assert not summary_table(EMPTY).rows


# --- curves ---


@given(st.lists(st.none() | numbers, max_size=200))
def test_smoothing_stays_within_the_values_and_keeps_gaps(values: list[float | None]) -> None:
    smoothed = smooth(values)
    assert [one is None for one in smoothed] == [one is None for one in values]
    known = [one for one in values if one is not None]
    for one in smoothed:
        assert one is None or min(known) - 1e-6 <= one <= max(known) + 1e-6


@given(numbers, st.integers(1, 300))
def test_smoothing_a_level_line_changes_nothing(level: float, count: int) -> None:
    assert smooth([level] * count) == pytest.approx([level] * count)


@given(st.lists(st.none() | numbers, max_size=200), st.integers(1, 50))
def test_thinning_bounds_the_points_and_keeps_the_last_step(
    values: list[float | None], most: int
) -> None:
    points = list(enumerate(values))
    thinned = thin(points, most)
    assert len(thinned) <= most
    assert [step for step, _ in thinned] == sorted(step for step, _ in thinned)
    assert not points or thinned[-1][0] == points[-1][0]
    if len(points) <= most:
        assert thinned == points


def test_the_charts_of_a_stage(report: Report) -> None:
    drawn = charts(report.stages[1])
    assert [(chart["title"], chart["main"]) for chart in drawn] == [
        ("Training loss", True),
        ("Held-out bits per byte", True),
        ("Learning rate", True),
        ("Tokens per second", True),
        ("grad norm", False),
    ]
    assert [one["name"] for one in drawn[0]["series"]] == ["as logged", "smoothed"]
    assert [one["name"] for one in drawn[1]["series"]] == ["dolly", "oasst1"]
    assert drawn[1]["series"][0]["points"] == [[0, 1.3], [20, 1.2], [40, 1.1]]
    assert charts(report.stages[2]) == []


def test_one_logged_step_is_one_point(report: Report) -> None:
    loss = charts(report.stages[0])[0]
    assert [one["points"] for one in loss["series"]] == [[[1, 3.4]]]


# --- figures in words ---


def test_figures_are_written_for_a_reader() -> None:
    assert [duration(s) for s in (0, 4.21, 48, 59.7, 200, 3599.9, 7500)] == [
        "0.0 s",
        "4.2 s",
        "48 s",
        "1 min 00 s",
        "3 min 20 s",
        "1 h 00 min",
        "2 h 05 min",
    ]
    assert [size(n) for n in (0, 999, 1024, 5 * 1024**3, None)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "5.0 GiB",
        "–",
    ]
    assert signed(-0.146) == "−14.6%"
    nothing = [signed(-1e-9), decimals(-1e-9, 1), sign(-1e-9)]
    assert nothing == ["+0.0%", "0.0", "+0.00"]  # and no minus before it
