"""Two answers to a question of a chat: blind, both kept, and put to the vote."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx

from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.exporting.view import Switches
from guildgpt.feedback.voting.late import late_votes

from ...conftest import VERSION
from ..conftest import Site
from .voters import NEW, ballot, try_out


def events(reply: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    assert reply.status_code == 200, reply.text
    found = []
    for event in reply.text.strip().split("\n\n"):
        name, _, data = event.partition("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def ask(client: httpx.Client, text: str = "Why does bread rise?", **more: Any) -> dict[str, Any]:
    """A pair, with the chat and the question that it is about, and what was streamed of both."""
    chat = more.pop("chat", None) or client.post("/api/chats", json={}).json()["id"]
    heard = events(client.post(f"/api/chats/{chat}/pairs", json={"text": text, **more}))
    assert heard[0][0] == "asked"
    name, pair = heard[-1]
    assert name == "pair"
    assert {one["place"] for name, one in heard if name == "end"} == {0, 1}
    return pair | {"chat": chat, "question": heard[0][1]["question"], "heard": heard}


def test_the_chosen_answer_goes_on(site: Site) -> None:
    anna = site.signed_in("Anna")
    pair = ask(anna)
    assert len(set(pair["answers"])) == 2
    anna.post("/api/votes", json=ballot(pair, "right")).raise_for_status()
    (vote,) = site.run(site.store.snapshot()).votes
    comparison = site.run(site.store.votes.comparison(pair["comparison"]))
    assert comparison is not None
    assert comparison.candidates[vote.ranking[0]] == pair["answers"][1]  # type: ignore[index]
    assert comparison.question_id == pair["question"]
    more = ask(anna, "And salt?", chat=pair["chat"], parent=pair["answers"][1])
    told = anna.get(f"/api/chats/{pair['chat']}", params={"at": more["answers"][0]}).json()
    ids = [one["id"] for one in told["messages"]]
    assert ids == [pair["question"], pair["answers"][1], more["question"], more["answers"][0]]
    assert set(told["messages"][1]["siblings"]) == set(pair["answers"])


def test_a_candidate_meets_who_serves_and_nothing_says_which_is_which(site: Site) -> None:
    try_out(site)
    anna = site.signed_in("Anna")
    pair = ask(anna)
    said = json.dumps(pair["heard"])
    assert NEW.id not in said
    assert VERSION.id not in said
    wrote = {
        message.version_id
        for message in site.run(site.store.snapshot()).messages
        if message.id in pair["answers"]
    }
    assert wrote == {NEW.id, VERSION.id}
    chat = f"/api/chats/{pair['chat']}"
    for path in (chat, f"{chat}/export", f"{chat}/export?form=markdown", "/api/me/data"):
        shown = anna.get(path).text
        assert NEW.id not in shown
        assert VERSION.id not in shown
    site.run(_drop(site))
    for path in (f"{chat}/export", "/api/me/data"):
        assert NEW.id in anna.get(path).text


def test_a_vote_after_the_chat_told_who_wrote_which_is_not_learned_from(site: Site) -> None:
    try_out(site)
    anna = site.signed_in("Anna")
    blind, late, both = (ask(anna, text) for text in ("Why?", "How?", "Where?"))
    for pair in (blind, both):
        anna.post("/api/votes", json=ballot(pair, "left")).raise_for_status()
    site.run(_drop(site))
    for pair in (late, both):
        anna.post("/api/votes", json=ballot(pair, "right")).raise_for_status()

    snapshot = site.run(site.store.snapshot())
    consenting = {id: replace(one, consent="train") for id, one in snapshot.members.items()}
    made = export(replace(snapshot, members=consenting), "preference", switches=Switches(True))
    chosen = {row["chosen"][0]["content"] for row in made.rows}
    texts = {message.id: message.text for message in snapshot.messages}
    assert chosen == {texts[pair["answers"][0]] for pair in (blind, both)}
    assert made.left_out == {"vote cast once it was told who wrote which": 2}


def test_a_vote_in_a_later_trial_of_the_same_candidate_is_blind(site: Site) -> None:
    try_out(site)
    anna = site.signed_in("Anna")
    site.run(_drop(site))
    try_out(site)
    pair = ask(anna)
    anna.post("/api/votes", json=ballot(pair)).raise_for_status()
    assert late_votes(site.run(site.store.snapshot())) == set()


def test_neither_is_always_begun_first_nor_always_stands_first(site: Site) -> None:
    try_out(site)
    anna = site.signed_in("Anna")
    pairs = [ask(anna) for _ in range(20)]
    wrote = {one.id: one.version_id for one in site.run(site.store.snapshot()).messages}
    begun = set()
    for pair in pairs:
        first = next(data["place"] for name, data in pair["heard"] if name == "begun")
        begun.add(wrote[pair["answers"][first]])
    assert begun == {NEW.id, VERSION.id}
    compared = site.run(site.store.snapshot()).comparisons
    assert {wrote[one.candidates[0]] for one in compared} == {NEW.id, VERSION.id}


async def _drop(site: Site) -> None:
    current = await site.store.decisions.current()
    assert current is not None
    await site.store.decisions.change(current.id, state="dropped")


def test_a_question_of_the_chat_is_answered_twice(site: Site) -> None:
    anna = site.signed_in("Anna")
    chat = anna.post("/api/chats", json={}).json()["id"]
    anna.post(f"/api/chats/{chat}/questions", json={"text": "What is salt?"}).raise_for_status()
    question = anna.get(f"/api/chats/{chat}").json()["messages"][0]["id"]
    heard = events(anna.post(f"/api/chats/{chat}/pairs", json={"question": question}))
    assert heard[0] == ("asked", {"question": question})
    assert heard[-1][0] == "pair"


def test_what_cannot_be_compared_is_refused_in_words(site: Site) -> None:
    anna, ben = site.signed_in("Anna"), site.signed_in("Ben")
    chat = anna.post("/api/chats", json={}).json()["id"]
    for body, status in (
        ({"text": "  "}, 400),
        ({"text": "x", "parent": "none"}, 404),
        ({"question": "none"}, 404),
        ({"text": 1}, 400),
    ):
        reply = anna.post(f"/api/chats/{chat}/pairs", json=body)
        assert reply.status_code == status, body
        assert reply.json()["error"]["message"]
    assert ben.post(f"/api/chats/{chat}/pairs", json={"text": "x"}).status_code == 404
    pair = ask(anna, chat=chat)
    assert ben.post("/api/votes", json=ballot(pair, "left")).status_code == 403
    account = next(one for one in site.run(site.store.accounts.all()) if one.name == "Anna")
    site.run(site.store.members.set_consent(account.member_id, "none"))
    reply = anna.post(f"/api/chats/{chat}/pairs", json={"text": "x"})
    assert reply.status_code == 403
    assert "nothing of yours is kept" in reply.json()["error"]["message"]


def test_a_vote_on_a_chat_that_was_erased_is_told(site: Site) -> None:
    anna = site.signed_in("Anna")
    pair = ask(anna)
    anna.request("DELETE", f"/api/chats/{pair['chat']}", json={}).raise_for_status()
    gone = anna.post("/api/votes", json=ballot(pair, "left"))
    assert gone.status_code == 410
    assert "erased" in gone.json()["error"]["message"]
