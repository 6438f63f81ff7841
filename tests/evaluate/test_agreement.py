"""What stands behind a judge's word: its data, and its agreement with the reward model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from guildgpt.evaluate.agreement import Agreement, agree, judge_data, judge_sentence

PROMPTS = np.array([0, 0, 1])
TEXTS = (["a", "b", "c"], ["d", "b", "e"])


def test_all_pairs_of_different_answers_to_one_prompt() -> None:
    judged = np.array([1.0, 2, 3]), np.array([3.0, 2, 4])
    found = agree(judged, judged, TEXTS, PROMPTS)
    assert found
    # Of a, b, d, b five pairs differ in words; of c and e one. b and b are one answer.
    assert (found.pairs, found.share, found.low, found.high) == (6, 1.0, 1.0, 1.0)
    turned = agree(judged, [-one for one in judged], TEXTS, PROMPTS)
    assert turned
    assert turned.share == 0.0
    silent = agree(judged, [np.zeros(3)] * 2, TEXTS, PROMPTS)
    assert silent
    assert silent.share == 0.5


def test_scores_of_other_prompts_are_not_compared() -> None:
    judged = np.array([0.0, 5]), np.array([1.0, 6])
    rewarded = np.array([9.0, 0]), np.array([10.0, 1])
    found = agree(judged, rewarded, (["a", "b"], ["c", "d"]), np.arange(2))
    assert found
    assert (found.pairs, found.share) == (2, 1.0)


def test_judges_that_know_nothing_of_each_other_agree_by_half() -> None:
    generator = np.random.default_rng(0)
    judged, rewarded = generator.normal(size=(2, 2, 500))
    words = [[f"{side} {n}" for n in range(500)] for side in "ab"]
    found = agree(list(judged), list(rewarded), words, np.arange(500))
    assert found
    assert found.share == pytest.approx(0.5, abs=0.07)
    assert found.low < 0.5 < found.high


def test_models_that_answer_alike_leave_nothing_to_agree_on() -> None:
    scores = [np.zeros(2)] * 2
    assert agree(scores, scores, (["a", "b"], ["a", "b"]), np.arange(2)) is None


def test_what_a_judge_learned_from(tmp_path: Path) -> None:
    record = {"bias": 0.0, "base_sha256": "", "adapter": {}}
    (tmp_path / "reward.json").write_text(json.dumps(record), encoding="utf-8")
    assert judge_data(tmp_path) == ()
    assert "does not name" in judge_sentence((), None)
    record["learned"] = {"starter": 230, "votes": 1_200}
    (tmp_path / "reward.json").write_text(json.dumps(record), encoding="utf-8")
    data = judge_data(tmp_path)
    assert data == ("230 comparisons of starter", "1,200 comparisons of votes")
    assert judge_sentence(data, Agreement(40, 0.7, 0.6, 0.8)) == (
        "The judge learned from 230 comparisons of starter and 1,200 comparisons of votes; it "
        "agrees with the reward model on 70.0% of 40 pairs of these answers (95% interval 60.0% "
        "to 80.0%)."
    )
