"""What leaves the store, in which form, and what its rows rest on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from feedback.exported import MEMBERS, SLASH, judged, left_out, load, origins, rows
from feedback.guild import BEGIN, Guild
from guildgpt.chat import Comparison, Conversation, Rejected
from guildgpt.feedback.exporting.exports import FORMS, export
from guildgpt.feedback.exporting.oasst_import import read


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
    (bad, good), skipped = load(tmp_path, found)
    assert isinstance(bad, Rejected)
    assert isinstance(good, Conversation)
    assert good.rated
    assert not skipped


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
    (bad,), skipped = load(tmp_path, found)
    assert isinstance(bad, Rejected)
    assert not skipped
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
