"""What simulated members did and saw, and whether the bot did its part.

A question has exactly one answer, or, where a member took it back, at most one. What was told to a
member as noted is in the store. Times are those of the fake's clock, in seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from guildgpt.bot.answers.buttons import Action, decode
from guildgpt.bot.text import sentences as say
from simguild.fake import Channel, FakeMessage, Interaction, User

if TYPE_CHECKING:
    from guildgpt.feedback.store import Store

# What a member may expect: one answer of the model's, one answer or sentence, at most one, none.
Expects = Literal["answer", "words", "at most one", "silence"]
NOTED = {say.RATED_UP, say.RATED_DOWN, say.REASON_NOTED, *say.VOTED.values()}
IN_ROUNDS = {"a": "left", "b": "right"}  # kinds of buttons that give the same verdicts
MODAL = 9  # the kind of a first response that opens a form


@dataclass(eq=False)
class Asked:
    """A question: a message, or an interaction (a command, a click on 🔁).

    `where` is the channel in which the answer comes; `seen` is when its asker had read it all.
    """

    who: User
    where: Channel
    text: str
    at: float
    message: FakeMessage | None = None
    interaction: Interaction | None = None
    expects: Expects = "answer"
    first: int = 0  # the index in the channel's messages from which on its answer may stand
    seen: float | None = None

    @property
    def answers(self) -> list[FakeMessage]:
        """What the bot wrote to it; parts after an answer's first do not count."""
        if self.interaction is not None:
            return [one for one in self.interaction.sent if not one.deleted]
        if self.message is None:  # what a thread was opened with: its first message
            own = [one for one in self.where.messages if one.author.bot and not one.deleted]
            return [one for one in own if one.reference is None and one.interaction is None]
        return [
            one
            for one in self.where.messages[self.first :]
            if one.reference is self.message and one.author.bot and not one.deleted
        ]

    @property
    def acknowledged_ms(self) -> float | None:
        """Milliseconds until the bot showed that it had heard."""
        if self.interaction is not None:
            return self.interaction.acknowledged_ms
        return self.message.reacted_ms if self.message is not None else None

    @property
    def failed(self) -> bool:
        """Whether the member read "This interaction failed": then nothing was asked."""
        return self.interaction is not None and self.interaction.failed

    @property
    def fault(self) -> str:
        """What is wrong with how it was answered, in words; empty if nothing is."""
        if self.failed:
            return ""
        written = self.answers
        if len(written) > (self.expects != "silence"):
            return f"{len(written)} answers: {self}"
        if self.expects in ("silence", "at most one"):
            return ""
        if not written:
            return f"lost: {self}"
        if not finished(written[0]):
            return f"unfinished: {self}"
        if self.expects == "answer" and not is_answer(written[0]):
            return f"put off with {written[0].content[:40]!r}: {self}"
        return ""

    def __str__(self) -> str:
        how = "clicked or called" if self.interaction is not None else "wrote"
        return f"{self.who.name} {how} {self.text[:60]!r} in {self.where.name}"


@dataclass(eq=False)
class Pressed:
    """A click on a rating or a vote."""

    who: User
    message: FakeMessage
    action: Action
    at: float
    interaction: Interaction

    @property
    def verdict(self) -> str:
        """The same, whether two answers stand side by side or are called A and B."""
        return IN_ROUNDS.get(self.action.kind, self.action.kind)

    @property
    def told(self) -> str:
        """What the bot said to it, for the member alone."""
        words = [one.content for one in self.interaction.responses]
        opened = self.interaction.answer == MODAL
        return words[-1] if words else say.RATED_DOWN if opened else ""

    @property
    def noted(self) -> bool:
        """Whether the member was told that it counts; opening the form for a reason says so too."""
        return self.told in NOTED


@dataclass(frozen=True)
class Happened:
    """One line of the guild's story, beside the messages, which tell themselves."""

    at: float
    who: User
    where: Channel
    what: str


@dataclass
class Journal:
    """Everything that the members of a simulated guild did."""

    asked: list[Asked] = field(default_factory=list)
    pressed: list[Pressed] = field(default_factory=list)
    other: list[Interaction] = field(default_factory=list)  # commands that ask nothing, and forms
    happened: list[Happened] = field(default_factory=list)
    forgotten: set[User] = field(default_factory=set)  # those who had everything erased

    @property
    def interactions(self) -> list[Interaction]:
        """All of them, each acknowledged within three seconds or failed."""
        asking = [one.interaction for one in self.asked if one.interaction is not None]
        return [*asking, *(one.interaction for one in self.pressed), *self.other]

    @property
    def faults(self) -> list[str]:
        """Every question that was not answered as it should be."""
        return [fault for one in self.asked if (fault := one.fault)]

    @property
    def noted(self) -> list[Pressed]:
        """The opinions that were acknowledged, and must be in the store."""
        return [one for one in self.pressed if one.noted and one.who not in self.forgotten]


def buttons(message: FakeMessage) -> dict[str, str]:
    """Kind: custom_id, of the bot's buttons under a message."""
    ids = [button.get("custom_id") or "" for button in message.buttons]
    return {action.kind: id for id in ids if (action := decode(id))}


def finished(answer: FakeMessage) -> bool:
    """Whether the answer stands there whole: it can no longer be stopped."""
    return bool(answer.content) and not answer.loading and "stop" not in buttons(answer)


def is_answer(message: FakeMessage) -> bool:
    """Whether the model wrote it: there may be another one, or a vote."""
    return not {"again", "left"}.isdisjoint(buttons(message))


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed; nan for none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


async def missing_opinions(journal: Journal, store: Store) -> list[str]:
    """The acknowledged ratings and votes that are not in the store, in words.

    Each acknowledged click is one event there; there may be more: a click whose acknowledgement
    was lost with its process.
    """
    snapshot = await store.snapshot()
    votes = Counter(
        (one.member_id, one.comparison_id, kind_of(one.verdict, one.ranking))
        for one in snapshot.votes
    )
    kept = votes + Counter(
        (one.member_id, one.message_id, "up" if one.value > 0 else "down")
        for one in snapshot.ratings
    )
    missing = []
    for one in journal.noted:
        member = await store.members.of_user(one.who.id)
        key = (member.id, one.action.id, one.verdict)
        if kept[key] == 0:
            missing.append(f"{one.who.name} was told {one.told!r} for {one.action.kind}")
        kept[key] -= 1
    return missing


def kind_of(verdict: str, ranking: Sequence[object]) -> str:
    """The button that gives this verdict."""
    if verdict == "ranked":
        return "left" if ranking[0] == 0 else "right"
    return verdict
