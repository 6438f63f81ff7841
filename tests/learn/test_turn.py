"""Turns of the circle, with a tiny model that really learns."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from sqlalchemy import delete

from guildgpt.errors import GuildError
from guildgpt.feedback.exporting import learnable
from guildgpt.feedback.records import Decision
from guildgpt.feedback.storage.schema import releases, versions
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.versions import Versions
from guildgpt.learn import turn
from guildgpt.learn.turn import Options, begin, take_turn
from guildgpt.learn.watch import Watch
from guildgpt.model.lineage import read_lineage
from guildgpt.pipeline import run

from .conftest import Guild

RL = """\
[ppo]
steps = 2
batch_size = 4
max_new_tokens = 8
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"

"""
ANNA = 10**17  # the first of the voters


def votes_that_stand(guild: Guild) -> set[tuple[str, str]]:
    snapshot = guild.do(lambda store: store.snapshot())
    return {("vote", vote.id) for vote in snapshot.votes}


def assert_learned_from_what_stands(guild: Guild, model: str) -> None:
    """From all votes, and no others."""
    votes = {event for event in read_lineage(model) if event[0] == "vote"}
    assert votes == votes_that_stand(guild)


def serving(guild: Guild) -> list[tuple[str, float]]:
    current = guild.do(lambda store: store.releases.current())
    return [(one.version_id, one.share) for one in current]


def test_too_few_votes(guild: Guild) -> None:
    with pytest.raises(GuildError, match="0 comparisons of the 10 that a turn takes") as raised:
        take_turn(guild.options())
    assert "10 more" in str(raised.value)
    guild.do(lambda store: guild.vote(store, 4))
    with pytest.raises(GuildError, match="4 comparisons"):
        take_turn(guild.options())
    assert guild.do(lambda store: store.decisions.all()) == []


def test_the_folder_of_another_turn_is_left_alone(guild: Guild) -> None:
    """Two stores may share it, and the version of the one answer from it."""
    model = guild.folder / "learn" / "001" / "dpo" / "model" / "model-F16.gguf"
    model.parent.mkdir(parents=True)
    model.write_text("another store's")
    guild.do(lambda store: guild.vote(store, 12))
    decision = begin(guild.options())
    assert Path(decision.folder or "").name == "002"
    assert model.read_text() == "another store's"


def test_nobody_serves(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    guild.do(_forget_releases)
    with pytest.raises(GuildError, match="no version serves yet"):
        take_turn(guild.options())


async def _forget_releases(store: Store) -> None:
    await store.database.execute(delete(releases))


def test_a_whole_turn_to_the_promotion(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 14))
    [before] = serving(guild)
    decision = take_turn(guild.options())
    assert decision.state == "canary"
    assert decision.candidate_id
    assert serving(guild) == [(before[0], 0.8), (decision.candidate_id, 0.2)]

    known = guild.do(lambda store: store.versions.by_id(decision.candidate_id))
    assert known is not None
    assert known.parent_id == before[0]
    assert_learned_from_what_stands(guild, known.path)

    assert take_turn(guild.options()).state == "canary"  # nobody has voted on it yet
    guild.do(lambda store: guild.vote(store, 12, decision))
    guild.answer = False
    assert take_turn(guild.options()).state == "preferred"
    assert len(serving(guild)) == 2
    guild.answer = True
    promoted = take_turn(guild.options())
    assert (promoted.state, promoted.why) == ("promoted", "members prefer it")
    assert serving(guild) == [(decision.candidate_id, 1.0)]


def test_a_turn_with_a_reward_model_and_ppo(guild: Guild) -> None:
    """The other way from votes to a candidate: the recipe's stages say it, and nothing else."""
    guild.recipe.write_text(
        guild.recipe.read_text(encoding="utf-8")
        .replace('stages = ["dpo"]', 'stages = ["reward", "ppo"]')
        .replace("[dpo]\nepochs = 2", "[reward]\nepochs = 1")
        .replace("[evaluate]", RL + "[evaluate]"),
        encoding="utf-8",
    )
    guild.do(lambda store: guild.vote(store, 14))
    [before] = serving(guild)
    decision = take_turn(guild.options())
    assert decision.state == "canary"
    assert (decision.candidate_id or "").startswith("ppo@")
    known = guild.do(lambda store: store.versions.by_id(decision.candidate_id or ""))
    assert known is not None
    assert known.parent_id == before[0]
    assert_learned_from_what_stands(guild, known.path)


