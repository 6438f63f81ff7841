"""People's own wordings leave once they are accepted: as pairs, and to be imitated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from feedback.exported import MEMBERS, left_out, load, origins, rows
from feedback.guild import BEGIN, Guild
from guildgpt.chat import Comparison, Conversation
from guildgpt.feedback.exporting.learnable import learnable
from guildgpt.feedback.records import Consent, CorrectionState, PoolPrompt
from guildgpt.feedback.voting.prompts import purpose_of, sha256_of


def worded(state: CorrectionState = "accepted", consent: Consent = "chat") -> Guild:
    """An answer to the operator's question, worded better by a member."""
    guild = Guild()
    answer = guild.answer("No idea.", guild.say("What is TLS?"))
    guild.correct(answer, guild.member("teacher", consent), "A protocol.", state)
    return guild


def test_a_wording_leaves_as_a_pair_and_to_be_imitated(tmp_path: Path) -> None:
    guild = worded()
    asked, answer = guild.rows.messages
    [correction] = guild.rows.corrections
    own = ("correction", correction.id)
    [pair] = rows(guild, "preference", margin=True)
    assert pair["chosen"] == [{"role": "assistant", "content": "A protocol."}]
    assert pair["rejected"] == [{"role": "assistant", "content": "No idea."}]
    assert (pair["margin"], pair["licence"]) == (1.0, "CC0-1.0")
    assert origins(pair) == {("message", asked.id), ("message", answer.id), own}
    [row] = rows(guild, "sft")
    assert row["messages"] == [
        {"role": "user", "content": "What is TLS?"},
        {"role": "assistant", "content": "A protocol."},
    ]
    assert row["licence"] == "CC0-1.0"
    assert origins(row) == {("message", asked.id), own}
    (item,), skipped = load(tmp_path, [row])
    assert isinstance(item, Conversation)
    assert (item.messages[-1].content, dict(skipped)) == ("A protocol.", {})
    (item,), skipped = load(tmp_path, [pair])
    assert isinstance(item, Comparison)
    _, taken = learnable(guild.snapshot)
    assert (taken.comparisons, taken.corrections) == (1, 1)
    assert taken.attribution == "answers by members (CC0-1.0)"


@pytest.mark.parametrize("state", ["offered", "refused"])
def test_what_is_not_accepted_does_not_leave(state: CorrectionState) -> None:
    guild = worded(state)
    for form in ("preference", "sft"):
        assert rows(guild, form) == []  # type: ignore[arg-type]


def test_whose_consent_is_none_has_worded_nothing() -> None:
    assert rows(worded(consent="none"), "sft") == []


def test_what_nobody_is_known_to_have_written_does_not_leave() -> None:
    guild = Guild()
    answer = guild.answer("No idea.", guild.say("What is TLS?"))
    guild.correct(answer, None, "A protocol.")
    for form in ("preference", "sft"):
        assert rows(guild, form) == []  # type: ignore[arg-type]


def test_an_answer_that_was_deleted_or_blanked_is_corrected_by_nobody() -> None:
    guild = worded()
    guild.rows.messages[1] = replace(guild.rows.messages[1], deleted=True)
    assert rows(guild, "sft") == []
    assert left_out(guild, "sft") == {"deleted or blank": 1}


def test_a_prompt_that_decides_is_learned_from_by_nobody() -> None:
    guild = worded()
    texts = ("What is TLS?", "What is SSH?", "What is DNS?", "What is NTP?")
    text = next(one for one in texts if purpose_of(sha256_of(one)) == "decide")
    guild.rows.messages[0] = replace(guild.rows.messages[0], text=text)
    assert rows(guild, "sft")
    guild.rows.prompts.append(
        PoolPrompt(
            *("p", text, sha256_of(text), "decide", "tests", "CC0-1.0", "", "en", None),
            *("accepted", BEGIN),
        )
    )
    for form in ("preference", "sft"):
        assert rows(guild, form) == []  # type: ignore[arg-type]
    assert left_out(guild, "sft") == {"prompt that is kept for decisions": 1}


