"""`guildgpt eval` and `guildgpt compare`: what a model is worth, and which of two is better."""

from __future__ import annotations

from typing import Annotated

import typer

from guildgpt.errors import GuildError, ModelError
from guildgpt.terminal import (
    FLAG,
    SOURCES,
    Json,
    console_for,
    give,
    needs_torch,
    raise_in_words_of_the_command,
)

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
    more: More = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each source at most.")] = None,
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
    as_json: Json = False,
) -> None:
    """Measure a model: bits per byte and perplexity on each source, and how it answers.

    Of a reward model, with --comparisons: how often it prefers what people preferred, next to
    chance and to the length of the answers. A source that the model was trained on is measured on
    its held-out rows only.
    """
    if comparisons and (data or samples or constraints):
        raise GuildError(
            "a reward model puts comparisons in order, and neither predicts rows nor answers",
            where="--comparisons",
            remedy="Leave out --data, --samples and --constraints, or measure the other model by "
            "itself.",
        )
    needs_torch()
    from guildgpt.evaluate import command
    from guildgpt.network.world import World

    sources = [*(comparisons or data or ()), *(more or ())]
    world = World()
    try:
        if comparisons:
            result = command.evaluate_reward_model(
                model, sources, world, limit=limit, context=context
            )
        else:
            result = command.evaluate_model(
                model,
                sources,
                world,
                limit=limit,
                context=context,
                samples=samples,
                constraints=constraints,
            )
    except ModelError as error:
        raise_in_words_of_the_command(error)
    give(result, as_json, command.show_reward_model if comparisons else command.show_model)


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
    as_json: Json = False,
) -> None:
    """Say which of two models answers better, and whether the figures allow saying so.

    Both answer the same prompts, on which neither was trained, and a reward model judges every
    pair of answers. The win rate is given at equal length, with its 95 % interval.
    """
    needs_torch()
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
                on_progress=status.update,
            )
    except ModelError as error:
        raise_in_words_of_the_command(error)
    give(result, as_json, show)
