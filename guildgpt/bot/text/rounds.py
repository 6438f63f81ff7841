"""Rounds in words: what is asked, what came of it, and what admins are told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from guildgpt.bot.text.shown import answer_text
from guildgpt.feedback.people.policy import RULE_21
from guildgpt.feedback.records import Ballots
from guildgpt.feedback.versions.betting import Standing
from guildgpt.feedback.versions.deciding import in_words
from guildgpt.feedback.voting.rankings import positions_of

Every = Literal["daily", "weekly"]

CLOSED = "This round is closed."
POSTING = "One is on its way here. Please wait until it is there."
NOT_HERE = "There can be no rounds in that channel: nobody writes there."
FILL = (
    "Whoever runs me fills it: `guildgpt feedback prompts add oasst1 --limit 1000`, or members "
    "offer prompts with `/prompt` and the operator accepts them."
)
FELL = (
    "That was the last round that was needed: what you voted for is clear now. What follows is up "
    "to the people who run me, and then you will hear of it."
)
WITHDRAWN = "This round is over: what it asked was taken back."

Trouble = Literal["empty", "unfit", "engine", "version", "discord", "withheld", "store"]
TROUBLE: dict[Trouble, str] = {
    "empty": f"the pool has no prompt for it. {FILL}",
    "unfit": "the prompts that I tried gave no two different answers that I may show",
    "engine": "I cannot think at the moment",
    "version": "one of the two versions is not open",
    "discord": "Discord cannot be reached",
    "withheld": "this server's rules did not let it pass",
    "store": "I cannot take notes at the moment",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a round shows: its prompt and whom that names as its author, its answers in order, and
    when it closes, in seconds since 1970."""

    prompt: str
    credit: str
    answers: Sequence[str]
    closes_at: int


def open_round(shown: Shown) -> str:
    """A round that can be voted on. Counts are not in it."""
    return (
        f"{_question(shown)}\n\n*Which one is better?* It closes <t:{shown.closes_at}:R>; until "
        "then nobody sees the count, and everyone may change their vote."
    )


def closed_round(shown: Shown, ballots: Ballots) -> str:
    """The same when it is over, and how clear it was."""
    return f"{_question(shown)}\n\n**Closed.** {result(ballots)}"


def _question(shown: Shown) -> str:
    asked = "\n".join(f"> {line}" for line in answer_text(shown.prompt).split("\n"))
    by = f"\n-# Prompt: {answer_text(shown.credit)}" if shown.credit else ""
    first, second = (answer_text(answer) for answer in shown.answers)
    return f"**Two answers to one prompt**\n{asked}{by}\n\n**A**\n{first}\n\n**B**\n{second}"


def result(ballots: Ballots) -> str:
    """How many voted, for what, and how clear that is."""
    counts = Counter(
        "AB"[positions_of(vote.ranking)[0]] if vote.verdict == "ranked" else vote.verdict
        for vote in ballots.votes
        if vote.verdict != "skip"
    )
    count = counts.total()
    if not count:
        return "Nobody voted."
    told = [f"{counts[side]} for {side}" for side in "AB"]
    if ties := counts["tie"]:
        told.append(f"{ties} tie{'s' * (ties != 1)}")
    if neither := counts["both_bad"]:
        told.append(f"{neither} for neither")
    return f"{count} voted: {', '.join(told)}. {_clearness(counts, count)}"


def _clearness(counts: Counter[str], count: int) -> str:
    """In words; two thirds of three votes or more are clear."""
    ahead, behind = sorted("AB", key=lambda side: -counts[side])
    if counts["both_bad"] * 2 > count:
        return "Most of you found neither good."
    if counts[ahead] == counts[behind]:
        return "As even as it can be."
    if count >= 3 and counts[ahead] * 3 >= count * 2:
        return f"That is clear: {ahead}."
    return f"{ahead} is ahead, but it is not clear."


# For admins


def scheduled(every: Every, channel: str) -> str:
    """Rounds are switched on."""
    day = {"daily": "day", "weekly": "week"}[every]
    return (
        f"A round every {day} in {channel}, the first one as soon as it is written; each closes "
        "when the next one opens. `/rounds` shows how they go."
    )


