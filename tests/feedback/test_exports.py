"""What leaves the store, in which form, and above all what does not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation
from guildgpt.data import jsonl
from guildgpt.feedback.exports import FORMS, Form, export
from guildgpt.feedback.oasst_import import read
from guildgpt.feedback.policy import RULE_21
from guildgpt.feedback.records import Consent, Snapshot
from guildgpt.feedback.view import Switches

from .guild import BEGIN, Guild

MEMBERS = Switches(members=True)
SLASH = Switches(slash=True)


def rows(guild: Guild, form: Form, **more: Any) -> list[dict[str, Any]]:
    return export(guild.snapshot, form, **more).rows


def left_out(guild: Guild, form: Form, **more: Any) -> Counter[str]:
    return export(guild.snapshot, form, **more).left_out


def origins(row: dict[str, Any]) -> set[tuple[str, str]]:
    """What a row says it rests on."""
    pairs = [item.partition(":") for item in row.get("origin", [])]
    return {(kind, id) for kind, _, id in pairs}


def load(tmp_path: Path, found: list[dict[str, Any]]) -> tuple[list[Any], Counter[str]]:
    """What training's reader makes of the rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8"
    )
    skipped: Counter[str] = Counter()
    return list(
        jsonl.read(path, name="feedback", skipped=skipped, places={}, unread=Counter())
    ), skipped


def judged(guild: Guild | None = None, **question: Any) -> Guild:
    """A question with two answers: vote and thumb for the second, thumb against the first."""
    guild = guild or Guild()
    asked = guild.say(question.pop("text", "What is TLS?"), **question)
    worse, better = guild.answer("No idea.", asked), guild.answer("A protocol.", asked)
    voter = guild.member("teacher")
    guild.vote(guild.compare(asked, worse, better), voter, 1, 0)
    guild.rate(better, voter, 1)
    guild.rate(worse, voter, -1)
    return guild


# The forms


def test_preference_rows(tmp_path: Path) -> None:
    guild = judged()
    (row,) = rows(guild, "preference")
    assert row == {
        "prompt": [{"role": "user", "content": "What is TLS?"}],
        "chosen": [{"role": "assistant", "content": "A protocol."}],
        "rejected": [{"role": "assistant", "content": "No idea."}],
        "group": guild.rows.messages[0].id,
        "origin": [
            "comparison:comparison-0005",
            *(f"message:{message.id}" for message in guild.rows.messages),
            "vote:vote-0006",
        ],
    }
    (item,), skipped = load(tmp_path, [row])
    assert isinstance(item, Comparison)
    assert [m.content for m in item.answers] == ["A protocol.", "No idea."]
    assert item.source.group == row["group"]
    assert not skipped


def test_the_margin_is_the_lead_in_votes_by_all_votes() -> None:
    guild = judged()
    (comparison,) = guild.rows.comparisons
    for name, ranking in [("newcomer", (1, 0)), ("skeptic", (0, 1))]:
        guild.vote(comparison, guild.member(name), *ranking)
    guild.vote(comparison, guild.member("tinkerer"), verdict="tie")
    (row,) = rows(guild, "preference", margin=True)
    assert row["margin"] == 0.25


def test_votes_that_are_equal_or_skipped_give_no_row() -> None:
    guild = judged()
    (comparison,) = guild.rows.comparisons
    guild.vote(comparison, "teacher", verdict="both_bad")
    guild.vote(comparison, guild.member("skeptic"), verdict="skip")
    assert rows(guild, "preference") == []
    assert left_out(guild, "preference") == {
        "as many votes for the one as for the other": 1,
        "skipped vote": 1,
    }


