"""The examples do what they say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "rlhf.py"


def code_lines(source: str) -> int:
    """Lines with code on them: no blank lines, comments and docstrings."""
    tree = ast.parse(source)
    documented = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    strings = [node.body[0] for node in documented if ast.get_docstring(node)]
    within = {line for node in strings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in within
        for number, line in enumerate(source.splitlines(), start=1)
    )


def test_the_whole_road_is_short() -> None:
    assert code_lines(EXAMPLE.read_text(encoding="utf-8")) <= 150


@pytest.mark.slow
def test_the_whole_road_leads_up(tmp_path: Path) -> None:
    """The reward that the policy is trained by rises, and so does what it never saw."""
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    rewards = [
        float(line.split("reward")[1].split()[0])
        for line in done.stdout.splitlines()
        if line.startswith("ppo")
    ]
    assert len(rewards) == 5
    assert rewards[-1] > rewards[0] + 0.5
    before, after = (
        [float(word) for word in line.split() if word[0] in "+-"]
        for line in done.stdout.splitlines()
        if line.startswith(("fine-tuned", "with feedback"))
    )
    assert after[0] > before[0] + 1
    assert after[1] > before[1] + 1.5
