"""What the tests of votes in a browser have in common: how one comes in, reads and votes."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from ..conftest import Open, Site

READ = 300  # milliseconds that a pair is looked at: keys that come before are no opinion


def come_in(opened: Open, site: Site, path: str, role: str = "voter", **more: Any) -> Page:
    """A page as somebody sees it who came by a link."""
    name = more.pop("name", "Anna")
    page = opened(site.link(role), **more)  # type: ignore[arg-type]
    page.get_by_label("What shall we call you?").fill(name)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{site.url}/")
    page.goto(f"{site.url}{path}")
    return page


def votes(site: Site) -> list[Any]:
    return site.run(site.store.snapshot()).votes


def until(page: Page, site: Site, count: int) -> list[Any]:
    """The votes in the store, once there are as many."""
    for _ in range(200):
        if len(votes(site)) >= count:
            break
        page.wait_for_timeout(25)
    assert len(votes(site)) == count
    return votes(site)


def answers(page: Page) -> list[str]:
    expect(page.locator(".answer .text")).to_have_count(2)
    return page.locator(".answer .text").all_inner_texts()


def press(page: Page, key: str) -> None:
    page.wait_for_timeout(READ)
    page.keyboard.press(key)


def texts_of(site: Site, comparison_id: str) -> list[str]:
    """The answers as they stand in the store, written as a browser shows them."""

    async def work() -> list[str]:
        found = await site.store.votes.comparison(comparison_id)
        assert found is not None
        messages = [await site.store.conversations.message(id) for id in found.candidates]
        return [message.text.replace("*", "") for message in messages if message]

    return site.run(work())


def text_of(site: Site, vote: Any, place: int) -> str:
    """The answer at a place of a vote."""
    return texts_of(site, vote.comparison_id)[vote.ranking[place]]
