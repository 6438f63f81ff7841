"""What members wrote leaves the store only by their will and the operator's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.exported import MEMBERS, SLASH, judged, left_out, load, rows
from feedback.guild import Guild
from guildgpt.feedback.exporting.exports import FORMS, Form, export
from guildgpt.feedback.exporting.view import Switches
from guildgpt.feedback.people.policy import RULE_21
from guildgpt.feedback.records import Consent, Snapshot


def test_the_rule_stands_in_words() -> None:
    assert "rule 21" in RULE_21
    assert "may not be used to train" in RULE_21


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["chain", "thread", "dm", "slash"])
@pytest.mark.parametrize("consent", ["none", "chat", "train"])
@pytest.mark.parametrize("switches", [None, MEMBERS, SLASH, Switches(True, True)])
def test_members_text_leaves_only_by_two_wills(
    form: Form, kind: Any, consent: Consent, switches: Switches | None
) -> None:
    guild = Guild()
    guild = judged(guild, member_id=guild.member("newcomer", consent), kind=kind)
    on = switches is not None and (switches.members or (switches.slash and kind == "slash"))
    found = export(guild.snapshot, form, switches=switches)
    assert bool(found.rows) == (on and consent == "train")
    if found.rows:
        assert "What is TLS?" in json.dumps(found.rows)
    else:
        assert found.events == set()
        assert sum(found.left_out.values()) > 0


@pytest.mark.parametrize("form", FORMS)
def test_the_reasons_are_told(form: Form) -> None:
    guild = Guild()
    for consent in ("none", "chat", "train"):
        judged(guild, member_id=guild.member(f"consent {consent}", consent))
    judged(guild, member_id="nobody on record")
    judged(guild, name="a name without a member")
    found = left_out(guild, form)
    assert {reason for reason in found if "text" in reason} == {
        "text of a member with consent none",
        "text of a member with consent chat",
        "text of members (the operator's switch is off)",
        "text of a speaker who is not on record",
    }


@pytest.mark.parametrize("form", FORMS)
def test_prompts_that_no_member_wrote_always_leave(form: Form) -> None:
    assert rows(judged(), form)


@pytest.mark.parametrize("form", FORMS)
def test_a_member_anywhere_before_the_answer_counts(form: Form) -> None:
    """Also in a system turn, and if the last to ask allows everything."""
    for role in ("user", "system"):
        guild = Guild()
        shy, open_ = guild.member("newcomer"), guild.member("tinkerer", "train")
        above = guild.say("mine", role=role, member_id=shy, name="The Newcomer")
        if role == "user":
            above = guild.answer("as you say: mine", above)
        judged(guild, parent=above, member_id=open_)
        found = export(guild.snapshot, form, switches=MEMBERS)
        assert found.rows == []
        assert found.left_out["text of a member with consent chat"] > 0


def test_the_slash_switch_takes_the_command_and_nothing_later() -> None:
    """What follows in the same conversation are ordinary messages."""
    guild = Guild()
    member = guild.member("tinkerer", "train")
    asked = guild.say("by /ask", kind="slash", member_id=member)
    answer = guild.answer("first", asked)
    guild.rate(answer, member, 1)
    later = guild.answer("second", guild.say("by a reply", answer, member_id=member))
    guild.rate(later, member, 1)
    (row,) = rows(guild, "kto", switches=SLASH)
    assert row["completion"][0]["content"] == "first"
    assert len(rows(guild, "kto", switches=MEMBERS)) == 2


def test_votes_and_ratings_of_a_member_with_consent_none_do_not_count() -> None:
    guild = judged()
    guild.member("teacher", "none")
    assert rows(guild, "preference") == []
    assert left_out(guild, "preference") == {"vote of a member with consent none": 1}
    assert rows(guild, "kto") == []
    assert left_out(guild, "kto") == {"rating of a member with consent none": 2}
    (tree,) = rows(guild, "oasst")
    assert [(reply["rank"], reply["emojis"]) for reply in tree["prompt"]["replies"]] == [
        (None, {}),
        (None, {}),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_what_was_deleted_or_blanked_does_not_leave(form: Form) -> None:
    whole = judged()
    for index in range(3):
        for change in ({"deleted": True}, {"text": ""}, {"text": " \n"}):
            snapshot = whole.snapshot
            messages = list(snapshot.messages)
            gone = messages[index] = replace(messages[index], **change)
            found = export(replace(snapshot, messages=messages), form)
            if gone.text.strip():
                assert gone.text not in json.dumps(found.rows)
            assert ("message", gone.id) not in found.events
            assert sum(found.left_out.values()) > 0


@pytest.mark.parametrize("form", FORMS)
def test_discords_ids_are_taken_out_of_texts(form: Form) -> None:
    guild = Guild()
    member = guild.member("tinkerer", "train")
    judged(guild, text="Does <@80351110224678912> or <@!80351110224678912> know?", member_id=member)
    text = json.dumps(rows(guild, form, switches=MEMBERS))
    assert "Does @member or @member know?" in text
    assert "80351110224678912" not in text


CANARY = "canary"


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Snapshot, Switches]:
    """Trees in which members speak, answers quote them, and all vote and rate."""
    guild = Guild()
    consents: list[Consent] = ["none", "chat", "train"]
    names = [f"{CANARY}-name-{index}" for index in range(4)]
    consent = {guild.member(name, draw(st.sampled_from(consents))): name for name in names}
    turns = [guild.say("operator's question")]
    for number in range(draw(st.integers(2, 14))):
        parent = draw(st.sampled_from([None, *turns]))
        if parent is not None and parent.role == "user":
            turns.append(guild.answer(f"answer {number} to: {parent.text}", parent))
            continue
        speaker = draw(st.sampled_from([None, *consent]))
        word = f"{CANARY}-word-{number}-of-{speaker}-end" if speaker else f"operator's {number}"
        turns.append(
            guild.say(
                word,
                parent,
                kind=draw(st.sampled_from(["chain", "dm", "slash", "thread"])),
                member_id=speaker,
                name=f"{CANARY}-display-{speaker}" if speaker else None,
                discord_id=7_000_000 + number,
            )
        )
    answers = [turn for turn in turns if turn.role == "assistant"]
    for answer in answers:
        guild.rate(answer, draw(st.sampled_from(names)), draw(st.sampled_from([-1, 1])))
        siblings = [other for other in answers if other.parent_id == answer.parent_id][:2]
        if len(siblings) == 2:
            question = next(turn for turn in turns if turn.id == answer.parent_id)
            comparison = guild.compare(question, *siblings)
            for name in names:
                guild.vote(comparison, name, *draw(st.permutations([0, 1])))
    switches = Switches(draw(st.booleans()), draw(st.booleans()))
    return guild.snapshot, switches


@given(crowd=crowds())
def test_nothing_of_a_member_leaves_unasked(
    crowd: tuple[Snapshot, Switches],
) -> None:
    snapshot, switches = crowd
    on = switches.members or switches.slash
    stay = {name for name, m in snapshot.members.items() if m.consent != "train" or not on}
    for form in FORMS:
        found = export(snapshot, form, switches=switches)
        text = json.dumps(found.rows)
        assert f"{CANARY}-display" not in text
        assert "700000" not in text
        for name in stay:
            assert f"of-{name}-end" not in text
        said = text
        for name in snapshot.members:  # their own words name them here, nothing else may
            said = said.replace(f"of-{name}-end", "")
        assert f"{CANARY}-name" not in said
        silent = {name for name, member in snapshot.members.items() if member.consent == "none"}
        events = {id for _, id in found.events}
        assert not events & {v.id for v in snapshot.votes if v.member_id in silent}
        assert not events & {r.id for r in snapshot.ratings if r.member_id in silent}


@given(crowd=crowds())
def test_every_row_loads_in_training_whoever_spoke(
    crowd: tuple[Snapshot, Switches], tmp_path_factory: pytest.TempPathFactory
) -> None:
    snapshot, switches = crowd
    for form in ("preference", "kto", "sft"):
        found = export(snapshot, form, switches=switches).rows
        items, skipped = load(tmp_path_factory.getbasetemp(), found)
        assert len(items) == len(found)
        assert not skipped
