"""An error that nobody foresaw, as one that a person can read: whose it is, what it says, and
where the whole of it is, for whoever mends it."""

from __future__ import annotations

import re
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from guildgpt.errors import GuildError

NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|bad_alloc")


def is_no_memory(error: Exception) -> bool:
    """Whether memory is full; torch's own error for a GPU is a RuntimeError."""
    known = isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(known)


def unforeseen(
    error: Exception, file: Path | None = None, *, at: str = "", kept: str = ""
) -> GuildError:
    """The error in words: one of the machine's with the file that it is about; of any other the
    traceback is written to `file`, or to one among the temporary files. `at` says what was
    stopped, `kept` what is not lost."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    where: str | None = None
    if isinstance(error, OSError):  # of the machine, whoever asked it
        said, where = error.strerror or said, error.filename2 or error.filename
        help = "Look at its name, its permissions and the disk, then give the same command again."
    else:
        said = f"{said or 'no reason is given'} ({type(error).__name__}, in {_whose(error)})"
        whole = _written("".join(traceback.format_exception(error)), file)
        help = (
            "If a file that was named is damaged, copy it again; if not, the fault is GuildGPT's: "
            f"please report it{f', with {whole}' if whole else ''}."
        )
    return GuildError(
        f"{f'{at}: ' if at else ''}{said or 'the machine gives no reason'}",
        where=where,
        remedy=f"{kept} {help}".strip(),
    )


def _whose(error: Exception) -> str:
    """The package in which an error was raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [str(frame.f_globals.get("__name__") or "") for frame in frames]
    return names[-1].partition(".")[0] if names and names[-1] else "an unknown place"


def _written(text: str, file: Path | None) -> Path | None:
    """The file that holds the text now, if one could be written."""
    with suppress(OSError, ValueError):
        if file is None:
            handle, name = tempfile.mkstemp(prefix="guildgpt-error-", suffix=".txt")
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as opened:
                opened.write(text)
            return Path(name)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
        return file
    return None
