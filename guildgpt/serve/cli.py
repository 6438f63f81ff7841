"""`guildgpt serve`: the OpenAI-compatible API."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from guildgpt.terminal import EngineOption, console_for, say


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL…",
            help="Model folders, GGUF files or `starter`; the newest trained one if none is given. "
            "The last one answers who names none.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    context: Annotated[
        int, typer.Option(min=256, help="Tokens of a conversation at most, its answer included.")
    ] = 4096,
    slots: Annotated[int, typer.Option(min=1, help="Answers that are written side by side.")] = 4,
    waiting: Annotated[int, typer.Option(min=1, help="Questions that wait at most.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0, help="Where a request does not say; 0 is greedy.")
    ] = 0.7,
    engine: EngineOption = None,
    public_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What a proxy before this server is called: chat.example.org. May be given "
            "several times; needs a key.",
        ),
    ] = None,
) -> None:
    """Serve models to programs: OpenAI's API on this machine.

    $GUILDGPT_SERVE_KEYS holds the keys of those who may ask, as name=key, several with commas
    between. Without any, only programs on this machine may.
    """
    from guildgpt.engines.engine import SamplingParams
    from guildgpt.engines.served_at import served_at
    from guildgpt.serve.run import KEYS_VARIABLE, ServeSettings, read_keys, read_public
    from guildgpt.serve.run import serve as run

    console = console_for()
    settings = ServeSettings(
        models=models or [None],
        host=host,
        port=port,
        context=context,
        slots=slots,
        waiting=waiting,
        usual=SamplingParams(temperature=temperature),
        keys=read_keys(os.environ.get(KEYS_VARIABLE, "")),
        at=served_at(engine),
        public=read_public(public_name or ()),
    )
    run(settings, lambda line: say(console, line))
