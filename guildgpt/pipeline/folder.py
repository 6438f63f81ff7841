"""A run's folder: whose it is, what is finished in it, and how long that took.

runs/NAME/
  .lock, .lock.json        held by the one process that is at work here, and which that is
  recipe.json, data.json   what the run belongs to: another recipe or other data is refused
  error.txt                the error that stopped the run last, if nobody foresaw it
  phases.json              seconds spent in each phase, all interruptions together
  STAGE/                   one for each stage
    inputs.json            the base and other models it starts from: changed ones are refused
    before.json            the figures of what the stage starts from
    checkpoints/           what an interrupted training goes on from
    stopped.json           the step at which its loss was no number, if it ever was
    metrics.jsonl          every step's figures
    tracking.json          under which name a tracker was told them, with `--track`
    policy.safetensors     a trained policy's adapter, until it is held against what it came from
    model/                 the model folder
    done.json              training is over and the model folder stands
    after.json             the model's own figures
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from guildgpt.errors import DataError, GuildError
from guildgpt.report.report import REPORT_JSON, Phase, Report, read_report
from guildgpt.train.loop import Outcome

T = TypeVar("T")

DONE = "done.json"
ADAPTER = "policy.safetensors"
STOPPED = "stopped.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, over the quota, file too large
BEAT = 5.0  # seconds between two notes of the time: what a kill may cost the sum


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder for as long as this one works in it.

    GuildError if one is there already, or if the folder cannot be made. The system lets go of the
    lock when the process ends, even by `kill -9`: nobody ever has to delete a file.
    """
    owner = folder / ".lock.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", blocking=False).acquire()
    except Timeout:
        raise _occupied(folder, read_json(owner)) from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise GuildError(
            f"the run's folder cannot be made or written to ({error.strerror})",
            where=folder,
            remedy="Give --out a folder of your own, or correct this one's name or permissions.",
        ) from error
    with lock:
        write_json(owner, {"process": os.getpid(), "host": socket.gethostname()})
        yield


def _occupied(folder: Path, owner: Any) -> GuildError:
    who = "process {process} on {host}".format(**owner) if owner else "a process that just started"
    return GuildError(
        f"another run is at work in this folder: {who}",
        where=folder,
        remedy="Wait until it ends, or stop it with Ctrl-C; the same command then goes on from its "
        "last checkpoint. To train beside it, give --out another folder.",
    )


def write_outcome(place: Path, outcome: Outcome) -> None:
    """Note that the stage is trained and its model folder stands."""
    keep(place / DONE, Outcome, replace(outcome, metrics=Path(outcome.metrics.name)))


def read_outcome(place: Path) -> Outcome | None:
    """What `write_outcome` noted, if it did and the model folder is still there."""
    outcome = kept(place / DONE, Outcome)
    if outcome is None or not (place / "model").is_dir():
        return None
    return replace(outcome, metrics=place / outcome.metrics)


def finished(place: Path) -> Report | None:
    """A stage's report, if the stage is over and done with."""
    if read_outcome(place) is None:
        return None
    with suppress(DataError):
        return read_report(place / "model")
    return None


class Clock:
    """Seconds of each phase, summed over interruptions, those by `kill -9` too."""

    def __init__(self, file: Path, now: Callable[[], float] = time.monotonic):
        self.file = file
        self.now = now
        noted = read_record(file).items()
        self.seconds = {name: one for name, one in noted if isinstance(one, int | float)}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count what happens inside towards `phase`."""
        begun, before = self.now(), self.seconds.get(phase, 0.0)
        over = threading.Event()

        def note() -> None:
            self.seconds[phase] = before + self.now() - begun
            with suppress(OSError):  # a full disk is reported elsewhere
                write_json(self.file, self.seconds)

        def beat() -> None:
            while not over.wait(BEAT):
                note()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            note()

    def phases(self) -> tuple[Phase, ...]:
        """For the report."""
        return tuple(Phase(name, seconds) for name, seconds in self.seconds.items())


def write_json(file: Path, value: Any) -> None:
    """Write a small file so that it is there whole or not at all."""
    work = file.with_name(f".{file.name}.writing")
    work.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(work, file)


def read_json(file: Path) -> Any:
    """The file's value, or None where there is none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_record(file: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is none that can be read."""
    value = read_json(file)
    return value if isinstance(value, dict) else {}


def keep(file: Path, kind: type[T], record: T) -> None:
    """Write a record, so that `kept` reads it back."""
    write_json(file, TypeAdapter(kind).dump_python(record, mode="json"))


def kept(file: Path, kind: type[T]) -> T | None:
    """The record in a file, or None where there is none, or one of another version's."""
    with suppress(ValidationError):
        return TypeAdapter(kind).validate_python(read_json(file))
    return None


def once(file: Path, kind: type[T], measure: Callable[[], T]) -> T:
    """The record in a file, or the one that is measured now and kept there."""
    if (record := kept(file, kind)) is None:
        record = measure()
        keep(file, kind, record)
    return record


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that there is no more room to write."""
    while error is not None:
        named = re.search(r"\(os error (\d+)\)", str(error))  # safetensors' own errors
        number = error.errno if isinstance(error, OSError) else named and int(named[1])
        if number in FULL:
            return True
        error = error.__cause__
    return False


def checkpoints(place: Path) -> list[int]:
    """The steps at which a stage's checkpoints were written, the last one last."""
    names = (path.name.rpartition("-")[2] for path in place.glob("checkpoints/step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def is_trained(place: Path) -> bool:
    """Whether a stage has left anything that took training."""
    return any(any(place.glob(sign)) for sign in ("checkpoints/step-*", "model"))


def forget_measured(place: Path) -> None:
    """Remove a stage's measurements and its report, so that the next run makes them again. What
    compares a policy with its start stays: that needs the adapter, which is merged by now."""
    for file in ("before.json", "after.json", f"model/{REPORT_JSON}"):
        (place / file).unlink(missing_ok=True)
