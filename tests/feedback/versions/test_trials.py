"""`guildgpt versions canary`, `promote`, `drop` and `rollback`: from a candidate to who serves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from feedback.conftest import KEY, Clock
from feedback.versions.test_deciding import play
from guildgpt.errors import StoreError
from guildgpt.feedback.records import Place
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions import releasing
from guildgpt.feedback.versions.versions_cli import NEXT
from guildgpt.feedback.voting.prompts import NewPrompt

from .asking import ask, decide, erase, in_store, listed, model, refused, shares, state, told

# Canary


def test_canary(url: str, old: Path, new: Path) -> None:
    told("serve", old)
    text = told("canary", new, "--share", 0.3)
    before, id = listed("old")["id"], listed("new")["id"]
    assert text.startswith(
        f"{id} is the candidate: it answers 30% of the conversations, {before} the others.\n"
    )
    assert shares(url) == {"old": 0.7, "new": 0.3}
    [decision] = in_store(url, lambda store: store.decisions.all())
    assert (decision.state, decision.candidate_id, decision.baseline_id) == ("canary", id, before)
    assert decision.settings == {"alpha": 0.05, "margin": 0.05, "max_rounds": 150, "share": 0.3}
    text = told("list")
    assert "candidate" in next(line for line in text.splitlines() if line.startswith(id))
    assert f"{id} is the candidate (canary). No round has been counted yet." in text


@pytest.mark.parametrize("share", ["0", "1", "-0.2", "20", "nan"])
def test_no_share_for_a_canary(url: str, old: Path, new: Path, share: str) -> None:
    told("serve", old)
    error = refused("canary", new, f"--share={share}")
    assert (error.where, "is no canary" in error.what) == ("--share", True)
    assert shares(url) == {"old": 1.0}


def test_what_is_not_tried(url: str, old: Path, new: Path, tmp_path: Path) -> None:
    assert "no version serves yet" in refused("canary", new).what
    told("serve", old)
    assert refused("canary", old).what == f"{listed('old')['id']} serves already"
    id = listed("new")["id"]
    in_store(url, lambda store: erase(store, id))
    assert refused("canary", id).what.startswith(f"{id} is not released: something")
    assert in_store(url, lambda store: store.decisions.all()) == []
    told("canary", model(tmp_path / "third.gguf"))
    error = refused("canary", model(tmp_path / "fourth.gguf"))
    assert error.what == f"there is a candidate already: {listed('third')['id']} (canary)"
    assert shares(url) == {"old": 0.8, "third": 0.2}


def test_no_canary_while_a_candidate_is_trained(url: str, old: Path, new: Path) -> None:
    told("serve", old)
    in_store(url, lambda store: store.decisions.begin())
    error = refused("canary", new)
    assert error.what == "there is a candidate already: one that is being trained (training)"
    assert "still being trained" in refused("drop").what
    assert refused("promote").what == "there is no candidate"


def test_a_canary_that_was_killed_on_its_way_goes_on(url: str, old: Path, new: Path) -> None:
    told("serve", old)
    told("register", new)
    about = {"candidate_id": listed("new")["id"], "baseline_id": listed("old")["id"]}
    begun = in_store(url, lambda store: store.decisions.begin(**about))
    told("canary", new)
    [decision] = in_store(url, lambda store: store.decisions.all())
    assert (decision.id, decision.state) == (begun.id, "canary")
    assert shares(url) == {"old": 0.8, "new": 0.2}


def test_the_circle_brings_a_decision_of_its_own(url: str, old: Path, new: Path) -> None:
    """Its candidate was trained under it, and its settings stay."""
    told("serve", old)
    told("register", new)
    id = listed("new")["id"]

    async def work(store: Store) -> None:
        begun = await store.decisions.begin(settings={"alpha": 0.1, "rounds_a_day": 3})
        version = await store.versions.by_id(id)
        assert version
        canary = await releasing.begin_canary(store, version, 0.5, decision=begun)
        assert (canary.id, canary.state, canary.settings["alpha"]) == (begun.id, "canary", 0.1)
        assert canary.settings["rounds_a_day"] == 3

    in_store(url, work)
    assert shares(url) == {"old": 0.5, "new": 0.5}


# Promote


def test_promote(url: str, trial: str) -> None:
    decide(url, "preferred")
    assert "(preferred)" in refused("serve", "old.gguf").what
    result = ask("promote", answer="n\n")
    assert result.exit_code == 1
    assert f"Let {trial} answer everything from now on?" in result.stderr
    assert shares(url) == {"old": 0.8, "new": 0.2}
    text = told("promote", answer="y\n")
    assert text.startswith(f"{trial} was put to the vote (preferred). No round")
    assert f"{trial} is promoted: it answers everything from now on (release 3)." in text
    assert shares(url) == {"new": 1.0}
    assert state(url) == "promoted"
    assert refused("promote", "--yes").what == f"{trial} was promoted already"


async def vote(store: Store, share: float, place: Place = "discord") -> None:
    """Twelve rounds, in each of which this share of the voters is for the candidate."""
    prompts = [NewPrompt(f"Explain wombats, part {n}.", "tests", "CC0-1.0") for n in range(40)]
    await store.prompts.add(prompts)
    current = await store.decisions.current()
    assert current
    assert current.candidate_id
    pair = {"candidate": current.candidate_id, "baseline": current.baseline_id or ""}
    await play(store, current, [share] * 12, place=place, **pair)


def test_what_the_rounds_say_is_looked_at(url: str, trial: str) -> None:
    in_store(url, lambda store: vote(store, 1.0))
    assert state(url) == "canary"  # nobody has looked yet
    assert "Members prefer it." in told("list")
    assert "(preferred). 7 rounds say 100% for the candidate" in told("promote", "--yes")
    [release] = in_store(url, lambda store: store.releases.current())
    assert (release.kind, release.why, state(url)) == ("promote", "", "promoted")


def test_whom_the_rounds_do_not_prefer_answers_nobody_any_more(url: str, trial: str) -> None:
    in_store(url, lambda store: vote(store, 0.0))
    assert "Members do not prefer it by the margin." in (refused("promote", "--yes").remedy or "")
    assert shares(url) == {"old": 1.0}
    assert state(url) == "not_preferred"


def test_what_a_terminals_rounds_advise_needs_no_force(url: str, trial: str) -> None:
    async def earlier(store: Store) -> None:
        """Each of six people on six days."""
        for _ in range(6):
            await vote(store, 1.0, "terminal")
            clock.pass_(days=1)

    clock = Clock()

    async def work() -> None:
        async with await Store.open(url, key=KEY, clock=clock) as store:
            await earlier(store)

    clock.pass_(days=-100)
    asyncio.run(work())
    assert "It is advice" in told("promote", "--yes")
    [release] = in_store(url, lambda store: store.releases.current())
    assert release.why == "the rounds advise it, and the operator agrees"


@pytest.mark.parametrize("stands", ["canary", "not_preferred", "undecided"])
def test_a_promotion_against_the_decision_is_forced(url: str, trial: str, stands: str) -> None:
    decide(url, stands)
    error = refused("promote", "--yes")
    assert error.what == "the decision does not say that members prefer it"
    assert f"{trial} was put to the vote ({stands})." in (error.remedy or "")
    assert "--force" in (error.remedy or "")
    assert state(url) == stands
    told("promote", trial, "--yes", "--force", "--why", "I like it")
    [release] = in_store(url, lambda store: store.releases.current())
    assert release.kind == "promote"
    assert release.why == f"promoted against the decision ({stands}): I like it"
    assert state(url) == "promoted"


def test_who_is_not_promoted(url: str, trial: str, tmp_path: Path) -> None:
    third = model(tmp_path / "third.gguf")
    assert f"{trial} is being tried" in refused("promote", third, "--yes").what
    told("drop")
    assert refused("promote", "--yes").what == "there is no candidate"
    error = refused("promote", third, "--yes")
    assert error.what == f"{listed('third')['id']} was never tried"
    assert "guildgpt versions serve MODEL" in (error.remedy or "")
    told("promote", trial, "--yes", "--force")  # though it was dropped
    assert shares(url) == {"new": 1.0}


@pytest.mark.parametrize("marked", ["version", "decision"])
def test_what_was_erased_is_not_promoted(url: str, trial: str, marked: str) -> None:
    decide(url, "preferred")
    current = in_store(url, lambda store: store.decisions.current())
    assert current
    in_store(url, lambda store: erase(store, trial) if marked == "version" else blank(store))
    error = refused("promote", "--yes", "--force")
    assert error.what == f"{trial} is not released: something that it learned from was erased"
    assert shares(url) == {"old": 0.8, "new": 0.2}


async def blank(store: Store) -> None:
    """Mark the decision alone."""
    current = await store.decisions.current()
    assert current
    await store.decisions.change(current.id, erased_at=current.created_at)


def test_who_decides_first_has_decided(url: str, trial: str) -> None:
    """The candidate is dropped while the operator looks at the question."""
    decide(url, "preferred")

    async def work(store: Store) -> None:
        who = await releasing.candidate(store)
        await releasing.drop(store)
        with pytest.raises(StoreError, match="has changed meanwhile"):
            await releasing.promote(store, who)

    in_store(url, work)
    assert shares(url) == {"old": 1.0}
    assert state(url) == "dropped"


# Drop


def test_drop(url: str, trial: str) -> None:
    text = told("drop", "--why", "it talks too much")
    assert text.startswith(f"{trial} is dropped: {listed('old')['id']} answers everything.\n")
    assert shares(url) == {"old": 1.0}
    [decision] = in_store(url, lambda store: store.decisions.all())
    assert (decision.state, decision.why) == ("dropped", "it talks too much")
    assert refused("drop").what == "no candidate is being tried"


def test_a_trial_whose_end_was_cut_short_can_be_ended(url: str, trial: str) -> None:
    decide(url, "not_preferred")  # and killed before the release
    assert "The candidate is dropped" in told("drop")
    assert shares(url) == {"old": 1.0}
    assert state(url) == "not_preferred"


# Roll back


def test_rollback(url: str, trial: str) -> None:
    decide(url, "preferred")
    told("promote", "--yes")
    old = listed("old")["id"]
    text = told("rollback", "--why", "it swears")
    assert text == f"{old} answers everything again, {trial} nothing any more.\n{NEXT}\n"
    assert shares(url) == {"old": 1.0}
    error = refused("rollback")
    assert error.what == "there is nothing to go back to"
    assert (error.remedy or "").startswith(f"{old} goes on.")
    told("serve", trial)
    told("rollback")
    assert shares(url) == {"old": 1.0}


def test_nothing_was_released() -> None:
    error = refused("rollback")
    assert error.what == "there is nothing to go back to"
    assert "the model of its settings" in (error.remedy or "")


def test_rollback_during_a_trial_ends_it(url: str, trial: str) -> None:
    assert "answers everything again" in told("rollback")
    assert shares(url) == {"old": 1.0}
    assert state(url) == "dropped"
    assert refused("rollback").what == "there is nothing to go back to"


def test_rollback_passes_over_what_is_gone_or_marked(url: str, tmp_path: Path) -> None:
    files = [model(tmp_path / f"{name}.gguf") for name in ("one", "two", "three", "four")]
    for file in files:
        told("serve", file)
    files[2].unlink()
    two, three = listed("two")["id"], listed("three")["id"]
    in_store(url, lambda store: erase(store, two))
    lines = told("rollback").splitlines()
    assert lines[:2] == [
        f"passed over, {three}: its file is gone.",
        f"passed over, {two}: something that it learned from was erased.",
    ]
    assert shares(url) == {"one": 1.0}
    told("serve", files[3])
    files[0].unlink()
    what = refused("rollback").what
    assert what == f"there is nothing to go back to ({listed('one')['id']}: its file is gone)"
    assert shares(url) == {"four": 1.0}


def test_the_whole_way_on_postgresql(server: str, old: Path, new: Path) -> None:
    told("serve", old)
    told("canary", new)
    decide(server, "preferred")
    told("promote", "--yes")
    assert shares(server) == {"new": 1.0}
    assert state(server) == "promoted"
    told("rollback")
    assert shares(server) == {"old": 1.0}
    assert refused("canary", old).what == f"{listed('old')['id']} serves already"
    told("canary", new)
    told("drop")
    assert json.loads(told("list", "--json"))["decision"] is None
