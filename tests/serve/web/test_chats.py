"""Chats by the page's own API: asking, branches, search, and that they are their member's alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..conftest import VERSION
from ..slow import until
from .conftest import Site


@pytest.fixture
def anna(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("Anna") as client:
        yield client


def events(reply: httpx.Response) -> list[tuple[str, Any]]:
    """The events of an answer."""
    reply.raise_for_status()
    found = []
    for event in reply.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def asked(client: httpx.Client, chat: str, text: str, parent: str | None = None) -> dict[str, Any]:
    """What came last of the answer to a question."""
    body = {"text": text, "parent": parent}
    return dict(events(client.post(f"/api/chats/{chat}/questions", json=body)))


def started(client: httpx.Client) -> str:
    chat: str = client.post("/api/chats", json={}).raise_for_status().json()["id"]
    return chat


def path(client: httpx.Client, chat: str, at: str | None = None) -> list[dict[str, Any]]:
    reply = client.get(f"/api/chats/{chat}", params={"at": at} if at else {}).raise_for_status()
    messages: list[dict[str, Any]] = reply.json()["messages"]
    return messages


def test_a_question_and_its_answer_are_kept(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["**TLS** encrypts."]
    chat = started(anna)
    said = asked(anna, chat, "What is TLS?")
    assert said["end"]["stop"] == "eos"
    assert said["begun"]["version"] == VERSION.id
    question, answer = path(anna, chat)
    assert (question["text"], question["role"], question["parent"]) == (
        "What is TLS?",
        "user",
        None,
    )
    assert answer["html"] == "<p><strong>TLS</strong> encrypts.</p>\n"
    assert (answer["id"], answer["parent"]) == (said["begun"]["id"], question["id"])
    kept = site.run(site.store.conversations.message(answer["id"]))
    assert kept is not None
    assert (kept.version_id, kept.stop) == (VERSION.id, "eos")
    assert kept.sampling is not None
    assert kept.sampling["temperature"] == 0
    [listed] = anna.get("/api/chats").json()["chats"]
    assert (listed["id"], listed["title"]) == (chat, "What is TLS?")


def test_the_model_is_told_the_branch_that_is_gone_on_with(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["One.", "Two.", "Three.", "Four."]
    chat = started(anna)
    first = asked(anna, chat, "First?")["begun"]["id"]
    asked(anna, chat, "Then?", first)
    edited = asked(anna, chat, "Otherwise?", first)  # a branch
    assert "First?" in site.engine.asked[-1]
    assert "One." in site.engine.asked[-1]
    assert "Then?" not in site.engine.asked[-1]
    assert [one["text"] for one in path(anna, chat)] == ["First?", "One.", "Otherwise?", "Three."]
    *_, question, answer = path(anna, chat)
    assert question["siblings"][1] == question["id"]
    other = path(anna, chat, question["siblings"][0])
    assert [one["text"] for one in other] == ["First?", "One.", "Then?", "Two."]
    assert answer["id"] == edited["begun"]["id"]
    again = anna.post(f"/api/chats/{chat}/answers", json={"question": question["id"]})
    assert dict(events(again))["end"]["id"] != answer["id"]
    newest = path(anna, chat)[-1]
    assert (newest["text"], len(newest["siblings"])) == ("Four.", 2)
    assert path(anna, chat, answer["id"])[-1]["text"] == "Three."


def test_who_stops_listening_keeps_what_was_said(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["one two three four"]
    site.engine.holds_after = 3
    chat = started(anna)
    with anna.stream("POST", f"/api/chats/{chat}/questions", json={"text": "Count."}) as reply:
        for line in reply.iter_lines():
            if "one two" in line:
                break
    until(lambda: site.engine.left == 1 and len(path(anna, chat)) == 2)
    answer = path(anna, chat)[1]
    assert (answer["text"].strip(), answer["stop"]) == ("one two", "cancelled")
    site.engine.holds_after = None
    asked(anna, chat, "Go on.", answer["id"])
    assert "one two…" in site.engine.asked[-1].replace("two …", "two…")


def test_a_question_is_there_before_it_is_answered(site: Site, anna: httpx.Client) -> None:
    site.engine.holds_after = 0
    chat = started(anna)
    with anna.stream("POST", f"/api/chats/{chat}/questions", json={"text": "Who?"}) as reply:
        lines = reply.iter_lines()  # which closes the stream when nobody holds it
        assert "asked" in next(lines)
        assert [one["text"] for one in path(anna, chat)] == ["Who?"]
        until(lambda: site.engine.running)
    until(lambda: site.engine.left == 1)
    assert len(path(anna, chat)) == 1  # nothing was said


def test_an_engine_that_dies_leaves_what_it_said(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["one two three four"]
    site.engine.dies_after = 3
    chat = started(anna)
    said = asked(anna, chat, "Count.")
    assert "failed" in said["error"]["message"]
    assert said["error"]["kept"]
    [_, answer] = path(anna, chat)
    assert (answer["text"].strip(), answer["stop"]) == ("one two", "cancelled")
    assert "end" in asked(anna, chat, "Go on.", answer["id"])


def test_what_has_no_room_is_said_in_words(anna: httpx.Client) -> None:
    said = asked(anna, started(anna), "word " * 2000)
    assert "tokens" in said["error"]["message"]


def test_nobody_reads_anothers_chat(site: Site, anna: httpx.Client) -> None:
    chat = started(anna)
    answer = asked(anna, chat, "A secret?")["begun"]["id"]
    question = path(anna, chat)[0]["id"]
    with site.signed_in("Ben", "operator") as ben:
        assert ben.get("/api/chats").json()["chats"] == []
        assert ben.get("/api/chats", params={"search": "secret"}).json()["chats"] == []
        own = started(ben)
        for method, place, body in (
            ("GET", f"chats/{chat}", None),
            ("GET", f"chats/{chat}/export", None),
            ("PATCH", f"chats/{chat}", {"title": "Mine"}),
            ("DELETE", f"chats/{chat}", None),
            ("POST", f"chats/{chat}/questions", {"text": "Tell me.", "parent": answer}),
            ("POST", f"chats/{own}/questions", {"text": "Tell me.", "parent": answer}),
            ("POST", f"chats/{own}/answers", {"question": question}),
            ("POST", f"messages/{answer}/rating", {"value": 1}),
            ("POST", f"messages/{answer}/correction", CORRECTION),
        ):
            reply = ben.request(method, f"/api/{place}", json=body)
            assert reply.status_code == 404, place
            assert "secret" not in reply.text
    assert len(path(anna, chat)) == 2


CORRECTION = {"text": "Better.", "licence": "CC0-1.0", "own": True}


def test_search_finds_titles_and_texts(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["It is 100% Straße_9 in Äpfel."]
    chat = started(anna)
    asked(anna, chat, "Where do you live?")
    anna.patch(f"/api/chats/{chat}", json={"title": "Home"}).raise_for_status()
    other = started(anna)
    site.engine.says = ["No."]
    asked(anna, other, "Nothing?")

    def found(text: str) -> list[tuple[str, str]]:
        reply = anna.get("/api/chats", params={"search": text}).json()
        return [(one["title"], one["excerpt"]) for one in reply["chats"]]

    assert found("HOME") == [("Home", "")]
    assert found("you LIVE") == [("Home", "Where do you live?")]
    assert found("äpfel") == [("Home", "It is 100% Straße_9 in Äpfel.")]
    assert found("100% s") == [("Home", "It is 100% Straße_9 in Äpfel.")]
    assert found("e%9") == found("Stra_e") == found("zebra") == []


def test_what_is_deleted_is_in_no_file_any_more(
    site: Site, anna: httpx.Client, tmp_path: Any
) -> None:
    chat = started(anna)
    answer = asked(anna, chat, "Is xylophonic a word?")["begun"]["id"]
    anna.post(f"/api/messages/{answer}/rating", json={"value": 1}).raise_for_status()
    anna.delete(f"/api/chats/{chat}").raise_for_status()
    assert anna.get(f"/api/chats/{chat}").status_code == 404
    assert anna.get("/api/chats").json()["chats"] == []
    until(lambda: not any(b"xylophonic" in file.read_bytes() for file in tmp_path.iterdir()))


def test_a_chat_that_is_deleted_while_it_is_answered(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["one two three"]
    site.engine.holds_after = 1
    chat = started(anna)
    with anna.stream("POST", f"/api/chats/{chat}/questions", json={"text": "Who?"}) as reply:
        lines = reply.iter_lines()
        until(lambda: "begun" in next(lines))
        anna.delete(f"/api/chats/{chat}").raise_for_status()
        site.engine.holds_after = None
        rest = "\n".join(lines)
    assert "not there any more" in rest


def test_it_is_taken_along(site: Site, anna: httpx.Client) -> None:
    site.engine.says = ["One.", "Two."]
    chat = started(anna)
    asked(anna, chat, "First?")
    question = path(anna, chat)[0]["id"]
    anna.post(f"/api/chats/{chat}/answers", json={"question": question}).raise_for_status()
    whole = anna.get(f"/api/chats/{chat}/export")
    assert "attachment" in whole.headers["content-disposition"]
    told = whole.json()
    assert [one["text"] for one in told["messages"]] == ["First?", "One.", "Two."]
    assert [one["parent"] for one in told["messages"]] == [None, question, question]
    read = anna.get(f"/api/chats/{chat}/export", params={"form": "markdown"}).text
    assert read == f"# First?\n\n## You\n\nFirst?\n\n## Model ({VERSION.id})\n\nTwo.\n"


def test_thumbs_and_corrections(site: Site, anna: httpx.Client) -> None:
    chat = started(anna)
    answer = asked(anna, chat, "Hello?")["begun"]["id"]
    for value, reason in ((1, None), (-1, "It is rude."), (0, None)):
        body = {"value": value, "reason": reason}
        anna.post(f"/api/messages/{answer}/rating", json=body).raise_for_status()
        shown = path(anna, chat)[1]
        assert (shown["rating"], shown["reason"]) == (value, reason)
    anna.post(f"/api/messages/{answer}/correction", json=CORRECTION).raise_for_status()
    assert path(anna, chat)[1]["correction"] == "Better."
    for wrong in ({"own": False}, {"licence": "CC-BY-NC-4.0"}, {"text": " "}):
        reply = anna.post(f"/api/messages/{answer}/correction", json=CORRECTION | wrong)
        assert reply.status_code == 400


def test_too_many_answers_at_once(site: Site, anna: httpx.Client) -> None:
    site.engine.holds_after = 0
    chat = started(anna)
    streams = []
    for _ in range(4):
        body = {"text": "Who?"}
        request = anna.build_request("POST", f"/api/chats/{chat}/questions", json=body)
        streams.append(anna.send(request, stream=True))
    refused = anna.post(f"/api/chats/{chat}/questions", json={"text": "Who?"})
    assert refused.status_code == 429
    for one in streams:
        one.close()
    site.engine.holds_after = None
    until(lambda: anna.post(f"/api/chats/{chat}/questions", json={"text": "Who?"}).is_success)


def test_too_many_answers_asked_for_in_one_moment(site: Site, anna: httpx.Client) -> None:
    site.engine.holds_after = 0
    chat = started(anna)

    def ask(_: int) -> str:
        reply = anna.post(f"/api/chats/{chat}/questions", json={"text": "Who?"})
        return reply.text if reply.is_success else "answers are on their way"

    with ThreadPoolExecutor(20) as threads:
        asking = [threads.submit(ask, number) for number in range(20)]
        until(lambda: sum(one.done() for one in asking) >= 16)
        site.engine.holds_after = None
    said = [one.result() for one in asking]
    assert len(site.engine.asked) == 4
    assert sum("answers are on their way" in one for one in said) == 16


def test_only_the_page_changes_anything(site: Site, anna: httpx.Client) -> None:
    chat = started(anna)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        reply = anna.patch(f"/api/chats/{chat}", content='{"title": "x"}', headers=headers)
        assert reply.status_code in (403, 415), headers
    bare = httpx.post(f"{site.url}/api/chats", json={}, cookies=dict(anna.cookies))
    assert bare.status_code == 403  # a program has no origin
    assert anna.get("/api/chats", headers={"Sec-Fetch-Site": "same-site"}).status_code == 403


def test_no_cache_keeps_what_is_ones_own(anna: httpx.Client) -> None:
    for path in (
        "/api/chats",
        "/api/me/data",
        "/api/chats/x",
        f"/api/chats/{started(anna)}/export",
    ):
        headers = anna.get(path).headers
        assert headers["cache-control"] == "no-store", path
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_key_opens_the_api_and_not_the_page(scripted: Any, tmp_path: Any) -> None:
    from .conftest import site_over

    key = "key-of-anna-0123456789"
    with site_over(scripted, tmp_path, keys={"anna": key}) as site:
        bearer = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{site.url}/v1/models", headers=bearer).status_code == 200
        assert httpx.get(f"{site.url}/v1/models").status_code == 401
        assert httpx.get(f"{site.url}/api/chats", headers=bearer).status_code == 401
        with site.signed_in("Anna") as anna:
            assert anna.get("/api/chats").status_code == 200
            assert anna.get("/v1/models").status_code == 401
