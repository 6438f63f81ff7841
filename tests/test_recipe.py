"""Recipes: read, overridden and, where they are wrong, answered with the line and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from guildgpt.errors import RecipeError
from guildgpt.recipe import RECIPES, find_recipe, load_recipe

OURS = sorted(RECIPES.glob("*.toml"))

GOOD = """\
# A comment, and an empty line

name = "mine"

[data]
held_out = 0.1

[[data.sources]]
source = "dolly"
limit = 100

[sft]
epochs = 2

[sft.lora]
rank = 8

[[data.sources]]
source = "oasst1"
lang = ["en", "de"]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def refused(path: Path, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_there_are_recipes() -> None:
    assert "starter.toml" in [path.name for path in OURS]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_recipe_of_ours_loads(path: Path) -> None:
    loaded = load_recipe(path)
    assert loaded.name == path.stem
    assert loaded.description


def test_a_recipe_says_what_it_says_and_the_rest_has_defaults(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    assert (loaded.name, loaded.policy, loaded.stages) == ("mine", "strict", ["sft"])
    assert loaded.sft.epochs == 2
    assert (loaded.sft.lora.rank, loaded.sft.lora.alpha) == (8, 32.0)
    assert [source.source for source in loaded.data.sources] == ["dolly", "oasst1"]
    assert loaded.data.sources[0].limit == 100
    assert loaded.data.sources[1].lang == ["en", "de"]


def test_sources_may_be_bare_names(tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text('name = "bare"\n[data]\nsources = ["starter", "jsonl:my file.jsonl"]\n')
    assert [source.name for source in load_recipe(path).data.sources] == ["starter", "my file"]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(recipe: Path) -> None:
    recipe.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_recipe(recipe).sft.epochs == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "near", "also"),
    [
        ('name = "mine"', 'name = "mine"\npolcy = "open"', 4, "polcy", "policy", "seed"),
        ("[sft]\n", "[sfft]\n", 12, "sfft", "sft", "pretrain"),
        ("epochs = 2", "epoch = 2", 13, "sft.epoch", "epochs", "batch_size"),
        ("rank = 8", "rnak = 8", 16, "sft.lora.rnak", "rank", "alpha"),
        ("held_out = 0.1", "heldout = 0.1", 6, "data.heldout", "held_out", "sources"),
        ("limit = 100", "limt = 100", 10, "data.sources.0.limt", "limit", "weight"),
        # The second entry of the list, with another section in between.
        ('lang = ["en', 'langs = ["en', 20, "data.sources.1.langs", "lang", "threads"),
    ],
)
def test_an_unknown_key_is_found_and_the_nearest_known_one_named(
    recipe: Path, old: str, new: str, line: int, key: str, near: str, also: str
) -> None:
    error = refused(changed(recipe, old, new))
    assert error.where == f"{recipe}:{line}"
    assert error.what == f"unknown key `{key}`"
    assert error.remedy is not None
    assert error.remedy.startswith(f"Did you mean `{near}`? Known here: ")
    assert also in error.remedy.split("Known here: ")[1].rstrip(".").split(", ")


def test_a_key_unlike_any_other_is_not_guessed(recipe: Path) -> None:
    error = refused(changed(recipe, "rank = 8", "zzz = 8"))
    assert error.remedy == "Known here: rank, alpha, layers."


def test_dotted_keys_and_inline_tables_have_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "dotted.toml"
    path.write_text('name = "x"\n\nsft.lora.rnk = 3\n')
    assert refused(path).where == f"{path}:3"
    path.write_text('name = "x"\n[sft]\nepochs = 1\nlora = { rnk = 3 }\n')
    assert refused(path).where == f"{path}:4"
    path.write_text(
        'name = "x"\n[data]\nsources = [\n  "starter",\n  { source = "dolly", x = 1 },\n]'
    )
    assert refused(path).where == f"{path}:3"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "epochs = 2",
            'epochs = "many"',
            13,
            r"`sft\.epochs` is 'many': input should be a valid n",
        ),
        ("epochs = 2", "epochs = 0", 13, r"`sft\.epochs` is 0: input should be greater than 0"),
        ("rank = 8", "rank = 0", 16, "`sft.lora.rank` is 0: .* greater than or equal to 1"),
        ("held_out = 0.1", "held_out = 1.0", 6, r"`data\.held_out` is 1\.0: .* less than 1"),
        ('name = "mine"', 'name = "a/b"', 3, "`name` is 'a/b': "),
        ('name = "mine"', "description = ''", 1, "`name` is missing"),
        ('name = "mine"', 'name = "m"\npolicy = "lax"', 4, "'lax': .*'strict' or 'open'"),
        ('name = "mine"', 'name = "m"\nstages = ["sft", "dance"]', 4, r"stages\.1` is 'dance'"),
        ('name = "mine"', 'name = "m"\nstages = []', 4, "name at least one of pretrain, sft"),
        ('name = "mine"', 'name = "m"\nstages = ["sft", "pretrain"]', 4, "in the order pretrain"),
        ('name = "mine"', 'name = "m"\nstages = ["sft", "sft"]', 4, "each stage stands once"),
        (
            'name = "mine"',
            'name = "m"\nmodel = "starter"',
            4,
            "`model` is 'starter', not a section",
        ),
        ('source = "dolly"', 'source = "doly"', 8, "`doly` is no known kind of source. Did you"),
        ('source = "dolly"', 'source = "jsonl"', 8, "a jsonl source needs a path"),
        ('source = "dolly"', "weight = 2", 8, r"`data\.sources\.0\.source` is missing"),
        ("limit = 100", "limit = 0", 10, r"`data\.sources\.0\.limit` is 0"),
        ("limit = 100", 'lang = ["de"]', 8, "`lang` means nothing for `dolly`"),
        (
            "epochs = 2",
            "epochs = inf",
            13,
            r"`sft\.epochs` is inf: .* finite number",
        ),
        ("epochs = 2", "learning_rate = nan", 13, r"`sft\.learning_rate` is nan: .* finite number"),
    ],
)
def test_a_wrong_value_is_shown_with_its_line(
    recipe: Path, old: str, new: str, line: int, said: str
) -> None:
    error = refused(changed(recipe, old, new))
    assert error.where == f"{recipe}:{line}"
    with pytest.raises(RecipeError, match=said):
        raise error
    assert "pydantic" not in str(error)
    assert "Config" not in str(error)


