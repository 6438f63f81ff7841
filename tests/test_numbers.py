"""Every number of a recipe has limits, and any other is refused by its key, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guildgpt.errors import RecipeError
from guildgpt.recipe import Recipe, load_recipe
from guildgpt.toml_file import limits, section_of, types_in

SOURCE = "data.sources.0"
# As TOML has them; text that only looks like a number, and a value of another kind, besides.
ODD = [
    *("0", "-1", "1", "2", "-0.0", "0.5", "1e10", "-1e10", "1e300", "1e-300", "5e-324", "1e400"),
    *("nan", "inf", "-inf", str(2**31), str(2**63), str(-(2**63)), str(2**64), str(10**30)),
    *("9" * 400, "9" * 5000, "1." + "0" * 400, "0x7fffffffffffffff", "true", "false"),
    *('"12"', '"nan"', '""', '"٣"', "[]", "[1]", "[nan, 2]", "{}", "{a = 1}", "2026-11-30", "1__0"),
    *("[" * 5000, "[[[[]]]]", "''", "1 2", "\x00"),
]


def keys(model: type[BaseModel] = Recipe, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key that may hold a number, with where it stands; of a pair, each place."""
    for name, field in model.model_fields.items():
        key = f"{above}{name}"
        if (below := section_of(field)) is not None:
            more = f"{SOURCE}." if key == "data.sources" else f"{key}."
            yield from keys(below, more)
        elif {int, float} & set(types_in(field.annotation)):
            yield key, field


NUMBERS = dict(keys())


def test_there_are_numbers_in_every_section() -> None:
    assert {"seed", "model.context", "sft.lora.rank", "ppo.kl.beta", "grpo.missing_eos"} <= {
        *NUMBERS
    }
    assert {f"{SOURCE}.weight", "ppo.terms.verify.seconds", "sft.betas"} <= {*NUMBERS}
    assert len(NUMBERS) > 150


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_both_limits(key: str) -> None:
    """A number without is a run that ends in an error of torch's, or never."""
    assert re.fullmatch(
        r"(above )?-?[\d.,e-]+ to (below )?[\d.,e-]+(, a multiple of \d+)?", limits(NUMBERS[key])
    )


def written(path: Path, key: str, value: str) -> Path:
    """A recipe with one key set."""
    if key.startswith(SOURCE):
        name = key.removeprefix(f"{SOURCE}.")
        text = f'name = "a"\n[[data.sources]]\nsource = "starter"\n{name} = {value}\n'
    else:
        text = f'{key} = {value}\nname = "a"\n'
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("key", NUMBERS)
def test_any_value_is_taken_or_refused_by_its_key(tmp_path: Path, key: str) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text('name = "a"\n')
    errors = []
    for value in ODD:
        path = written(tmp_path / "a.toml", key, value)
        attempts: list[tuple[Path, list[str]]] = [(path, [])]
        if not key.startswith(SOURCE):
            attempts.append((bare, [f"{key}={value}"]))
        for file, overrides in attempts:
            try:
                recipe = load_recipe(file, overrides)
            except RecipeError as error:
                errors.append(error)
            else:
                json.dumps(recipe.model_dump(mode="json"), allow_nan=False)
    assert len(errors) > 20
    for error in errors:
        assert key.rpartition(".")[2] in str(error) or "not TOML" in error.what
        assert error.where
        assert len(str(error)) < 2000


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sft.learning_rate", "1e10", "It takes a number, above 0 to 10."),
        ("ppo.temperature", "0", "It takes a number, 0.01 to 100."),
        ("ppo.kl.beta", "-1", "It takes a number, 0 to 1,000."),
        ("ppo.reward_weight", "1e300", "It takes a number, 0 to 1,000."),
        ("ppo.missing_eos", "-1e300", "It takes a number, -1,000 to 1,000."),
        ("sft.betas", "[0.9, 1.0]", "It takes a number, 0 to below 1."),
        ("seed", "-1", "It takes a number, 0 to below 4,294,967,295."),
        ("model.scratch.hidden_size", "33", "It takes a number, 32 to 65,536, a multiple of 32."),
        ("sft.steps", "9223372036854775808", "It takes a number, 1 to 1,000,000."),
    ],
)
def test_what_may_stand_there_is_told(tmp_path: Path, key: str, value: str, said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(written(tmp_path / "a.toml", key, value))
    shown: Any = raised.value
    assert shown.remedy == said
    assert f"`{key}" in shown.what
    assert shown.where == f"{tmp_path / 'a.toml'}:1"


def test_a_price_that_could_leap_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.toml", "ppo.kl", "{adaptive = true, horizon = 1}")
    with pytest.raises(RecipeError, match=r"`ppo`: kl\.horizon \(1\) is below batch_size \(32\)"):
        load_recipe(path)
    load_recipe(written(path, "ppo.kl", "{adaptive = true, horizon = 32}"))
