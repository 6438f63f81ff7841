"""What a recipe asks for that cannot be: told in words before anything is loaded or trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from guildgpt.bases.config import BaseConfig
from guildgpt.data import Dataset
from guildgpt.errors import DataError, RecipeError
from guildgpt.pipeline.inputs import reward_folder
from guildgpt.pipeline.prompts import prompts_and_rules
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage
from guildgpt.rewards.terms import Rewards
from guildgpt.train.config import PpoConfig, RolloutConfig, TrainConfig
from guildgpt.train.ppo import no_states_to_read


def check_names(recipe: Recipe, folder: Path) -> None:
    """RecipeError for a file or folder whose name is not text: neither a report nor a model card
    could name it, and what reads weights does not find it."""
    if not recipe.model.base.strip():
        raise RecipeError(
            "there is no base without a name",
            where="model.base",
            remedy="Name `starter`, `scratch`, a Hub id (owner/name), a folder or a GGUF file.",
        )
    documents = [file for name in recipe.pretrain.documents for file in _files_in(Path(name))]
    sources = [spec.source for spec in recipe.data.sources]
    for name in (str(folder), recipe.model.base, recipe.model.adapter_base, *documents, *sources):
        shown = (name or "").encode("utf-8", "backslashreplace").decode()
        if shown != (name or ""):
            raise RecipeError(
                "this name is not written in UTF-8, and cannot be passed on",
                where=shown,
                remedy="Rename it; letters of any script will do.",
            )


def _files_in(place: Path) -> list[str]:
    place = place.expanduser()
    return (
        [str(place), *(str(file) for file in place.rglob("*"))] if place.is_dir() else [str(place)]
    )


def check_adapter(first: Stage, recipe: Recipe, base: BaseConfig) -> None:
    """RecipeError where another's adapter is to be trained further by a stage that makes its own:
    the reference, and a reward model's base, are the model without a hat."""
    if base.adapter == "continue" and (first != "sft" or recipe.sft.adapter != "lora"):
        raise RecipeError(
            'only `sft` with sft.adapter = "lora" trains a base\'s adapter further, and the first '
            f"stage here is `{first}`" + (' with sft.adapter = "none"' if first == "sft" else ""),
            where="model.adapter",
            remedy='Set it to "merge": the stage then begins with base and adapter made one.',
        )


def wears_adapters(stages: Sequence[Stage], recipe: Recipe) -> bool:
    """Whether any of the stages puts adapters on its base."""
    whole = {"pretrain"} | ({"sft"} if recipe.sft.adapter == "none" else set())
    return any(stage not in whole for stage in stages)


def writes_answers(recipe: Recipe) -> bool:
    """Whether a run of the recipe cannot do without answers of our own sampler."""
    return bool(recipe.evaluate.constrained) or any(
        STAGES[stage].reads == "prompts" for stage in recipe.stages
    )


def check_rewarded(stage: Stage, recipe: Recipe) -> None:
    """RecipeError where nothing could reward the answers of a stage that writes some, or where it
    needs a reward model and has none."""
    settings = recipe.settings(stage)
    if not isinstance(settings, RolloutConfig) or reward_folder(stage, recipe, Path()):
        return
    if isinstance(settings, PpoConfig) and settings.value_trunk == "reward":
        raise no_states_to_read()
    if not Rewards(settings.terms).names:
        raise RecipeError(
            f"there is nothing that `{stage}` could be rewarded by",
            where="stages",
            remedy=f"Put `reward` before it, name {stage}.reward_model, or give {stage}.terms.",
        )


def check_room(stage: Stage, recipe: Recipe) -> None:
    """RecipeError where the context leaves no room for what a policy is to write: raised before an
    earlier stage is trained, after which the recipe could not be changed."""
    context, settings = recipe.model.context, recipe.settings(stage)
    answers = {}
    if isinstance(settings, RolloutConfig):
        answers[f"{stage}.max_new_tokens"] = settings.max_new_tokens
    if STAGES[stage].changes_answers or recipe.evaluate.constrained:
        answers["evaluate.max_tokens"] = recipe.evaluate.max_tokens
    for key, tokens in answers.items():
        if tokens >= context:
            raise RecipeError(
                f"answers of {tokens:,} tokens leave no room for a question in a context of "
                f"{context:,}",
                where=key,
                remedy=f"Lower it, to {context // 2} for example, or raise model.context.",
            )


def check_rows(stage: Stage, dataset: Dataset, settings: TrainConfig) -> None:
    """DataError for a stage that the sources have no rows for, or rows with rules that cannot be
    read, before an earlier one is trained."""
    comparisons, reads = dataset.train_comparisons, STAGES[stage].reads
    if reads == "conversations" and not dataset.train:
        others = {
            "comparisons": len(comparisons),
            "answers rated bad": len(dataset.train_rejected),
            "prompts without an answer": len(dataset.train_tasks),
        }
        there = " and ".join(f"{count:,} {what}" for what, count in others.items() if count)
        raise DataError(
            "there are no conversations to fine-tune on" + (f", only {there}" if there else ""),
            where="data.sources",
            remedy="Name a source that has some, or leave `sft` out of `stages`: comparisons train "
            "`reward`, `dpo` and `kto`, ratings `kto`, prompts alone `ppo` and `grpo`.",
        )
    if reads == "comparisons" and not comparisons:
        raise no_comparisons(stage)
    if reads == "ratings" and not (
        comparisons or dataset.train_rejected or any(row.rated for row in dataset.train)
    ):
        raise no_ratings(stage)
    if isinstance(settings, RolloutConfig):
        prompts_and_rules(dataset, settings.terms)


def no_comparisons(stage: Stage, dropped: Counter[str] | None = None) -> DataError:
    """The error for a stage that learns from comparisons and has none; `dropped` says why those
    that there were cannot be used."""
    remedy = (
        "Name a source that has some, such as `starter`, `oasst1`, or JSON lines with prompt, "
        "chosen and rejected."
    )
    return _none_of("comparisons", stage, dropped, remedy)


def no_ratings(stage: Stage, dropped: Counter[str] | None = None) -> DataError:
    """The same for answers that somebody called good or bad."""
    remedy = (
        "Name a source that has some: JSON lines with prompt, completion and label, or "
        "comparisons, such as `starter` has."
    )
    return _none_of("answers called good or bad", stage, dropped, remedy)


def _none_of(what: str, stage: Stage, dropped: Counter[str] | None, remedy: str) -> DataError:
    dropped = dropped or Counter()
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    if any("longer than the context" in reason for reason in dropped):
        remedy = "Raise model.context, as far as the base's positions reach, or shorten the rows."
    elif any("held out" in reason for reason in dropped):
        remedy = "Lower data.held_out, or add rows with other prompts."
    return DataError(
        f"there are no {what} to train `{stage}` on" + (f" ({reasons})" if reasons else ""),
        where="data.sources",
        remedy=remedy,
    )


def no_demonstrations(stage: Stage) -> RecipeError:
    """The error for rows of fine-tuning that are asked for and not there."""
    return RecipeError(
        f"there is no conversation that could be shown beside what `{stage}` learns from",
        where=f"{stage}.demonstrations.weight",
        remedy="Set it to 0, or name a source that has some, such as `starter`.",
    )
