"""By which method a turn learns, and that each learns from what there is."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from guildgpt.errors import GuildError
from guildgpt.feedback.exporting.learnable import Taken
from guildgpt.feedback.exporting.view import Export
from guildgpt.feedback.records import Candidate
from guildgpt.feedback.store import Store
from guildgpt.learn.methods import BUNDLED, METHODS, check_enough, choose, plan, recipe_for
from guildgpt.learn.turn import begin, take_turn
from guildgpt.model.lineage import read_lineage
from guildgpt.pipeline.run import run
from guildgpt.recipe import load_recipe

from .conftest import Guild

SMALL = """\
[kto]
epochs = 2
batch_size = 4
lora = {rank = 4, alpha = 8}
learning_rate = 1e-2
checkpoint_minutes = 0
dtype = "float32"

[reward]
epochs = 1
batch_size = 4
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"

[ppo]
steps = 2
batch_size = 4
max_new_tokens = 8
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"

[grpo]
steps = 2
batch_size = 4
group = 2
max_new_tokens = 8
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"
"""


def taken(comparisons: int = 0, corrections: int = 0, ratings: int = 0) -> Taken:
    return Taken(comparisons, corrections, {}, "", ratings)


def ready(guild: Guild) -> Guild:
    """The recipe has a section for each method."""
    guild.recipe.write_text(guild.recipe.read_text() + SMALL, encoding="utf-8")
    return guild


async def rate(store: Store, count: int) -> None:
    """Rounds that nobody votes on, of whose answers one is rated up and one down."""
    member = await store.members.of_user(10**17)
    there = [one for one in await store.prompts.all("accepted") if one.purpose == "train"]
    for prompt in there[: count // 2]:
        pair = [Candidate(text, None, None, "eos") for text in ("By the lamp.", "No idea.")]
        made = await store.rounds.open(prompt, pair, "terminal")
        comparison = await store.votes.comparison(made.comparison_id)
        assert comparison is not None
        for answer, value in zip(comparison.candidates, (1, -1), strict=True):
            await store.ratings.add(answer, member.id, value)
        await store.rounds.end(made.id)


async def correct(store: Store, count: int) -> None:
    """Corrections of answers that nobody voted on."""
    member = await store.members.of_user(10**17)
    made = 0
    for prompt in await store.prompts.all("accepted"):
        if prompt.purpose != "train" or made == count:
            continue
        pair = [Candidate(text, None, None, "eos") for text in ("In the house.", "No idea.")]
        asked = await store.rounds.open(prompt, pair, "terminal")
        comparison = await store.votes.comparison(asked.comparison_id)
        assert comparison is not None
        await store.corrections.add(comparison.candidates[1], member.id, "By the lamp.")
        await store.rounds.end(asked.id)
        made += 1
    assert made == count


@pytest.mark.parametrize(
    ("there", "method"),
    [
        (taken(20), "dpo"),
        (taken(200), "dpo"),
        (taken(5, ratings=30), "kto"),  # nothing else would be enough
        (taken(30, ratings=300), "dpo"),
        (taken(0, ratings=20), "kto"),
    ],
)
def test_the_default_by_what_there_is(there: Taken, method: str) -> None:
    chosen, why = choose(there, 20)
    assert chosen == method
    assert why


def test_only_the_bundled_recipe_chooses_by_itself(guild: Guild) -> None:
    own = plan(str(guild.recipe), "auto", (), Export(), taken(0, ratings=50), 20)
    assert (own.method, own.recipe.stages) == (None, ["dpo"])
    bundled = plan(BUNDLED, "auto", (), Export(), taken(0, ratings=50), 20)
    assert (bundled.method, bundled.recipe.stages) == ("kto", ["kto"])


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_the_bundled_recipe_with_other_stages(method: str) -> None:
    found = plan(BUNDLED, method, ["seed=3"], Export(), taken(50), 20)  # type: ignore[arg-type]
    assert found.recipe.stages == list(METHODS[found.method].stages)  # type: ignore[index]
    assert found.recipe.seed == 3
    assert load_recipe_again(found.overrides) == found.recipe


def load_recipe_again(overrides: list[str]) -> object:
    from guildgpt.recipe import find_recipe

    return load_recipe(find_recipe(BUNDLED), overrides)


def test_corrections_are_imitated_where_one_is_to_be_trained_on() -> None:
    rows = Export(rows=[{"messages": [], "group": f"group {n}"} for n in range(20)])
    for method in ("dpo", "ppo", "grpo"):
        with_them = plan(BUNDLED, method, (), rows, taken(30, 20), 20).recipe  # type: ignore[arg-type]
        without = plan(BUNDLED, method, (), Export(), taken(30), 20).recipe  # type: ignore[arg-type]
        assert getattr(with_them, method).demonstrations.weight > 0
        assert getattr(without, method).demonstrations.weight == 0
    off = plan(BUNDLED, "dpo", ["dpo.demonstrations.weight=0"], rows, taken(30, 20), 20)
    assert off.recipe.dpo.demonstrations.weight == 0


def test_ratings_count_where_they_are_learned_from() -> None:
    recipe = load_recipe_again([])
    with pytest.raises(GuildError, match="3 comparisons and 30 ratings of the 20") as raised:
        check_enough(recipe, taken(3, ratings=30), 20)  # type: ignore[arg-type]
    assert "--method kto" in str(raised.value.remedy)
    check_enough(load_recipe_again(['stages=["kto"]']), taken(3, ratings=30), 20)  # type: ignore[arg-type]


def test_a_turn_from_nothing_but_ratings(guild: Guild) -> None:
    guild.do(lambda store: rate(store, 20))
    with pytest.raises(GuildError, match="0 comparisons and") as raised:
        take_turn(guild.options())
    assert "--method kto" in str(raised.value.remedy)
    options = replace(ready(guild).options(), method="kto")
    decision = take_turn(replace(options, gate=False))
    assert decision.settings["method"] == "kto"
    model = guild.folder / "learn" / "001" / "kto" / "model"
    [learned] = guild.do(lambda store: store.versions.learned_from()).values()
    assert learned["rating"] == 20
    assert any(kind == "rating" for kind, _ in read_lineage(model))


def test_a_turn_from_nothing_but_corrections(guild: Guild) -> None:
    guild.do(lambda store: correct(store, 10))
    take_turn(replace(guild.options(), method="dpo", gate=False))
    model = guild.folder / "learn" / "001" / "dpo" / "model"
    assert sum(kind == "correction" for kind, _ in read_lineage(model)) == 10
    steps = (model.parent / "metrics.jsonl").read_text().splitlines()
    assert all("demonstration_loss" in line for line in steps if '"lr"' in line)


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_a_turn_by_reinforcement(guild: Guild, method: str) -> None:
    ready(guild).do(lambda store: guild.vote(store, 12))
    recipe, text = recipe_for(str(guild.recipe), method, store=guild.url)
    folder = guild.folder / "run"
    run(recipe, text, folder, console=Console(file=StringIO()))
    assert (folder / "reward" / "model").is_dir()
    learned = read_lineage(folder / method / "model")
    assert sum(kind == "vote" for kind, _ in learned) == 72


def test_a_turn_goes_on_by_the_method_it_began_with(guild: Guild) -> None:
    ready(guild).do(lambda store: guild.vote(store, 12))
    begin(replace(guild.options(), method="kto"))
    decision = take_turn(replace(guild.options(), method="dpo", gate=False))
    assert (guild.folder / "learn" / "001" / "kto" / "model").is_dir()
    assert decision.settings["method"] == "kto"
