"""Logs: what happened, and no word of what anybody said."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.bot.operating.logs import (
    HIDDEN,
    EventLog,
    SafeFormatter,
    configure_logs,
    without_secrets,
)
from guildgpt.errors import EngineError

log = EventLog("guildgpt.bot.service")
OURS = logging.getLogger("guildgpt.bot.service")
THEIRS = logging.getLogger("discord.gateway")
SAID = "a secret that a member told"
TOKEN = "MTIzNDU2Nzg5MDEyMzQ1Njc4.GAAAAA.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
USER = 123456789012345678


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = [
        (logger, logger.level, logger.propagate, list(logger.handlers))
        for logger in map(logging.getLogger, ("guildgpt.bot", "discord"))
    ]
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


class Output(io.StringIO):
    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def out() -> Output:
    stream = Output()
    configure_logs("info", True, stream)
    return stream


def test_an_event_and_its_fields(out: Output) -> None:
    log(
        "answered",
        guild=USER,
        channel=7,
        delivery="a1-b2",
        seconds=0.123456,
        parts=2,
        ok=True,
    )
    (row,) = out.rows
    assert datetime.fromisoformat(str(row.pop("time"))).tzinfo is not None
    assert row == {
        "level": "info",
        "logger": "guildgpt.bot.service",
        "event": "answered",
        "guild": USER,
        "channel": 7,
        "delivery": "a1-b2",
        "seconds": 0.1235,
        "parts": 2,
        "ok": True,
    }


def test_readable_lines() -> None:
    stream = io.StringIO()
    configure_logs("info", False, stream)
    log("refused", level=logging.WARNING, guild=1, reason="the queue is full", stop=None)
    time, rest = stream.getvalue().split(" ", 1)
    assert datetime.fromisoformat(time)
    assert rest == (
        'warning guildgpt.bot.service refused guild=1 reason="the queue is full" stop=None\n'
    )


def test_text_names_and_users_are_hidden_whatever_the_field(out: Output) -> None:
    log(
        "asked",
        text=SAID,
        question=SAID,
        user=USER,
        user_id=5,
        member="ab12",
        name="newcomer",
    )
    log(SAID, version=SAID, kind="two words", delivery=["x"], model={"a": SAID})
    log("refused", reason=f"user {USER} with {TOKEN}")
    OURS.warning("member said %s in %d", SAID, 5)
    OURS.warning("%(text)s", {"text": SAID})
    OURS.warning({"text": SAID})  # type: ignore[arg-type]
    first, second, third, *rest = out.rows
    fields = ("text", "question", "user", "user_id", "member", "name")
    assert [first[key] for key in fields] == [HIDDEN] * 6
    assert [second[key] for key in ("event", "version", "kind", "delivery", "model")] == [
        HIDDEN
    ] * 5
    assert third["reason"] == f"user {HIDDEN} with {HIDDEN}"
    assert [row["event"] for row in rest] == [f"member said {HIDDEN} in 5", HIDDEN, HIDDEN]


def test_an_exception_is_known_by_its_type_and_place(out: Output) -> None:
    class Forbidden(Exception):
        status, code = 403, 50013

    try:
        raise Forbidden(SAID)
    except Forbidden as error:
        log("undeliverable", error=error)
        OURS.exception("it failed: %s", error)
        OURS.error("command failed", exc_info=error)
    try:
        try:
            raise EngineError("the engine died", remedy="Start it again.")
        except EngineError as error:
            raise RuntimeError(SAID) from error
    except RuntimeError:
        OURS.exception("wrapped")
    first, second, third, fourth = out.rows
    assert (first["error"], first["status"], first["code"]) == ("Forbidden", 403, 50013)
    assert second["event"] == f"it failed: {HIDDEN}"
    assert third["event"] == "command failed"
    assert "bot/test_logs.py:" in str(third["frames"])
    assert (fourth["raised_as"], fourth["error"]) == ("RuntimeError", "EngineError")
    assert fourth["what"] == "the engine died"
    assert SAID not in out.getvalue()


def test_of_discord_the_words_are_kept_and_the_values_are_not(out: Output) -> None:
    THEIRS.info("Shard ID %s has connected to Gateway (Session ID: %s).", 3, "d41d8cd9")
    THEIRS.warning("Attempting a reconnect in %.2fs", 1.5)
    THEIRS.warning("%d%% of %s", 50, SAID)
    THEIRS.warning("user %s", USER)
    THEIRS.debug("WebSocket Event: %s", SAID)
    logging.getLogger("discord.http").warning(
        "We are being rate limited. https://discord.com/api/v10/webhooks/1/aW50ZXJhY3Rpb24/messages/2"
    )
    assert [row["event"] for row in out.rows] == [
        f"Shard ID 3 has connected to Gateway (Session ID: {HIDDEN}).",
        "Attempting a reconnect in 1.50s",
        f"50% of {HIDDEN}",
        f"user {HIDDEN}",
        f"We are being rate limited. https://discord.com/api/v10/webhooks/{HIDDEN}/messages/2",
    ]


@pytest.mark.parametrize("level", ["debug", "DEBUG"])
def test_discord_is_never_heard_at_debug(level: str) -> None:
    stream = Output()
    configure_logs(level, True, stream)
    THEIRS.debug("For Shard ID %s: WebSocket Event: %s", 1, SAID)
    log("seen", level=logging.DEBUG)
    assert [row["event"] for row in stream.rows] == ["seen"]


def test_the_level_is_kept_and_setting_up_twice_writes_once(out: Output) -> None:
    later = Output()
    configure_logs("warning", True, later)
    log("quiet")
    log("loud", level=logging.ERROR)
    THEIRS.info("quiet")
    assert out.getvalue() == ""
    assert [row["event"] for row in later.rows] == ["loud"]


@given(
    st.text(st.characters(codec="utf-8"), min_size=2).filter(lambda text: len(text.split()) > 1),
    st.sampled_from(["text", "content", "version", "kind", "answer", "x", "delivery"]),
)
def test_no_sentence_gets_through(said: str, field: str) -> None:
    stream = Output()
    configure_logs("info", True, stream)
    log("event", **{field: said})
    OURS.error("failed: %s", said)
    try:
        raise ValueError(said)
    except ValueError:
        OURS.exception("failed")
    for row in stream.rows:
        row.pop("frames", None)
        assert not [value for value in row.values() if value == said]
    assert stream.rows[0][field] == HIDDEN
    assert stream.rows[1]["event"] == f"failed: {HIDDEN}"


def test_a_message_that_does_not_fit_its_values_is_written_all_the_same() -> None:
    record = logging.makeLogRecord({"msg": "too few %s %s", "args": (1,)})
    assert SafeFormatter(json=False).format(record).endswith(f"too few 1 {HIDDEN}")
    assert json.loads(SafeFormatter(json=True).format(record))["event"] == f"too few 1 {HIDDEN}"


def test_secrets_are_hidden_wherever_they_stand() -> None:
    assert without_secrets(f"Bot {TOKEN}.") == f"Bot {HIDDEN}."
    assert without_secrets("postgresql://bot:pass@host/db") == f"postgresql://{HIDDEN}@host/db"
    for scheme in ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"):
        for secret in ("S3cret@corp", "S3cret/corp#", "S3cret corp", "S3?@cret"):
            shown = without_secrets(f"no {scheme}://bot:{secret}@host/db here")
            assert shown == f"no {scheme}://{HIDDEN}@host/db here"
    assert without_secrets("/interactions/12/abc/callback") == f"/interactions/{HIDDEN}/callback"
    assert without_secrets("version 1.2.3 of guildgpt.bot.service") == (
        "version 1.2.3 of guildgpt.bot.service"
    )