def test_a_circle_of_votes_gives_no_rows_that_contradict_each_other() -> None:
    guild = Guild()
    question = guild.say("q")
    a, b, c = (guild.answer(text, question) for text in "abc")
    for pair, votes in [((a, b), 3), ((b, c), 2), ((c, a), 1)]:
        comparison = guild.compare(question, *pair)
        for number in range(votes):
            guild.vote(comparison, guild.member(f"voter {number}"), 0, 1)
    pairs = [
        (r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows(guild, "preference")
    ]
    assert pairs == [("a", "b"), ("b", "c")]
    (reason,) = left_out(guild, "preference")
    assert "circle" in reason


@given(st.lists(st.tuples(st.permutations(range(4)), st.integers(2, 4)), min_size=1, max_size=8))
def test_preference_rows_never_contradict_each_other(votes: list[tuple[list[int], int]]) -> None:
    guild = Guild()
    question = guild.say("q")
    answers = [guild.answer(text, question) for text in "abcd"]
    for number, (order, shown) in enumerate(votes):
        comparison = guild.compare(question, *(answers[i] for i in order[:shown]))
        guild.vote(comparison, guild.member(f"voter {number}"), *range(shown))
    worse = {}
    for row in rows(guild, "preference"):
        worse.setdefault(row["chosen"][0]["content"], set()).add(row["rejected"][0]["content"])
    left = dict(worse)
    while left:  # take away what beats nothing that is left; a circle would never go
        ends = [one for one, below in left.items() if not below & left.keys()]
        assert ends
        for one in ends:
            del left[one]


def test_kto_rows(tmp_path: Path) -> None:
    guild = judged()
    found = rows(guild, "kto")
    assert [(row["completion"][0]["content"], row["label"]) for row in found] == [
        ("No idea.", False),
        ("A protocol.", True),
    ]
    assert found[0].keys() == {"prompt", "completion", "label", "group", "origin"}
    (item,), skipped = load(tmp_path, found)
    assert isinstance(item, Conversation)
    assert skipped == {"labelled bad": 1}


def test_kto_follows_the_majority_of_the_newest_ratings() -> None:
    guild = Guild()
    question = guild.say("q")
    answers = [guild.answer(text, question) for text in ("even", "changed", "taken back")]
    for name, value in [("newcomer", 1), ("skeptic", -1)]:
        guild.rate(answers[0], guild.member(name), value)
    for value in (-1, 1):
        guild.rate(answers[1], "newcomer", value)
    for value in (1, 0):
        guild.rate(answers[2], "newcomer", value)
    (row,) = rows(guild, "kto")
    assert (row["completion"][0]["content"], row["label"]) == ("changed", True)
    assert left_out(guild, "kto") == {"rated up as often as down": 1}


def test_the_reasons_of_a_kto_row_leave_as_members_text_does(tmp_path: Path) -> None:
    """A reason is what a member wrote: the operator and they themselves have to allow it."""
    guild = Guild()
    for name, consent in (("skeptic", "train"), ("newcomer", "chat"), ("teacher", "train")):
        guild.member(name, consent)  # type: ignore[arg-type]
    answer = guild.answer("Round.", guild.say("What shape is the earth?"))
    reasons = ("Flat, <@80351110224678912>!", "I say so.", "Superseded.")
    for name, reason in zip(("skeptic", "newcomer", "teacher"), reasons, strict=True):
        guild.rate(answer, name, -1, reason)
    guild.rate(answer, "teacher", -1)
    for switches in (MEMBERS, SLASH):
        found = rows(guild, "kto", switches=switches)
        assert [row["reasons"] for row in found] == [["Flat, @member!"]]
    assert load(tmp_path, found) == ([], {"labelled bad": 1})
    (row,) = rows(guild, "kto")
    assert "reasons" not in row


def test_sft_rows_are_whole_conversations_rated_up_and_never_down(tmp_path: Path) -> None:
    guild = judged()
    (row,) = rows(guild, "sft")
    assert [m["content"] for m in row["messages"]] == ["What is TLS?", "A protocol."]
    assert left_out(guild, "sft") == {"rated down": 1}
    (item,), skipped = load(tmp_path, [row])
    assert (item.messages[-1].content, dict(skipped)) == ("A protocol.", {})
    guild.rate(guild.rows.messages[2], guild.member("skeptic"), -1)
    assert rows(guild, "sft") == []


def test_sft_leaves_out_what_should_not_be_imitated() -> None:
    guild = Guild()
    voter = guild.member("teacher")
    first = guild.answer("a", guild.say("q"))
    second = guild.answer("b", guild.say("q2", first))
    third = guild.answer("c", guild.say("q3", second), stop="length")
    for answer in (first, second, third):
        guild.rate(answer, voter, 1)
    (row,) = rows(guild, "sft")
    assert [m["content"] for m in row["messages"]] == ["q", "a", "q2", "b"]
    assert left_out(guild, "sft") == {"the answer was cut off": 1, "goes on in a longer row": 1}
    guild.rate(first, voter, -1)
    assert rows(guild, "sft") == []
    assert left_out(guild, "sft")["an earlier answer was rated down"] == 2


def test_arena_rows_are_chatbot_arenas() -> None:
    guild = Guild()
    system = guild.say("Be brief.", role="system")
    question = guild.say("q", system)
    old = guild.answer("a", question, version="old@11111111")
    new = guild.answer("b", question, version="new@22222222")
    comparison = guild.compare(question, old, new)
    guild.vote(comparison, guild.member("newcomer"), 0, 1)
    guild.vote(comparison, guild.member("skeptic"), verdict="tie")
    guild.vote(comparison, guild.member("teacher"), verdict="both_bad")
    vote = guild.vote(comparison, "newcomer", 1, 0)
    found = rows(guild, "arena")
    assert [row["winner"] for row in found] == ["tie", "tie (bothbad)", "model_b"]
    assert [row["judge"] for row in found] == ["member_1", "member_2", "member_3"]
    said = {("message", message.id) for message in guild.rows.messages}
    assert origins(found[2]) == said | {("vote", vote.id), ("comparison", comparison.id)}
    del found[2]["origin"]
    assert found[2] == {
        "question_id": question.id,
        "model_a": "old@11111111",
        "model_b": "new@22222222",
        "winner": "model_b",
        "judge": "member_3",
        "conversation_a": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
        ],
        "conversation_b": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "b"},
        ],
        "turn": 1,
        "anony": True,
        "language": "en",
        "tstamp": vote.created_at.timestamp(),
    }


