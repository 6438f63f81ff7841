"""A stage's figures: of what it starts from, of what it leaves, and of the two held against each
other. Each is measured once, and kept in the run's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file

from guildgpt.bases.base import Base, load_base
from guildgpt.chat import Message
from guildgpt.errors import EngineError, GuildError, ModelError
from guildgpt.evaluate.agreement import judge_data
from guildgpt.evaluate.answers import write
from guildgpt.evaluate.bits import measure_bits
from guildgpt.evaluate.constrained import constrained_answers
from guildgpt.evaluate.head_to_head import HeadToHead, divergence, head_to_head
from guildgpt.evaluate.preferences import PreferenceFigures, measure_preferences
from guildgpt.evaluate.samples import Measured, sample_answers, sampled_prompts
from guildgpt.model.folder import write_model_folder
from guildgpt.network.hats import JUDGE, POLICY, Hats
from guildgpt.network.reward_model import (
    RewardModel,
    check_same_language,
    load_reward_model,
    wear_reward_model,
)
from guildgpt.network.sampler import Sampling
from guildgpt.pipeline.folder import ADAPTER, is_disk_full, kept, once
from guildgpt.pipeline.prompts import prompts_with_room
from guildgpt.pipeline.stage import Prepared, StageRun
from guildgpt.pipeline.stages import bare, base_sha256, wear_reward
from guildgpt.recipe import Recipe
from guildgpt.terminal import busy
from guildgpt.train.config import PolicyConfig, RolloutConfig


def measure_before(run: StageRun, base: Base, rows: Prepared) -> Measured:
    """The figures of what the stage starts from, its answers by way of a GGUF made for it.

    Of a model that talks already, those that its own stage measured, if one did; where that one
    could not, nor is it tried again here.
    """
    if run.kind.changes_answers:
        if measured := kept(Path(run.start.base.base).parent / "after.json", Measured):
            return measured
        if run.start.earlier:
            return Measured({}, [])

    def measure() -> Measured:
        start, config = base, run.start.base
        if base.adapter:  # it starts from the two together
            start = load_base(config.model_copy(update={"adapter": "merge"}))
        there = _gguf(Path(config.base), run.recipe)
        if there is not None and config.adapter is None:
            return _measure(run, start, rows, there)
        work = run.place / ".base"
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed in here
        try:
            _write_base(work, run, start)
            return _measure(run, start, rows, _gguf(work, run.recipe))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    return once(run.place / "before.json", Measured, measure)


def measure_after(run: StageRun, rows: Prepared) -> Measured:
    """The figures of the model that the stage left, as it will be loaded by others."""

    def measure() -> Measured:
        folder = run.place / "model"
        trained = load_base(run.recipe.model.of_run(folder))
        return _measure(run, trained, rows, _gguf(folder, run.recipe))

    return once(run.place / "after.json", Measured, measure)


def measure_scores(run: StageRun, rows: Prepared) -> dict[str, PreferenceFigures]:
    """The saved reward model's figures on held-out comparisons, by source."""

    def measure() -> dict[str, PreferenceFigures]:
        dtype = run.world.dtype(run.settings.dtype)
        model = load_reward_model(run.place / "model", dtype, run.world.device)
        with busy(run.console, "scoring held-out comparisons"):
            return measure_preferences(model, rows.compared.held_out)

    return once(run.place / "preferences.json", dict[str, PreferenceFigures], measure)


def measure_against_start(run: StageRun) -> HeadToHead | None:
    """The policy against what it came from; None where that failed and its adapter is gone."""
    file = run.place / "head_to_head.json"
    if not (run.place / ADAPTER).is_file():
        return kept(file, HeadToHead)
    result = once(file, HeadToHead, lambda: _compare(run))
    for line in head_to_head_lines(result):
        run.say(line)
    return result


def _compare(run: StageRun) -> HeadToHead:
    """Both answer prompts that no stage was trained on."""
    settings, evaluation = run.settings, run.recipe.evaluate
    assert isinstance(settings, PolicyConfig)
    base = load_base(run.start.base)
    places, prompts = _judged(run, base)
    temperature = settings.temperature if isinstance(settings, RolloutConfig) else 1.0
    sampling = Sampling(evaluation.max_tokens, temperature)
    hats = bare(run, base)
    reward = wear_reward(run, hats, base)
    weights = load_file(run.place / ADAPTER)
    hats.add(POLICY, settings.lora, seed=run.recipe.seed, weights=weights)
    policy, reference = hats.trunk(POLICY), hats.trunk(None)
    judge, data = _judge(run, hats, base)
    what = f"answering {len(prompts)} prompts before and after"
    with busy(run.console, what), hats.shared.kept():
        before, after = (
            write(trunk, base.chat, prompts, sampling, seed=run.recipe.seed)
            for trunk in (reference, policy)
        )
        return head_to_head(
            before,
            after,
            kl=divergence(policy, reference, after, temperature, settings.micro_tokens),
            judge=judge,
            reward=reward,
            prompts=places,
            judge_data=data,
        )


