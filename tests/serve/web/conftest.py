"""The page as people have it: a server over a scripted engine and a store, and a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    sync_playwright,
)

from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.feedback.records import AccountRole

from ..conftest import Served, serving
from .scripted import Scripted

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PHONE = {"width": 390, "height": 844}


@dataclass
class Site(Served):
    """A server with its page, and the engine behind it."""

    engine: Scripted = field(kw_only=True)

    def link(self, role: AccountRole = "voter", **more: Any) -> str:
        """A link that lets somebody in."""
        token = self.run(self.store.accounts.invite(role, **more))
        return f"{self.url}/join#{token}"

    def signed_in(self, name: str, role: AccountRole = "voter") -> httpx.Client:
        """A client as the page is one, signed in by a link."""
        token = self.link(role).partition("#")[2]
        coming = {"token": token, "name": name}
        joined = httpx.post(f"{self.url}/api/join", json=coming, headers={"Origin": self.url})
        client = self.client_of_page()
        client.cookies = joined.raise_for_status().cookies
        return client

    def client_of_page(self, **headers: str) -> httpx.Client:
        """A client that asks as the page does, signed in nowhere."""
        kind = {"Content-Type": "application/json", "Origin": self.url}
        return httpx.Client(base_url=self.url, headers=kind | headers, timeout=60)


@contextmanager
def site_over(engine: Scripted, folder: Path, **more: Any) -> Iterator[Site]:
    """A server over an engine, with a new store in a folder; `more` is of `serving`."""
    with serving(engine, store=f"sqlite:///{folder / 'web.db'}", **more) as served:
        yield Site(**vars(served), engine=engine)


@pytest.fixture
def scripted(engine: LlamaCppEngine) -> Scripted:
    """What answers: the starter's tokenizer, and the test's words."""
    return Scripted(engine.tokenizer)


@pytest.fixture
def site(scripted: Scripted, tmp_path: Path) -> Iterator[Site]:
    """A server on this machine, as `guildgpt serve` starts one."""
    with site_over(scripted, tmp_path) as there:
        yield there


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a file's tests. While it is open, no test of that file can be `async`."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    assert CHROMIUM, "no chromium, chromium-browser or google-chrome is installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Open]:
    """Opens a window, each in a browser of its own; `more` is playwright's. What its pages log as
    errors, what breaks their policy, and any dialog of the browser's fails the test."""
    contexts: list[BrowserContext] = []
    trouble: list[str] = []

    def open_(url: str, *, expects: tuple[str, ...] = (), **more: Any) -> Page:
        # Without motion: what is looked at half-way has colours of its own.
        context = chromium.new_context(**{"reduced_motion": "reduce"} | more)
        contexts.append(context)
        context.set_default_timeout(30_000)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI))"
        )
        page = context.new_page()

        def logged(message: ConsoleMessage) -> None:
            if message.type == "error" and not any(one in message.text for one in expects):
                trouble.append(message.text)

        def asked(dialog: Dialog) -> None:
            trouble.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("console", logged)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", asked)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert trouble == []