def test_arena_takes_votes_between_two_only() -> None:
    guild = Guild()
    question = guild.say("q")
    guild.vote(guild.compare(question, *(guild.answer(t, question) for t in "abc")), None, 0, 1, 2)
    assert rows(guild, "arena") == []
    assert left_out(guild, "arena") == {"vote between more than two answers": 1}


def test_rankings_that_were_imported_give_preference_rows(tmp_path: Path) -> None:
    reply = {"role": "assistant", "parent_id": "q", "replies": []}
    answers = [
        {**reply, "message_id": f"a{rank}", "text": f"place {rank}", "rank": rank}
        for rank in (1, 0, None)
    ]
    spam = {**reply, "message_id": "s", "text": "spam", "rank": 2, "review_result": False}
    prompt = {"message_id": "q", "role": "prompter", "text": "q", "replies": [*answers, spam]}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"message_tree_id": "q", "prompt": prompt}) + "\n")
    found = export(read(path, now=BEGIN, left_out=Counter()), "preference")
    (row,) = found.rows
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("place 0", "place 1")
    assert found.left_out == {"not passed in review": 2}


def test_answers_of_equal_text_are_no_pair() -> None:
    guild = Guild()
    question = guild.say("q")
    guild.vote(guild.compare(question, *(guild.answer("same", question) for _ in "ab")), None, 0, 1)
    assert left_out(guild, "preference") == {"both answers are the same": 1}


def test_an_answer_to_nothing_is_no_row() -> None:
    guild = Guild()
    opening = guild.say("Welcome!", role="assistant")
    guild.rate(opening, guild.member("newcomer"), 1)
    question = guild.say("unanswered")
    guild.rate(question, "newcomer", 1)
    assert left_out(guild, "kto") == {
        "no question before the answer": 1,
        "rated, but not an answer": 1,
    }


def test_the_events_are_what_the_rows_rest_on() -> None:
    guild = judged()
    guild.rate(guild.rows.messages[0], "teacher", 1)
    question, worse, better = (message.id for message in guild.rows.messages)
    (vote,), (comparison,) = guild.rows.votes, guild.rows.comparisons
    texts = {("message", question), ("message", worse), ("message", better)}
    cast = {("vote", vote.id), ("comparison", comparison.id)}
    assert export(guild.snapshot, "preference").events == texts | cast
    assert export(guild.snapshot, "arena").events == texts | cast
    ratings = {("rating", rating.id) for rating in guild.rows.ratings[:2]}
    assert export(guild.snapshot, "kto").events == texts | ratings
    assert export(guild.snapshot, "sft").events == {
        ("message", question),
        ("message", better),
        ("rating", guild.rows.ratings[0].id),
    }
    assert export(guild.snapshot, "oasst").events >= texts | cast | ratings


def test_each_row_names_its_own_events_and_all_rows_together_all() -> None:
    guild = judged(judged(), text="What is SSH?")
    first, second = guild.rows.votes
    for form in ("preference", "arena"):
        one, two = rows(guild, form)
        assert ("vote", first.id) in origins(one)
        assert ("vote", second.id) not in origins(one)
        assert ("vote", second.id) in origins(two)
    for form in FORMS:
        found = export(guild.snapshot, form)
        named = set().union(*map(origins, found.rows))
        said = {event for event in found.events if event[0] == "message"}
        assert named | (said if form == "oasst" else set()) == found.events
        assert len(found.rows) >= 2


def test_a_conversation_rests_on_the_ratings_of_all_its_answers() -> None:
    guild = Guild()
    question = guild.say("q")
    answer = guild.answer("a", question)
    last = guild.answer("b", guild.say("and?", answer))
    teacher = guild.member("teacher")
    ratings = {("rating", guild.rate(one, teacher, 1).id) for one in (answer, last)}
    (row,) = rows(guild, "sft")
    assert ratings <= origins(row)


# Members


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
        assert len(items) + skipped["labelled bad"] == len(found)
