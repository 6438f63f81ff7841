"""A server that is killed between one vote and the next, and the votes that it had acknowledged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx

from guildgpt.feedback.records import Vote
from guildgpt.feedback.store import Store

from ...conftest import STORE_KEY
from .voters import ballot, next_round

TESTS = Path(__file__).parents[3]


@contextmanager
def server(folder: Path, invite: str = "") -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server over the store in a folder, where it is, and a link's token."""
    command = [sys.executable, "-m", "serve.web.votes.killed", str(folder), invite or "again"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=TESTS, text=True, **pipes)  # type: ignore[call-overload]
    try:
        url, _, token = process.stdout.readline().strip().partition(" ")
        yield process, url, token
    finally:
        process.kill()
        process.communicate()


def page(url: str, cookies: httpx.Cookies | None = None) -> httpx.Client:
    """A client as the page is one."""
    kind = {"Content-Type": "application/json", "Origin": url}
    return httpx.Client(base_url=url, headers=kind, cookies=cookies, timeout=60)


async def test_no_vote_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    noted: list[str] = []
    waiting: list[dict[str, object]] = []
    with server(tmp_path, "invite") as (process, url, token):
        anna = page(url)
        anna.post("/api/join", json={"token": token, "name": "Anna"}).raise_for_status()
        shown = next_round(anna)
        try:
            while True:
                if len(noted) == 20:
                    Thread(target=process.kill).start()  # while the next ones are on their way
                waiting.append(ballot(shown, ["left", "right"][len(noted) % 2]))
                anna.post("/api/votes", json=waiting[0]).raise_for_status()
                noted.append(str(waiting.pop()["id"]))
        except httpx.HTTPError:
            pass
    assert noted
    before = await votes(tmp_path)
    assert len(before) in (len(noted), len(noted) + 1)  # the last may have been written, unheard
    with server(tmp_path) as (_, url, _):  # the page sends again what it heard nothing of
        again = page(url, anna.cookies)
        again.headers["Origin"] = url
        again.cookies.set("guildgpt_session", anna.cookies["guildgpt_session"])
        again.post("/api/votes", json=waiting[0]).raise_for_status()
    assert len(await votes(tmp_path)) == len(noted) + 1


async def votes(folder: Path) -> list[Vote]:
    """What stands in the store."""
    async with await Store.open(f"sqlite:///{folder / 'web.db'}", key=STORE_KEY) as store:
        return (await store.snapshot()).votes