def on_its_way(channel: str, closes_at: int) -> str:
    """An admin wants one now."""
    return (
        f"A round for {channel} is being written; it closes <t:{closes_at}:R>. Whatever round is "
        "open there closes when it comes."
    )


def switched_off(channel: str, *, was_on: bool) -> str:
    """Rounds are switched off."""
    if not was_on:
        return f"There were no rounds to come in {channel}."
    return f"No more rounds in {channel}. One that is open there closes when its time is over."


def cannot(trouble: Trouble) -> str:
    """Why there can be no round now."""
    return f"There can be no round now: {TROUBLE[trouble]}."


@dataclass(frozen=True, slots=True)
class Channel:
    """How the rounds of one channel stand; times in seconds since 1970."""

    mention: str
    every: Every | None = None
    next_at: int = 0
    is_stopped: bool = False
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class OpenRound:
    """A round that is open, and how many have voted."""

    mention: str
    votes: int
    closes_at: int
    decides: bool


def status(
    channels: Sequence[Channel],
    open_rounds: Sequence[OpenRound],
    pool: Counter[str],
    candidate: tuple[str, Standing] | None,
    *,
    deleted: bool,
) -> str:
    """All that an admin may know before a round is closed: no count of a side is in it. The
    candidate's decision is in a state, and stands so far."""
    lines = [_channel(one) for one in channels]
    if deleted:
        lines.append("A channel that had rounds was deleted: there are none in it any more.")
    if not channels:
        lines.append("No rounds are switched on. `/rounds when:daily` does that for a channel.")
    for one in open_rounds:
        what = " on a candidate" if one.decides else ""
        lines.append(
            f"Open in {one.mention}{what}: {_many(one.votes, 'vote')} so far, closes "
            f"<t:{one.closes_at}:R>."
        )
    lines.append(f"Prompts: {pool['train']} to learn from, {pool['decide']} to decide with.")
    if not (pool["train"] and pool["decide"]):
        lines.append(FILL)
    lines.append(_standing(*candidate) if candidate else "There is no candidate to decide on.")
    return "\n".join(lines)


def _channel(one: Channel) -> str:
    if one.is_stopped:
        return f"{one.mention}: switched off, for I may not write there."
    told = f"{one.mention}: {one.every}, the next one <t:{one.next_at}:R>." if one.every else ""
    if one.trouble:
        told = told or f"{one.mention}: one that was wanted now."
        told += f" The last try failed: {TROUBLE[one.trouble].rstrip('.')}. I try again."
    return told or f"{one.mention}: one is being written."


def _standing(state: str, standing: Standing) -> str:
    if state == "training":
        return "A candidate is being trained."
    if state == "gate":
        return "A candidate is being measured."
    where = {
        "canary": "A candidate is on trial.",
        "preferred": "The candidate waits for the people who run me.",
    }.get(state, "The last candidate was not chosen.")
    return f"{where} {in_words(standing)}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


# Prompts that members offer

PROMPT_TITLE = "A prompt for the rounds"
PROMPT_FIELD = "The prompt, as one would ask it"
PROMPT_RULES = (
    f"{RULE_21}\nSo I learn from prompts that are given to me for that, in this form and nowhere "
    "else. Everybody here may see yours, with answers to vote on; models are trained or compared "
    "on it. Name nobody. `/forget-me` takes it back."
)
MINE, CC0 = "mine", "cc0"
PROMPT_TICKS = {
    MINE: "I wrote this myself",
    CC0: "Anyone may use it for anything (CC0 1.0)",
}
PROMPT_TICK_BOTH = "Tick both, or I may not take it"
OFFERED = (
    "Thank you. The people who run me look at it first; if they accept it, it will come up in a "
    "round one day."
)
OFFERED_BEFORE = "That prompt is in the pool already, or was offered before."
NOT_TICKED = (
    "I may take it only if you wrote it yourself and give it to everybody (CC0). Nothing was kept."
)
NO_PROMPT = "I see no words in that prompt."
TOO_MANY_OFFERED = (
    "So many prompts of yours wait to be looked at that I take no further one now. Nothing was "
    "kept."
)