def test_the_next_turn_starts_from_the_ancestor_on_all_votes(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 14))
    first = take_turn(guild.options())
    guild.do(lambda store: guild.vote(store, 12, first))
    assert take_turn(guild.options()).state == "promoted"
    guild.do(lambda store: guild.vote(store, 6))
    second = take_turn(guild.options())
    assert second.state == "canary"
    assert second.baseline_id == first.candidate_id
    inputs = json.loads(
        (Path(second.folder or "") / "dpo" / "inputs.json").read_text(encoding="utf-8")
    )
    first_inputs = json.loads(
        (Path(first.folder or "") / "dpo" / "inputs.json").read_text(encoding="utf-8")
    )
    assert inputs == first_inputs  # the same weights
    rows = (Path(second.folder or "") / "feedback.jsonl").read_text().splitlines()
    assert len(rows) == 20  # 14 and 6; the 12 that decided are not among them
    asked = {json.loads(row)["prompt"][0]["content"] for row in rows}
    prompts = guild.do(lambda store: store.prompts.all())
    assert asked <= {one.text for one in prompts if one.purpose == "train"}


def test_a_candidate_that_is_not_preferred_is_dropped_with_the_reason(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 14))
    [before] = serving(guild)
    decision = take_turn(guild.options())
    guild.do(lambda store: guild.vote(store, 14, decision, for_candidate=0.0))
    dropped = take_turn(guild.options())
    assert dropped.state == "not_preferred"
    assert dropped.why
    assert serving(guild) == [before]


def test_what_was_erased_in_the_canary_is_not_promoted(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 14))
    decision = take_turn(guild.options())
    guild.do(lambda store: guild.vote(store, 14, decision))
    erasure = guild.do(lambda store: store.privacy.erase(ANNA))
    assert erasure.versions == (decision.candidate_id,)
    with pytest.raises(GuildError, match="something that it learned from was erased") as raised:
        take_turn(guild.options())
    assert "guildgpt learn --again" in str(raised.value)
    assert len(serving(guild)) == 2


TURN = """
from pathlib import Path
from rich.console import Console
from guildgpt.learn.turn import Options, take_turn
print("begun", flush=True)
options = Options({url!r}, {recipe!r}, (), Path({work!r}), 0.2, 10, Console(width=200),
                  lambda question: True)
decision = take_turn(options)
print("turned", decision.state, flush=True)
"""


def in_a_process(options: Options, before: str = "") -> Forked:
    code = TURN.format(url=options.store, recipe=options.recipe, work=str(options.work))
    return Forked(before + code)


# Where the process stops and waits to be killed: before or after what the store is told.
STOP = """
import time
def stopping(name, function):
    def stopped(*arguments, **options):
        if {when!r} == "before":
            print("stopped", flush=True)
            time.sleep(600)
        result = function(*arguments, **options)
        print("stopped", flush=True)
        time.sleep(600)
        return result
    return stopped
import guildgpt.learn.{module} as there
there.{name} = stopping({name!r}, there.{name})
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "where",
    [
        *("turn.begin", "turn.take", "turn._run", "turn._register"),
        *("measuring.answers_of", "gate.measure", "gate.begin_canary"),
    ],
)
def test_killed_anywhere_the_same_command_goes_on(guild: Guild, where: str, when: str) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    module, _, name = where.partition(".")
    killed = in_a_process(guild.options(), STOP.format(module=module, name=name, when=when))
    killed.wait_for("stopped")
    killed.kill()
    decision = take_turn(guild.options())
    assert decision.state == "canary"
    assert len(guild.do(lambda store: store.decisions.all())) == 1
    assert len(serving(guild)) == 2
    known = guild.do(lambda store: store.versions.by_id(decision.candidate_id or ""))
    assert known is not None
    assert_learned_from_what_stands(guild, known.path)


def test_two_at_once(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    first = in_a_process(guild.options(), STOP.format(module="turn", name="_run", when="before"))
    first.wait_for("stopped")
    with pytest.raises(GuildError, match=f"turned already: process {first.pid}"):
        take_turn(guild.options())
    first.kill()
    assert take_turn(guild.options()).state == "canary"


def test_what_is_erased_during_training_is_in_no_version(guild: Guild) -> None:
    """It begins anew by itself, without it, and nothing of the first attempt is left."""
    guild.do(lambda store: guild.vote(store, 14))
    folder = guild.folder / "learn" / "001"
    waiting = (
        "import time, pathlib\n"
        "import guildgpt.learn.turn as turn\n"
        "run = turn._run\n"
        "def slow(*arguments):\n"
        f"    mark = pathlib.Path({str(guild.folder / 'mark')!r})\n"
        "    if not mark.exists():\n"
        "        mark.touch()\n"
        "        print('training', flush=True)\n"
        "        while True:\n"
        "            time.sleep(0.05)\n"
        "    run(*arguments)\n"
        "turn._run = slow\n"
    )
    learning = in_a_process(guild.options(), waiting)
    learning.wait_for("training")
    before = (folder / "feedback.jsonl").read_text()
    anna = guild.do(lambda store: store.members.of_user(ANNA))
    cast = guild.do(lambda store: store.snapshot()).votes
    theirs = {vote.id for vote in cast if vote.member_id == anna.id}
    assert any(id in before for id in theirs)
    guild.do(lambda store: store.privacy.erase(ANNA))
    assert "turned canary" in learning.finish()
    assert "begins anew" in learning.output()
    assert not any(id in (folder / "feedback.jsonl").read_text() for id in theirs)
    decision = guild.do(lambda store: store.decisions.current())
    assert isinstance(decision, Decision)
    assert decision.erased_at is None
    known = guild.do(lambda store: store.versions.by_id(decision.candidate_id or ""))
    assert known is not None
    assert known.erased_at is None
    assert not theirs & {id for _, id in read_lineage(known.path)}


def test_it_goes_on_by_what_it_was_begun_with(guild: Guild) -> None:
    """Not by the options of the command that goes on."""
    guild.do(lambda store: guild.vote(store, 12))
    begin(replace(guild.options(), share=0.4))
    assert take_turn(replace(guild.options(), share=0.1, least=1000)).state == "canary"
    assert [share for _, share in serving(guild)] == [0.6, 0.4]


ERASE = """
import asyncio
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
async def erase():
    async with await Store.open({url!r}, key=member_key({url!r})) as store:
        await store.privacy.erase({member})
