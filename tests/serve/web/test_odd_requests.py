"""Whatever is sent to the page's own API, it answers in words, and never with a failure of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from .conftest import Site
from .test_chats import CORRECTION, asked, started

ODD = ["", " ", "\x00", "\ud800", "x" * 5000, "../..", "%", "'; --", "0" * 36, "\u202e", "🦊"]
BODIES = [b"", b"{", b"[]", b"null", b'"x"', b"3", b"\xff", b'{"text": 3}', b'{"a": ' * 1000]
MOMENTS = ["x", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01", "1e99"]


@pytest.fixture
def anna(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("Anna") as client:
        yield client


def in_path(odd: str) -> str:
    return quote(odd.encode("utf-8", "surrogatepass"), safe="") or "x"


def test_odd_ids_are_of_nothing(anna: httpx.Client) -> None:
    own = started(anna)
    for odd in ODD:
        id = in_path(odd)
        for method, path, body in (
            ("GET", f"/chats/{id}", None),
            ("GET", f"/chats/{id}/export", None),
            ("PATCH", f"/chats/{id}", {"title": "x"}),
            ("DELETE", f"/chats/{id}", None),
            ("POST", f"/chats/{id}/questions", {"text": "x"}),
            ("POST", f"/chats/{own}/questions", {"text": "x", "parent": odd or "x"}),
            ("POST", f"/chats/{own}/answers", {"question": odd}),
            ("POST", f"/messages/{id}/rating", {"value": 1}),
            ("POST", f"/messages/{id}/correction", CORRECTION),
            ("DELETE", f"/sessions/{id}", None),
            ("POST", "/invitation", {"token": odd}),
            ("POST", "/join", {"token": odd, "name": odd}),
        ):
            reply = anna.request(method, f"/api{path}", content=body and json.dumps(body))
            assert 400 <= reply.status_code < 500, (method, path, reply.text)
            assert reply.json()["error"]["message"]
        assert anna.get(f"/api/chats/{own}?at={id}").status_code == 200
        assert anna.get(f"/api/chats?search={id}").status_code < 500


def test_odd_texts_are_kept_as_they_can_be(site: Site, anna: httpx.Client) -> None:
    chat = started(anna)
    half = anna.post(f"/api/chats/{chat}/questions", content=r'{"text": "\ud800"}')
    assert half.status_code == 400  # no letter has this code
    for odd in (one for one in ODD if one != "\ud800"):
        body = json.dumps({"text": f"{odd[:200]}?", "parent": None})
        anna.post(f"/api/chats/{chat}/questions", content=body).raise_for_status()
        named = anna.patch(f"/api/chats/{chat}", content=json.dumps({"title": f"{odd[:1000]}!"}))
        named.raise_for_status()
        answer = anna.get(f"/api/chats/{chat}").raise_for_status().json()["messages"][-1]["id"]
        rated = json.dumps({"value": -1, "reason": odd[:2000]})
        anna.post(f"/api/messages/{answer}/rating", content=rated).raise_for_status()
        offered = json.dumps(CORRECTION | {"text": f"{odd} Good day."})
        anna.post(f"/api/messages/{answer}/correction", content=offered).raise_for_status()
    assert asked(anna, chat, "Still there?")["end"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_odd_moments(anna: httpx.Client, moment: str) -> None:
    assert anna.get("/api/chats", params={"before": moment}).status_code in (200, 400)


@pytest.mark.parametrize("body", BODIES)
def test_odd_bodies(anna: httpx.Client, body: bytes) -> None:
    chat = started(anna)
    for method, path in (
        ("POST", f"/chats/{chat}/questions"),
        ("POST", f"/chats/{chat}/answers"),
        ("PATCH", f"/chats/{chat}"),
        ("PUT", "/me/choice"),
        ("POST", "/me/erase"),
        ("POST", "/join"),
        ("POST", "/invitation"),
        ("POST", "/messages/x/rating"),
    ):
        reply = anna.request(method, f"/api{path}", content=body)
        assert 400 <= reply.status_code < 500, (path, reply.text)


def test_odd_cookies_are_nobodys(site: Site, anna: httpx.Client) -> None:
    for odd in ("x", "x" * 5000, "%00", "é".encode("latin-1")):
        cookie = odd if isinstance(odd, bytes) else odd.encode()
        headers = {b"cookie": b"guildgpt_session=" + cookie}
        assert httpx.get(f"{site.url}/api/me", headers=headers).status_code == 401
        assert httpx.get(f"{site.url}/", headers=headers).status_code == 303
