"""Prompts for the pool: what each source gives, what is left out, and what was never trained on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT, FakeHub, Repo, hub  # noqa: F401 (a fixture)

from guildgpt.data.split import normalised, side_of
from guildgpt.data.starter import TRAINING_FILES
from guildgpt.errors import DataError
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.pool import (
    HELD_OUT,
    LONGEST,
    Reading,
    fill_if_empty,
    read,
    starter_pool,
)
from guildgpt.recipe import RECIPES, load_recipe

OWN = Reading(licence="own")


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def question(side: str, share: float = HELD_OUT, number: int = 0) -> str:
    """A first turn that falls on this side of the split."""
    asked = (f"What do wombats eat in month {n}?" for n in range(2000))
    return [text for text in asked if side_of(normalised(text), share) == side][number]


def tree(text: str, **prompt: Any) -> dict[str, Any]:
    answer = {"message_id": f"a {text}", "role": "assistant", "text": "Grass.", "rank": 0}
    asked = {"message_id": f"q {text}", "role": "prompter", "text": text, "replies": [answer]}
    asked |= {"lang": "en", "review_result": True, "deleted": False}
    return {"tree_state": "ready_for_export", "prompt": asked | prompt}


def test_rows_say_who_is_to_be_named(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "licence": "cc-by-4.0", "credit": "A. Body", "lang": "de"}
    path = written(tmp_path / "ours.jsonl", row, {"text": " How?\r\n", "credit": "B"})
    first, second = read(path, Reading(licence="CC0-1.0", credit="C")).prompts
    assert (first.text, first.source) == ("Why?", "ours.jsonl")
    assert (first.licence, first.credit, first.lang) == ("CC-BY-4.0", "A. Body", "de")
    assert (second.text, second.licence, second.credit, second.lang) == (
        "How?",
        "CC0-1.0",
        "B",
        "en",
    )


@pytest.mark.parametrize(
    ("row", "how", "what"),
    [
        ({"prompt": "Why?"}, Reading(), "under which licence"),
        ({"prompt": "Why?"}, Reading(licence="MIT"), "MIT wants the authors to be named"),
        ({"instruction": "Why?"}, OWN, "neither `prompt` nor `text` but instruction"),
        ({"prompt": ["Why?"]}, OWN, "`prompt` is a list, not text"),
    ],
)
def test_a_row_that_says_too_little_is_named(
    tmp_path: Path, row: dict[str, Any], how: Reading, what: str
) -> None:
    path = written(tmp_path / "ours.jsonl", {"prompt": "So?", "licence": "own"}, row)
    with pytest.raises(DataError, match=what) as raised:
        read(path, how)
    assert raised.value.where == f"{path}:2"
    assert raised.value.remedy


def test_plain_text_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ours.txt"
    path.write_text("One?\n\nTwo?\ntwo?\nThree?\n", encoding="utf-8")
    found = read(str(path), Reading(licence="own", limit=2))
    assert [one.text for one in found.prompts] == ["One?", "Two?"]
    assert found.left_out == {"empty": 1, "there twice": 1, "over the limit": 1}
    with pytest.raises(DataError, match="under which licence"):
        read(str(path))


def test_what_cannot_be_asked_is_counted_by_reason(tmp_path: Path) -> None:
    with TRAINING_FILES[0].open(encoding="utf-8") as lines:
        trained = json.loads(next(lines))
    known = trained.get("prompt") or trained["messages"][0]["content"]
    rows = [
        {"prompt": "x" * (LONGEST + 1)},
        {"prompt": "I want to kill myself"},
        {"prompt": known.upper()},
        {"prompt": "Why not?", "licence": "CC-BY-NC-4.0", "credit": "A. Body"},
        {"prompt": "Why?"},
    ]
    found = read(written(tmp_path / "ours.jsonl", *rows), OWN)
    assert [one.text for one in found.prompts] == ["Why?"]
    assert found.left_out == {
        f"over {LONGEST} characters": 1,
        "in moderation's word lists": 1,
        "a bundled recipe trains on it": 1,
        "the licence CC-BY-NC-4.0": 1,
    }


@pytest.mark.parametrize("source", ["dolly", "dolly:rows.jsonl", "jsonl:rows.jsonl"])
def test_what_models_are_trained_on_is_no_source(source: str) -> None:
    with pytest.raises(DataError, match="models are trained on it"):
        read(source)


def test_of_trees_the_held_out_ones_that_passed_review(tmp_path: Path) -> None:
    good, refused = question("held_out"), question("held_out", number=1)
    rows = [tree(question("train")), tree(good), tree(refused, review_result=False)]
    rows += [tree(question("held_out", number=2), lang="de"), tree(good.upper() + " ")]
    source = "oasst:" + written(tmp_path / "trees.jsonl", *rows)
    found = read(source)
    (taken,) = found.prompts
    assert (taken.text, taken.licence, taken.credit) == (
        good,
        "Apache-2.0",
        "OpenAssistant contributors",
    )
    assert found.left_out == {"a bundled recipe trains on it": 1, "there twice": 1}
    assert [one.lang for one in read(source, Reading(lang="de")).prompts] == ["de"]


def test_who_holds_more_out_may_take_more(tmp_path: Path) -> None:
    more = next(
        text
        for number in range(500)
        if side_of(normalised(text := question("held_out", 0.3, number)), 0.05) == "train"
    )
    never = question("train", 0.3)
    source = "oasst:" + written(tmp_path / "trees.jsonl", tree(more), tree(never))
    assert read(source).prompts == []
    assert [one.text for one in read(source, Reading(held_out=0.3)).prompts] == [more]
    assert [one.text for one in read(source, Reading(held_out=1)).prompts] == [more, never]


def test_open_assistant_by_name_comes_from_the_hub(
    hub: FakeHub,  # noqa: F811
    tmp_path: Path,
) -> None:
    rows = [tree(question("held_out")), tree(question("train"))]
    content = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    hub.sets["OpenAssistant/oasst1"] = Repo({"2023-04-12_oasst_ready.trees.jsonl.gz": content})
    how = Reading(cache_dir=tmp_path, endpoint=hub.url)
    (taken,) = read("oasst1", how).prompts
    assert (taken.text, taken.source) == (question("held_out"), f"oasst1@{COMMIT[:12]}")
    asked = len(hub.ranges)
    assert read("oasst1", how).prompts == [taken]
    assert len(hub.ranges) == asked  # it is in the cache


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_bundled_recipe_holds_out_what_the_pool_takes(path: Path) -> None:
    recipe = load_recipe(path)
    for source in recipe.data.sources:
        if source.kind.startswith("oasst"):
            assert recipe.data.held_out >= HELD_OUT


def test_the_starter_packs_prompts_are_no_rows_of_its_own() -> None:
    pool = starter_pool()
    assert len(pool) == 210
    assert {one.licence for one in pool} == {"CC0-1.0"}
    assert read("starter").prompts == pool


async def test_an_empty_pool_is_filled_once(store: Store) -> None:
    assert await fill_if_empty(store) == 210
    assert await fill_if_empty(store) == 0
    assert {one.purpose for one in await store.prompts.all("accepted")} == {"decide", "train"}
