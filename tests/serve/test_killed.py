"""The server is killed while it writes: what it said is written, is."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from .releasing import within
from .test_command import running


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("database"))
    return f"sqlite:///{tmp_path / 'feedback.db'}"


def events(client: httpx.Client, url: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with client.stream("POST", url, json=body) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_no_acknowledged_vote_is_lost(starter: Path, store: str) -> None:
    acknowledged: list[str] = []
    with running(starter, "--store", store) as (process, url):
        site = url.removesuffix("/v1")
        with httpx.Client(base_url=site, headers={"Origin": site}, timeout=120) as client:
            chat = client.post("/api/chats", json={}).raise_for_status().json()["id"]
            asked = events(client, f"/api/chats/{chat}/questions", {"text": "Hi", "parent": None})
            [answer] = {event["id"] for event in asked if "version" in event}

            def votes(voter: int) -> None:
                number = 0
                while True:
                    reason = f"{voter} {number}"
                    body = {"value": 1, "reason": reason}
                    client.post(f"/api/messages/{answer}/rating", json=body).raise_for_status()
                    acknowledged.append(reason)
                    number += 1
                    if len(acknowledged) == 100:  # within whatever the others are at
                        process.send_signal(signal.SIGKILL)

            def until_killed(voter: int) -> None:
                with suppress(httpx.TransportError):
                    votes(voter)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(until_killed, range(8)))
    assert len(acknowledged) >= 100
    found = within(store, lambda opened: opened.snapshot())
    assert set(acknowledged) <= {one.reason for one in found.ratings}
    with running(starter, "--store", store) as (_, url):
        site = url.removesuffix("/v1")
        read = httpx.get(f"{site}/api/chats/{chat}", timeout=120).json()
        assert [one["role"] for one in read["messages"]] == ["user", "assistant"]