def test_the_newest_accepted_one_of_a_person_counts() -> None:
    guild = worded()
    answer = guild.rows.messages[1]
    guild.correct(answer, "teacher", "Refused later.", "refused")
    guild.correct(answer, "teacher", "Waits.", "offered")
    assert [row["messages"][-1]["content"] for row in rows(guild, "sft")] == ["A protocol."]
    guild.correct(answer, "teacher", "Worded anew.")
    guild.correct(answer, guild.member("skeptic"), "Another's.")
    said = [row["messages"][-1]["content"] for row in rows(guild, "sft")]
    assert said == ["Worded anew.", "Another's."]
    guild.correct(answer, "teacher", "")  # taken back
    assert [row["messages"][-1]["content"] for row in rows(guild, "sft")] == ["Another's."]


def test_earlier_answers_are_not_imitated(tmp_path: Path) -> None:
    guild = Guild()
    first = guild.answer("Hm.", guild.say("q1"))
    second = guild.answer("Hm, hm.", guild.say("q2", first))
    guild.rate(first, guild.member("teacher"), -1)
    guild.correct(second, "teacher", "Well.")
    [row] = rows(guild, "sft")
    assert [one.get("weight") for one in row["messages"]] == [None, 0, None, None]
    [item], _ = load(tmp_path, [row])
    assert [one.trained for one in item.messages if one.role == "assistant"] == [False, True]


def test_what_somebody_worded_better_is_not_imitated_itself() -> None:
    guild = worded()
    answer = guild.rows.messages[1]
    guild.rate(answer, guild.member("newcomer"), 1)
    later = guild.answer("And more.", guild.say("More?", answer))
    guild.rate(later, "newcomer", 1)
    assert [row["messages"][-1]["content"] for row in rows(guild, "sft")] == ["A protocol."]
    assert left_out(guild, "sft") == {"somebody worded it better": 2}


def test_a_wording_that_votes_have_rejected_gives_no_pair() -> None:
    guild = Guild()
    asked = guild.say("q")
    good, bad = guild.answer("good", asked), guild.answer("bad", asked)
    guild.vote(guild.compare(asked, good, bad), guild.member("teacher"), 0, 1)
    guild.correct(good, guild.member("skeptic"), "bad")
    [row] = rows(guild, "preference")
    assert row["chosen"][0]["content"] == "good"
    assert left_out(guild, "preference") == {"says the opposite of stronger rows": 1}


@pytest.mark.parametrize("consent", ["train", "chat"])
@pytest.mark.parametrize("kind", ["web", "chain"])
def test_what_one_said_above_it_on_the_web_page(consent: Consent, kind: str) -> None:
    """It leaves with the correction that the operator has read it with, if they consent."""
    guild = Guild()
    teacher = guild.member("teacher", consent)
    asked = guild.say("My question", kind=kind, member_id=teacher)  # type: ignore[arg-type]
    guild.correct(guild.answer("No idea.", asked), teacher, "A protocol.")
    may = consent == "train" and kind == "web"
    for form in ("preference", "sft"):
        assert len(rows(guild, form)) == may  # type: ignore[arg-type]
        assert len(rows(guild, form, switches=MEMBERS)) == (consent == "train")  # type: ignore
    [unreviewed] = guild.rows.corrections
    guild.rows.corrections[0] = replace(unreviewed, decided_at=None)
    assert rows(guild, "sft") == []


def test_what_another_said_above_it_does_not_leave_with_it() -> None:
    guild = Guild()
    for name in ("teacher", "skeptic"):
        guild.member(name, "train")
    asked = guild.say("The skeptic's question", kind="web", member_id="skeptic")
    guild.correct(guild.answer("No idea.", asked), "teacher", "A protocol.")
    assert rows(guild, "sft") == []


def test_anonymous_text_of_the_web_page_never_leaves() -> None:
    guild = Guild()
    asked = guild.say("Somebody's question", kind="web")
    answer = guild.answer("No idea.", asked)
    guild.rate(answer, guild.member("teacher", "train"), 1)
    guild.correct(answer, "teacher", "A protocol.")
    for form in ("preference", "sft", "kto", "oasst"):
        assert "Somebody" not in repr(rows(guild, form, switches=MEMBERS))  # type: ignore[arg-type]
    assert left_out(guild, "kto")["text of nobody who is on record"] == 1


def test_a_mention_in_a_wording_is_nobodys() -> None:
    guild = Guild()
    answer = guild.answer("No idea.", guild.say("Who?"))
    guild.correct(answer, guild.member("teacher"), "Ask <@80351110224678912>.")
    assert "80351110224678912" not in repr(rows(guild, "sft") + rows(guild, "preference"))
