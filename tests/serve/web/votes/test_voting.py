"""Votes by way of the page's routes: who may, on what, and what stands in the store then."""

from __future__ import annotations

import httpx

from ...conftest import VERSION
from ..conftest import Site
from .voters import NEW, ballot, next_round, try_out


def votes(site: Site) -> list[tuple[str, tuple]]:  # type: ignore[type-arg]
    snapshot = site.run(site.store.snapshot())
    return [(vote.verdict, vote.ranking) for vote in snapshot.votes]


def test_a_vote_stands_once_it_is_answered(site: Site) -> None:
    anna, ben = site.signed_in("Anna"), site.signed_in("Ben")
    shown = next_round(anna)
    assert {"versions", "version"}.isdisjoint(shown)
    assert VERSION.id not in str(shown)
    assert "<strong>Bread rises</strong>" in shown["answers"][0]["html"]
    given = ballot(shown, "left")
    for _ in range(2):  # the page tries again where it heard nothing
        assert anna.post("/api/votes", json=given).json() == {"noted": True}
    assert len(votes(site)) == 1
    ((verdict, (best, worst)),) = votes(site)
    assert (verdict, {best, worst}) == ("ranked", {0, 1})
    texts = _texts(site, shown["comparison"])
    assert texts[best] == shown["answers"][0]["text"]
    theirs = next_round(ben)
    assert theirs["id"] == shown["id"]
    assert next_round(anna)["id"] != shown["id"]


def test_an_answer_that_was_cut_is_told_and_nothing_else_of_it(site: Site) -> None:
    anna, ben = site.signed_in("Anna"), site.signed_in("Ben")
    whole = next_round(anna)
    assert [answer["cut"] for answer in whole["answers"]] == [False, False]
    site.engine.stop = "length"
    cut = next_round(ben, without=whole["id"])
    assert [answer["cut"] for answer in cut["answers"]] == [True, True]
    assert {key for answer in cut["answers"] for key in answer} == {"text", "html", "cut"}


def test_a_vote_is_somebodys_who_saw_it(site: Site) -> None:
    anna, ben = site.signed_in("Anna"), site.signed_in("Ben")
    given = ballot(next_round(anna))
    refused = ben.post("/api/votes", json=given)
    assert refused.status_code == 403
    assert "not shown to you" in refused.json()["error"]["message"]
    assert site.client_of_page().post("/api/votes", json=given).status_code == 401
    assert votes(site) == []


def test_a_vote_that_makes_no_sense_is_refused(site: Site) -> None:
    anna = site.signed_in("Anna")
    shown = next_round(anna)
    for wrong in (
        {"verdict": "best"},
        {"verdict": "ranked"},
        {"verdict": "ranked", "ranking": [0, 0]},
        {"verdict": "ranked", "ranking": [3]},
        {"verdict": "ranked", "ranking": [-1]},
        {"verdict": "ranked", "ranking": [[0], ["1"]]},
        {"id": "\0" * 10},
        {"id": "short"},
        {"comparison": "\ud800" * 10},
    ):
        reply = anna.post("/api/votes", content=_json(ballot(shown) | wrong))
        assert reply.status_code == 400, wrong
        assert reply.json()["error"]["message"]
    gone = ballot(shown) | {"comparison": "0" * 32, "ticket": "0" * 64}
    assert anna.post("/api/votes", json=gone).status_code == 403  # nothing is told of others'
    assert votes(site) == []


def test_what_was_erased_or_closed_meanwhile_is_told(site: Site) -> None:
    anna = site.signed_in("Anna")
    shown = next_round(anna)
    assert site.run(site.store.rounds.end(shown["id"], "closed"))
    closed = anna.post("/api/votes", json=ballot(shown))
    assert closed.status_code == 409
    assert "closed" in closed.json()["error"]["message"]
    account = site.run(site.store.accounts.all())[0]
    erased = {"comparison": "0" * 32, "ticket": site.store.seen.ticket("0" * 32, account.member_id)}
    gone = anna.post("/api/votes", json=ballot(shown) | erased)
    assert gone.status_code == 410
    assert "erased" in gone.json()["error"]["message"]


