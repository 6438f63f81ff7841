"""Other libraries' noise: kept from the person's terminal, their errors cut to a line."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars, notes and warnings from the person's terminal."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        # The bar of the GGUF reader knows no switch; it draws on standard error.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What an error says, in short; its kind where it says nothing, or a mere key. A line that
    announces the next is followed by that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return f"{type(error).__name__} {lines[0]}" if lines else type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
