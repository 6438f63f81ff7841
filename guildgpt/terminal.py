"""What the commands share: how they speak, print JSON, and ask for what is not installed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from guildgpt.errors import GuildError, ModelError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

SOURCES = (
    "a file, a folder, a pattern such as 'shards/*.parquet', hub:OWNER/NAME, dolly, oasst1, "
    "oasst2, starter, constrained, dolly:PATH, oasst:PATH or stackexchange:PATH"
)
STOPPED = "\nStopped. The same command goes on from the last checkpoint, if there is one yet."
FLAG = ""  # what a switch shows in place of a value
EngineOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask an OpenAI-compatible server that runs this model (vLLM, llama-server, GuildGPT): "
        "http://HOST:8000/v1, #NAME behind it where it serves several. "
        "$GUILDGPT_ENGINE_KEY holds its key.",
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print JSON on standard output.")]


def examples(*lines: str) -> str:
    """Commands to try, at the foot of a help page."""
    return "\n".join(["For example:", *(f"  [bold]{line}[/]" for line in lines)])


def let_help_flow(app: typer.Typer) -> None:
    """Make each paragraph of all its commands' help one line, which a help page then wraps at the
    terminal's width: typer keeps a docstring's line ends in all but the first."""
    told: list[Any] = [*app.registered_commands]
    told += [app.registered_callback] if app.registered_callback else []
    for one in told:
        help = one.help if isinstance(one.help, str) else inspect.getdoc(one.callback)
        if help:
            one.help = "\n\n".join(" ".join(part.split()) for part in help.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance:
            let_help_flow(group.typer_instance)


def console_for(as_json: bool = False) -> Console:
    """Where people read: standard output, or standard error while that one carries JSON."""
    from rich.console import Console

    return Console(stderr=as_json)


def say(console: Console, *lines: str) -> None:
    """Lines of plain text, wrapped at words on a terminal and nowhere else."""
    for line in lines:
        console.print(visible(line), soft_wrap=not console.is_terminal)


@contextmanager
def busy(console: Console, what: str) -> Iterator[Status]:
    """What takes its time: something that turns on a terminal, elsewhere a line that it began."""
    if not console.is_terminal:
        say(console, f"{what} …")
    with console.status(f"{what} …") as status:
        yield status


def visible(text: str) -> Text:
    """Text from outside, as it is: neither rich's markup nor its `:100:` for an emoji, nor
    characters that steer the terminal."""
    from rich.text import Text

    from guildgpt.text.visible import pictured

    return Text(pictured(text))


def print_json(value: Any) -> None:
    """A value on standard output; what JSON does not know, a time or a path, as text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def give(result: Any, as_json: bool, show: Callable[[Any, Console], None]) -> None:
    """A command's result: as JSON, or as `show` puts it before a person."""
    if as_json:
        print_json(result)
    else:
        show(result, console_for())


def missing_for_training() -> list[str]:
    """What of the training wing is not installed."""
    from importlib.util import find_spec

    return [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]


def needs_torch() -> None:
    """GuildError, with the command that helps, where the training wing is not installed."""
    if missing := missing_for_training():
        raise GuildError(
            f"this needs {', '.join(missing)}, not installed here",
            remedy="pip install 'guildgpt[train]'",
        )


def raise_in_words_of_the_command(error: ModelError) -> NoReturn:
    """The same error for a command that has options where a recipe has a `[model]` section."""
    if error.where not in ("model.base", "model.context"):
        raise error
    raise ModelError(
        error.what.replace("model.context", "--context"),
        where="--context" if error.where == "model.context" else None,
        remedy=error.remedy and error.remedy.replace("`scratch`, ", ""),
    ) from error
