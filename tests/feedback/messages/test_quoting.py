"""The rule by which an answer repeats what has been taken back."""

from __future__ import annotations

import pytest

from guildgpt.feedback.messages.quoting import quotes


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("My dad is gay.", "You said that your dad is gay."),  # three words in a row
        ("my pin is 4711", "The PIN was 4711."),  # digits
        ("it is hunter2", "Use Hunter2!"),
        ("I live at no. 12b", "12B, was it?"),
        ("I am pregnant", "Congratulations on being pregnant!"),  # a long word
        ("My cat is called Tilde.", "How is Tilde?"),  # a name
        ("It is called Tilde", "TILDE\u200b is a nice name"),
        ("the café of Zoé", "zoe said so"),
        ("\uff48\uff55\uff4e\uff54\uff45\uff52\uff12", "hunter2"),  # full width
        ("My mail is anna@x.org", "Write to anna@x.org."),
        ("call +49 170 55", "the number +49-170-55"),
        ("我的密码是老虎机", "你说你的密码是老虎机"),  # six signs in a row
        ("わたしのなまえはさくらです", "なまえはさくらでしたね"),
        ("ฉันชื่อสมชายและฉันเป็นครู", "คุณบอกว่าชื่อสมชายและเป็นครู"),
        ("मेरा पासवर्ड कमल है", "आपका पासवर्ड कमल है"),
        ("как меня зовут Вы знаете", "меня зовут вы знаете"),
    ],
)
def test_what_repeats_it(said: str, answer: str) -> None:
    assert quotes(answer, [said], [])
    assert quotes(answer, ["What is new?", said], ["How are you?"])


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("My dad is ill.", "I am sorry to hear it."),
        ("What is two and two?", "Four, if I am right."),
        ("The cat is on it", "It is on the cat"),  # the same words, no three in a row
        ("Is 7 odd?", "Yes: 7 is odd."),
        ("The dog barks", "the fox"),  # a capital that only begins the sentence
        ("你好吗", "我很好，你好吗"),
        ("", "Anything at all"),
        ("Anything at all", ""),
    ],
)
def test_what_does_not(said: str, answer: str) -> None:
    assert not quotes(answer, [said], [])


def test_what_stands_elsewhere_in_what_it_was_told_is_no_quote() -> None:
    gone, answer = "Is the guillotine called Louisette?", "The guillotine, or Louisette."
    assert quotes(answer, [gone], [])
    assert quotes(answer, [gone], ["What is a guillotine?"])
    assert not quotes(answer, [gone], ["What is the guillotine?", "And louisette?"])


def test_an_edit_that_mends_a_word_takes_only_that_word_away() -> None:
    then, now = "What is the capitall of France?", "What is the capital of France?"
    assert not quotes("The capital of France is Paris.", [then], [now])
    assert quotes("The capitall is Paris.", [then], [now])
