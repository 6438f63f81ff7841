"""What members said, from the store's export through every stage into the models' folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from feedback.guild import Guild
from tiny import PLACES, write_run

from guildgpt.data import load, split_side
from guildgpt.data.origin import Events
from guildgpt.data.spec import SourceSpec
from guildgpt.feedback.exporting.exports import Form, export, write_lines
from guildgpt.feedback.exporting.view import Switches
from guildgpt.model.lineage import LINEAGE_FILE, read_lineage

from .road import SHORT, Road, alone, train

STAGES = ["sft", "reward", "ppo"]


def guild() -> Guild:
    """Answers that were rated, one of them longer than the context, and pairs voted on."""
    made = Guild()
    voter = made.member("voter", "train")
    for house in range(6):
        for place, other in zip(PLACES, PLACES[1:] + PLACES[:1], strict=True):
            asked = made.say(f"Where is the {place} of house {house}?")
            good = made.answer(f"The {place} stands by the {other}.", asked)
            if house < 3:
                made.rate(good, voter, 1)
            else:
                bad = made.answer(f"The {place} the {place} the {other}.", asked)
                made.vote(made.compare(asked, good, bad), voter, 0, 1)
    made.rate(made.answer("Here. " * 900, made.say("Where is everything?")), voter, 1)
    return made


def write_export(path: Path, form: Form) -> Path:
    rows = export(guild().snapshot, form, switches=Switches(members=True)).rows
    write_lines(path, rows)
    return path


def of_train_rows(path: Path, *, but: str = "") -> Events:
    """What the rows rest on that the split gives to training."""
    found = load(SourceSpec(source=f"jsonl:{path}"))
    rows = [
        row
        for row in (*found.conversations, *found.comparisons)
        if split_side(row, 0.2) == "train" and not (but and row.prompt[0].content == but)
    ]
    assert 0 < len(rows) < len(found.conversations) + len(found.comparisons)
    return set().union(*(row.source.origin for row in rows))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lineage")
    recipe = write_run(
        folder, SHORT.replace("steps = 6", "steps = 2").replace("steps = 3", "steps = 1")
    )
    write_export(folder / "rows.jsonl", "sft")
    write_export(folder / "pairs.jsonl", "preference")
    text = recipe.read_text().replace("jsonl:pairs", f"jsonl:{folder / 'pairs'}")
    recipe.write_text(
        text.replace('["pretrain", "sft", "reward", "judge", "ppo"]', json.dumps(STAGES))
    )
    train(recipe, folder / "run")
    return folder


def test_every_stage_names_what_it_and_those_before_it_learned_from(run: Path) -> None:
    rated = of_train_rows(run / "rows.jsonl", but="Where is everything?")
    judged = of_train_rows(run / "pairs.jsonl")
    assert {kind for kind, _ in rated} == {"message", "rating"}
    assert {kind for kind, _ in judged} == {"message", "comparison", "vote"}
    assert not rated & judged
    learned = {stage: read_lineage(run / "run" / stage / "model") for stage in STAGES}
    assert learned["sft"] == rated
    assert learned["reward"] == rated | judged
    # The policy is asked every prompt, that of the answer which does not fit as well.
    assert learned["ppo"] == of_train_rows(run / "rows.jsonl") | judged > rated | judged


def test_a_later_run_inherits_what_its_base_learned_from(
    run: Path, road: Road, tmp_path: Path
) -> None:
    """Its own rows, of no feedback, add nothing; the reward model that it names does."""
    more = f'reward_model = "{run / "run" / "reward" / "model"}"\n'
    recipe = alone(road, tmp_path, "ppo", more)
    base = run / "run" / "sft" / "model"
    recipe.write_text(recipe.read_text().replace(str(road.folder / "sft" / "model"), str(base)))
    train(recipe, tmp_path / "run", overrides=["ppo.steps=1"])
    learned = read_lineage(tmp_path / "run" / "ppo" / "model")
    assert learned == read_lineage(run / "run" / "reward" / "model") > read_lineage(base)


def test_who_learned_from_no_feedback_says_so(road: Road) -> None:
    for folder in road.folder.glob("*/model"):
        assert json.loads((folder / LINEAGE_FILE).read_text()) == {"format": 1, "events": {}}
