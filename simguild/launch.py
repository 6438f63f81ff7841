"""Runs the bot in a process of its own, against a fake Discord elsewhere.

    SIMGUILD_REST=… SIMGUILD_GATEWAY=… DISCORD_TOKEN=… python -m simguild.launch [OPTIONS]

`FakeDiscord.environment()` gives these variables. With SIMGUILD_ENGINE=paced:RATE a `PacedEngine`
of RATE tokens a second answers in place of a model.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence


def redirect(rest: str, gateway: str) -> Callable[[], None]:
    """Send discord.py to these addresses; call what comes back to undo it."""
    import yarl
    from discord.gateway import DiscordWebSocket
    from discord.http import Route

    before = Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
    Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = rest, yarl.URL(gateway)

    def undo() -> None:
        Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = before

    return undo


def serve_paced(rate: float) -> None:
    """Let the bot run with a `PacedEngine` where it would have loaded a model."""
    from guildgpt.bot.operating import run
    from simguild.engine import PacedEngine, standing_in

    run.run_bot = functools.partial(  # type: ignore[assignment]
        run.run_bot, open_it=lambda: standing_in(PacedEngine(rate))
    )


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run `guildgpt bot` with these arguments."""
    redirect(environment["SIMGUILD_REST"], environment["SIMGUILD_GATEWAY"])
    engine = environment.get("SIMGUILD_ENGINE", "")
    if engine:
        kind, _, rate = engine.partition(":")
        if kind != "paced":
            raise SystemExit(f"SIMGUILD_ENGINE is {engine!r}; it may be paced:RATE")
        serve_paced(float(rate or 20))
    from guildgpt.cli import main as guildgpt

    guildgpt(["bot", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
