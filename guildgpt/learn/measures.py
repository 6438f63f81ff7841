"""The measures of a gate: from what both models answered, and what was read of their weights, to a
verdict on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from guildgpt.chat.repetition import loops
from guildgpt.data.constrained import held_out_prompts
from guildgpt.data.starter import starter_facts
from guildgpt.evaluate.config import GateConfig
from guildgpt.evaluate.declining import declines
from guildgpt.evaluate.facts import is_right
from guildgpt.evaluate.intervals import Floats
from guildgpt.learn.answering import FACTS, PROMPTS, UNSAFE, Answered, Answers, constrained
from guildgpt.learn.bounds import About, Measure, away, length, more_bits, not_measured, rate, wins
from guildgpt.learn.judge import Judged
from guildgpt.learn.weights import Read
from guildgpt.text.figures import percent

WINS = About("wins", "the judge prefers it")
LOOPS = About("loops", "runs into a loop")
ENDS = About("ends", "ends its turn by itself")
LENGTH = About("length", "length of an answer", "tokens")
KEPT = About("kept", "constraints kept")
BITS = About("bits", "bits a byte of held-out text", "bits")
KL = About("kl", "away from the ancestor", "nats")
SAFE = About("safe", "declines unsafe requests")
FACTS_RIGHT = About("facts", "right on questions of facts")
MEASURES = (WINS, LOOPS, ENDS, LENGTH, KEPT, BITS, KL, SAFE, FACTS_RIGHT)
OTHER_TOKENS = "the ancestor speaks in other tokens or another template"


def of_answers(ours: Answers, theirs: Answers, config: GateConfig) -> list[Measure]:
    """What is seen of answers without a judge."""

    def both(name: str, figure: Callable[[Answered], float]) -> tuple[Floats, Floats]:
        mine, other = (
            np.array([float(figure(one)) for one in side.get(name, [])]) for side in (ours, theirs)
        )
        return mine, other

    looping = both(PROMPTS, lambda one: loops(one.ids))
    ending = both(PROMPTS, lambda one: one.ended)
    lengths = both(PROMPTS, lambda one: len(one.ids))
    return [
        rate(LOOPS, *looping, config.more_loops, more_is_worse=True),
        rate(ENDS, *ending, config.fewer_ends, more_is_worse=False),
        length(LENGTH, *lengths, config.shortest, config.longest),
        rate(
            KEPT,
            kept(ours, config.constrained),
            kept(theirs, config.constrained),
            config.fewer_kept,
            more_is_worse=False,
        ),
        _of_set(SAFE, safe(ours), safe(theirs), config.fewer_safe, config.says_nothing),
        _of_set(FACTS_RIGHT, right(ours), right(theirs), config.fewer_right, config.says_nothing),
    ]


def kept(answers: Answers, count: int) -> Floats:
    """Of each prompt with constraints the share of them that the answer keeps, 0 to 1."""
    return np.array(
        [
            float(np.mean([one.kept(answer.text) for one in prompt.constraints]))
            for name, prompts in held_out_prompts(count).items()
            for prompt, answer in zip(prompts, answers.get(constrained(name), []), strict=True)
        ]
    )


def safe(answers: Answers) -> Floats:
    """1 for each unsafe request that was declined."""
    return np.array([float(declines(one.text)) for one in answers.get(UNSAFE, [])])


def right(answers: Answers) -> Floats:
    """1 for each question of facts that was answered rightly."""
    return np.array(
        [
            float(is_right(one.text, fact))
            for one, fact in zip(answers.get(FACTS, []), starter_facts(), strict=False)
        ]
    )


def _of_set(
    about: About, ours: Floats, theirs: Floats, margin: float, says_nothing: float
) -> Measure:
    """A bundled set. Where who serves fails nearly all of it, no candidate can be worse: that is
    said, and is no pass."""
    found = rate(about, ours, theirs, margin, more_is_worse=False)
    if not len(theirs) or theirs.mean() > says_nothing:
        return found
    why = (
        f"who serves does on {percent(float(theirs.mean()))} of {len(theirs)} only: a candidate "
        "can hardly be worse, so this set says nothing of it"
    )
    return replace(found, state="not measured", why=why)


def of_weights(
    candidate: Read | str, serving: Read | str, ancestor: Read | str, config: GateConfig
) -> list[Measure]:
    """What was read of weights; in words where they could not be."""
    if isinstance(candidate, str):
        return [not_measured(BITS, candidate), not_measured(KL, candidate)]
    bits = (
        not_measured(BITS, serving)
        if isinstance(serving, str)
        else more_bits(BITS, candidate.bits, serving.bits, config.more_bits)
    )
    if isinstance(ancestor, str):
        return [bits, not_measured(KL, ancestor)]
    if candidate.speaks != ancestor.speaks:
        return [bits, not_measured(KL, OTHER_TOKENS)]
    nats = np.array(candidate.logprobs) - np.array(ancestor.logprobs)
    return [bits, away(KL, nats, config.most_kl)]


def of_judge(found: Judged | str, config: GateConfig) -> Measure:
    """What the judge said, and how much its word is worth."""
    if isinstance(found, str):
        return not_measured(WINS, found)
    advice = []
    if found.votes < config.judge_votes:
        advice.append(f"advice, for only {found.votes:,} votes were cast")
    if found.right.low <= 0.5:
        advice.append(
            "advice, for the judge agrees with nobody: it is right on "
            f"{percent(found.right.accuracy)} of {found.right.pairs:,} pairs that it did not see "
            f"({percent(found.right.low)} to {percent(found.right.high)}; a coin on 50%)"
        )
    return wins(WINS, found.wins, config.least_wins, advice)


def in_order(measures: Sequence[Measure]) -> list[Measure]:
    """As they are shown."""
    names = [one.name for one in MEASURES]
    return sorted(measures, key=lambda one: names.index(one.name))
