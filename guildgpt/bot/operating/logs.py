"""Structured logs that hold no text of any message, no name and no user's id.

Our own lines are an event and its fields: numbers under any name but a person's, words only under
the few names in `WORDS` and `SENTENCES`. Of what discord.py logs its own words are kept and, of
what it puts into them, small numbers; for its debug lines show whole messages, and its addresses
hold secrets.
"""

from __future__ import annotations

import json as json_format
import logging
import re
import traceback
from datetime import UTC, datetime
from logging.config import dictConfig
from typing import Any, TextIO

from guildgpt.errors import GuildError

HIDDEN = "…"
# Fields whose values may be a word (of the program's own, or the id of one of its own rows) ...
WORDS = re.compile(
    "answer_id|command|comparison_id|delivery|engine|holder|kind|model|rule|signal|state|stop|task"
    "|verdict|version"
)
# ... and fields that may be a sentence; what is put there must be the program's own, too.
SENTENCES = re.compile("error|reason")
_PEOPLE = re.compile(r"user|member|author|speaker|name")
_WORD = re.compile(r"[A-Za-z0-9_.:/@+-]{1,100}")
_SECRET = re.compile(
    r"(?<![\w-])[\w-]{18,}\.[\w-]{6,}\.[\w-]{20,}"  # a bot's token
    r"|(?<=/webhooks/)\d+/[^/\s]+|(?<=/interactions/)\d+/[^/\s]+"
    # A password, percent-encoded or not: all up to the last @.
    r"|(?:(?<=postgres://)|(?<=postgresql://)|(?<=pg://)|(?<=psycopg2://)).*(?=@)"
    r"|(?<=://)[^/@\s]+(?=@)"  # that of another URL
)
_SNOWFLAKE = 10**15  # whole numbers from here on may be ids of people
_IDS = re.compile(r"\d{16,}")
_CONVERSION = re.compile(r"%(?:\([^)]*\))?[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]|%%")


class EventLog:
    """The log of a module below `guildgpt.bot`: `log = EventLog(__name__)`."""

    def __init__(self, name: str):
        self._logger = logging.getLogger(name)

    def __call__(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Log an event with its fields: `log("answered", guild=1, seconds=0.5)`.

        `error=` takes an exception: its type, and what is safe of it, are logged. What may not be
        logged is hidden, and nothing is raised.
        """
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})

    def unforeseen(self, what: str, error: BaseException) -> None:
        """Log an error that nobody has foreseen, and where it was raised."""
        self._logger.error(what, exc_info=error)


def configure_logs(level: str, json: bool, stream: TextIO) -> None:
    """Write the logs of the bot and of discord.py to `stream`: JSON lines or readable text.

    Calling it again replaces what an earlier call set. Of discord.py nothing below INFO is written.
    """
    level = level.upper()
    levels = {"guildgpt.bot": level, "discord": "INFO" if level == "DEBUG" else level}
    written = {"handlers": ["stream"], "propagate": False}
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"safe": {"()": SafeFormatter, "json": json}},
            "handlers": {
                "stream": {
                    "class": "logging.StreamHandler",
                    "stream": stream,
                    "formatter": "safe",
                }
            },
            "loggers": {name: {**written, "level": one} for name, one in levels.items()},
        }
    )


def without_secrets(text: str) -> str:
    """The text with tokens, interaction secrets and passwords in URLs hidden."""
    return _SECRET.sub(HIDDEN, text)


class SafeFormatter(logging.Formatter):
    """Writes what may be known of a record, and nothing else."""

    def __init__(self, *, json: bool):
        super().__init__()
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **safe_fields(record),
        }
        if self._json:
            return json_format.dumps(line, ensure_ascii=False)
        head = f"{line.pop('time')} {line.pop('level'):<7} {line.pop('logger')} {line.pop('event')}"
        return " ".join([head, *(f"{key}={_plain(value)}" for key, value in line.items())])


def safe_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The event and the fields of a record that may be seen."""
    fields = getattr(record, "fields", None)
    if isinstance(fields, dict):
        safe: dict[str, Any] = {"event": _word(record.msg)}
        for name, value in fields.items():
            safe |= _safe(name, value)
    else:
        safe = {"event": _foreign(record)}
    if record.exc_info and record.exc_info[1]:
        error = _root(record.exc_info[1])
        if error is not record.exc_info[1]:
            safe["raised_as"] = type(record.exc_info[1]).__name__
        safe |= _described(error) | {"frames": _frames(error)}
    return safe


def _safe(name: str, value: Any) -> dict[str, Any]:
    match value:
        case BaseException():
            return _described(value)
        case _ if _PEOPLE.search(name):
            return {name: HIDDEN}
        case None | bool() | int():
            return {name: value}
        case float():
            return {name: round(value, 4)}
        case str() if SENTENCES.fullmatch(name):
            return {name: _sentence(value)}
        case _:
            return {name: _word(value) if WORDS.fullmatch(name) else HIDDEN}


def _word(value: object) -> str:
    return without_secrets(value) if isinstance(value, str) and _WORD.fullmatch(value) else HIDDEN


def _sentence(text: str) -> str:
    hidden = _IDS.sub(HIDDEN, without_secrets(" ".join(text.split())))
    return hidden if len(hidden) <= 200 else hidden[:199] + "…"


def _foreign(record: logging.LogRecord) -> str:
    """The words of a message that is not ours; of its values only small numbers."""
    if not isinstance(record.msg, str):
        return HIDDEN
    if not record.args:
        return without_secrets(record.msg)
    values = list(record.args) if isinstance(record.args, tuple) else []

    def shown(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        value = values.pop(0) if values else None
        if isinstance(value, float):
            return f"{value:.2f}"
        return str(value) if isinstance(value, int) and abs(value) < _SNOWFLAKE else HIDDEN

    return without_secrets(_CONVERSION.sub(shown, record.msg))


def _described(error: BaseException) -> dict[str, Any]:
    """An exception's type, Discord's status and code, and the words of our own errors; those of
    others may quote a message."""
    described: dict[str, Any] = {"error": type(error).__name__}
    for name in ("status", "code", "errno"):
        if isinstance(value := getattr(error, name, None), int):
            described[name] = value
    if isinstance(error, GuildError):
        described["what"] = _sentence(error.what)
    return described


def _root(error: BaseException) -> BaseException:
    """The exception that began it, or the first of ours on the way there."""
    while not isinstance(error, GuildError):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            break
        error = cause
    return error


def _frames(error: BaseException) -> str:
    """Where it was raised, innermost last: files and lines, without the source's text."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    short = ("/".join(frame.filename.replace("\\", "/").split("/")[-2:]) for frame in frames)
    places = zip(short, frames, strict=True)
    return " > ".join(f"{name}:{frame.lineno}({frame.name})" for name, frame in places)


def _plain(value: object) -> str:
    text = str(value)
    return json_format.dumps(text, ensure_ascii=False) if " " in text else text
