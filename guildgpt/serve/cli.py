"""`guildgpt serve`: the OpenAI-compatible API and the web page, and who may come to them."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from guildgpt.errors import GuildError
from guildgpt.feedback.commands import StoreOption, store_url
from guildgpt.serve.accounts_cli import accounts_app, invite
from guildgpt.serve.keys_cli import keys_app
from guildgpt.terminal import EngineOption, console_for, examples, say


class ModelsOrCommand(TyperGroup):
    """What stands first is one of the commands; anything else is a model, with options anywhere.

    A model's folder that is called like a command is `./keys`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        ctx.allow_interspersed_args = not (args and args[0] in self.commands)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """See click: before a command there are no models."""
        told = super().get_params(ctx)
        if ctx.allow_interspersed_args:
            return told
        return [one for one in told if one.param_type_name != "argument"]


serve_app = typer.Typer(
    cls=ModelsOrCommand, invoke_without_command=True, subcommand_metavar="| COMMAND [ARGS]..."
)
serve_app.add_typer(keys_app, name="keys")
serve_app.command(
    epilog=examples(
        "guildgpt serve invite --name anna",
        "guildgpt serve invite --operator --address https://guild.example",
    )
)(invite)
serve_app.add_typer(accounts_app, name="accounts")


@serve_app.callback(
    epilog=examples(
        "guildgpt serve",
        "guildgpt serve starter runs/starter/ppo/model --port 9000",
        "guildgpt serve keys add anna",
        "guildgpt serve --host 0.0.0.0",
    )
)
def serve(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL…",
            help="Model folders, GGUF files or `starter`: the last one answers who names none. "
            "Without any, who is released in the store, else the newest trained one.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs a key or a link.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    context: Annotated[
        int, typer.Option(min=256, help="Tokens of a conversation at most, its answer included.")
    ] = 4096,
    slots: Annotated[int, typer.Option(min=1, help="Answers that are written side by side.")] = 4,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cores to compute on.", show_default="those that are idle at the start"
        ),
    ] = None,
    waiting: Annotated[int, typer.Option(min=1, help="Questions that wait at most.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0, help="Where a request does not say; 0 is greedy.")
    ] = 0.7,
    retention_days: Annotated[
        int, typer.Option(min=1, help="Days that chats of the web page are kept.")
    ] = 180,
    engine: EngineOption = None,
    store: StoreOption = None,
    public_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What a proxy before this server is called: chat.example.org. May be given "
            "several times; needs a key or a link.",
        ),
    ] = None,
) -> None:
    """Serve models: OpenAI's API, and a web page.

    Who may ask the API has a key: `guildgpt serve keys add NAME` makes one, and
    $GUILDGPT_SERVE_KEYS may hold others, as name=key, several with commas between. Without any,
    only programs on this machine may. People come to the page by links: `guildgpt serve invite`
    makes one.
    """
    if ctx.invoked_subcommand:
        return
    import logging

    from guildgpt.engines.engine import SamplingParams
    from guildgpt.engines.served_at import served_at
    from guildgpt.serve.run import KEYS_VARIABLE, ServeSettings, read_keys, read_public
    from guildgpt.serve.run import serve as run

    commands = getattr(ctx.command, "commands", {})
    if late := next((one for one in models or [] if one in commands), None):
        raise GuildError(
            f"{late} is a command, and stands before all options",
            remedy=f"guildgpt serve {late} …, and then its own options, the store among them. A "
            f"model's folder of that name is ./{late}.",
        )
    console = console_for()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("guildgpt").setLevel(logging.INFO)
    settings = ServeSettings(
        models=models or [],
        host=host,
        port=port,
        context=context,
        slots=slots,
        threads=threads,
        waiting=waiting,
        usual=SamplingParams(temperature=temperature),
        keys=read_keys(os.environ.get(KEYS_VARIABLE, "")),
        at=served_at(engine),
        retention_days=retention_days,
        store=store_url(store, make=True),
        public=read_public(public_name or ()),
    )
    run(settings, lambda line: say(console, line))
