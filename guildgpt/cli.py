"""The front door: one short command for each stage of the story.

Nothing heavy is imported here; each command imports what it needs, so that `--help` is instant and
the runtime wing never meets torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt import __version__
from guildgpt.bot.operating.cli import bot
from guildgpt.errors import GuildError
from guildgpt.evaluate.cli import compare, evaluate
from guildgpt.feedback.cli import feedback_app
from guildgpt.feedback.versions.versions_cli import versions_app
from guildgpt.inherited import Terminated, set_right
from guildgpt.learn.cli import learn_app
from guildgpt.preview import preview_data
from guildgpt.serve.cli import serve_app
from guildgpt.sharing.cli import export, push
from guildgpt.terminal import (
    FLAG,
    STOPPED,
    EngineOption,
    Json,
    console_for,
    examples,
    give,
    let_help_flow,
    needs_torch,
    print_json,
    say,
    visible,
)
from guildgpt.unforeseen import unforeseen
from guildgpt.vote.cli import vote

if TYPE_CHECKING:
    from rich.console import Console


app = typer.Typer(
    name="guildgpt",
    help="Build your own micro ChatGPT: an open base, open data, your people.",
    epilog=examples(
        "guildgpt chat",
        "guildgpt train starter",
        "guildgpt eval runs/starter/sft/model --data starter",
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at training data.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(feedback_app, name="feedback")
app.add_typer(learn_app, name="learn")
app.add_typer(versions_app, name="versions")


@app.command(
    epilog=examples(
        "guildgpt train starter --dry-run",
        "guildgpt train starter",
        "guildgpt train starter --out runs/long --set sft.epochs=3",
        "guildgpt train mine.toml --out runs/again --reuse runs/mine --set dpo.beta=0.05",
    )
)
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="One that comes with GuildGPT, such as `starter`, or a TOML file.",
        ),
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", metavar=FLAG, help="Check everything and count tokens, train nothing."
        ),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Override a value (may be repeated)."
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Only this stage (may be repeated)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The run's folder; runs/NAME if not given."),
    ] = None,
    reuse: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Take over what this other run has finished and the recipe would do alike.",
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="TRACKER",
            help="Also tell figures, no texts, to `trackio` or `wandb`, if that is installed.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model from a recipe; the same command resumes it."""
    from guildgpt.recipe import find_recipe, load_recipe

    file = find_recipe(recipe)
    loaded = load_recipe(file, set_ or ())
    stages = loaded.chosen(stage)
    console = console_for(as_json)
    needs_torch()
    if dry_run:
        from guildgpt.pipeline.plan import dry_run as plan

        result = plan(loaded, console)
        if as_json:
            print_json(result)
        return
    from guildgpt.pipeline.run import run
    from guildgpt.pipeline.trackers import tracker_named
    from guildgpt.report.before_after import headline, summary_table

    tracker = tracker_named(track)
    folder = out or Path("runs") / loaded.name
    text = file.read_text(encoding="utf-8")
    try:
        report = run(
            loaded, text, folder, stages=stages, reuse=reuse, track=tracker, console=console
        )
    except (KeyboardInterrupt, Terminated):
        print(STOPPED, file=sys.stderr)
        raise  # exit status 130 or 143, as shells have it
    if as_json:
        print_json(report.as_dict())
        return
    if (table := summary_table(report)).rows:  # none of a run that only learns to score
        console.print(table)
    _print_answers(report, console)
    for line in headline(report):
        console.print(line, highlight=False)
    say(console, f"\nThe report:       {folder / 'report.html'}")
    say(console, f"Talk to it:       {report.chat_command}")


@app.command(
    epilog=examples(
        "guildgpt chat",
        "guildgpt chat runs/starter/sft/model --system 'You are a patient teacher.'",
        "echo 'What is TLS?' | guildgpt chat starter --temperature 0",
    )
)
def chat(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model folder, a GGUF file or `starter`; the newest trained one if not given.",
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Tell the model who it is.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 512,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Repeat an answer, chance and all.")
    ] = None,
    engine: EngineOption = None,
) -> None:
    """Talk to a model in the terminal."""
    from guildgpt.engines.engine import SamplingParams
    from guildgpt.engines.served_at import served_at
    from guildgpt.repl import chat as talk

    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    talk(model, system=system, params=params, at=served_at(engine))


app.command(
    "eval",
    epilog=examples(
        "guildgpt eval starter --data starter",
        "guildgpt eval runs/starter/sft/model --data dolly mine.jsonl --limit 200",
        "guildgpt eval runs/starter/sft/model --samples",
        "guildgpt eval runs/starter/reward/model --comparisons starter",
        "guildgpt eval runs/starter/sft/model --harness arc_easy hellaswag --limit 100",
        "guildgpt eval starter --code humaneval:HumanEval.jsonl.gz --limit 20",
    ),
)(evaluate)
app.command(
    epilog=examples(
        "guildgpt compare runs/starter/sft/model runs/starter/ppo/model --judge "
        "runs/starter/judge/model",
    ),
)(compare)


app.command(
    epilog=examples(
        "guildgpt export runs/starter/sft/model",
        "guildgpt export ~/models/Qwen3-0.6B --gguf Q8_0",
        "guildgpt export runs/starter/sft/model --ollama --gguf Q4_K",
        "guildgpt export runs/smollm2/dpo/model --adapter",
    )
)(export)
app.command(
    epilog=examples(
        "guildgpt push runs/starter/sft/model anna/guild-helper",
        "guildgpt push runs/smollm2/dpo/model/adapter anna/guild-helper-lora --public",
    )
)(push)


data_app.command(
    "preview",
    epilog=examples(
        "guildgpt data preview starter",
        "guildgpt data preview mine.jsonl dolly:dolly.jsonl -n 1 --context 512",
        'guildgpt data preview \'{source = "shards/*.parquet", columns = {prompt = "ask"}}\'',
    ),
)(preview_data)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run, and what is missing."""
    from guildgpt.doctor import examine, show

    give(examine(), as_json, show)


app.command(epilog=examples("guildgpt bot --check", "guildgpt bot starter"))(bot)
app.add_typer(serve_app, name="serve")
app.command(
    epilog=examples(
        "guildgpt vote",
        "guildgpt vote runs/starter/sft/model runs/starter/ppo/model",
        "guildgpt vote starter --rounds 10 --as anna",
    )
)(vote)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", metavar=FLAG, help="Print the version.")
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; problems a person can mend are printed without a traceback."""
    set_right()
    try:
        app(args=list(arguments) if arguments is not None else None)
    except GuildError as error:
        _print_error(error)
        sys.exit(1)
    except Exception as error:  # of a library, or our own fault: in words all the same
        _print_error(unforeseen(error))
        sys.exit(1)


def _print_error(error: GuildError) -> None:
    console = console_for(as_json=True)  # standard error
    head = visible(f"{error.where}: {error.what}" if error.where else error.what)
    console.print("[bold red]Error:[/]", head, soft_wrap=not console.is_terminal)
    if error.remedy:
        say(console, error.remedy)


def _print_answers(report: Any, console: Console) -> None:
    """Three answers, so that the table is not all one sees."""
    for asked in report.probes[:3]:
        if asked.after is None:
            continue
        question = visible(asked.probe.prompt)
        question.stylize("bold")
        console.print("", question, sep="\n", soft_wrap=not console.is_terminal)
        say(console, asked.after.text)
    console.print()


let_help_flow(app)
