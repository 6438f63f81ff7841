"""`guildgpt vote`: say which of two answers is better, without knowing whose it is."""

from __future__ import annotations

from typing import Annotated

import typer

from guildgpt.feedback.commands import StoreOption, store_url
from guildgpt.terminal import EngineOption, Json, console_for, print_json

_MODEL = "A model folder, a GGUF file, `starter`, or a version's id."


def vote(
    model_a: Annotated[
        str | None, typer.Argument(metavar="MODEL_A", help=_MODEL, show_default=False)
    ] = None,
    model_b: Annotated[
        str | None,
        typer.Argument(metavar="MODEL_B", help="Who it meets; itself if not given."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    voter: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Who votes; the system's user if not given."),
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="How freely it is answered.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 256,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw prompts, sides and answers the same again.")
    ] = None,
    engine: EngineOption = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Vote on blind answers.

    Without a MODEL, a candidate that is being tried meets who serves, and the votes help to decide;
    else two answers by who serves meet, for `guildgpt learn`. The next two answers are written
    while you read. From a pipe, one letter a line.
    """
    from guildgpt.engines.engine import SamplingParams
    from guildgpt.engines.served_at import served_at
    from guildgpt.vote.run import Settings, run

    settings = Settings(
        models=[model for model in (model_a, model_b) if model is not None],
        store_url=store_url(store, make=True),
        voter=voter or _user(),
        params=SamplingParams(temperature=temperature, max_tokens=max_tokens),
        rounds=rounds,
        seed=seed,
        at=served_at(engine),
    )
    ending = run(settings, console_for(as_json))
    if as_json and ending.summary:
        print_json(ending.summary.as_dict())
    if ending.trouble:
        raise ending.trouble
    if ending.signal:
        raise typer.Exit(128 + ending.signal)


def _user() -> str:
    """The system's name for who is at the terminal."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # nobody, as in some containers
        return "operator"
