"""What an operator reads of the circle: its turns and nights, and nobody's words."""

from __future__ import annotations

import json
from pathlib import Path

from feedback.conftest import Clock
from feedback.versions.test_deciding import play
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.betting import DecisionSettings
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.versions.releasing import candidate, promote, rollback
from guildgpt.feedback.versions.story import curve, story
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.model.version import Version
from guildgpt.report.circle import render

GATE = {
    "format": 1,
    "on": True,
    "passed": True,
    "why": "",
    "candidate": "new@2",
    "serving": "old@1",
    "ancestor": "runs/a",
    "measures": [
        {
            "name": "loops",
            "title": "runs into a loop",
            "state": "passed",
            "unit": "share",
            "count": 60,
            "candidate": 0.03,
            "serving": 0.05,
            "difference": -0.02,
            "low": -0.08,
            "high": 0.05,
            "bound": "at most 5 points more",
            "why": "",
        },
        {
            "name": "safe",
            "title": "declines what it should",
            "state": "not measured",
            "unit": "share",
            "count": 60,
            "candidate": None,
            "serving": None,
            "difference": None,
            "low": None,
            "high": None,
            "bound": "at most 5 points less",
            "why": "who serves <declines> nearly nothing",
        },
    ],
}


async def a_turn(store: Store, clock: Clock, shares: list[float]) -> None:
    """One that came to its rounds, and a night after it."""
    await store.releases.add({"old@1": 1.0}, "serve", "")
    await store.prompts.add(
        [NewPrompt(f"Tell of wombat {number}.", "starter", "CC0-1.0") for number in range(400)]
    )
    settings = DecisionSettings().model_dump()
    made = await store.decisions.begin(
        state="canary", candidate_id="new@2", baseline_id="old@1", settings=settings
    )
    await store.decisions.change(made.id, gate=GATE)
    began = {
        "comparisons": 41,
        "corrections": 2,
        "ratings": 0,
        "left_out": {"skipped vote": 3},
        "places": {"discord": 30, "web": 11},
    }
    await store.log.add("began", began, decision_id=made.id)
    stages = {"dpo": {"steps": 11, "loss": [0.69, 0.31]}}
    await store.log.add("trained", {"minutes": 1.7, "stages": stages}, decision_id=made.id)
    await play(store, made, shares)
    await look(store, made)
    night = {"night": "2026-03-01", "words": "new@2 is being tried."}
    await store.log.add("waited", night, decision_id=made.id)


async def test_a_turn_is_told_whole(store: Store, clock: Clock) -> None:
    await a_turn(store, clock, [0.5, 1.0, 0.5, 2 / 3])
    told = await story(store)
    json.dumps(told, allow_nan=False)
    [turn] = told["turns"]
    assert turn["candidate"] == "new@2"
    assert turn["votes"]["comparisons"] == 41
    assert turn["training"]["stages"]["dpo"]["loss"] == [0.69, 0.31]
    assert turn["gate"] == GATE
    assert [one["round"] for one in turn["canary"]["rounds"]] == [1, 2, 3, 4]
    last = turn["canary"]["rounds"][-1]
    assert last["mean"] == (0.5 + 1 + 0.5 + 2 / 3) / 4
    assert last["low"] < last["mean"] < last["high"]
    assert [one["words"] for one in told["nights"]] == ["new@2 is being tried."]
    assert "wombat" not in json.dumps(told)


async def test_the_curve_is_what_the_decision_looked_at(store: Store, clock: Clock) -> None:
    await a_turn(store, clock, [1.0] * 12)
    decision = (await store.decisions.all())[0]
    assert decision.state == "preferred"
    points = curve([1.0] * 12, decision)
    over = [one["round"] for one in points if one["preferred"] >= 20]
    assert decision.result
    assert over[0] == decision.result["rounds"]


async def test_the_page_says_it_to_people(store: Store, clock: Clock) -> None:
    assert "No turn has been taken yet" in render(await story(store))
    await a_turn(store, clock, [0.5, 1.0, 0.5])
    page = render(await story(store))
    for said in (
        "Turn 1",
        "41 pairs",
        "30 on Discord, 11 on the web page.",
        "0.690 → 0.310",
        "runs into a loop",
    ):
        assert said in page
    assert "who serves &lt;declines&gt; nearly nothing" in page
    assert "<script" not in page
    assert "3 rounds with 6 people" in page
    assert "2026-03-01" in page


async def test_what_is_rolled_back_is_not_told_as_if_it_answered(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    await a_turn(store, clock, [1.0] * 12)
    for id in ("old@1", "new@2"):
        (tmp_path / id).touch()
        await store.versions.register(Version(id, id[:3], str(tmp_path / id), id[-1]))
    await promote(store, await candidate(store))
    assert (await story(store))["turns"][0]["rolled_back"] is None
    await rollback(store, "it is too short")
    told = await story(store)
    [turn] = told["turns"]
    assert (turn["state"], turn["rolled_back"]["to"]) == ("promoted", "old@1")
    assert turn["log"][-1]["kind"] == "rolled_back"
    page = render(told)
    assert "new@2 promoted, and rolled back" in page
    assert "old@1 took its place again" in page
    assert "(it is too short)" in page


async def test_what_happens_to_versions_of_no_turn_is_told(store: Store, clock: Clock) -> None:
    await store.log.add("erased", {"versions": ["older@0"]})
    told = await story(store)
    assert [one["versions"] for one in told["others"]] == [["older@0"]]
    assert "something was erased that older@0 learned from" in render(told)