def test_values_that_do_not_go_together_are_told_without_the_others(recipe: Path) -> None:
    error = refused(recipe, "ppo.group=5")
    assert error.what == "`ppo`: batch_size (32) is not made of groups of 5 answers"
    assert error.where == "--set ppo.group"


def test_of_several_things_that_may_stand_there_all_are_told(recipe: Path) -> None:
    error = refused(recipe, "ppo.missing_eos=leaveout")
    assert error.where == "--set ppo.missing_eos"
    assert error.what.startswith("`ppo.missing_eos` is 'leaveout': input should be a valid number")
    assert error.what.endswith(", or 'leave_out' or 'score'")


def test_a_list_written_as_a_text_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text('name = "x"\n[data]\nsources = "starter"\n')
    error = refused(path)
    assert (error.where, error.what) == (f"{path}:3", "`data.sources` is 'starter', not a list")
    assert error.remedy == 'Write it in brackets: sources = ["…"].'


def test_what_cannot_be_a_model_is_refused_before_any_model_is_made(recipe: Path) -> None:
    error = refused(recipe, "model.scratch.heads=3")
    assert error.where == "--set model.scratch.heads"
    assert "heads times an even number" in error.what
    assert refused(recipe, "model.scratch.hidden_size=33").what.endswith("multiple of 32")


def test_several_problems_are_counted(recipe: Path) -> None:
    changed(recipe, "epochs = 2", "epochs = 0\nbatch_size = 0\nclip = 0")
    error = refused(recipe)
    assert error.what.endswith("(and 2 more problems)")
    assert error.where == f"{recipe}:13"


@pytest.mark.parametrize(
    ("text", "line"),
    [("name = mine\n", 1), ('name = "x"\n[sft\n', 2), ('name = "x"\n\nlist = [1,\n2\n', 4)],
)
def test_what_is_not_toml_has_a_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    error = refused(path)
    assert error.where == f"{path}:{line}"
    assert error.what.startswith("this is not TOML: ")
    assert error.remedy


