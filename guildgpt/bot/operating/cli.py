"""`guildgpt bot`: the model in a Discord server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from guildgpt.terminal import console_for, print_json


def bot(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model folder, a GGUF file or `starter`; the newest trained one if not given.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A TOML file of settings; the environment goes before it."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", metavar="", help="Say what is missing, print the invite link."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="With --check: print JSON.")
    ] = False,
) -> None:
    """Put a model into a Discord server.

    The bot's token is read from the environment variable DISCORD_TOKEN; docs/discord.md leads from
    the developer portal to a talking bot.
    """
    import asyncio
    import os
    import sys

    from guildgpt.bot.operating.settings import load_settings
    from guildgpt.errors import GuildError

    loaded = load_settings(settings, os.environ)
    if model is not None:
        loaded = loaded.model_copy(update={"model": model})
    if check:
        from guildgpt.bot.adapter.reaching import inquire
        from guildgpt.bot.operating.check import check as look

        findings, invite = asyncio.run(look(loaded, inquire))
        if as_json:
            print_json({"findings": [asdict(finding) for finding in findings], "invite": invite})
        else:
            _show(findings, invite)
        raise typer.Exit(any(f.needed and not f.ok for f in findings))
    if not loaded.token.get_secret_value():
        raise GuildError(
            "there is no bot token",
            where="DISCORD_TOKEN",
            remedy="Make a bot in Discord's developer portal and put its token into the "
            "environment; docs/discord.md shows each step.",
        )
    from guildgpt.bot.operating.logs import configure_logs
    from guildgpt.bot.operating.run import run_bot

    configure_logs(loaded.log_level, json=loaded.log_json, stream=sys.stderr)
    run_bot(loaded)


def _show(findings: Any, invite: str | None) -> None:
    from rich.text import Text

    console = console_for()
    for finding in findings:
        wrong = ("✗", "red") if finding.needed else ("!", "yellow")
        mark, style = ("✓", "green") if finding.ok else wrong
        console.print(
            Text.assemble((f"{mark} ", style), (f"{finding.what}: ", "bold"), finding.says)
        )
    if invite:
        console.print(Text.assemble(("\nInvite it: ", "bold"), invite), soft_wrap=True)
    missing = [finding.what for finding in findings if finding.needed and not finding.ok]
    if missing:
        console.print(Text(f"\nIt cannot start yet: {', '.join(missing)}.", "red"))
    else:
        console.print(Text("\nIt can start: guildgpt bot", "green"))
