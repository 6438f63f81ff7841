"""A turn with simulated members, with a tiny model: every step is real, the rounds are few."""

from __future__ import annotations

import asyncio
import sys
from io import StringIO
from pathlib import Path

import pytest
import tiny
from rich.console import Console

from guildgpt.feedback.records import Decision
from guildgpt.feedback.storage.location import as_url, member_key
from guildgpt.feedback.store import Store
from guildgpt.pipeline.run import run
from guildgpt.recipe import load_recipe
from simguild import circle

QUICK = (
    "dpo.epochs=1",
    "dpo.lora.rank=4",
    "dpo.dtype=float32",
    "evaluate.prompts=0",
    "export.gguf=['F16']",
    "gate.on=false",  # so small a model breaks more than it learns
)


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ancestor")
    recipe = tiny.write_run(folder, tiny.RECIPE.replace('"Q8_0"', '"F16"'))
    console = Console(file=StringIO())
    run(load_recipe(recipe), recipe.read_text(), folder / "run", console=console)
    return folder / "run" / "sft" / "model"


@pytest.mark.parametrize("taste", ["short", "none"])
def test_a_turn(
    ancestor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taste: str
) -> None:
    monkeypatch.setattr(circle, "BEFORE", 40)
    monkeypatch.setattr(circle, "MOST", 6)
    monkeypatch.setattr(circle, "PARAMS", circle.SamplingParams(temperature=1.0, max_tokens=8))
    words = ["circle", "--taste", taste, "--model", str(ancestor), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, *(word for one in QUICK for word in ("--set", one))])
    circle.main()

    async def look() -> tuple[list[Decision], int, int]:
        url = as_url(str(tmp_path / "out" / "feedback.db"))
        async with await Store.open(url, key=member_key(url)) as store:
            teaching = [one for one in await store.rounds.ballots() if not one.round.decision_id]
            releases = await store.releases.history()
            return await store.decisions.all(), len(teaching), len(releases)

    [decision], teaching, releases = asyncio.run(look())
    assert teaching == 40
    assert releases >= 2
    assert decision.candidate_id
    assert decision.candidate_id != decision.baseline_id
    if taste == "none":
        assert decision.state != "promoted"
