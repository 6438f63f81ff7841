"""The page as a reader's browser takes it: well formed, closed to what a model wrote, drawn."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.chat import Message
from guildgpt.data.dataset import SourceReport
from guildgpt.data.provenance import Provenance
from guildgpt.evaluate.probes import Probe
from guildgpt.report.page import render as rendered
from guildgpt.report.page import write_report
from guildgpt.report.report import (
    REPORT,
    HeldOut,
    ProbeAnswer,
    ProbeResult,
    Report,
    StageReport,
)
from guildgpt.text.figures import blocks, visible
from tests.report.conftest import EMPTY, UNTRAINED

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "base", "source"}
EVIL = (
    "</script></style></textarea></code></pre>--><script>window.evil = 1</script>"
    '<img src=x onerror="window.evil = 1"><a href="javascript:evil()">"\'`{{ 7 * 7 }}{% raw %}'
    "\u202egnp.exe\u202c\u2066\u200b\x00\x07\x1b[31m\x85\ud800\ufeff\u2028"
)


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and whether its tags close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def poisoned(report: Report, poison_text: str = EVIL) -> Report:
    """The report with `poison_text` in every text it holds, names of logged figures included."""

    def poison(value: object) -> object:
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return value + poison_text if isinstance(value, str) else value

    values = {key: poison(value) for key, value in report.as_dict().items()}
    plain = report.as_dict()
    for asked, kept in zip(values["probes"], plain["probes"], strict=True):
        turns = asked["probe"]["messages"], kept["probe"]["messages"]
        for message, was in zip(*turns, strict=True):
            message["role"] = was["role"]
    records = [(values["base"], plain["base"])]
    records += [(s[0], w[0]) for s, w in zip(values["sources"], plain["sources"], strict=True)]
    for record, was in records:
        record |= {key: was[key] for key in ("kind", "written_by")}
    skipped = {poison_text: 1}
    evil = REPORT.validate_python(values)
    logged = StageReport("last", UNTRAINED, ({"step": 1, "loss": 1.0, poison_text: 2.0},), ())
    return replace(
        evil,
        stages=(*evil.stages, logged),
        sources=tuple((one, replace(rows, skipped=skipped)) for one, rows in evil.sources),
    )


def test_the_page_is_well_formed_and_complete(report: Report) -> None:
    page = Page(rendered(report))
    assert page.open == []
    for piece in (
        "Held-out bits per byte fell from 1.231 to 1.052 on dolly.",
        "What is TLS?",
        "It encrypts a connection.",
        "ran into a loop",
        "cut at its length",
        "this question stood in the training rows",
        "print('Mercury')",
        "Not asked.",
        "Nothing was logged in this stage.",
        "42: longer than 1,024 tokens",
        "CC-BY-SA-3.0",
        "partly written by another company's model",
        'base = "starter"',
        "USD 0.43 at 0.50 an hour",
        "guildgpt chat runs/starter",
    ):
        assert piece in page.text


def test_the_page_can_be_read_without_eyes(report: Report) -> None:
    page = Page(rendered(report))
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.of("table")) == len(page.of("caption")) == 5
    assert all(attributes.get("scope") for attributes in page.of("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-controls"):
            assert attributes.get(name) in (None, *ids)
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
    plots = [one for one in page.of("div") if one.get("class") == "plot"]
    assert len(plots) == 7
    assert all(one["aria-label"] and one["tabindex"] == "0" for one in plots)


def luminance(color: str) -> float:
    """WCAG 2's relative luminance of #rrggbb."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_every_text_stands_out_from_its_ground(report: Report, theme: str) -> None:
    style = rendered(report).split(theme, 1)[1].split("}", 1)[0]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))
    pairs = [(text, "card") for text in ("ink", "soft", "accent", "good", "bad")]
    pairs += [(text, "paper") for text in ("ink", "soft", "accent")]
    pairs += [(text, f"{text}-wash") for text in ("bad", "warn", "info")] + [("ink", "accent-wash")]
    for text, ground in pairs:
        dark, light = sorted(luminance(colors[name]) for name in (text, ground))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"
    for line in (f"c{number}" for number in range(6)):
        dark, light = sorted(luminance(colors[name]) for name in (line, "card"))
        assert (light + 0.05) / (dark + 0.05) >= 3, line


