"""What the report of a run says, as plain data; `page.py` draws it.

What it holds is what a reader may check: every figure on the page is in `report.json` beside it,
and `read_report` reads that file back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from guildgpt.data import Provenance, SourceReport
from guildgpt.errors import DataError
from guildgpt.evaluate.head_to_head import HeadToHead
from guildgpt.evaluate.kept import KeptChange, KeptFigures
from guildgpt.evaluate.preferences import PreferenceFigures
from guildgpt.evaluate.probes import Probe
from guildgpt.evaluate.samples import SampleMeasures
from guildgpt.text import figures
from guildgpt.train.loop import Outcome

REPORT_JSON = "report.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One held-out measurement during training."""

    step: int
    source: str
    bits_per_byte: float | None
    perplexity: float | None
    accuracy: float | None  # of a reward model, or of DPO's policy, on held-out pairs


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage as it went: how it ended, the curve of each logged figure, held-out measurements.

    `metrics` are rows such as `{"step": 10, "loss": 2.1, "lr": 1e-4, "grad_norm": 0.8,
    "tokens_per_second": 900.0}`; a figure that was not a number (a diverged loss) is None.
    """

    name: str
    outcome: Outcome
    metrics: tuple[Mapping[str, int | float | None], ...]
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows kept out of training: how well the model predicted them before and after.

    Bits per byte compare models with different tokenizers, perplexity (per token) does not.
    """

    source: str
    rows: int
    bytes: int
    bits_before: float | None
    bits_after: float | None
    perplexity_before: float | None
    perplexity_after: float | None

    @property
    def change(self) -> float | None:
        """Relative change of bits per byte: -0.1 is ten percent fewer, which is better."""
        if not self.bits_before or self.bits_after is None:
            return None
        return self.bits_after / self.bits_before - 1

    @property
    def verb(self) -> str | None:
        """What bits per byte did, to the three decimals that are shown: fell, stayed, or rose."""
        if self.bits_before is None or self.bits_after is None:
            return None
        before, after = round(self.bits_before, 3), round(self.bits_after, 3)
        return "fell" if after < before else "rose" if after > before else "stayed"


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What one model answered to a probe, and how it ended."""

    text: str
    stop: str
    looped: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe, answered by the base and by the trained model.

    `seen` marks a probe whose prompt stood among the training rows: its answer may be recall.
    """

    probe: Probe
    before: ProbeAnswer | None
    after: ProbeAnswer | None
    seen: bool
    base: ProbeAnswer | None  # where `before` is what fine-tuning made of a base


@dataclass(frozen=True, slots=True)
class PreferenceReport:
    """A reward model, or its judge, on the comparisons held out of one source."""

    stage: str
    source: str
    figures: PreferenceFigures


@dataclass(frozen=True, slots=True)
class KeptReport:
    """How many constraints of one set of held-out prompts were kept, before and after."""

    name: str
    base: KeptFigures | None  # where before is a fine-tuned base
    before: KeptFigures | None
    after: KeptFigures | None
    change: KeptChange | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run's wall-clock time, in seconds."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows."""

    title: str
    created: str  # ISO 8601
    recipe_name: str
    recipe_text: str
    stages: tuple[StageReport, ...]
    held_out: tuple[HeldOut, ...]
    samples_before: SampleMeasures | None
    samples_after: SampleMeasures | None
    samples_base: SampleMeasures | None  # where before is a fine-tuned base
    preferences: tuple[PreferenceReport, ...]
    head_to_head: HeadToHead | None
    probes: tuple[ProbeResult, ...]
    sources: tuple[tuple[Provenance, SourceReport], ...]  # and what became of their rows
    base: Provenance | None
    parameters: int | None  # of the base
    policy: str
    warnings: tuple[str, ...]  # what the policy let pass but wants known
    phases: tuple[Phase, ...]
    hardware: str  # in words: "8 CPU cores, no GPU"
    price_per_hour: float  # 0: your own machine
    chat_command: str  # what to type to talk to this model
    version: str  # of this program
    kept: tuple[KeptReport, ...] = ()  # constraints, by set; older reports have none

    @property
    def seconds(self) -> float:
        """Wall-clock time of the whole run: its phases, or its stages where none are listed."""
        return sum(part.seconds for part in self.phases or [one.outcome for one in self.stages])

    @property
    def cost(self) -> float:
        """Hours times the price of one, in US dollars."""
        return self.seconds / 3600 * self.price_per_hour

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; a number that is not finite becomes None, for JSON has no NaN."""
        values = json.dumps(REPORT.dump_python(self, mode="json"))
        return json.loads(values, parse_constant=lambda _: None)  # type: ignore[no-any-return]


REPORT = TypeAdapter(Report)


def read_report(folder: str | Path) -> Report:
    """The report that `write_report` left in a folder."""
    path = Path(folder) / REPORT_JSON
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return REPORT.validate_python(_records(values))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"the report cannot be read ({error})",
            where=path,
            remedy="Every finished run holds one; was it written by another version?",
        ) from error


def _records(report: dict[str, Any]) -> dict[str, Any]:
    """The values of a report.json that held its records' fields side by side, now as records."""
    if "parameters" in report:
        return report
    for stage in report["stages"]:
        stage["outcome"] = {**stage, "resumed_from": 0, "metrics": "metrics.jsonl"}
    for probe in report["probes"]:
        probe["probe"] = dict(probe)
    sources = []
    for source in report["sources"]:
        provenance = {**source, "sha256": source["hash"], "rows": 0, "held_out": None}
        sources.append((provenance, source))
    report["sources"] = sources
    if base := report["base"]:
        report["base"] = {**base, "kind": "base", "sha256": base["hash"]}
        report["parameters"] = base["parameters"]
    return report


def read_metrics(
    path: str | Path,
) -> tuple[tuple[dict[str, float | None], ...], tuple[Evaluation, ...]]:
    """A stage's `metrics.jsonl`: its training rows and its held-out measurements, by step.

    A row that has a `source` is a measurement. A run that was killed and
    resumed may have written a step twice, the later row counts, and may end in half a line.
    """
    rows: dict[float, dict[str, float | None]] = {}
    evaluations: dict[tuple[int, str], Evaluation] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "source" in row:
            step, source = row["step"], str(row["source"])
            evaluations[step, source] = Evaluation(
                step,
                source,
                figures.finite(row.get("bits_per_byte")),
                figures.finite(row.get("perplexity")),
                figures.finite(row.get("accuracy")),
            )
        else:
            rows[row["step"]] = {
                key: figures.finite(value)
                for key, value in row.items()
                if value is None or isinstance(value, (int, float))
            }
    return (
        tuple(rows[step] for step in sorted(rows)),
        tuple(evaluations[place] for place in sorted(evaluations)),
    )