def head_to_head_lines(result: HeadToHead) -> list[str]:
    """A comparison of two models in sentences."""
    lines = []
    if v := result.verdicts:
        lines.append(
            f"the judge prefers it to the model it came from in {v.controlled:.1%} of "
            f"{v.comparisons:,} comparisons at equal length (95% interval {v.controlled_low:.1%} "
            f"to {v.controlled_high:.1%}), {v.rate:.1%} as they are"
        )
        lines.append(result.judge_words)
    if result.reward_after is not None and result.reward_before is not None:
        lines.append(
            f"held-out reward {result.reward_before:+.2f} before, {result.reward_after:+.2f} after"
        )
    if result.kl is not None:
        lines.append(f"{result.kl:z.1f} nats an answer away from the model it came from")
    return lines


def preferences_line(source: str, figures: PreferenceFigures) -> str:
    """A reward model's figures on one source in a line."""
    further = f"; {figures.further}" if figures.further else ""
    return (
        f"{source}: {figures.accuracy:.1%} of {figures.pairs:,} held-out pairs in the right order "
        f"(95% interval {figures.low:.1%} to {figures.high:.1%}; by length alone "
        f"{figures.by_length:.1%}, by chance 50%){further}"
    )


def _judged(run: StageRun, base: Base) -> tuple[list[int], list[tuple[Message, ...]]]:
    """The prompts that leave room for an answer, each as often as it is answered, and which of
    them are the same one."""
    asked = prompts_with_room(run.recipe, run.data.dataset, base.chat)
    times = range(run.recipe.evaluate.judged_answers)
    places = [index for index in range(len(asked)) for _ in times]
    return places, [asked[index] for index in places]


def _judge(run: StageRun, hats: Hats, base: Base) -> tuple[RewardModel | None, tuple[str, ...]]:
    """The second reward model, which the policy was never trained against, and what it learned
    from."""
    folder, tokens = run.start.judge, run.recipe.reward.micro_tokens
    if folder is None:
        return None, ()
    check_same_language(folder, base.chat)
    judge = wear_reward_model(hats, JUDGE, folder, base_sha256(run), tokens)
    return judge, tuple(judge_data(folder))


def _measure(run: StageRun, base: Base, rows: Prepared, gguf: Path | None) -> Measured:
    recipe = run.recipe
    config = recipe.pretrain if run.kind.reads == "documents" else recipe.sft
    with busy(run.console, "measuring held-out rows and sampling answers") as status:
        bits = measure_bits(base, rows.held_out, run.world, config.dtype)
        try:
            samples = sample_answers(base.chat, gguf, recipe.evaluate, recipe.seed) if gguf else []
        except EngineError as error:  # such as a context too short for a question
            _say_unsampled(run, error)
            samples = []
        if samples and (left := len(sampled_prompts(recipe.evaluate)) - len(samples)):
            run.say(f"{left} of the sampled prompts leave no room for an answer.", style="yellow")
        constrained = {}
        if count := recipe.evaluate.constrained:
            tokens = recipe.evaluate.max_tokens
            constrained = constrained_answers(
                base, run.world, count, tokens, config.dtype, status.update
            )
    return Measured(bits, samples, constrained)


def _write_base(work: Path, run: StageRun, base: Base) -> None:
    """A model folder of the base, for its GGUF; none where there is no such form."""
    quantizations = run.recipe.export.gguf[:1]
    if not quantizations:
        return
    try:
        write_model_folder(
            work,
            base.model,
            base.chat,
            context=run.recipe.model.context,
            provenance=base.provenance,
            recipe={},
            card="",
            gguf=quantizations,
        )
    except ModelError as error:
        if is_disk_full(error):
            raise
        _say_unsampled(run, error)


def _gguf(folder: Path, recipe: Recipe) -> Path | None:
    """The GGUF whose answers are sampled: of the same kind before and after, if it is there."""
    paths = [folder / f"model-{quantization}.gguf" for quantization in recipe.export.gguf[:1]]
    return next(filter(Path.is_file, paths), None)


def _say_unsampled(run: StageRun, error: GuildError) -> None:
    run.say(f"Answers are not sampled: {error.what}.", style="yellow")
