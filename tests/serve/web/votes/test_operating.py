"""What the operator looks after: who sees it, and what it does to the store."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from guildgpt.feedback.records import Account
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.serve.web.runs import SANDBOX, reports

from ...conftest import VERSION
from ..conftest import Site, site_over
from ..scripted import Scripted
from .voters import NEW, ballot, next_round, try_out

PATHS = (
    ("GET", "/api/versions"),
    ("GET", "/api/versions/candidate"),
    ("GET", "/api/versions/story"),
    ("POST", "/api/versions/promote"),
    ("POST", "/api/versions/drop"),
    ("POST", "/api/versions/rollback"),
    ("POST", f"/api/versions/{VERSION.id}/measure"),
    ("GET", "/api/office"),
    ("GET", "/api/pool"),
    ("POST", "/api/pool"),
    ("POST", "/api/pool/x/judge"),
    ("GET", "/api/reports"),
    ("POST", "/api/reports/x/resolve"),
    ("GET", "/api/corrections"),
    ("POST", "/api/corrections/x/review"),
    ("GET", "/api/people"),
    ("POST", "/api/people/invite"),
    ("POST", "/api/people/x/link"),
    ("POST", "/api/people/x/end"),
    ("DELETE", "/api/people/invitations/x"),
    ("GET", "/api/runs"),
    ("GET", "/api/runs/report?run=x"),
)
PAGES = ("/versions", "/pool", "/corrections", "/reports", "/people", "/runs")


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_these_are_the_operators_alone(site: Site, method: str, path: str) -> None:
    anna = site.signed_in("Anna")
    body = {"version": "x", "text": "x", "state": "accepted"}
    refused = anna.request(method, path, json=body)
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "this is the operator's"
    assert site.client_of_page().request(method, path, json=body).status_code == 401


def test_pages_of_the_operator_are_refused_in_words(site: Site) -> None:
    anna = site.signed_in("Anna")
    for path in PAGES:
        reply = anna.get(path)
        assert reply.status_code == 403
        assert "/versions" not in reply.text  # the menu does not lead there


def _file(folder: Path, name: str) -> str:
    path = folder / name
    path.write_bytes(b"0" * 2_000_000)
    return str(path)


def test_versions_are_shown_with_votes_and_decided_on(site: Site, tmp_path: Path) -> None:
    boss = site.signed_in("Boss", "operator")
    assert boss.get("/api/versions").json()["versions"] == []
    nobody = boss.post("/api/versions/drop", json={})
    assert nobody.status_code == 409
    assert "no candidate" in nobody.json()["error"]["message"]
    try_out(site)
    _put_there(site, tmp_path)
    voters = [site.signed_in(name) for name in ("Anna", "Ben")]
    for voter in voters:
        shown = next_round(voter)
        tried = _place_of(site, shown, NEW.id)
        voter.post("/api/votes", json=ballot(shown, ["left", "right"][tried])).raise_for_status()
    site.run(site.store.rounds.end(shown["id"], "closed"))

    all = boss.get("/api/versions").json()
    by_id = {one["id"]: one for one in all["versions"]}
    assert (by_id[VERSION.id]["share"], by_id[NEW.id]["share"]) == (0.8, 0.2)
    assert by_id[NEW.id]["votes"] == 2
    assert by_id[NEW.id]["wins"]["share"] == 1  # one comparison, both for it
    assert by_id[NEW.id]["score"]["points"] > 0 > by_id[VERSION.id]["score"]["points"]
    assert by_id[NEW.id]["size"] == 2_000_000
    assert by_id[NEW.id]["open"]
    assert all["decision"]["state"] == "canary"
    assert [one["kind"] for one in all["releases"]] == ["canary", "serve"]

    assert all["voters"] == {"says": "2 people voted.", "noticed": []}

    candidate = boss.get("/api/versions/candidate").json()
    assert candidate["against"]
    asked = {"version": NEW.id, "why": "I like it"}
    refused = boss.post("/api/versions/promote", json=asked)
    assert refused.status_code == 409
    assert "does not say" in refused.json()["error"]["message"]
    other = boss.post("/api/versions/promote", json=asked | {"version": VERSION.id, "force": True})
    assert other.status_code == 409  # another one than was looked at
    boss.post("/api/versions/promote", json=asked | {"force": True}).raise_for_status()
    ((release,), *_) = site.run(site.store.releases.history())
    assert (release.version_id, release.share, release.kind) == (NEW.id, 1.0, "promote")
    assert release.why == "promoted against the decision (canary): I like it"
    back = boss.post("/api/versions/rollback", json={"why": "no"}).json()
    assert (back["to"], back["instead_of"]) == (VERSION.id, NEW.id)


def test_what_the_circle_did_is_told_closed_off(site: Site) -> None:
    try_out(site)
    reply = site.signed_in("Boss", "operator").get("/api/versions/story")
    assert reply.status_code == 200
    assert reply.headers["content-security-policy"] == SANDBOX
    assert f"Turn 1: {NEW.id} is being tried" in reply.text


def test_the_speed_of_a_version_is_measured(site: Site) -> None:
    boss = site.signed_in("Boss", "operator")
    site.engine.pause = 0.001
    found = boss.post(f"/api/versions/{VERSION.id}/measure", json={}).json()
    assert found["tokens"] > 1
    assert found["tokens_per_second"] > 0
    elsewhere = boss.post("/api/versions/other@00000000/measure", json={})
    assert elsewhere.status_code == 409


def test_prompts_are_added_found_and_judged(site: Site) -> None:
    boss = site.signed_in("Boss", "operator")
    written = "Why is the sky blue?\n\nWhy is the sky  BLUE?\n" + "x" * 400 + "\nWhat is salt?"
    added = boss.post("/api/pool", json={"text": written}).json()
    assert added["decide"] + added["train"] == 2
    assert sum(added["left_out"].values()) == 2
    without = boss.post("/api/pool", json={"text": "What?", "licence": "CC-BY-4.0"})
    assert without.status_code == 400
    assert "named" in without.json()["error"]["message"]
    (sky,) = boss.get("/api/pool", params={"q": "sky blue"}).json()["prompts"]
    assert (sky["licence"], sky["source"]) == ("own", "operator")
    boss.post(f"/api/pool/{sky['id']}/judge", json={"state": "refused"}).raise_for_status()
    assert boss.get("/api/pool").json()["counts"] == {"offered": 0, "accepted": 1, "refused": 1}
    assert boss.post("/api/pool/none/judge", json={"state": "refused"}).status_code == 410

    member = _account(site, "Boss").member_id
    site.run(site.store.prompts.submit(member, NewPrompt("What is fog?", "member", "CC0-1.0")))
    assert boss.get("/api/office").json()["pool"] == 1
    (fog,) = boss.get("/api/pool", params={"state": "offered"}).json()["prompts"]
    assert fog["submitted"]
    assert member not in str(fog)
    boss.post(f"/api/pool/{fog['id']}/judge", json={"state": "accepted"}).raise_for_status()
    assert boss.get("/api/office").json()["pool"] == 0


def test_people_are_invited_led_back_in_and_ended(site: Site) -> None:
    boss = site.signed_in("Boss", "operator")
    link = boss.post("/api/people/invite", json={"name": "Anna"}).json()["link"]
    place, _, token = link.partition("#")
    assert place == f"{site.url}/join"
    (out,) = boss.get("/api/people").json()["invitations"]
    assert (out["name"], out["role"]) == ("Anna", "voter")
    assert token not in str(out)
    anna = site.client_of_page()
    anna.post("/api/join", json={"token": token}).raise_for_status()
    account = _account(site, "Anna")
    again = boss.post(f"/api/people/{account.id}/link", json={}).json()["link"].partition("#")[2]
    other = site.client_of_page()
    other.post("/api/join", json={"token": again}).raise_for_status()
    assert other.get("/api/me").json()["id"] == account.id
    assert boss.post(f"/api/people/{account.id}/end", json={}).json()["ended_at"]
    assert anna.get("/api/me").status_code == 401
    assert other.get("/api/me").status_code == 401
    assert boss.post(f"/api/people/{account.id}/link", json={}).status_code == 410

    me = _account(site, "Boss")
    assert boss.post(f"/api/people/{me.id}/end", json={}).status_code == 409
    taken = boss.post("/api/people/invite", json={"name": "boss"})
    assert taken.status_code == 409
    boss.post("/api/people/invite", json={"role": "operator"}).raise_for_status()
    (out,) = boss.get("/api/people").json()["invitations"]
    assert (
        boss.request("DELETE", f"/api/people/invitations/{out['id']}", json={}).status_code == 200
    )
    assert (
        boss.request("DELETE", f"/api/people/invitations/{out['id']}", json={}).status_code == 410
    )


def test_a_link_leads_where_others_find_the_page(scripted: Scripted, tmp_path: Path) -> None:
    with site_over(scripted, tmp_path, keys={"anna": "key-of-anna-0123456789"}) as site:
        site.app.state.public_names = ("guild.example", "other.example")
        boss = site.signed_in("Boss", "operator")
        own = f"/api/people/{_account(site, 'Boss').id}/link"
        for origin, invite, sign_in in (
            (site.url, "https://guild.example", site.url),
            ("https://other.example", "https://other.example", "https://other.example"),
            ("http://guild.example", "http://guild.example", "http://guild.example"),
            ("http://10.0.0.7:8000", "https://guild.example", "http://10.0.0.7:8000"),
        ):
            cookies = "; ".join(f"{name}={value}" for name, value in boss.cookies.items())
            headers = {"Origin": origin, "Host": origin.partition("://")[2], "Cookie": cookies}
            for path, place in (("/api/people/invite", invite), (own, sign_in)):
                made = boss.post(path, json={}, headers=headers).raise_for_status().json()
                assert made["link"].startswith(f"{place}/join#"), origin


def test_who_is_alone_at_the_machine_is_told_so(site: Site) -> None:
    here = httpx.get(f"{site.url}/api/people").json()
    assert here["alone"]
    assert [(one["name"], one["you"]) for one in here["accounts"]] == [("operator", True)]


def test_reports_are_looked_at_and_done(site: Site) -> None:
    boss = site.signed_in("Boss", "operator")
    next_round(boss)
    snapshot = site.run(site.store.snapshot())
    answer = next(one for one in snapshot.messages if one.role == "assistant")
    member = _account(site, "Boss").member_id
    site.run(site.store.reports.add(answer.id, member, "rude"))
    assert boss.get("/api/office").json()["reports"] == 1
    (one,) = boss.get("/api/reports").json()["reports"]
    assert (one["text"], one["reason"], one["link"]) == (answer.text, "rude", None)
    assert member not in str(one)
    boss.post(f"/api/reports/{one['id']}/resolve", json={}).raise_for_status()
    assert boss.get("/api/reports").json()["reports"] == []
    assert boss.post("/api/reports/none/resolve", json={}).status_code == 410


def test_corrections_are_reviewed(site: Site) -> None:
    boss = site.signed_in("Boss", "operator")
    next_round(boss)
    snapshot = site.run(site.store.snapshot())
    question = next(one for one in snapshot.messages if one.role == "user")
    answer = next(one for one in snapshot.messages if one.role == "assistant")
    member = _account(site, "Boss").member_id
    for words in ("In **my** words.", "<script>alert(1)</script>"):
        site.run(site.store.corrections.offer(answer.id, member, words, "CC0-1.0"))
    assert boss.get("/api/office").json()["corrections"] == 1  # the newer one of the two
    (one,) = boss.get("/api/corrections").json()["corrections"]
    assert (one["question"], one["licence"]) == (question.text, "CC0-1.0")
    assert "<script>" not in one["correction"]["html"]
    assert member not in str(one)
    reviewed = boss.post(f"/api/corrections/{one['id']}/review", json={"state": "accepted"})
    assert reviewed.json()["state"] == "accepted"
    assert boss.get("/api/corrections").json()["corrections"] == []
    for id, body, status in (
        ("none", {"state": "refused"}, 410),
        (one["id"], {"state": "offered"}, 400),
    ):
        assert boss.post(f"/api/corrections/{id}/review", json=body).status_code == status


def test_reports_of_runs_are_found_and_open_closed_off(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs"
    for run in ("starter", "learn/night/sft"):
        (folder / run).mkdir(parents=True)
        (folder / run / "report.html").write_text(f"<h1>{run}</h1>")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "report.html").write_text("a secret")
    (folder / "link").symlink_to(secret)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "report.html").write_text("hidden")
    assert set(reports(folder)) == {"starter", "learn/night/sft"}
    monkeypatch.chdir(tmp_path)
    boss = site.signed_in("Boss", "operator")
    assert len(boss.get("/api/runs").json()["reports"]) == 2
    shown = boss.get("/api/runs/report", params={"run": "starter"})
    assert shown.text == "<h1>starter</h1>"
    assert shown.headers["content-security-policy"] == SANDBOX
    assert "allow-same-origin" not in SANDBOX
    for run in ("../secret", "link", ".hidden", "/etc", "starter/../../secret", "\0"):
        assert boss.get("/api/runs/report", params={"run": run}).status_code == 404


def _account(site: Site, name: str) -> Account:
    return next(one for one in site.run(site.store.accounts.all()) if one.name == name)


def _put_there(site: Site, folder: Path) -> None:
    """Give both versions a file, so that nothing speaks against them."""
    from dataclasses import replace

    for one in (VERSION, NEW):
        path = _file(folder, f"{one.name}.gguf")
        site.run(site.store.versions.register(replace(one, path=path)))


def _place_of(site: Site, shown: dict, version: str) -> int:  # type: ignore[type-arg]
    """Where a voter sees the answer by a version."""

    async def work() -> str:
        found = await site.store.votes.comparison(shown["comparison"])
        assert found is not None
        for id in found.candidates:
            message = await site.store.conversations.message(id)
            if message is not None and message.version_id == version:
                return message.text
        raise AssertionError(version)

    texts = [answer["text"] for answer in shown["answers"]]
    return texts.index(site.run(work()))
