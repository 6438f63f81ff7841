"""The front door: one short command for each stage of the story.

Nothing heavy is imported here; each command imports what it needs, so that `--help` is instant and
the runtime wing never meets torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt import __version__
from guildgpt.errors import GuildError

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.chat import FileTokenizer

app = typer.Typer(
    name="guildgpt",
    help="Build your own micro ChatGPT: an open base, open data, your people.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at training data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

SOURCES = "dolly, oasst1, oasst2, starter, dolly:PATH, oasst:PATH or jsonl:PATH"
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/starter.toml.")],
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage (may be repeated).")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value (TOML)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/NAME if not given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and count tokens, train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a model from a recipe. The same command resumes an interrupted run."""
    from guildgpt.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or ())
    console = _console(as_json)
    _needs_torch()
    if dry_run:
        from guildgpt.pipeline import dry_run as plan

        result = plan(loaded, console)
        if as_json:
            _print_json(result)
        return
    from guildgpt.evaluate.report import headline, summary_table
    from guildgpt.pipeline import run

    folder = out or Path("runs") / loaded.name
    stages: Any = stage
    report = run(loaded, recipe.read_text(encoding="utf-8"), folder, stages=stages, console=console)
    if as_json:
        _print_json(report.as_dict())
        return
    console.print(summary_table(report))
    _print_answers(report, console)
    for line in headline(report):
        console.print(line, highlight=False)
    console.print(f"\nThe report:       {folder / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"Talk to it:       {report.chat_command}", highlight=False, soft_wrap=True)


@app.command()
def chat(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model folder, a GGUF file or `starter`; the newest trained one if not given."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="Tell the model who it is.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 512,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat an answer.")] = None,
) -> None:
    """Talk to a model in the terminal."""
    from guildgpt.engines.engine import SamplingParams
    from guildgpt.repl import chat as talk

    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    talk(model, system=system, params=params)


@app.command("eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model folder, `starter`, a Hub id or a GGUF file.")
    ],
    data: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help=f"What to predict: {SOURCES}.")
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each source at most.")] = None,
    context: Annotated[int, typer.Option(min=32, help="Tokens of a conversation at most.")] = 1024,
    samples: Annotated[
        bool, typer.Option("--samples", help="Also sample answers to the fixed probes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure a model: bits per byte and perplexity on each source, and how it answers.

    A source that the model was trained on is measured on its held-out rows only.
    """
    _needs_torch()
    from guildgpt.evaluate.model import evaluate_model, show

    result = evaluate_model(
        model, [*(data or ()), *(more or ())], limit=limit, context=context, samples=samples
    )
    if as_json:
        _print_json(result)
    else:
        show(result, _console())


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    gguf: Annotated[
        list[str] | None, typer.Option(help="F16, Q8_0, Q4_1 or F32 (may be repeated).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model folder's GGUF files, for llama.cpp and whatever is built on it."""
    from guildgpt.model.gguf import write_gguf

    if not (model / "config.json").is_file():
        raise GuildError(
            "this is not a model folder",
            where=model,
            remedy="Model folders made by `guildgpt train` lie at runs/NAME/STAGE/model.",
        )
    console = _console(as_json)
    written = []
    for quantization in gguf or ["F16", "Q8_0", "Q4_1"]:
        path = write_gguf(model, model / f"model-{quantization}.gguf", quantization)
        written.append({"file": str(path), "bytes": path.stat().st_size})
        size = path.stat().st_size / 1e6
        console.print(f"{path} ({size:,.0f} MB)", highlight=False, soft_wrap=True)
    if as_json:
        _print_json(written)


@data_app.command("preview")
def preview_data(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE…", help=SOURCES)],
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="Examples to show.")] = 3,
    base: Annotated[
        str, typer.Option(help="Whose tokenizer to use: a model folder or `starter`.")
    ] = "starter",
    context: Annotated[
        int | None, typer.Option(min=32, help="Shorten rows as training would.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show examples with the trained tokens in colour, and check every row."""
    from dataclasses import asdict

    from guildgpt.chat import CHATML
    from guildgpt.data import SourceSpec, check_trainable, load, preview

    console = _console(as_json)
    result = {}
    tokenizer = _tokenizer(base)
    for text in sources:
        loaded = load(SourceSpec.parse(text))
        statistics = check_trainable(loaded.conversations, tokenizer, CHATML, max_tokens=context)
        result[text] = {
            **asdict(statistics),
            "comparisons": len(loaded.comparisons),
            "skipped": dict(loaded.skipped),
            "licence": loaded.provenance.licence,
        }
        if as_json:
            continue
        console.rule(text, align="left")
        preview(loaded.conversations, tokenizer, CHATML, console, count=count, max_tokens=context)
        console.print(f"\n{statistics}", highlight=False)
        if loaded.comparisons:
            console.print(f"{len(loaded.comparisons):,} comparisons", highlight=False)
        for reason, rows in loaded.skipped.most_common():
            console.print(f"left out, {reason}: {rows:,}", highlight=False)
    if as_json:
        _print_json(result)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run, and what is missing."""
    from guildgpt.doctor import examine, show

    findings = examine()
    if as_json:
        _print_json(findings)
    else:
        show(findings, _console())


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; problems a person can mend are printed without a traceback."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except GuildError as error:
        from rich.console import Console

        console = Console(stderr=True)
        where = f"{error.where}: " if error.where else ""
        console.print(f"[bold red]Error:[/] {_plain(where + error.what)}", soft_wrap=True)
        if error.remedy:
            console.print(_plain(error.remedy), soft_wrap=True, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where this one ended.", file=sys.stderr)
        sys.exit(130)


def _console(as_json: bool = False) -> Console:
    """Where people read: standard output, or standard error while that one carries JSON."""
    from rich.console import Console

    return Console(stderr=as_json)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _needs_torch() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if missing:
        raise GuildError(
            f"training needs {', '.join(missing)}, not installed here",
            remedy="pip install 'guildgpt[train]'",
        )


def _tokenizer(base: str) -> FileTokenizer:
    """The tokenizer of a model folder, or of whatever else training can start from."""
    from guildgpt.chat import FileTokenizer

    if (Path(base) / "template.json").is_file():
        return FileTokenizer(Path(base) / "tokenizer.json")
    _needs_torch()
    from guildgpt.model.base import load_tokenizer
    from guildgpt.model.config import BaseConfig

    return load_tokenizer(BaseConfig(base=base))[0].tokenizer


def _print_answers(report: Any, console: Console) -> None:
    """Three answers, so that the table is not all one sees."""
    for probe in report.probes[:3]:
        if probe.after is None:
            continue
        console.print(f"\n[bold]{_plain(probe.messages[-1].content)}[/]", soft_wrap=True)
        console.print(_plain(probe.after.text), highlight=False, soft_wrap=True)
    console.print()