def test_a_missing_recipe_is_told_from_its_neighbours(recipe: Path, tmp_path: Path) -> None:
    error = refused(tmp_path / "mien.toml")
    assert error.what == "there is no such recipe"
    assert error.remedy
    assert error.remedy.startswith(f"Did you mean {recipe}? Name a TOML file, or one that comes ")
    known = ", ".join(path.stem for path in OURS)
    assert refused(tmp_path / "nowhere" / "x.toml").remedy == (
        f"Name a TOML file, or one that comes with GuildGPT: {known}."
    )
    where_it_lay = refused(Path("recipes") / "starter.toml")
    assert where_it_lay.remedy
    assert where_it_lay.remedy.startswith("Did you mean starter? ")


def test_a_recipe_is_found_by_its_name_or_its_path(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("starter") == RECIPES / "starter.toml"
    (tmp_path / "starter.toml").write_text('name = "another"\n')
    assert load_recipe(find_recipe("starter.toml")).name == "another"
    assert load_recipe(find_recipe("starter")).name == "starter"
    assert find_recipe(str(recipe)) == recipe


def test_what_is_no_text_file_is_an_error_too(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path).what
    (tmp_path / "image.toml").write_bytes(b"\xff\xd8\xff")
    assert "cannot be read" in refused(tmp_path / "image.toml").what


def test_overrides_of_every_type(recipe: Path) -> None:
    loaded = load_recipe(
        recipe,
        [
            "sft.epochs=0.5",
            "sft.tensorboard=true",
            "sft.lora.rank = 4",
            "sft.betas=[0.9, 0.95]",
            'model.base="starter"',
            "model.system=You are kind, and brief.",
            "policy=open",
            "evaluate.prompts=3",
            "model.base=runs/a=b/model",
        ],
    )
    assert loaded.sft.epochs == 0.5
    assert loaded.sft.tensorboard is True
    assert (loaded.sft.lora.rank, loaded.sft.betas) == (4, (0.9, 0.95))
    assert loaded.model.base == "runs/a=b/model"
    assert loaded.model.system == "You are kind, and brief."
    assert (loaded.policy, loaded.evaluate.prompts) == ("open", 3)


def test_sources_can_be_overridden_as_names_or_tables(recipe: Path) -> None:
    loaded = load_recipe(
        recipe, ['data.sources=["starter", {source = "dolly:/tmp/d.jsonl", limit = 5}]']
    )
    assert [source.source for source in loaded.data.sources] == ["starter", "dolly:/tmp/d.jsonl"]
    assert loaded.data.sources[1].limit == 5


def test_a_later_override_wins(recipe: Path) -> None:
    assert load_recipe(recipe, ["sft.epochs=3", "sft.epochs=4"]).sft.epochs == 4


@pytest.mark.parametrize("text", ["sft.epochs", "=5", "sft.=5", ".epochs=5", ""])
def test_an_override_that_is_none(recipe: Path, text: str) -> None:
    error = refused(recipe, text)
    assert error.what == f"`{text}` is no override"
    assert (error.where, error.remedy) == ("--set", "Write section.key=value.")


@pytest.mark.parametrize(
    ("override", "where", "said"),
    [
        ("sft.epochs=0", "--set sft.epochs", "`sft.epochs` is 0: "),
        ("sft.epoch=1", "--set sft.epoch", "unknown key `sft.epoch`"),
        ("sfft.epochs=1", "--set sfft.epochs", "unknown key `sfft`"),
        ("sft=5", "--set sft", "`sft` is 5, not a section"),
        ("name.x=5", "--set name.x", "`name` is no section"),
        ("data.sources=starter", "--set data.sources", "`data.sources` is 'starter', not a list"),
        ('data.sources=["doly"]', "--set data.sources", "`doly` is no known kind of source"),
        (
            'data.sources=[{source="dolly", x=1}]',
            "--set data.sources",
            "unknown key `data.sources.",
        ),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(
    recipe: Path, override: str, where: str, said: str
) -> None:
    error = refused(recipe, override)
    assert error.where == where
    assert said in error.what


def test_the_files_own_fault_is_not_laid_to_an_override(recipe: Path) -> None:
    changed(recipe, "rank = 8", "rank = 0")
    assert refused(recipe, "sft.epochs=1").where == f"{recipe}:16"
