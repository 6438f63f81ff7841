"""A stage's figures before and after: measured once, and kept in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from guildgpt.bases.base import Base, load_base
from guildgpt.bases.config import BaseConfig
from guildgpt.errors import EngineError, GuildError, ModelError
from guildgpt.evaluate.model import Measured, measure_model, sample_answers
from guildgpt.model.folder import write_model_folder
from guildgpt.network.world import World
from guildgpt.pipeline.folder import is_disk_full, keep, kept
from guildgpt.pipeline.prepare import Prepared
from guildgpt.recipe import Recipe, Stage


def measured_before(
    recipe: Recipe,
    stage: Stage,
    place: Path,
    base: Base,
    base_config: BaseConfig,
    prepared: Prepared,
    console: Console,
    world: World,
) -> Measured:
    """The figures of what the stage starts from, its answers by way of a GGUF made for it."""

    def measure() -> Measured:
        there = _gguf(Path(base_config.base), recipe)
        if there is not None:
            return _measure(recipe, stage, base, prepared, there, console, world)
        work = place / ".base"
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed in here
        try:
            _write_base(work, recipe, base, console)
            return _measure(recipe, stage, base, prepared, _gguf(work, recipe), console, world)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    return _kept(place / "before.json", measure)


def measured_after(
    recipe: Recipe,
    stage: Stage,
    place: Path,
    prepared: Prepared,
    console: Console,
    world: World,
) -> Measured:
    """The figures of the model that the stage left, as it will be loaded by others."""

    def measure() -> Measured:
        folder = place / "model"
        trained = load_base(recipe.model.model_copy(update={"base": str(folder)}))
        return _measure(recipe, stage, trained, prepared, _gguf(folder, recipe), console, world)

    return _kept(place / "after.json", measure)


def _kept(file: Path, measure: Callable[[], Measured]) -> Measured:
    """The figures in `file`, or measured now and kept there."""
    if (measured := kept(file, Measured)) is None:
        measured = measure()
        keep(file, Measured, measured)
    return measured


def _measure(
    recipe: Recipe,
    stage: Stage,
    base: Base,
    prepared: Prepared,
    gguf: Path | None,
    console: Console,
    world: World,
) -> Measured:
    config = recipe.pretrain if stage == "pretrain" else recipe.sft
    with console.status("measuring held-out rows and sampling answers"):
        measured = measure_model(
            base,
            prepared.held_out,
            None,
            recipe.evaluate,
            world,
            seed=recipe.seed,
            dtype=config.dtype,
        )
        if gguf is None:
            return measured
        try:
            samples = sample_answers(base.chat, gguf, recipe.evaluate, recipe.seed)
        except EngineError as error:  # such as a context too short for a question
            _say_unsampled(error, console)
            return measured
        return replace(measured, samples=samples)


def _write_base(work: Path, recipe: Recipe, base: Base, console: Console) -> None:
    """A model folder of the base, for its GGUF; none where there is no such form."""
    if not recipe.export.gguf:
        return
    try:
        write_model_folder(
            work,
            base.model,
            base.chat,
            context=recipe.model.context,
            provenance=base.provenance,
            recipe={},
            card="",
            gguf=recipe.export.gguf[:1],
        )
    except ModelError as error:
        if is_disk_full(error):
            raise
        _say_unsampled(error, console)


def _gguf(folder: Path, recipe: Recipe) -> Path | None:
    """The GGUF whose answers are sampled: of the same kind before and after, if it is there."""
    for quantization in recipe.export.gguf[:1]:
        path = folder / f"model-{quantization}.gguf"
        return path if path.is_file() else None
    return None


def _say_unsampled(error: GuildError, console: Console) -> None:
    console.print(f"[yellow]Answers are not sampled: {escape(error.what)}.[/]", soft_wrap=True)
