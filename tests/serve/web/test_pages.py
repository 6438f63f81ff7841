"""Pages and files: who sees which, and how closed they are."""

from __future__ import annotations

import re

import httpx
import pytest

from guildgpt.serve.web.pages import POLICY, STATIC
from guildgpt.serve.web.registry import PAGES

from .conftest import Open, Site

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


def test_a_name_is_shown_and_never_read_as_html(site: Site, opened: Open) -> None:
    name = '<img src=x onerror="alert(1)">"&{{page}}'
    page = opened(site.link())
    page.get_by_label("What shall we call you?").fill(name)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{site.url}/")
    assert page.locator("a.me").inner_text() == name
    assert page.locator("img").count() == 0
