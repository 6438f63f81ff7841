"""A model answers held-out prompts with constraints, and stays as it is."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import torch
from pydantic import TypeAdapter
from rich.console import Console
from tiny import write_documents

from guildgpt.bases.base import load_base
from guildgpt.bases.config import BaseConfig, ScratchConfig
from guildgpt.data.constrained import SETS, held_out_prompts
from guildgpt.evaluate.command import show_model
from guildgpt.evaluate.constrained import constrained_answers
from guildgpt.evaluate.kept import kept_change, kept_figures
from guildgpt.evaluate.samples import Measured
from guildgpt.network.world import World


def test_a_model_answers_the_prompts_of_both_sets(tmp_path: Path) -> None:
    write_documents(tmp_path, 4)
    texts = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.glob("*.txt"))]
    shape = ScratchConfig(
        vocabulary=300, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64
    )
    base = load_base(BaseConfig(base="scratch", context=512, scratch=shape), documents=texts)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    answered = constrained_answers(base, World(), 2, 6, "bfloat16")
    assert list(answered) == list(SETS)
    for name, answers in answered.items():
        prompts = held_out_prompts(2)[name]
        assert [one.prompt for one in answers] == [one.prompt for one in prompts]
        for one, asked in zip(answers, prompts, strict=True):
            assert len(one.kept) == len(asked.constraints)
        assert all(one.tokens <= 6 for one in answers)
        change = kept_change(answers, answers)
        assert change
        assert change.all_kept.rate == 0
    for name, value in base.model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    kind = TypeAdapter(Measured)
    measured = Measured({}, [], answered)
    assert kind.validate_json(kind.dump_json(measured)) == measured
    assert kind.validate_python({"bits": {}, "samples": []}) == Measured({}, [])
    figures = {
        name: TypeAdapter(type(found)).dump_python(found)
        for name, answers in answered.items()
        for found in [kept_figures(answers)]
    }
    console = Console(file=StringIO(), width=100)
    result = {"model": "tiny", "sources": {}, "warnings": [], "constraints": figures}
    show_model(result, console)
    told = console.file.getvalue()
    for name in SETS:
        assert f"{name}, all of a prompt" in told
        assert f"{name}, each" in told
