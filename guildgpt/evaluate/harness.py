"""`guildgpt eval MODEL --harness TASK`: tasks of lm-evaluation-harness, by our own model."""

from __future__ import annotations

import difflib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from guildgpt.errors import GuildError
from guildgpt.evaluate.intervals import Z, wilson
from guildgpt.evaluate.opening import open_model
from guildgpt.network.world import World
from guildgpt.terminal import say, visible
from guildgpt.text.figures import decimals

SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match", "em")  # metrics that are shares of rows


def needs_harness() -> None:
    """GuildError, with the command that helps, where the harness is not installed."""
    if find_spec("lm_eval") is None:
        raise GuildError(
            "lm-evaluation-harness is not installed here",
            where="--harness",
            remedy="pip install 'guildgpt[train,harness]'",
        )


def evaluate_tasks(
    model: str,
    tasks: Sequence[str],
    world: World,
    *,
    include: Path | None = None,
    chat: bool = False,
    shots: int | None = None,
    limit: int | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What `guildgpt eval --harness` reports, as plain values.

    `tasks` are names of tasks, groups or tags, or patterns of them; `include` is a folder with the
    YAML of more. With `chat`, questions are asked by the model's own template, examples as turns.
    GuildError for a task that is not there, and for one whose data cannot be had.
    """
    needs_harness()
    on_progress("looking for the tasks")
    with _hushed():
        from lm_eval import evaluator
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(include) if include else None)
    names = _known(manager, tasks, include)
    on_progress("loading the model")
    opened = open_model(model, world, chat=chat)
    from guildgpt.evaluate.harness_model import HarnessModel

    lm = HarnessModel(
        opened, lambda what, done, total: on_progress(f"{what}: {done:,} of {total:,}")
    )
    on_progress("reading the tasks")
    with _hushed(), _without_the_machine(evaluator), _in_words(names):
        found = evaluator.simple_evaluate(
            lm,
            tasks=names,
            task_manager=manager,
            num_fewshot=shots,
            limit=limit,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            log_samples=False,
        )
    assert found is not None  # there is one process
    groups = found.get("groups", {})
    notes = [f"{lm.cut:,} texts were longer than the model holds, and lost their beginning"]
    ignored = ", ".join(sorted(lm.ignored))
    return {
        "model": model,
        "chat": chat,
        "lm_eval": version("lm_eval"),
        "tasks": {name: _task(name, found) for name in found["results"] if name not in groups},
        "groups": {
            name: _task(name, found) | {"tasks": found["group_subtasks"].get(name, [])}
            for name in groups
        },
        "notes": notes * bool(lm.cut)
        + [f"not applied, since our sampler does not know it: {ignored}"] * bool(ignored),
    }


def show_tasks(result: Mapping[str, Any], console: Console) -> None:
    """`evaluate_tasks`' figures as a table: groups first, then every task."""
    asked = "asked as a chat" if result["chat"] else "continuing plain text"
    table = Table(
        "task",
        *(Column(heading, justify="right") for heading in ("rows", "shots")),
        "metric",
        *(Column(heading, justify="right") for heading in ("value", "stderr", "95% interval")),
        title=visible(f"{result['model']}, {asked}"),
        title_justify="left",
    )
    for kind in ("groups", "tasks"):
        for one in result[kind].values():
            first = visible(one["alias"]), f"{one['rows']:,}", decimals(one["shots"], 0)
            for metric in one["metrics"]:
                table.add_row(*first, metric["shown"], *_figures(metric))
                first = visible(""), "", ""
        table.add_section()
    console.print(table)
    say(console, *result["notes"])


def _figures(metric: Mapping[str, Any]) -> tuple[str, str, str]:
    between = ""
    if metric["low"] is not None:
        between = f"{decimals(metric['low'], 4)} to {decimals(metric['high'], 4)}"
    large = abs(metric["value"]) >= 1000  # a perplexity
    return decimals(metric["value"], 1 if large else 4), decimals(metric["stderr"], 4), between


def _task(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """A task's or group's figures. Keys of the harness are `metric,filter`."""
    row: Mapping[str, Any] = {
        **found["results"].get(name, {}),
        **found.get("groups", {}).get(name, {}),
    }
    better = found["higher_is_better"].get(name, {})
    metrics = []
    for key, value in row.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = row.get(f"{metric}_stderr,{filtered}")
        error = error if isinstance(error, int | float) else None
        rows = int(row.get("sample_count", {}).get(key) or row.get("sample_len", 0))
        low, high = _between(metric, float(value), error, rows)
        metrics.append(
            {
                "metric": metric,
                "filter": filtered,
                "shown": metric if filtered == "none" else f"{metric} ({filtered})",
                "value": float(value),
                "stderr": error,
                "low": low,
                "high": high,
                "higher_is_better": better.get(metric),
            }
        )
    return {
        "alias": str(row.get("alias", name)),
        "rows": int(row.get("sample_len", 0)),
        "shots": found["n-shot"].get(name),
        "version": found["versions"].get(name),
        "metrics": metrics,
    }


def _between(
    metric: str, value: float, error: float | None, rows: int
) -> tuple[float | None, float | None]:
    """The 95 % interval of a metric: of a share Wilson's, since its standard error is 0 where all
    rows are right or none is; of another one, as far as its standard error reaches."""
    if metric in SHARES and rows and 0 <= value <= 1:
        return wilson(value, rows)
    return (None, None) if error is None else (value - Z * error, value + Z * error)


def _known(manager: Any, tasks: Sequence[str], include: Path | None) -> list[str]:
    """The names that the words on the command line stand for; GuildError where one stands for
    none."""
    if include is not None and not include.is_dir():
        raise GuildError("there is no such folder", where=f"--include {include}")
    names: list[str] = []
    for word in tasks:
        found = manager.match_tasks([word])
        if not found:
            near = difflib.get_close_matches(word, manager.all_tasks, n=3)
            raise GuildError(
                f"there is no task `{word}`",
                where="--harness",
                remedy=(f"Did you mean {' or '.join(near)}? " if near else "")
                + "Tasks of your own lie as YAML in the folder that --include names; "
                "`lm-eval ls tasks` lists all others.",
            )
        names += [name for name in found if name not in names]
    return names


@contextmanager
def _hushed() -> Iterator[None]:
    """The harness's and its libraries' own lines and bars kept from the terminal."""
    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def _without_the_machine(evaluator: Any) -> Iterator[None]:
    """Spare the harness to ask pip, git and the hardware what machine this is: it takes seconds,
    git complains on the terminal, and the result is not shown."""
    asked = ("get_git_commit_hash", "add_env_info")
    own = {name: getattr(evaluator, name) for name in asked if hasattr(evaluator, name)}
    for name in own:
        setattr(evaluator, name, lambda *_: None)
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(evaluator, name, function)


@contextmanager
def _in_words(tasks: Sequence[str]) -> Iterator[None]:
    """What the harness and its libraries raise on a task, as an error that a person can read."""
    try:
        yield
    except GuildError:
        raise
    except Exception as error:  # datasets, jinja2 and the tasks' own code have many kinds
        said = str(error).strip().partition("\n")[0]
        raise GuildError(
            f"the harness failed ({type(error).__name__}: {said})",
            where=", ".join(tasks),
            remedy="The data of most tasks is fetched from the Hub when it is first used. Tasks "
            "of your own, with local data (`dataset_path: json`), lie in the folder that "
            "--include names. Tasks that run code of the model's are run by --code, confined.",
        ) from error
