"""Coming by a link, leaving, and what is kept of a person."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from guildgpt.feedback.erasing.own_data import as_json
from guildgpt.serve.web import own

from .conftest import PHONE, Open, Site, site_over
from .scripted import Scripted
from .test_chat_page import accessible, ask, done


def come(site: Site, opened: Open, name: str, **more: object) -> Page:
    """A window of somebody who came by a link."""
    page = opened(site.link(), **more)
    page.get_by_label("What shall we call you?").fill(name)
    accessible(page)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{site.url}/")
    return page


def test_a_link_lets_one_in_once(site: Site, opened: Open) -> None:
    link = site.link(name="Anna")
    page = opened(link)
    assert page.get_by_label("What shall we call you?").input_value() == "Anna"
    assert page.url == f"{site.url}/join"  # the token is in no history
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{site.url}/")
    again = opened(link, expects=("404",))
    expect(again.locator("h1")).to_have_text("This link does not work")
    cookie = next(one for one in page.context.cookies() if one["name"] == "guildgpt_session")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"


def test_a_name_that_is_taken_can_be_another(site: Site, opened: Open) -> None:
    come(site, opened, "Anna")
    page = opened(site.link(), expects=("403",))
    field = page.get_by_label("What shall we call you?")
    field.fill("anna")
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_role("alert")).to_contain_text("is called anna already")
    field.fill("Ben")
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{site.url}/")


def test_sessions_are_seen_and_ended(site: Site, opened: Open) -> None:
    page = come(site, opened, "Anna")
    account = next(one for one in site.run(site.store.accounts.all()) if one.name == "Anna")
    token = site.run(site.store.accounts.invite("voter", account_id=account.id))
    other = opened(f"{site.url}/join#{token}")
    other.get_by_role("button", name="Sign in").click()
    other.wait_for_url(f"{site.url}/")
    page.goto(f"{site.url}/account")
    expect(page.locator("#devices li")).to_have_count(2)
    accessible(page)
    page.get_by_role("button", name="End the session").click()
    expect(page.locator("#devices li")).to_have_count(1)
    other.goto(f"{site.url}/account")
    other.wait_for_url(f"{site.url}/join?to=%2Faccount")
    page.get_by_role("button", name="Sign out here").click()
    expect(page.locator("h1")).to_have_text("You are signed out")


def test_everything_is_taken_along_and_erased(site: Site, opened: Open) -> None:
    page = come(site, opened, "Anna", viewport=PHONE)
    ask(page, "Is xylophonic a word?")
    done(page)
    page.goto(f"{site.url}/account")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all of it").click()
    assert "xylophonic" in download.value.path().read_text(encoding="utf-8")
    page.get_by_label("A model may learn").check()
    expect(page.get_by_text("Your choice is kept.")).to_be_visible()
    page.reload()
    expect(page.get_by_label("A model may learn")).to_be_checked()
    page.get_by_role("button", name="Erase everything of mine").click()
    page.get_by_label("Write your name").fill("Anna")
    accessible(page)
    page.get_by_role("dialog").get_by_role("button", name="Erase everything").click()
    expect(page.locator("h1")).to_have_text("Everything of yours is erased")
    assert site.run(site.store.snapshot()).messages == []


def test_nobody_waits_while_somebodys_data_is_written_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's loop goes on: another request is answered in the middle of it."""
    begun, answered = Event(), Event()

    def slow(kept: Mapping[str, Any]) -> bytes:
        begun.set()
        assert answered.wait(60)
        return as_json(kept)

    monkeypatch.setattr(own, "as_json", slow)
    anna = site.signed_in("Anna")
    with ThreadPoolExecutor(1) as aside:
        file = aside.submit(anna.get, "/api/me/data")
        assert begun.wait(60)
        assert httpx.get(f"{site.url}/healthz", timeout=60).status_code == 200
        answered.set()
        assert file.result().json()["accounts"][0]["name"] == "Anna"


def test_without_its_store_the_page_says_why(site: Site, opened: Open) -> None:
    store, site.app.state.store = site.store, None
    try:
        page = opened(site.url, expects=("503",))
        expect(page.locator("#join p")).to_contain_text("The store is not open")
    finally:
        site.app.state.store = store
    page.reload()
    page.wait_for_url(f"{site.url}/")  # where one is let in again by oneself


def test_the_operator_chooses_another_name(site: Site, opened: Open) -> None:
    page = opened(f"{site.url}/account", expects=("409",))
    site.signed_in("Anna")
    page.get_by_role("button", name="Choose another name").click()
    field = page.get_by_label("What shall we call you?")
    assert field.input_value() == "operator"
    accessible(page)
    field.fill("anna")
    page.get_by_role("button", name="Take this name").click()
    expect(page.get_by_role("alert")).to_contain_text("is called anna already")
    field.fill("Chief")
    page.get_by_role("button", name="Take this name").click()
    expect(page.locator("#name")).to_have_text("Chief")
    expect(page.locator("a.me")).to_have_text("Chief")
    expect(page.locator("#devices li")).to_contain_text("this machine")


def test_a_name_that_is_none_is_refused_in_words(site: Site) -> None:
    anna = site.signed_in("Anna")
    for name, said in ((" ", "letters"), ("x" * 61, "60 characters"), ("operator", "is called")):
        reply = anna.patch("/api/me", json={"name": name})
        assert (reply.status_code, reply.json()["error"]["param"]) == (409, "name")
        assert said in reply.json()["error"]["message"]
    assert anna.patch("/api/me", json={"name": "Ann"}).json()["name"] == "Ann"
    assert anna.get("/api/me/data").json()["accounts"][0]["name"] == "Ann"
    assert anna.post("/api/me/erase", json={"name": "Ann"}).status_code == 200


def test_a_slip_erases_nothing(site: Site) -> None:
    anna = site.signed_in("Anna")
    assert anna.post("/api/me/erase", json={"name": "Ann"}).status_code == 400
    assert anna.get("/api/me").json()["name"] == "Anna"


def test_a_voter_sees_no_page_of_the_operators(site: Site) -> None:
    anna = site.signed_in("Anna")
    refused = anna.get("/versions")
    assert refused.status_code == 403
    assert "the operator’s" in refused.text
    assert "/versions" not in anna.get("/account").text


def test_behind_https_the_cookie_goes_no_other_way(scripted: Scripted, tmp_path: Path) -> None:
    with site_over(scripted, tmp_path, keys={"anna": "key-of-anna-0123456789"}) as site:
        for scheme, is_secure in (("https", True), ("http", False)):
            headers = {"Origin": f"{scheme}://chat.example", "Host": "chat.example"}
            coming = {"token": site.link().partition("#")[2], "name": scheme}
            reply = httpx.post(f"{site.url}/api/join", json=coming, headers=headers)
            assert ("Secure" in reply.raise_for_status().headers["set-cookie"]) is is_secure
