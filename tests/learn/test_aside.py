"""The votes that are the judge's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guildgpt.evaluate.config import GateConfig
from guildgpt.feedback.exporting.learnable import ROWS
from guildgpt.learn.aside import ASIDE, is_the_judges, rows_in, set_aside

CONFIG = GateConfig()


def row(prompt: str, number: int = 0, kind: str = "vote") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": f"good {number}"}],
        "rejected": [{"role": "assistant", "content": f"bad {number}"}],
        "origin": [f"{kind}:{prompt}-{number}-{voter}" for voter in range(2)],
    }


def written(folder: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    (folder / ROWS).write_text(text, encoding="utf-8")


ROUNDS = [row(f"Where is house {number}?\u2028Say it.") for number in range(80)]


def test_a_fixed_part_of_the_prompts_once(tmp_path: Path) -> None:
    written(tmp_path, ROUNDS)
    aside = set_aside(tmp_path, CONFIG, least=10)
    assert aside == len(rows_in(tmp_path / ASIDE))
    assert 8 <= aside <= 30
    assert len(rows_in(tmp_path / ROWS)) == 80 - aside
    left, theirs = rows_in(tmp_path / ROWS), rows_in(tmp_path / ASIDE)
    assert sorted(map(str, left + theirs)) == sorted(map(str, ROUNDS))
    assert set_aside(tmp_path, CONFIG, least=10) == aside  # the same command once more
    assert rows_in(tmp_path / ASIDE) == theirs
    assert rows_in(tmp_path / ROWS) == left


def test_killed_between_the_two_files_it_is_done_again(tmp_path: Path) -> None:
    written(tmp_path, ROUNDS)
    aside = set_aside(tmp_path, CONFIG, least=10)
    theirs = rows_in(tmp_path / ASIDE)
    written(tmp_path, ROUNDS)  # the second one was not written
    assert set_aside(tmp_path, CONFIG, least=10) == aside
    assert rows_in(tmp_path / ASIDE) == theirs
    assert len(rows_in(tmp_path / ROWS)) == 80 - aside


@pytest.mark.parametrize(
    ("config", "least"),
    [
        (GateConfig(judge_from=161), 10),  # 160 votes
        (GateConfig(judge_share=0), 10),
        (GateConfig(on=False), 10),
        (CONFIG, 80),  # too few would be left
    ],
)
def test_else_all_votes_teach_the_candidate(tmp_path: Path, config: GateConfig, least: int) -> None:
    written(tmp_path, ROUNDS)
    assert set_aside(tmp_path, config, least) == 0
    assert rows_in(tmp_path / ROWS) == ROUNDS
    assert not (tmp_path / ASIDE).exists()


def test_every_answer_to_a_prompt_is_on_one_side() -> None:
    """Else the judge would know the prompt from what the candidate learned."""
    for number in range(40):
        sides = {
            is_the_judges(row(text, again), 0.5)
            for text in (f"What is {number}?", f"  what IS {number}? ")
            for again in range(3)
        }
        assert len(sides) == 1


def test_corrections_and_other_rows_teach_the_candidate() -> None:
    taught = [row(f"What is {number}?", kind="correction") for number in range(50)]
    assert not any(is_the_judges(one, 0.9) for one in taught)
    assert not is_the_judges({"messages": [{"role": "user", "content": "Hi"}]}, 0.9)
