"""`guildgpt data preview`: examples as a model sees them, and every row checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guildgpt.errors import DataError, ModelError
from guildgpt.terminal import (
    SOURCES,
    Json,
    console_for,
    missing_for_training,
    needs_torch,
    print_json,
    raise_in_words_of_the_command,
    say,
    visible,
)

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.chat import ChatTemplate, Tokenizer
    from guildgpt.data import Loaded

BAD_SHOWN = 20  # rows that could not be read


def preview_data(
    command: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help=f"{SOURCES}.")],
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="Examples to show.")] = 3,
    base: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Whose tokenizer to use: a model folder, `starter`, a Hub id."
        ),
    ] = "starter",
    context: Annotated[
        int | None, typer.Option(min=32, help="Shorten rows as training would.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show examples with the trained tokens in colour, and check every row."""
    from dataclasses import asdict

    from guildgpt.data import SourceSpec, check_trainable, load

    console = console_for(as_json)
    result = {}
    # Rows before the tokenizer, which may need seconds: an error in them is reported at once.
    specs = [SourceSpec.parse(text) for text in sources]
    rows_of = {text: load(spec) for text, spec in zip(sources, specs, strict=True)}
    for text, loaded in rows_of.items():
        _refuse_useless(text, loaded)
    tokenizer, template = command.with_resource(_language(base, console))
    for text, loaded in rows_of.items():
        statistics = check_trainable(loaded.conversations, tokenizer, template, max_tokens=context)
        comparisons, tasks = len(loaded.comparisons), len(loaded.tasks)
        result[text] = {
            **asdict(statistics),
            "comparisons": comparisons,
            "tasks": tasks,
            "rated": rated(loaded),
            "skipped": dict(loaded.skipped),
            "not_read": dict(loaded.notes.unread),
            "other_columns": list(loaded.notes.others),
            "bad_rows": loaded.notes.bad,
            "licence": loaded.provenance.licence,
        }
        if not as_json:
            console.rule(visible(text), align="left")
            _show(loaded, console, tokenizer, template, str(statistics), count, context)
    if as_json:
        print_json(result)


def _show(
    loaded: Loaded,
    console: Console,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    statistics: str,
    count: int,
    context: int | None,
) -> None:
    """A source's first rows, how many there are, and what was left out."""
    from guildgpt.data import preview, preview_pairs

    notes, comparisons, tasks = loaded.notes, len(loaded.comparisons), len(loaded.tasks)
    if loaded.conversations:
        preview(loaded.conversations, tokenizer, template, console, count=count, max_tokens=context)
        say(console, "", statistics)
    if comparisons:
        if count:
            console.print()
            preview_pairs(loaded.comparisons, console, count=count)
        say(console, "", f"{comparisons:,} comparison{'s' * (comparisons != 1)}")
    if tasks:
        say(console, f"{tasks:,} task{'s' * (tasks != 1)} without an answer")
    if any(counts := rated(loaded).values()):
        good, bad = counts
        say(console, f"{good:,} rated good, {bad:,} rated bad, which only `kto` learns from")
    for reason, rows in loaded.skipped.most_common():
        first = f" (first: {notes.places[reason]})" if reason in notes.places else ""
        say(console, f"left out, {reason}: {rows:,}{first}")
    say(console, *loaded.warnings, *(f"  {line}" for line in notes.bad[:BAD_SHOWN]))
    if more := len(notes.bad[BAD_SHOWN:]):
        say(console, f"  … and {more:,} more, which --json shows, too")


def rated(loaded: Loaded) -> dict[str, int]:
    """How many of a source's answers somebody called good, and how many bad."""
    good = sum(row.rated for row in loaded.conversations)
    return {"good": good, "bad": len(loaded.rejected)}


@contextmanager
def _language(base: str, console: Console) -> Iterator[tuple[Tokenizer, ChatTemplate]]:
    """The tokenizer and the chat template of a model folder, or of whatever else training can start
    from.

    The core install alone reads a GGUF's by way of llama.cpp: the same ids, ten times as slow.
    """
    from guildgpt.chat import ChatTemplate, FileTokenizer

    if (Path(base) / "template.json").is_file():
        yield FileTokenizer(Path(base) / "tokenizer.json"), ChatTemplate.load(base)
    elif missing_for_training() and (base == "starter" or base.endswith(".gguf")):
        import asyncio
        from dataclasses import replace

        from guildgpt.model.locate import locate
        from guildgpt.talk.fleet import open_model

        opened = open_model(replace(locate(base), folder=None), context=512)
        try:
            yield opened.engine.tokenizer, opened.template
        finally:
            asyncio.run(opened.engine.close())
    else:
        needs_torch()
        from guildgpt.bases.base import load_tokenizer
        from guildgpt.bases.config import BaseConfig

        try:
            chat = load_tokenizer(BaseConfig(base=base))[0]
        except ModelError as error:
            raise_in_words_of_the_command(error)
        say(console, *chat.notices)
        yield chat.tokenizer, chat.template


def _refuse_useless(source: str, loaded: Loaded) -> None:
    """DataError for a source in which a row trains nothing or has rules that cannot be read, or
    which has no usable row."""
    from guildgpt.data.checking import check_constraints
    from guildgpt.rewards.wanted import Wanted

    for reason in ("no assistant turn", "empty conversation"):
        if reason in loaded.notes.places:
            count = loaded.skipped[reason]
            others = f"; there are {count:,} such rows" if count > 1 else ""
            raise DataError(
                f"nothing in this row is trained ({reason})",
                where=loaded.notes.places[reason],
                remedy=f"Mend or delete it{others}.",
            )
    for comparison in loaded.comparisons:
        check_constraints(comparison.source, comparison.answers[0].content)
    for task in loaded.tasks:
        Wanted.from_row(task.source.rules, str(task.source))
    if not (loaded.conversations or loaded.comparisons or loaded.tasks or loaded.rejected):
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in loaded.skipped.most_common())
        raise DataError(
            "there is no row to train on",
            where=source,
            remedy=f"All rows were left out ({reasons})." if reasons else "The file is empty.",
        )
