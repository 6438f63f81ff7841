"""A report with something of everything in it, as a short run would leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from guildgpt.chat import Message
from guildgpt.data.dataset import SourceReport
from guildgpt.data.provenance import Provenance
from guildgpt.evaluate.probes import Probe
from guildgpt.evaluate.samples import SampleMeasures
from guildgpt.report.report import (
    Evaluation,
    HeldOut,
    Phase,
    ProbeAnswer,
    ProbeResult,
    Report,
    StageReport,
)
from guildgpt.train.loop import Outcome

UNTRAINED = Outcome(0, 0, 0.0, 0.0, 0, 0, Path("metrics.jsonl"))
EMPTY = Report(
    title="A run",
    created="2026-11-23",
    recipe_name="",
    recipe_text="",
    stages=(),
    held_out=(),
    samples_before=None,
    samples_after=None,
    samples_base=None,
    preferences=(),
    head_to_head=None,
    probes=(),
    sources=(),
    base=None,
    parameters=None,
    policy="strict",
    warnings=(),
    phases=(),
    hardware="",
    price_per_hour=0.0,
    chat_command="",
    version="0.1.0",
)


@pytest.fixture
def report() -> Report:
    return Report(
        title="A model of our own",
        created="2026-11-23T01:20:00Z",
        recipe_name="starter",
        recipe_text='[model]\nbase = "starter"\n',
        stages=(
            StageReport("pretrain", UNTRAINED, ({"step": 1, "loss": 3.4, "lr": 1e-4},), ()),
            StageReport(
                "sft",
                Outcome(
                    steps=40,
                    seconds=3120.0,
                    tokens=163840,
                    tokens_per_second=52.5,
                    flops_per_second=4e11,
                    peak_memory_bytes=2 * 1024**3,
                    resumed_from=0,
                    metrics=Path("metrics.jsonl"),
                ),
                metrics=tuple(
                    {
                        "step": step,
                        "loss": 2.5 - step / 50,
                        "lr": 1e-4,
                        "grad_norm": 0.8,
                        "tokens_per_second": 52.5,
                    }
                    for step in range(1, 41)
                ),
                evaluations=tuple(
                    Evaluation(step, source, 1.3 - step / 200, 9.0, None)
                    for step in (0, 20, 40)
                    for source in ("dolly", "oasst1")
                ),
            ),
            StageReport("reward", UNTRAINED, (), ()),
        ),
        held_out=(
            HeldOut("dolly", 596, 412345, 1.231, 1.052, 9.8, 6.4),
            HeldOut("oasst1", 203, 312345, 1.2, 1.25, 9.0, 9.4),
        ),
        samples_before=SampleMeasures(200, 0.41, 0.235, 0.11, 0.42, 0.61, 188.2, 201.0, 256.0),
        samples_after=SampleMeasures(200, 0.97, 0.02, 0.18, 0.58, 0.77, 96.1, 82.0, 180.0),
        samples_base=None,
        preferences=(),
        head_to_head=None,
        probes=(
            ProbeResult(
                Probe("tls", (Message("user", "What is TLS?"),), "a definition"),
                ProbeAnswer("It is it is it is", "length", looped=True, tokens=256),
                ProbeAnswer("It encrypts a connection.", "eos", looped=False, tokens=6),
                seen=True,
                base=None,
            ),
            ProbeResult(
                Probe(
                    "follow-up",
                    (
                        Message("user", "Which planet is the largest?"),
                        Message("assistant", "Jupiter."),
                        Message("user", "And the smallest?"),
                    ),
                    asks="",
                ),
                before=None,
                after=ProbeAnswer(
                    "```python\nprint('Mercury')\n```", "eos", looped=False, tokens=9
                ),
                seen=False,
                base=None,
            ),
        ),
        sources=(
            (
                Provenance(
                    "dolly",
                    licence="CC-BY-SA-3.0",
                    origin="https://huggingface.co/datasets/databricks/databricks-dolly-15k",
                    revision="bdd27f4d",
                    sha256="2df90833",
                    rows=11920,
                    written_by="people",
                    held_out=0.05,
                ),
                SourceReport(
                    rows=11920,
                    train=11102,
                    held_out=596,
                    duplicates=180,
                    skipped={"longer than 1,024 tokens": 42},
                ),
            ),
        ),
        base=Provenance("starter", "base", "Apache-2.0", written_by="mixed"),
        parameters=134515008,
        policy="open",
        warnings=("starter: partly written by another company's model",),
        phases=(Phase("load", 4.2), Phase("sft", 3120.0)),
        hardware="2 CPU cores",
        price_per_hour=0.5,
        chat_command="guildgpt chat runs/starter",
        version="0.1.0",
    )
