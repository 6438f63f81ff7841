"""`guildgpt export` and `guildgpt push`: a model for other programs, and for other people."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError
from guildgpt.terminal import FLAG, Json, busy, console_for, needs_torch, print_json, say

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT = ("F16", "Q8_0", "Q4_1")
Folder = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A folder: one of ours, or of transformers.")
]


def export(
    model: Folder,
    gguf: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE",
            help="F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q4_K or Q4_1 (may be repeated); F16, Q8_0 and "
            "Q4_1 if nothing is asked for.",
        ),
    ] = None,
    ollama: Annotated[
        bool,
        typer.Option(
            "--ollama", metavar=FLAG, help="A Modelfile for Ollama, beside the GGUF it names."
        ),
    ] = False,
    adapter: Annotated[
        bool,
        typer.Option(
            "--adapter", metavar=FLAG, help="What training changed of the base, for peft."
        ),
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE",
            help="With --adapter: where the base lies, if not where it was: a folder or a Hub id.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model for llama.cpp, Ollama or peft."""
    from guildgpt.model.locate import refuse_run_folder

    if adapter:
        needs_torch()
    elif base is not None:
        raise GuildError(
            "--base says where an adapter's base lies, and no adapter was asked for",
            remedy="Add --adapter, or leave --base out.",
        )
    refuse_run_folder(model)
    if not (model / "config.json").is_file():
        alone = (model / "adapter_config.json").is_file()
        raise GuildError(
            "this is an adapter without its base" if alone else "this is not a model folder",
            where=model,
            remedy="Merge it into its base first (peft: `merge_and_unload`, `save_pretrained`)."
            if alone
            else "Model folders made by `guildgpt train` lie at runs/NAME/STAGE/model; another "
            "one holds a config.json, as transformers saves it.",
        )
    console = console_for(as_json)
    written: list[dict[str, Any]] = []
    if adapter:
        written.append(_adapter(model, base, console))
    if ollama:
        written += _ollama(model, gguf, console)
    elif gguf or not adapter:
        written += [_gguf(model, quantization, console) for quantization in gguf or DEFAULT]
    if as_json:
        print_json(written)


def _gguf(model: Path, quantization: str, console: Console) -> dict[str, Any]:
    from guildgpt.model.gguf import write_gguf

    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)  # what the file cannot say
        path = write_gguf(model, model / f"model-{quantization}.gguf", quantization)
    size = path.stat().st_size
    say(console, f"{path} ({size / 1e6:,.0f} MB)")
    for note in dict.fromkeys(str(n.message) for n in notes if n.category is UserWarning):
        console.print(f"  {note}", highlight=False, soft_wrap=True, markup=False)
    return {"file": str(path), "bytes": size}


def _ollama(model: Path, gguf: list[str] | None, console: Console) -> list[dict[str, Any]]:
    """The Modelfile and the GGUF that it names: one asked for, the one that is there, or Q8_0."""
    from guildgpt.model.locate import best_gguf
    from guildgpt.sharing.ollama import write_modelfile

    there = best_gguf(model)
    written = []
    if gguf or there is None:
        written = [_gguf(model, quantization, console) for quantization in gguf or ["Q8_0"]]
        there = Path(written[0]["file"])
    file, notes = write_modelfile(there)
    say(console, f"{file} (names {there.name})")
    say(console, *(f"  {note}" for note in notes))
    name = model.absolute()
    name = name.parent.parent if name.name == "model" else name
    say(console, "", f"Into Ollama:      ollama create {name.name.lower()} -f {file}")
    return [*written, {"file": str(file), "bytes": file.stat().st_size}]


def _adapter(model: Path, base: str | None, console: Console) -> dict[str, Any]:
    from guildgpt.sharing.adapter import write_adapter
    from guildgpt.sharing.card import adapter_card
    from guildgpt.sharing.origin import origin_of
    from guildgpt.text.figures import size

    what = "comparing the model with its base"
    with busy(console, what) as status:
        origin = origin_of(model, base)
        found = write_adapter(
            model,
            origin,
            card=lambda it: adapter_card(model, origin, it),
            on_compared=lambda done, all: status.update(f"{what}: {done:,} of {all:,} tensors …"),
        )
    total = sum(file.stat().st_size for file in found.folder.iterdir())
    say(console, f"{found.folder} ({size(total)})")
    rows = f", and {found.rows:,} rows of the vocabulary" if found.rows else ""
    say(
        console,
        f"  Rank {found.rank} on {found.matrices:,} matrices{rows}; it goes onto {origin.name}.",
    )
    if not found.exact:
        say(
            console,
            "  Between its stages, or in the end, the weights were rounded to 16 bits: base and "
            "adapter give the model's answers to that rounding. On the model before it (--base) "
            "its last stage alone may be exact.",
        )
    if origin.rounded:
        say(
            console,
            f"  The starter is that model in four bits. Exactly its weights lie in "
            f"{origin.folder}; on the one of the Hub the answers are a little different.",
        )
    return {
        "file": str(found.folder),
        "bytes": total,
        "base": origin.name,
        "rank": found.rank,
        "exact": found.exact,
        "rows": found.rows,
    }


def push(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model's folder, or an adapter's.")
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Its name on the Hub.")],
    public: Annotated[
        bool, typer.Option("--public", metavar=FLAG, help="For everybody to see; else private.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="To this branch, made if need be; main if not given."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The licence that it goes under (SPDX), where that is not known."
        ),
    ] = None,
    with_feedback: Annotated[
        bool,
        typer.Option(
            "--with-feedback",
            metavar=FLAG,
            help="Also a model that learned from your members: they agreed to it.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar=FLAG, help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Share a model on the Hub.

    It goes to huggingface.co, and is private unless told otherwise. What will be sent is shown
    first. Weights, tokenizer and template go, with a card that names
    sources and credits; report, samples, and the ids of votes and messages stay here. If the
    connection breaks off, the same command goes on.
    """
    import sys

    from guildgpt.sharing.push import push as send

    def ask(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise GuildError(
                "nobody is here to say yes: this is no terminal",
                remedy="Add --yes once what is sent, above, is what you want to send.",
            )
        return typer.confirm(question, err=True)

    console = console_for(as_json)
    done = send(
        model,
        repo,
        console,
        public=public,
        revision=revision,
        with_feedback=with_feedback,
        licence=licence,
        ask=ask,
    )
    if done is None:
        say(console, "Nothing was sent.")
        raise typer.Exit(1)
    if as_json:
        print_json(done)
    else:
        say(console, "", f"It is there:      {done['url']}")
