"""A turn through Discord with a tiny model: the bot and each command are processes of their own."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import fmean

import pytest
from old.samples import finished, here, unpacked
from rich.console import Console

from guildgpt.bot.text import rounds as say
from guildgpt.feedback.versions.betting import decide
from guildgpt.feedback.voting.prompts import purpose_of, sha256_of
from simguild.fake.server import PATIENCE
from simguild.play import Check
from simguild.tastes import TASTES
from simguild.turn import CHANNELS, SETTINGS, Turn, simulated, take_turn
from simguild.voting import written

__all__ = ["finished", "here", "unpacked"]
pytestmark = pytest.mark.slow
BEFORE, MOST = 24, 60  # rounds to learn from, and to decide in at most
PROMPTS = [f"What is lamp number {number}?" for number in range(200)]
QUICK = (
    "dpo.epochs=2",
    "dpo.learning_rate=1e-2",
    "dpo.lora.rank=4",
    "dpo.dtype=float32",
    "evaluate.prompts=0",
    "export.gguf=['F16']",
    "gate.on=false",  # so small a model breaks more than it learns
)


def broken(checks: Iterable[Check]) -> list[str]:
    """What broke; on a machine that is busy with other things something may come late."""
    found = [f"{check.what}: {fault}" for check in checks for fault in check.faults]
    return [one for one in found if "waited in vain" not in one and "too fast" not in one]


@asynccontextmanager
async def guild(folder: Path, ancestor: Path, taste: str) -> AsyncIterator[Turn]:
    console = Console(file=io.StringIO(), width=120, no_color=True)
    learning = [f"model.base={ancestor}", *QUICK]
    more = {
        "learning": ["--least", "5", *(word for one in learning for word in ("--set", one))],
        "settings": {**SETTINGS, "max_tokens": 12},
        "haste": 1e6,
    }
    async with simulated(folder, TASTES[taste], console, **more) as turn:
        turn.fake.interaction_seconds = PATIENCE
        yield turn


async def test_members_promote_what_they_prefer(tmp_path: Path, finished: Path) -> None:
    async with guild(tmp_path, finished / "sft" / "model", "short") as turn:
        old, decision = await take_turn(
            turn, str(finished / "sft" / "model"), PROMPTS, BEFORE, MOST
        )
        assert broken(await turn.end()) == []
        assert decision.state == "promoted"
        assert decision.baseline_id == old
        told = [one.content for admin in turn.admins for one in admin.home.by(turn.fake.bot)]
        assert told.count(say.FELL) == 1  # in one channel, though several rounds close at once
        said = defaultdict(set)
        for one in turn.journal.pressed:
            said[one.who, one.message].add(one.verdict)
        assert any(len(verdicts) > 1 for verdicts in said.values())  # somebody's mind was changed
        await the_votes_decided(turn, old, decision.candidate_id or "")


async def the_votes_decided(turn: Turn, old: str, new: str) -> None:
    """What the store says of the candidate follows from what members clicked on and saw."""
    decision = await turn.decision()
    async with turn.store() as store:
        rounds = await store.rounds.ballots()
        texts = {held.round.id: await written(store, held) for held in rounds}
        kept = {one.round_id: one.mean for one in await store.rounds.means(decision.id)}
    teaching = [held for held in rounds if held.round.decision_id is None]
    deciding = [held for held in rounds if held.round.decision_id == decision.id]
    # Those that were opened in other channels after the last that was needed teach, too.
    assert BEFORE <= len(teaching) < BEFORE + len(CHANNELS)
    assert len(teaching) + len(deciding) == len(rounds)
    assert {held.versions for held in teaching} == {(old, old)}
    assert {held.versions for held in deciding} == {(old, new), (new, old)}  # sides are drawn
    for held in rounds:
        shown = turn.fake.world.messages[held.round.discord_id or 0]
        [prompt] = [one for one in PROMPTS if f"> {one}\n" in shown.content]
        assert purpose_of(sha256_of(prompt)) == ("decide" if held in deciding else "train")
    said = {
        held.round.id: said_of(turn, held.round.discord_id, held.versions, new) for held in deciding
    }
    assert kept == {id: pytest.approx(value) for id, value in said.items()}
    standing = decide([said[id] for id in kept])
    assert decision.result is not None
    assert standing.state == "preferred"
    assert standing.rounds == decision.result["rounds"]
    assert standing.mean == pytest.approx(decision.result["mean"])
    mine = [turn.taste.value(text) for one in texts.values() for text, by in one if by == new]
    others = [turn.taste.value(text) for one in texts.values() for text, by in one if by == old]
    assert fmean(mine) > fmean(others)


def said_of(turn: Turn, message: int | None, versions: tuple[str | None, ...], new: str) -> float:
    """The mean of members' last clicks under a message, 1 for the candidate's answer."""
    shown = turn.fake.world.messages[message or 0]
    last = {one.who: one.verdict for one in turn.journal.pressed if one.message is shown}
    worth = {"left": float(versions[0] == new), "right": float(versions[1] == new)}
    return fmean(worth.get(verdict, 0.5) for verdict in last.values())


async def test_an_indifferent_guild_promotes_nothing(tmp_path: Path, finished: Path) -> None:
    ancestor = str(finished / "sft" / "model")
    async with guild(tmp_path, finished / "sft" / "model", "none") as turn:
        old = await turn.begin(ancestor, PROMPTS)
        await turn.hold(16)
        decision = await turn.learn()
        assert decision.state == "canary"
        async with turn.store() as store:
            few = decision.settings | {"max_rounds": 8}
            await store.decisions.change(decision.id, settings=few)
        await turn.until_answered_by(decision.candidate_id or "")
        await turn.hold(12, deciding=True)
        assert (await turn.decision()).state in ("undecided", "not_preferred")
        await turn.followed()
        assert {await turn.ask(member) for member in turn.members[:4]} == {old}
        assert broken(await turn.end()) == []
        async with turn.store() as store:
            assert [one.version_id for one in await store.releases.current()] == [old]
