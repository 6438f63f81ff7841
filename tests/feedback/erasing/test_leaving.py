"""Whatever a guild says and does: nothing leaves that may not, rows name what they rest on, and
none says the opposite of another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.conftest import KEY
from feedback.exported import origins, rows
from feedback.guild import BEGIN, Guild
from guildgpt.feedback.exporting.exports import FORMS, export
from guildgpt.feedback.exporting.view import Switches
from guildgpt.feedback.records import Consent, CorrectionState, PoolPrompt, StoredMessage
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import purpose_of, sha256_of

NAMES = ("newcomer", "teacher", "skeptic")
# What is allowed comes more often: else there is little that could leave by mistake.
CONSENTS: list[Consent] = ["train", "train", "chat", "none"]
STATES: list[CorrectionState] = ["accepted", "accepted", "refused", "offered"]
SWITCHES = [Switches(), Switches(slash=True), Switches(members=True)]


@st.composite
def guilds(draw: st.DrawFn) -> Guild:
    """A guild of three members that talks at random. Every text is somebody's by its words, but for
    wordings that repeat an answer."""
    guild = Guild()
    for name in NAMES:
        guild.member(name, draw(st.sampled_from(CONSENTS)))
    who = st.sampled_from([*NAMES, None])
    for number in range(draw(st.integers(1, 3))):
        speaker = draw(who)
        kind = draw(st.sampled_from(["web", "web", "terminal", "slash", "chain"]))
        text = f"asked-{number} by {speaker}"
        asked = guild.say(text, kind=kind, member_id=speaker, name=speaker)  # type: ignore[arg-type]
        if draw(st.booleans()) and purpose_of(sha256_of(text)) == "decide":
            guild.rows.prompts.append(
                PoolPrompt(
                    *(f"p{number}", text, sha256_of(text), "decide", "tests", "CC0-1.0", "", "en"),
                    *(None, "accepted", BEGIN),
                )
            )
        shown = [
            guild.answer(f"answered-{number}-{n}", asked, deleted=draw(st.integers(0, 5)) == 0)
            for n in range(draw(st.integers(1, 3)))
        ]
        if len(shown) > 1:
            comparison = guild.compare(asked, *shown)
            for _ in range(draw(st.integers(0, 3))):
                order = draw(st.permutations(range(len(shown))))
                guild.vote(comparison, draw(who), *order)
        for _ in range(draw(st.integers(0, 3))):
            guild.rate(draw(st.sampled_from(shown)), draw(who), draw(st.sampled_from([-1, 1])))
        for n in range(draw(st.integers(1, 5))):
            wording = draw(st.sampled_from([*[f"worded-{number}-{n}"] * 4, "", shown[0].text]))
            state = draw(st.sampled_from(STATES)) if wording else "accepted"
            guild.correct(draw(st.sampled_from(shown)), draw(who), wording, state)
    return guild


EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def stands(guild: Guild, wording: str) -> bool:
    """Whether a wording with words of its own may leave, as far as it alone is concerned."""
    [one] = [found for found in guild.rows.corrections if found.text == wording]
    later = [
        found
        for found in guild.rows.corrections
        if (found.message_id, found.member_id) == (one.message_id, one.member_id)
        and found.state == "accepted"
        and found.id > one.id
    ]
    [answer] = [found for found in guild.rows.messages if found.id == one.message_id]
    member = guild.members.get(one.member_id or "")
    consents = member is not None and member.consent != "none"
    return one.state == "accepted" and not later and consents and not answer.deleted


def may_leave(guild: Guild, asked: StoredMessage, switches: Switches, row: Any) -> bool:
    """Whether a question may, in this row."""
    if asked.text in [one.text for one in guild.rows.prompts]:
        return False
    [place] = [one for one in guild.rows.conversations if one.id == asked.conversation_id]
    if asked.member_id is None:
        return place.kind != "web"
    if guild.members[asked.member_id].consent != "train":
        return False
    if switches.members or (switches.slash and place.kind == "slash"):
        return True
    named = {id for kind, id in origins(row) if kind == "correction"}
    by = {one.member_id for one in guild.rows.corrections if one.id in named}
    return place.kind == "web" and by == {asked.member_id}


@given(guilds(), st.sampled_from(SWITCHES))
@EXAMPLES
def test_nothing_leaves_that_may_not(guild: Guild, switches: Switches) -> None:
    deleted = {one.text for one in guild.rows.messages if one.deleted}
    deleted -= {one.text for one in guild.rows.corrections}  # somebody words an answer as it was
    for row in [row for form in FORMS for row in rows(guild, form, switches=switches)]:
        said = repr(row)
        for one in guild.rows.corrections:
            if one.text.startswith("worded") and f"'{one.text}'" in said:
                assert stands(guild, one.text), one
        for asked in guild.rows.messages:
            if asked.role == "user" and asked.text in said:
                assert may_leave(guild, asked, switches, row), asked
        assert not [text for text in deleted if f"'{text}'" in said and "worded" not in said], row


@given(guilds(), st.sampled_from([form for form in FORMS if form != "oasst"]))
@EXAMPLES
def test_every_row_names_what_it_rests_on(guild: Guild, form: Any) -> None:
    there = {("message", one.id) for one in guild.rows.messages}
    there |= {("vote", one.id) for one in guild.rows.votes}
    there |= {("comparison", one.id) for one in guild.rows.comparisons}
    there |= {("rating", one.id) for one in guild.rows.ratings}
    there |= {("correction", one.id) for one in guild.rows.corrections}
    found = export(guild.snapshot, form, switches=Switches(members=True))
    for row in found.rows:
        named, said = origins(row), repr(row)
        assert named <= there
        wordings = {one.text for one in guild.rows.corrections}
        for message in guild.rows.messages:
            if f"'{message.text}'" in said and message.text not in wordings:
                assert ("message", message.id) in named
        corrected = {kind for kind, _ in named} & {"correction"}
        for one in guild.rows.corrections:
            if one.text.startswith("worded") and f"'{one.text}'" in said:
                assert ("correction", one.id) in named
        judged = {kind for kind, _ in named} & {"vote", "rating"}
        assert corrected or judged
    assert found.events == set().union(*map(origins, found.rows), set())


@given(guilds())
@EXAMPLES
def test_no_row_says_the_opposite_of_another(guild: Guild) -> None:
    worse: dict[tuple[str, str], set[tuple[str, str]]] = {}
    pairs = rows(guild, "preference", switches=Switches(members=True))
    for row in pairs:
        question = repr(row["prompt"])
        better, other = (row[side][0]["content"].strip() for side in ("chosen", "rejected"))
        assert better != other
        worse.setdefault((question, better), set()).add((question, other))
    left = dict(worse)
    while left:  # take away what beats nothing that is left; a circle would never go
        ends = [one for one, below in left.items() if not below & left.keys()]
        assert ends
        for one in ends:
            del left[one]
    replaced = {
        row["rejected"][0]["content"]
        for row in pairs
        if any(kind == "correction" for kind, _ in origins(row))
    }
    for row in rows(guild, "sft", switches=Switches(members=True)):
        if not any(kind == "correction" for kind, _ in origins(row)):
            assert row["messages"][-1]["content"] not in replaced


@pytest.mark.parametrize("seed", range(4))
def test_what_was_erased_does_not_leave(seed: int, tmp_path: Path) -> None:
    """In a real store, whatever people asked, worded and took back before."""
    chance = random.Random(seed)
    erased = chance.choice(NAMES)

    async def live(store: Store) -> list[str]:
        people = {}
        for name in NAMES:
            link = await store.accounts.invite("voter", name)
            people[name], _ = await store.accounts.accept(link, None, "")
            await store.members.set_consent(people[name].member_id, "train")
        answers = []
        for number in range(12):
            asker = chance.choice(NAMES)
            place = await store.conversations.start("web", source="web")
            asked = await store.conversations.add_message(
                conversation_id=place,
                parent_id=None,
                role="user",
                text=f"question {number} of {asker}",
                member_id=people[asker].member_id,
                name=asker,
            )
            answers += [
                (
                    asker,
                    await store.conversations.add_message(
                        conversation_id=place,
                        parent_id=asked.id,
                        role="assistant",
                        text=f"answer {number}-{n} to {asker}",
                        synthetic=True,
                    ),
                )
                for n in range(2)
            ]
        for number in range(30):
            by, (_, answer) = chance.choice(NAMES), chance.choice(answers)
            text = f"wording {number} of {by}"
            made = await store.corrections.offer(
                answer.id, people[by].member_id, text, "CC0-1.0", a_day=100
            )
            if state := chance.choice(["accepted", "accepted", "refused", None]):
                await store.corrections.review(made.id, state)  # type: ignore[arg-type]
            await store.ratings.add(answer.id, people[chance.choice(NAMES)].member_id, 1)
        return [name for name in NAMES if name in await exported(store)]

    async def exported(store: Store) -> str:
        found = await store.snapshot()
        return repr([export(found, form, switches=SWITCHES[2]).rows for form in FORMS])

    async def run() -> None:
        async with await Store.open(f"sqlite:///{tmp_path / 'f.db'}", key=KEY) as store:
            assert await live(store) == list(NAMES)
            await store.privacy.erase_account("web", erased)
            left = await exported(store)
            assert erased not in left
            assert f"of {next(name for name in NAMES if name != erased)}" in left

    asyncio.run(run())


def test_the_guilds_are_not_all_silent() -> None:
    """What the properties are tried on has rows of each kind."""
    kinds: set[str] = set()

    @given(guilds())
    @EXAMPLES
    def look(guild: Guild) -> None:
        forms: Sequence[Any] = ("preference", "sft", "kto")
        for form in forms:
            for row in rows(guild, form, switches=Switches(members=True)):
                kinds.update(f"{form} {kind}" for kind, _ in origins(row))

    look()
    assert {"preference vote", "preference correction", "sft rating", "sft correction"} <= kinds
