"""What no page would send: ids and times that no row has, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import serving
from .conftest import Site
from .scripted import Scripted
from .test_chats import asked, path, started

NOBODYS = ("%00", "a%00b", "%F0%9F%92%A9", "x" * 3000, "'")
TOLD_APART = {"text": "a", "parent": "\0", "question": "\0", "title": "a", "value": 1} | {
    "licence": "CC0-1.0",
    "own": True,
    "state": "accepted",
}


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, scripted: Scripted, tmp_path: Path) -> Iterator[Site]:
    """A server over a store in either database."""
    there = request.param == "sqlite"
    store = f"sqlite:///{tmp_path / 'web.db'}" if there else request.getfixturevalue("database")
    with serving(scripted, store=store) as served:
        yield Site(**vars(served), engine=scripted)


@pytest.mark.parametrize("id", NOBODYS)
def test_an_id_that_no_row_has_is_not_there(kept: Site, id: str) -> None:
    with kept.signed_in("Olga", "operator") as olga:
        for method, place in (
            ("GET", f"chats/{id}"),
            ("PATCH", f"chats/{id}"),
            ("DELETE", f"chats/{id}"),
            ("GET", f"chats/{id}/export"),
            ("POST", f"chats/{id}/questions"),
            ("POST", f"chats/{id}/answers"),
            ("POST", f"chats/{id}/pairs"),
            ("POST", f"messages/{id}/rating"),
            ("POST", f"messages/{id}/correction"),
            ("DELETE", f"messages/{id}/correction"),
            ("DELETE", f"sessions/{id}"),
            ("POST", f"people/{id}/link"),
            ("POST", f"people/{id}/end"),
            ("DELETE", f"people/invitations/{id}"),
            ("POST", f"pool/{id}/judge"),
            ("POST", f"reports/{id}/resolve"),
            ("POST", f"corrections/{id}/review"),
        ):
            body = None if method == "GET" else TOLD_APART
            reply = olga.request(method, f"/api/{place}", json=body)
            assert reply.status_code in (404, 410), (method, place, reply.text)


def test_times_and_names_that_nothing_has(kept: Site) -> None:
    with kept.signed_in("Olga", "operator") as olga:
        chat = started(olga)
        asked(olga, chat, "a")
        for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            reply = olga.get("/api/chats", params={"before": at})
            assert reply.status_code == 400, reply.text
        for place in ("\0", "x"):
            assert len(path(olga, chat, place)) == 2
            assert olga.get("/api/reports", params={"older": place}).status_code in (200, 404)
            assert olga.get("/api/chats", params={"search": place}).status_code == 200
