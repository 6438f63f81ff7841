"""`guildgpt eval` and `guildgpt compare`: what a model is worth, and which of two is better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError, ModelError
from guildgpt.terminal import (
    FLAG,
    SOURCES,
    EngineOption,
    Json,
    busy,
    console_for,
    give,
    needs_torch,
    raise_in_words_of_the_command,
)

if TYPE_CHECKING:
    from rich.console import Console

HARNESS_AND_CODE = "Of --harness and --code"
More = Annotated[list[str] | None, typer.Argument(metavar="SOURCE", hidden=True)]


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model folder, `starter`, a Hub id or a GGUF file."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE…", help=f"What to predict: {SOURCES}."),
    ] = None,
    comparisons: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE…", help="Of a reward model: whose comparisons to put in order."
        ),
    ] = None,
    harness: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK…", help="Tasks or groups of lm-evaluation-harness."),
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(
            metavar="TASKS",
            help="Python tasks to solve: humaneval:PATH, mbpp:PATH or starter.",
        ),
    ] = None,
    more: More = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows of each source, or of each task, at most.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=32, help="Tokens of a conversation at most; 1024, or what the model holds."
        ),
    ] = None,
    samples: Annotated[
        bool,
        typer.Option(
            "--samples", metavar=FLAG, help="Also sample answers to a list of fixed questions."
        ),
    ] = False,
    constraints: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            metavar="N",
            help="Also answer N held-out prompts with constraints of known kinds, and N of kinds "
            "that no training draws.",
        ),
    ] = 0,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--plain",
            metavar=FLAG,
            help="Ask by the chat template, or have plain text continued. If not given, --harness "
            "takes plain text, --code what the model was trained for.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    include: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --harness: more tasks, as YAML.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    fewshot: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="With --harness: examples before each question; what the task says if not given.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="With --code: another model, to say what changed.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --code: answers to each task, for pass@1 (and pass@10 from 10 on); 1 if not "
            "given.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --code: 0 is greedy; 0.2 for several answers, if not given.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --code: tokens of an answer at most; 512 if not given.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --code: other answers, with the same chances.",
            rich_help_panel=HARNESS_AND_CODE,
        ),
    ] = None,
    engine: EngineOption = None,
    as_json: Json = False,
) -> None:
    """Measure a model: bits per byte and perplexity on each source, and how it answers.

    Of a reward model, with --comparisons: how often it prefers what people preferred, next to
    chance and to the length of the answers. A source that the model was trained on is measured on
    its held-out rows only.

    With --harness: tasks of lm-evaluation-harness (the extra `harness`). With --code: Python tasks,
    whose answers are run in the sandbox.

    With --engine, the answers of --samples, --constraints and --code come from a server; whatever
    is read from probabilities, rows of --data above all, is measured here, from the weights.
    """
    _one_thing(
        {
            "--data": bool(data or samples or constraints),
            "--comparisons": bool(comparisons),
            "--harness": bool(harness),
            "--code": code is not None,
        }
    )
    _go_together(bool(harness), "--harness", {"--include": include, "--fewshot": fewshot})
    for_code = {"--against": against, "--answers": answers, "--temperature": temperature}
    for_code |= {"--max-tokens": max_tokens, "--seed": seed}
    _go_together(code is not None, "--code", for_code)
    _go_together(bool(harness or code), "--harness or --code", {"--chat or --plain": chat})
    _go_together(not (harness or code), "--data or --comparisons", {"--context": context})
    _answers_alone(engine, {"--data": data, "--comparisons": comparisons, "--harness": harness})
    needs_torch()
    from guildgpt.engines.served_at import served_at
    from guildgpt.network.world import World

    at = served_at(engine)
    world, console = World(), console_for(as_json)
    console.file = console.file  # as it is now: the harness's own lines are kept from it
    show: Callable[[Any, Console], None]
    try:
        if harness:
            from guildgpt.evaluate.harness import evaluate_tasks
            from guildgpt.evaluate.harness import show_tasks as show

            with busy(console, "measuring") as status:
                result = evaluate_tasks(
                    model,
                    [*harness, *(more or ())],
                    world,
                    include=include,
                    chat=bool(chat),
                    shots=fewshot,
                    limit=limit,
                    on_progress=status.update,
                )
        elif code is not None:
            from guildgpt.evaluate.code import evaluate_code
            from guildgpt.evaluate.code import show_code as show

            with busy(console, "measuring") as status:
                result = evaluate_code(
                    model,
                    code,
                    world,
                    against=against,
                    answers=answers or 1,
                    temperature=temperature,
                    max_tokens=max_tokens or 512,
                    seed=seed or 0,
                    limit=limit,
                    chat=chat,
                    at=at,
                    on_progress=status.update,
                )
        else:
            from guildgpt.evaluate import command

            sources = [*(comparisons or data or ()), *(more or ())]
            if comparisons:
                show = command.show_reward_model
                result = command.evaluate_reward_model(
                    model, sources, world, limit=limit, context=context
                )
            else:
                show = command.show_model
                result = command.evaluate_model(
                    model,
                    sources,
                    world,
                    limit=limit,
                    context=context,
                    samples=samples,
                    constraints=constraints,
                    at=at,
                )
    except ModelError as error:
        raise_in_words_of_the_command(error)
    give(result, as_json, show)


def _go_together(there: bool, what: str, options: dict[str, Any]) -> None:
    """GuildError for options that say nothing of what is measured."""
    if not there and (given := [name for name, value in options.items() if value is not None]):
        raise GuildError(f"this goes with {what}", where=given[0], remedy="Leave it out.")


def _answers_alone(engine: str | None, options: dict[str, Any]) -> None:
    """GuildError for a server that is to tell more than answers."""
    if engine and (given := [name for name, value in options.items() if value]):
        raise GuildError(
            f"{given[0]} is measured by the probabilities that weights give to a text, and a "
            "server writes answers alone",
            where="--engine",
            remedy="Leave --engine out, and torch reads the model's folder here; or measure its "
            "answers: --samples, --constraints N, --code TASKS.",
        )


def _one_thing(asked: dict[str, bool]) -> None:
    """GuildError for options that ask for different things at once."""
    named = [option for option, given in asked.items() if given]
    if "--comparisons" in named and named != ["--comparisons"]:
        raise GuildError(
            "a reward model puts comparisons in order, and neither predicts rows nor answers",
            where="--comparisons",
            remedy="Leave out --data, --samples, --constraints, --harness and --code, or measure "
            "the other model by itself.",
        )
    if len(named) > 1:
        raise GuildError(
            f"{' and '.join(named)} are measured one at a time",
            remedy="Give the command once for each.",
        )


def compare(
    model_a: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_A", help="A model folder, `starter`, a Hub id or a GGUF file."
        ),
    ],
    model_b: Annotated[str, typer.Argument(metavar="MODEL_B", help="Another one.")],
    judge: Annotated[
        str,
        typer.Option(
            metavar="REWARD_MODEL", help="Who says which answer is better: runs/NAME/judge/model."
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE…",
            help="Whose held-out prompts to ask; the starter pack's if not given.",
        ),
    ] = None,
    more: More = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts at most.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 160,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="Other answers, with the same chances.")] = 0,
    engine: EngineOption = None,
    as_json: Json = False,
) -> None:
    """Say which of two models answers better, and whether the figures allow saying so.

    Both answer the same prompts, on which neither was trained, and a reward model judges every
    pair of answers. The win rate is given at equal length, with its 95% interval. With --engine
    both answer where they are served; the judge reads here.
    """
    needs_torch()
    from guildgpt.engines.served_at import served_at
    from guildgpt.evaluate.compare_models import compare_models, show
    from guildgpt.network.world import World

    console = console_for(as_json)
    try:
        with console.status("reading") as status:
            result = compare_models(
                model_a,
                model_b,
                judge,
                [*(data or ()), *(more or ())],
                World(),
                limit=limit,
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                at=served_at(engine),
                on_progress=status.update,
            )
    except ModelError as error:
        raise_in_words_of_the_command(error)
    give(result, as_json, show)
