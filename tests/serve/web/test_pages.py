"""Pages and files: who sees which, and how closed they are."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from guildgpt.feedback.records import Session
from guildgpt.feedback.storage.schema import sessions
from guildgpt.serve.web.pages import POLICY, STATIC
from guildgpt.serve.web.registry import PAGES

from .conftest import Open, Site, site_over
from .scripted import Scripted

CLOSED = ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'")


def test_every_page_and_file_is_closed_to_others(site: Site) -> None:
    paths = [page.path for page in PAGES]
    paths += [f"/static/{file.name}" for file in STATIC.iterdir() if file.suffix != ".html"]
    for path in paths:
        reply = httpx.get(f"{site.url}{path}")
        assert reply.status_code == 200, path
        assert all(part in reply.headers["content-security-policy"] for part in CLOSED)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        again = httpx.get(f"{site.url}{path}", headers={"If-None-Match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert "unsafe" not in POLICY


def test_a_page_has_its_window_for_itself_where_browsers_heed_that(
    scripted: Scripted, tmp_path: Path
) -> None:
    with site_over(scripted, tmp_path, keys={"anna": "key-of-anna-0123456789"}) as site:
        for host, scheme, heeded in (
            ("127.0.0.1:8000", "http", True),
            ("localhost", "http", True),
            ("guild.example", "https", True),
            ("192.168.1.20:8000", "http", False),
            ("guild.example", "http", False),
        ):
            told = {"Host": host, "X-Forwarded-Proto": scheme}
            reply = httpx.get(f"{site.url}/join", headers=told).raise_for_status()
            assert ("cross-origin-opener-policy" in reply.headers) is heeded, (host, scheme)


@pytest.mark.parametrize("path", ["shell.html", "nothing.js", "..%2fpages.py", "%2e%2e/who.py"])
def test_nothing_else_is_handed_out(site: Site, path: str) -> None:
    assert httpx.get(f"{site.url}/static/{path}").status_code == 404


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("keys", [False, True], ids=["without keys", "with keys"])
@pytest.mark.parametrize("how", [{}, {"X-Forwarded-For": "1.2.3.4"}], ids=["here", "by a proxy"])
def test_an_address_that_is_wrong_is_told_to_people_in_words(
    site: Site, keys: bool, how: dict[str, str]
) -> None:
    if keys:
        site.run(site.store.keys.add("lab"))
    lost = httpx.get(f"{site.url}/nothing", headers=BROWSER | how)
    assert lost.status_code == 404
    assert lost.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in lost.headers["content-security-policy"]
    assert "<h1>Nothing is here</h1>" in lost.text
    assert 'href="/"' in lost.text
    strange = httpx.get(f"{site.url}/nothing", headers=BROWSER | {"Host": "evil.example"})
    assert keys or strange.json()["error"]["code"] == "host"


def test_programs_are_told_in_json_that_nothing_is_there(site: Site) -> None:
    missing = httpx.get(f"{site.url}/nothing")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert httpx.post(f"{site.url}/nothing", headers=BROWSER).json()["error"]
    for path in ("/api/nothing", "/v1/nothing", "/static/nothing.js"):
        assert httpx.get(f"{site.url}{path}", headers=BROWSER).json()["error"], path


def test_where_keys_are_asked_for_what_is_there_stays_closed(site: Site) -> None:
    site.run(site.store.keys.add("lab"))
    assert httpx.get(f"{site.url}/nothing").status_code == 401
    for path in ("/v1/models", "/metrics", "/openapi.json"):
        assert httpx.get(f"{site.url}{path}", headers=BROWSER).status_code == 401, path


def test_at_the_machine_itself_one_is_the_operator(site: Site) -> None:
    me = httpx.get(f"{site.url}/api/me").json()
    assert (me["name"], me["role"]) == ("operator", "operator")


@pytest.mark.parametrize(
    ("path", "marked"), [("/", ["Chat"]), ("/versions", ["Manage"]), ("/people", ["Manage"])]
)
def test_the_menu_says_where_one_is(site: Site, path: str, marked: list[str]) -> None:
    page = httpx.get(f"{site.url}{path}").text
    assert re.findall(r'<a href="[^"]+" aria-current="\w+">([^<]+)</a>', page) == marked


def test_a_page_is_headed_as_the_menu_calls_it(site: Site) -> None:
    for page in PAGES:
        if page.in_menu and page.seen_by != "operator":
            shown = httpx.get(f"{site.url}{page.path}").text
            (head,) = re.findall(r"<h1[^>]*>([^<]+)</h1>", shown)
            assert head == page.in_menu


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
def test_who_comes_by_a_proxy_is_not_at_the_machine(site: Site, header: str) -> None:
    assert httpx.get(f"{site.url}/api/me", headers={header: "1.2.3.4"}).status_code == 401


def test_once_somebody_was_let_in_everybody_signs_in(site: Site) -> None:
    anna = site.signed_in("Anna")
    assert anna.get("/api/me").json()["name"] == "Anna"
    assert httpx.get(f"{site.url}/api/me").status_code == 401
    led = httpx.get(f"{site.url}/account")
    assert (led.status_code, led.headers["location"]) == (303, "/join?to=%2Faccount")


def begun(site: Site) -> list[Session]:
    """The sessions of the operator at the machine."""
    return site.run(site.store.accounts.sessions(site.run(site.store.accounts.local()).id))


def test_the_operator_at_the_machine_stays_signed_in(site: Site) -> None:
    browser = site.client_of_page(Accept="text/html,*/*")
    for path in ("/", "/versions", "/people", "/static/chat.js", "/join"):
        assert browser.get(path).status_code == 200
    [one] = begun(site)
    assert one.device == "this machine"
    [told] = browser.get("/api/sessions").json()
    assert (told["id"], told["here"]) == (one.id, True)
    site.signed_in("Anna")
    assert browser.get("/api/me").json()["name"] == "operator"
    assert browser.get("/people").status_code == 200
    assert httpx.get(f"{site.url}/api/me").status_code == 401
    assert browser.post("/api/leave", json={}).status_code == 200
    assert browser.get("/api/me").status_code == 401
    assert begun(site) == []


def test_who_signs_out_alone_at_the_machine_comes_back(site: Site) -> None:
    browser = site.client_of_page(Accept="text/html,*/*")
    browser.get("/")
    [before] = begun(site)
    browser.post("/api/leave", json={})
    assert (begun(site), dict(browser.cookies)) == ([], {})
    browser.get("/")
    [after] = begun(site)
    assert after.id != before.id


def test_the_operator_at_the_machine_has_everything_erased(site: Site) -> None:
    browser = site.client_of_page(Accept="text/html,*/*")
    browser.get("/")
    (session,) = browser.get("/api/me/data").json()["sessions"]
    assert session["device"] == "this machine"
    browser.post("/api/me/erase", json={"name": "operator"}).raise_for_status()
    assert dict(browser.cookies) == {}
    assert site.run(site.store.accounts.all()) == []
    assert site.run(site.store.database.rows(select(sessions))) == []
    assert browser.get("/").status_code == 200  # whoever comes is the operator again
    assert len(begun(site)) == 1


def test_only_a_browser_at_the_machine_gets_a_session(site: Site) -> None:
    html = {"Accept": "text/html"}
    for path, headers in (
        ("/", {}),  # a program
        ("/", html | {"X-Forwarded-For": "1.2.3.4"}),
        ("/v1/models", html),
        ("/api/me", html),
        ("/join", html),
    ):
        reply = httpx.get(f"{site.url}{path}", headers=headers)
        assert "set-cookie" not in reply.headers, path
    site.run(site.store.accounts.local())
    assert begun(site) == []


def test_a_browser_that_keeps_no_cookie_fills_no_store(site: Site) -> None:
    for _ in range(25):
        httpx.get(site.url, headers={"Accept": "text/html"}).raise_for_status()
    assert len(begun(site)) == 20


def test_servers_on_one_machine_leave_each_other_signed_in(site: Site) -> None:
    """Browsers send a cookie to every port."""
    other = {"guildgpt_session": "of another server", "guildgpt_here_1": "of a third one"}
    browser = httpx.Client(base_url=site.url, headers={"Accept": "text/html"}, cookies=other)
    browser.get("/")
    browser.get("/")
    assert len(begun(site)) == 1
    assert other.items() <= dict(browser.cookies).items()


def test_a_name_is_shown_and_never_read_as_html(site: Site, opened: Open) -> None:
    name = '<img src=x onerror="alert(1)">"&{{page}}'
    page = opened(site.link())
    page.get_by_label("What shall we call you?").fill(name)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{site.url}/")
    assert page.locator("a.me").inner_text() == name
    assert page.locator("img").count() == 0