def test_nothing_is_loaded_from_anywhere(report: Report) -> None:
    html = rendered(report)
    page = Page(html)
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert "srcset" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if "href" in attributes:
            assert tag == "a"
    assert not page.of("link")
    assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest|import\(", html)
    policy = next(one["content"] or "" for one in page.of("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'")
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


def test_no_text_can_break_out(report: Report, tmp_path: Path) -> None:
    evil = poisoned(report)
    html = write_report(tmp_path, evil).read_text(encoding="utf-8")
    page, harmless = Page(html), Page(rendered(poisoned(report, "harmless")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [set(names) for _, names in page.tags] == [set(names) for _, names in harmless.tags]
    assert page.open == []
    assert len(page.of("script")) == 2
    assert not page.of("img")
    assert "window.evil" in page.text  # shown, not run
    assert "{{ 7 * 7 }}" in page.text
    for attributes in page.of("a"):
        assert re.match(r"#|https?://", attributes["href"] or "")
    hidden = set(html) - {"\n", "\t"}
    assert all(visible(letter) == letter for letter in hidden)
    assert "⟨U+202E⟩" in page.text
    data = html.split('id="curves">')[1].split("</script>")[0]
    assert json.loads(data)[-1][-1]["title"] == visible(EVIL.replace("_", " "))


def test_an_origin_that_is_no_web_address_is_no_link(report: Report) -> None:
    source = Provenance("x", origin="javascript:alert(1)")
    page = Page(rendered(replace(report, sources=((source, SourceReport()),))))
    assert "javascript:alert(1)" in page.text
    assert all((one["href"] or "").startswith("#") for one in page.of("a"))


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=80))
def test_any_answer_at_all_is_shown_as_text(text: str) -> None:
    probe = Probe("p", (Message("user", text),), text)
    answer = ProbeAnswer(text, "eos", looped=False, tokens=1)
    asked = ProbeResult(probe, answer, answer, seen=False, base=None)
    html = rendered(replace(EMPTY, title=text, probes=(asked,)))
    page = Page(html)
    html.encode("utf-8")
    assert page.open == []
    assert len(page.of("script")) == 2
    assert [one for one in page.of("p") if "asked user" in (one.get("class") or "")]


def test_hidden_characters_are_named_and_others_left() -> None:
    assert visible("a\u202eb\x00\r\nc\rd") == "a⟨U+202E⟩b⟨U+0000⟩\nc⟨U+000D⟩d"
    for text in ("שלום עולם", "👩‍🚀 é ñ 漢字", "tab\tand\nline", "क्‍ष"):
        assert visible(text) == text
    assert visible(3) == 3


def test_blocks() -> None:
    assert blocks("Look:\n\n```python\nprint(1)\n```\nDone.") == [
        ("text", "Look:"),
        ("code", "print(1)"),
        ("text", "Done."),
    ]
    assert blocks("```\n    cut off") == [("code", "    cut off")]
    assert blocks("one `tick` and ``` in a line") == [("text", "one `tick` and ``` in a line")]
    assert blocks(" \n ") == []


# --- in a browser ---

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="no chromium, chromium-browser or google-chrome is installed",
)
def test_a_browser_draws_the_charts_and_runs_nothing_else(report: Report, tmp_path: Path) -> None:
    assert CHROMIUM, "no chromium, chromium-browser or google-chrome is installed"
    steady = StageReport(
        "steady", UNTRAINED, ({"step": 5, "loss": 2.0}, {"step": 6, "loss": 2.0}), ()
    )
    empty = StageReport("nothing finite", UNTRAINED, ({"step": 1, "loss": None},), ())
    evil = poisoned(replace(report, stages=(*report.stages, steady, empty)))
    page = write_report(
        tmp_path, replace(evil, held_out=(HeldOut(EVIL, 1, 1, 1.0, 2.0, None, None),))
    )
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
        "--enable-logging=stderr --virtual-time-budget=3000"
    )
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *flags.split(), profile, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    dom = Page(done.stdout)
    (root,) = dom.of("html")
    assert "CONSOLE" not in done.stderr
    assert "data-error" not in root
    figures = [one for one in dom.of("figure") if one.get("class") == "chart"]
    drawn = [one for one in dom.of("svg") if one.get("role") == "img"]
    assert len(figures) == 11
    assert root["data-charts"] == str(len(drawn)) == "10"  # one has no values
    labels = [one["aria-label"] for one in drawn]
    assert "Training loss: 3.4 at step 1" in labels
    assert "Training loss: from 2.48 at step 1 to 1.71 at step 40" in labels
    assert "Training loss: from 2 at step 5 to 2 at step 6" in labels
    assert "NaN" not in done.stdout
    assert "No values were logged." in dom.text
    assert len(dom.of("script")) == 2
    assert not dom.of("img")