def test_a_candidate_meets_who_serves_and_who_wrote_which_stays_secret(site: Site) -> None:
    decision = try_out(site)
    anna, boss = site.signed_in("Anna"), site.signed_in("Boss", "operator")
    shown = next_round(anna)
    assert shown["decides"]
    anna.post("/api/votes", json=ballot(shown, "right")).raise_for_status()
    (mine,) = anna.get("/api/rounds/mine").json()
    assert mine["versions"] is None
    assert mine["ranking"] == [[1], [0]]  # as they saw it
    site.run(site.store.rounds.end(shown["id"], "closed"))
    assert anna.get("/api/rounds/mine").json()[0]["versions"] is None  # it is not decided yet
    boss.post("/api/versions/drop", json={"why": "no"}).raise_for_status()
    (mine,) = anna.get("/api/rounds/mine").json()
    assert sorted(mine["versions"]) == sorted([NEW.id, VERSION.id])
    (held,) = site.run(site.store.rounds.ballots(decision_id=decision.id))
    best = held.versions[held.votes[0].ranking[0]]  # type: ignore[index]
    assert mine["versions"][1] == best


def test_a_candidate_that_is_not_open_here_is_told(site: Site) -> None:
    try_out(site)
    site.run(site.asking.fleet.retire(NEW.id))
    anna = site.signed_in("Anna")
    reply = anna.get("/api/rounds/next")
    assert reply.status_code == 503
    assert reply.json()["error"]["message"] == "the models cannot answer now: try again soon"
    chat = anna.post("/api/chats", json={}).json()["id"]
    pair = anna.post(f"/api/chats/{chat}/pairs", json={"text": "Why?"})
    assert pair.status_code == 503
    assert NEW.id not in pair.text
    assert anna.get(f"/api/chats/{chat}").json()["messages"] == []  # and nothing was asked


def test_rankings_keep_equals(site: Site) -> None:
    anna = site.signed_in("Anna")
    shown = next_round(anna, answers=3)
    texts = [answer["text"] for answer in shown["answers"]]
    assert len(set(texts)) == 3
    given = ballot(shown, "ranked", ranking=[[2], [0, 1]])
    anna.post("/api/votes", json=given).raise_for_status()
    ((_, ranking),) = votes(site)
    stored = _texts(site, shown["comparison"])
    assert stored[ranking[0]] == texts[2]
    assert {stored[position] for position in ranking[1]} == set(texts[:2])
    for count in (0, 1, 6, 1000):
        assert anna.get("/api/rounds/next", params={"answers": count}).status_code == 400


def test_while_the_store_is_gone_a_vote_is_not_lost(site: Site) -> None:
    anna = site.signed_in("Anna")
    given = ballot(next_round(anna))
    store, site.app.state.store = site.store, None
    assert anna.post("/api/votes", json=given).status_code == 503
    assert anna.get("/api/rounds/next").status_code == 503
    site.app.state.store = store
    assert anna.post("/api/votes", json=given).status_code == 200
    assert len(votes(site)) == 1


def _texts(site: Site, comparison_id: str) -> list[str]:
    """The answers' texts as they stand in the store."""

    async def work() -> list[str]:
        found = await site.store.votes.comparison(comparison_id)
        assert found is not None
        messages = [await site.store.conversations.message(id) for id in found.candidates]
        return [message.text for message in messages if message]

    return site.run(work())


def _json(body: dict) -> bytes:
    """With half a surrogate pair in it, which httpx would refuse to send."""
    import json

    return json.dumps(body).encode()


def test_only_the_signed_in_see_rounds(site: Site) -> None:
    site.signed_in("Anna")
    for path in ("/api/rounds/next", "/api/rounds/mine"):
        assert httpx.get(f"{site.url}{path}").status_code == 401