asyncio.run(erase())
"""


@pytest.mark.parametrize("when", ["let_go", "register", "inherit"])
def test_an_erasure_in_the_moment_in_which_training_ends(
    guild: Guild, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is seen by who watches or by who registers: it begins anew by itself."""
    guild.do(lambda store: guild.vote(store, 14))
    holder = {"let_go": Watch, "register": turn, "inherit": Versions}[when]
    own, run, runs = getattr(holder, when), turn._run, []

    def after(*arguments: Any, **options: Any) -> Any:
        if len(runs) == 1:
            Forked(ERASE.format(url=guild.url, member=ANNA)).finish()
        return own(*arguments, **options)

    def counted(*arguments: Any) -> None:
        runs.append(arguments)
        run(*arguments)

    monkeypatch.setattr(turn, "_run", counted)
    monkeypatch.setattr(holder, when, after)
    decision = take_turn(guild.options())
    assert decision.state == "canary"
    assert len(runs) == 2
    known = guild.do(lambda store: store.versions.by_id(decision.candidate_id or ""))
    assert known is not None
    assert known.erased_at is None
    assert_learned_from_what_stands(guild, known.path)


def test_a_candidate_whose_file_is_deleted(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    decision = take_turn(guild.options())
    known = guild.do(lambda store: store.versions.by_id(decision.candidate_id or ""))
    assert known is not None
    file = Path(known.path)
    content = file.read_bytes()
    file.unlink()
    guild.do(lambda store: guild.vote(store, 12, decision))
    with pytest.raises(GuildError, match="is not released: its file is gone") as raised:
        take_turn(guild.options())
    assert "Put it back" in str(raised.value)
    file.write_bytes(content)
    assert take_turn(guild.options()).state == "promoted"
    file.unlink()  # once it serves, a turn is taken all the same: it starts from the ancestor
    guild.do(lambda store: guild.vote(store, 4))
    assert take_turn(guild.options()).state == "canary"


def test_votes_on_versions_that_are_gone(guild: Guild) -> None:
    """What was voted on is in the store: they teach all the same."""
    guild.do(lambda store: guild.vote(store, 12))
    guild.do(lambda store: store.database.execute(delete(versions)))
    assert turn.status(guild.url)["comparisons"] == 12


# --- a full disk ---------------------------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes of any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("holder", "name", "what"),
    [
        (learnable, "write_lines", "cannot be written"),
        (turn, "_run", "could not be written"),
        (run, "save_model", "could not be written"),
    ],
)
def test_a_disk_that_is_full_in_the_middle(
    guild: Guild, holder: Any, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, nothing is lost, and the same command goes on."""
    guild.do(lambda store: guild.vote(store, 12))
    own = getattr(holder, name)

    def on_a_full_disk(*arguments: Any, **options: Any) -> Any:
        with no_file_larger_than(1000):
            return own(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(holder, name, on_a_full_disk)
        with pytest.raises(GuildError, match=what) as raised:
            take_turn(guild.options())
    assert "\n" not in raised.value.what
    decision = take_turn(guild.options())
    assert decision.state == "canary"
    assert len(guild.do(lambda store: store.decisions.all())) == 1
