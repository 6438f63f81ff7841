"""metrics.jsonl: a line for each step and each held-out measurement, and TensorBoard on request."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guildgpt.errors import GuildError


@dataclass
class MetricsLog:
    """Appends to metrics.jsonl, having dropped what was logged after step `keep_until`.

    A disk that is full does not end the training: the lines wait in memory, `warned` is told once,
    and each later write tries again. No line is ever left half-written by that.
    """

    path: Path
    keep_until: int
    warned: Callable[[str], None]
    tensorboard: bool = False

    def __post_init__(self) -> None:
        folder, first = self.path.parent / "tensorboard", self.keep_until + 1
        self.board = _board(folder, first) if self.tensorboard else None
        cut_log(self.path, self.keep_until)
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - see close
        self.size = self.path.stat().st_size
        self.waiting = b""
        self.has_warned = False

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it has a `step`, and a `source` if it is a held-out measurement."""
        self.waiting += json.dumps(row).encode() + b"\n"
        try:
            written = self.file.write(self.waiting)
            if written != len(self.waiting):
                raise OSError("only a part could be written")
        except OSError as error:
            self.file.truncate(self.size)
            if not self.has_warned:
                self.has_warned = True
                self.warned(
                    f"{self.path} cannot be written ({error.strerror or error}). Training goes "
                    "on, its figures wait in memory; make room before it ends."
                )
        else:
            self.size += len(self.waiting)
            self.waiting = b""
        if self.board is not None:
            prefix = f"held out/{row['source']}/" if "source" in row else "train/"
            for key, value in row.items():
                if key not in ("step", "source"):
                    self.board.add_scalar(prefix + key, value, row["step"])

    def close(self) -> None:
        """The files; no line is waited for."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; none where there is no file."""
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # a kill may leave half a line
                found.append(json.loads(line))
    return found


def cut_log(path: Path, step: int) -> None:
    """Drop the lines that were logged after step `step`: those steps are about to be run again."""
    if not path.exists():
        return
    kept = [
        json.dumps(row)
        for row in read_rows(path)
        if row["step"] <= step and (step or "source" not in row)
    ]
    work = path.with_suffix(".writing")
    work.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(work, path)


def _board(folder: Path, first_step: int) -> Any:
    """TensorBoard's writer, which hides what an interrupted run logged from `first_step` on."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise GuildError(
            "tensorboard is asked for and not installed",
            where="tensorboard",
            remedy="pip install tensorboard, or leave it out of the recipe.",
        ) from error
    return SummaryWriter(str(folder), purge_step=first_step)  # type: ignore[no-untyped-call]
