"""A dry run of a whole recipe, counted by hand."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from guildgpt.pipeline.plan import dry_run as plan_of
from guildgpt.recipe import RECIPES, load_recipe

from .replit import write_replit


def write_dolly(path: Path, rows: int) -> None:
    lines = [
        {
            "instruction": f"Where is the gate of house {number}?",
            "context": "The gate is old." if number % 3 == 0 else "",
            "response": "It looks at the river.",
            "category": "open_qa",
        }
        for number in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_oasst(path: Path, trees: int) -> None:
    lines = [
        {
            "message_tree_id": f"tree{number}",
            "tree_state": "ready_for_export",
            "prompt": {
                "message_id": f"q{number}",
                "text": f"Who keeps the lamp of house {number}?",
                "role": "prompter",
                "lang": "en",
                "review_result": True,
                "deleted": False,
                "synthetic": False,
                "replies": [
                    {
                        "message_id": f"a{number}",
                        "parent_id": f"q{number}",
                        "text": "The guild keeps it.",
                        "role": "assistant",
                        "lang": "en",
                        "review_result": True,
                        "deleted": False,
                        "synthetic": False,
                        "rank": 0,
                        "replies": [],
                    }
                ],
            },
        }
        for number in range(trees)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_account_s_recipe_down_to_the_token_counts(tmp_path: Path) -> None:
    """On stand-ins for the base, whose weights it does not need, and for both sources."""
    base = write_replit(tmp_path / "replit-code", "v1", shared=False)
    (base / "model.safetensors").unlink()
    write_dolly(tmp_path / "dolly.jsonl", 70)
    write_oasst(tmp_path / "oasst.jsonl", 50)
    sources = [f"oasst:{tmp_path / 'oasst.jsonl'}", f"dolly:{tmp_path / 'dolly.jsonl'}"]
    recipe = load_recipe(
        RECIPES / "replit-3b.toml",
        [
            f"model.base={base}",
            'model.licence="CC-BY-SA-4.0"',
            'model.written_by="people"',
            f"data.sources={json.dumps(sources)}",
            "sft.batch_size=32",
            "sft.epochs=2.5",
        ],
    )
    out = StringIO()
    plan = plan_of(recipe, Console(file=out, width=200))
    assert plan["policy"] == "strict"
    assert plan["warnings"] == []
    assert plan["sources"]["dolly"]["rows"] == 70
    assert plan["sources"]["oasst"]["rows"] == 50
    stage = plan["stages"]["sft"]
    held_out = sum(source["held_out"] for source in plan["sources"].values())
    assert stage["rows"] == 120 - held_out < 120
    assert stage["steps"] == -(-int(2.5 * stage["rows"] + 0.5) // 32)
    assert stage["tokens_seen"] == pytest.approx(2.5 * stage["tokens"], rel=0.01)
    assert 0 < stage["trained_tokens"] < stage["tokens"] < stage["rows"] * stage["longest"]
    assert stage["dropped"] == {}
    assert f"{stage['tokens']:,}" in out.getvalue()
    assert not (tmp_path / "runs").exists()
