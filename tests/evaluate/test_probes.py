from __future__ import annotations

import json
from importlib.resources import files

from guildgpt.chat import Conversation, Message
from guildgpt.evaluate.probes import Probe, probes, seen


def conversation(*turns: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[n % 2], turn) for n, turn in enumerate(turns)))


def test_the_list_is_fixed_and_opens_with_the_five_questions() -> None:
    listed = probes()
    assert listed == probes()
    assert [probe.prompt.split("\n")[0] for probe in listed[:5]] == [
        "What is TLS?",
        "Write a Python script that counts how often each word occurs in a text file.",
        "Explain ownership in Rust.",
        "Summarize this article in two sentences:",
        "Write a short story about a man who loved code.",
    ]
    assert len(listed) == len({probe.id for probe in listed}) == 12
    assert all(probe.asks and probe.messages[-1].role == "user" for probe in listed)
    assert any(len(probe.messages) == 3 for probe in listed)


def test_the_article_is_not_one_the_starter_is_trained_on() -> None:
    article = next(probe for probe in probes() if probe.id == "summary").prompt.split("\n\n")[1]
    assert 80 <= len(article.split()) <= 110
    folder = files("guildgpt.data").joinpath("starter")
    for name in ("conversations.jsonl", "prompts.jsonl", "comparisons.jsonl"):
        for line in folder.joinpath(name).read_text(encoding="utf-8").splitlines():
            assert article[:40] not in json.dumps(json.loads(line), ensure_ascii=False)


def test_a_question_among_the_rows_is_seen_whatever_its_spelling() -> None:
    rows = [
        conversation("hello", "Hi!"),
        conversation("Hey", "Hello.", "what is  tls", "A protocol."),
        conversation("What is TLS 1.3?", "A version of TLS."),
    ]
    assert seen(probes(), rows) == {"tls"}
    assert seen(probes(), []) == set()


def test_an_answer_that_holds_the_question_is_not_the_question() -> None:
    assert seen(probes(), [conversation("Give me a question.", "What is TLS?")]) == set()


def test_a_follow_up_is_seen_only_with_its_own_opening() -> None:
    probe = Probe("why", conversation("Tell me a joke.", "No.", "Why?").messages, "")
    assert probe.prompt == "Why?"
    assert seen([probe], [conversation("The sky is blue.", "Yes.", "Why?", "…")]) == set()
    assert seen([probe], [conversation("why", "…", "tell me a joke", "…")]) == set()
    assert seen([probe], [conversation("Tell me a joke", "…", "Why?", "…")]) == {"why"}
