"""The gate: what a candidate is measured by before any member sees it.

    measure   candidate and who serves answer the same prompts, by the engine that people talk to;
              their weights read held-out text; a judge that learned from other votes compares them
    settle    each measure is held to a bound of the recipe: what fails is dropped, with the reason,
              what passes is tried on members

`decisions.gate` holds what was found, as `guildgpt learn gate --json` prints it:

    {
      "format": 1,
      "on": true,                  false where the operator switched the gate off: no measures then
      "passed": true,
      "why": "",                   what failed, in words
      "candidate": "dpo@3f2c91ab", "serving": "sft@77d0aa12", "ancestor": "runs/…/sft/model",
      "measures": [
        {
          "name": "loops",         wins, loops, ends, length, kept, bits, kl, safe, facts
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

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from guildgpt.feedback.commands import with_store
from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.gated import note_gate
from guildgpt.feedback.versions.registering import known, refuse_flawed
from guildgpt.feedback.versions.releasing import begin_canary, served
from guildgpt.learn.measuring import Contest, measure, unmeasured
from guildgpt.learn.watch import Watch
from guildgpt.model.locate import located_at
from guildgpt.recipe import Recipe

FOLDER = "gate"  # in a turn's: what was measured already


def pass_gate(
    url: str, decision: Decision, recipe: Recipe, watch: Watch, console: Console
) -> Decision:
    """Measure the candidate of a decision that is at the gate: it is dropped, or tried on members;
    or its training begins anew, where something that it learned from was erased meanwhile."""
    watch.guard(decision.id)
    try:
        contest = with_store(url, lambda store: _contest(store, decision, recipe.model.base))
        found = decision.gate
        if not recipe.gate.on:
            found = unmeasured(contest)
        elif not found or found.get("serving") != contest.serving:
            turn = Path(decision.folder or "")
            found = measure(contest, recipe, turn / FOLDER, console, turn=turn)
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
    contest = Contest(
        candidate.id, model_at(candidate.path), serving.id, model_at(serving.path), ancestor
    )
    if not Path(serving.path).is_file():  # it may lie on the bot's machine alone
        contest = replace(contest, serving_at=ancestor)
    return contest


def model_at(file: str) -> str:
    """The model whose file a version names: its folder, where it has one."""
    place = located_at(Path(file), "")
    return str(place.folder or place.gguf)


def check_base(recipe: Recipe) -> None:
    """GuildError where the recipe's ancestor is not there: told before anything is measured."""
    from guildgpt.bases.locate import locate_base

    if recipe.model.base not in ("scratch", "starter"):
        locate_base(recipe.model, weights=False)


async def _settle(store: Store, decision: Decision, found: dict[str, Any] | None) -> Decision:
    """Note what was found, and what follows from it."""
    now = await store.decisions.by_id(decision.id) or decision
    if found is None or now.erased_at is not None:
        return await store.decisions.change(
            decision.id, expected=["gate"], state="training", candidate_id=None, gate=None
        )
    await note_gate(store, found, decision_id=decision.id)
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
