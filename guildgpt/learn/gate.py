"""The gate: what a candidate is measured by before any member sees it.

    answer    candidate and who serves answer the same prompts, by the engine that people talk to
    compare   loops, ends of turn and length of their answers, each held to a bound of the recipe
    settle    what fails is dropped, with the reason; what passes is tried on members

`decisions.gate` holds what was found, as `guildgpt learn gate --json` prints it:

    {
      "format": 1,
      "on": true,                  false where the operator switched the gate off: no measures then
      "passed": true,
      "why": "",                   what failed, in words
      "candidate": "dpo@3f2c91ab", "serving": "sft@77d0aa12", "ancestor": "runs/…/sft/model",
      "measures": [
        {
          "name": "loops",         see `MEASURES`
          "title": "runs into a loop",
          "state": "passed",       failed, advisory (it does not decide), not measured
          "unit": "share",         tokens, bits (a byte), nats (an answer)
          "count": 60,             answers, rows or pairs
          "candidate": 0.03, "serving": 0.05,
          "difference": -0.02,     candidate less serving; of lengths, their ratio
          "low": -0.08, "high": 0.05,     its 95 % interval
          "bound": "at most 5 points more",
          "why": ""                why it failed, is advice, or was not measured
        }, …
      ]
    }

Figures are null where there is none. New measures may come, keys stay.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guildgpt.chat.repetition import loops
from guildgpt.evaluate.config import GateConfig
from guildgpt.evaluate.intervals import Floats
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.registering import known, refuse_flawed
from guildgpt.feedback.versions.releasing import begin_canary, served
from guildgpt.learn.answering import PROMPTS, Answered, Answers, Say, answers_of, asked_at
from guildgpt.learn.bounds import About, Measure, failures, length, rate
from guildgpt.learn.watch import Watch
from guildgpt.model.locate import located_at
from guildgpt.pipeline.folder import read_json, write_json

FORMAT = 1
MEASURES = {
    "loops": About("loops", "runs into a loop"),
    "ends": About("ends", "ends its turn by itself"),
    "length": About("length", "length of an answer", "tokens"),
}
FOLDER = "gate"  # in a turn's: what was measured already


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is held against whom: versions' ids, or models' names, and where they lie."""

    candidate: str
    candidate_at: str
    serving: str
    serving_at: str
    ancestor: str


def measure(contest: Contest, config: GateConfig, folder: Path, say: Say) -> dict[str, Any]:
    """What `decisions.gate` holds. What lies in `folder` of the same contest is not measured again.

    Raises what opening a model raises.
    """
    _claim(folder, contest, config)
    sets = asked_at(config)
    say(f"{contest.candidate} answers")
    ours = answers_of(contest.candidate_at, sets, config, folder / "candidate", say)
    say(f"{contest.serving} answers")
    theirs = answers_of(contest.serving_at, sets, config, folder / "serving", say)
    return result(contest, of_answers(ours, theirs, config))


def result(contest: Contest, measures: list[Measure], *, on: bool = True) -> dict[str, Any]:
    """The measures as they are kept and shown; see above."""
    why = failures(measures)
    return {
        "format": FORMAT,
        "on": on,
        "passed": not why,
        "why": why,
        "candidate": contest.candidate,
        "serving": contest.serving,
        "ancestor": contest.ancestor,
        "measures": [asdict(one) for one in measures],
    }


def of_answers(ours: Answers, theirs: Answers, config: GateConfig) -> list[Measure]:
    """What is seen of answers without a judge."""
    mine, others = ours.get(PROMPTS, []), theirs.get(PROMPTS, [])
    return [
        rate(
            MEASURES["loops"],
            _loops(mine),
            _loops(others),
            config.more_loops,
            more_is_worse=True,
        ),
        rate(MEASURES["ends"], _ends(mine), _ends(others), config.fewer_ends, more_is_worse=False),
        length(
            MEASURES["length"], _lengths(mine), _lengths(others), config.shortest, config.longest
        ),
    ]


def _loops(answers: list[Answered]) -> Floats:
    return np.array([float(loops(one.ids)) for one in answers])


def _ends(answers: list[Answered]) -> Floats:
    return np.array([float(one.ended) for one in answers])


def _lengths(answers: list[Answered]) -> Floats:
    return np.array([float(len(one.ids)) for one in answers])


def _claim(folder: Path, contest: Contest, config: GateConfig) -> None:
    """What lies there is of this contest; of another one it is thrown away."""
    inputs = {"format": FORMAT, **asdict(contest), "config": config.model_dump(mode="json")}
    file = folder / "inputs.json"
    if read_json(file) == inputs:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, inputs)


def pass_gate(
    url: str, decision: Decision, config: GateConfig, ancestor: str, watch: Watch, say: Say
) -> Decision:
    """Measure the candidate of a decision that is at the gate: it is dropped, or tried on members;
    or its training begins anew, where something that it learned from was erased meanwhile."""
    watch.guard(decision.id)
    try:
        contest = with_store(url, lambda store: _contest(store, decision, ancestor))
        found = decision.gate
        if not found or found.get("serving") != contest.serving:
            folder = Path(decision.folder or "") / FOLDER
            found = (
                measure(contest, config, folder, say)
                if config.on
                else result(contest, [], on=False)
            )
        watch.let_go()
    except KeyboardInterrupt:
        watch.let_go()
        if watch.lost or not watch.erased:
            raise
        found = None
    return with_store(url, lambda store: _settle(store, decision, found))


async def _contest(store: Store, decision: Decision, ancestor: str) -> Contest:
    candidate = await known(store, decision.candidate_id or "")
    serving = await known(store, served(await store.releases.history())[-1])
    refuse_flawed(candidate)
    return Contest(
        candidate.id, model_at(candidate.path), serving.id, model_at(serving.path), ancestor
    )


def model_at(file: str) -> str:
    """The model whose file a version names: its folder, where it has one."""
    place = located_at(Path(file), "")
    return str(place.folder or place.gguf)


async def _settle(store: Store, decision: Decision, found: dict[str, Any] | None) -> Decision:
    """Note what was found, and what follows from it."""
    now = await store.decisions.by_id(decision.id) or decision
    if found is None or now.erased_at is not None:
        return await store.decisions.change(
            decision.id, expected=["gate"], state="training", candidate_id=None, gate=None
        )
    await _log(store, decision, found)
    if not found["passed"]:
        why = f"it did not pass the gate: {found['why']}"
        return await store.decisions.change(
            decision.id, expected=["gate"], state="dropped", why=why, gate=found
        )
    now = await store.decisions.change(decision.id, expected=["gate"], gate=found)
    if now.state != "gate":  # the operator gave it up meanwhile
        return now
    version = await known(store, decision.candidate_id or "")
    return await begin_canary(store, version, decision.settings["share"], decision=now)


async def _log(store: Store, decision: Decision, found: dict[str, Any]) -> None:
    """Once, whoever is killed here."""
    detail = {key: found[key] for key in ("candidate", "serving", "on", "passed", "why")}
    detail |= {
        state: [one["name"] for one in found["measures"] if one["state"] == state]
        for state in ("failed", "advisory", "not measured")
    }
    there = await store.log.entries(decision_id=decision.id)
    if not any(one.kind == "gate" and one.detail == detail for one in there):
        await store.log.add("gate", detail, decision_id=decision.id)
