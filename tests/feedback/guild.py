"""A small guild's feedback, written down by hand: what the tests of exports and rankings read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from guildgpt.feedback.records import (
    Consent,
    ConversationKind,
    Correction,
    CorrectionState,
    Member,
    Rating,
    Snapshot,
    StoredComparison,
    StoredConversation,
    StoredMessage,
    Verdict,
    Vote,
)
from guildgpt.model.version import Version

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Guild:
    """Collects rows with ids of its own counting, a second apart."""

    def __init__(self, lang: str = "en") -> None:
        self.rows = Snapshot(versions={}, members={})
        self.members: dict[str, Member] = {}
        self.versions: dict[str, Version] = {}
        self.lang = lang
        self._count = 0

    def member(self, name: str, consent: Consent = "chat") -> str:
        self.members[name] = Member(name, consent)
        return name

    def conversation(self, kind: ConversationKind = "terminal") -> str:
        id = self._id("conversation")
        row = StoredConversation(id, kind, None, None, "test", self.lang, self._now())
        self.rows.conversations.append(row)
        return id

    def say(
        self,
        text: str,
        parent: StoredMessage | None = None,
        *,
        kind: ConversationKind = "terminal",
        **more: Any,
    ) -> StoredMessage:
        """A question, or with `role` another turn; below `parent`, or in a new conversation."""
        values: dict[str, Any] = {
            "id": self._id("message"),
            "conversation_id": parent.conversation_id if parent else self.conversation(kind),
            "parent_id": parent.id if parent else None,
            "role": "user",
            "text": text,
            "name": None,
            "member_id": None,
            "version_id": None,
            "sampling": None,
            "stop": None,
            "discord_id": None,
            "rank": None,
            "synthetic": False,
            "deleted": False,
            "extra": {},
            "created_at": self._now(),
        }
        message = StoredMessage(**values | more)
        self.rows.messages.append(message)
        return message

    def answer(
        self, text: str, to: StoredMessage, *, version: str = "starter@aaaaaaaa", **more: Any
    ) -> StoredMessage:
        self.versions[version] = Version(version, "starter", "runs/starter", "a" * 64)
        more = {"stop": "eos", **more}
        return self.say(text, to, role="assistant", version_id=version, synthetic=True, **more)

    def compare(self, question: StoredMessage, *answers: StoredMessage) -> StoredComparison:
        ids = tuple(answer.id for answer in answers)
        comparison = StoredComparison(self._id("comparison"), question.id, ids, None)
        self.rows.comparisons.append(comparison)
        return comparison

    def vote(
        self, comparison: StoredComparison, member: str | None, *ranking: int, verdict: str = ""
    ) -> Vote:
        chosen: Verdict = verdict or "ranked"  # type: ignore[assignment]
        vote = Vote(self._id("vote"), comparison.id, member, chosen, ranking, self._now())
        self.rows.votes.append(vote)
        return vote

    def correct(
        self,
        message: StoredMessage,
        member: str | None,
        text: str,
        state: CorrectionState = "accepted",
        licence: str = "CC0-1.0",
    ) -> Correction:
        """A correction that was reviewed, unless it is offered still."""
        made = Correction(self._id("correction"), message.id, member, text, self._now(), licence)
        decided = None if state == "offered" else self._now()
        made = replace(made, state=state, decided_at=decided)
        self.rows.corrections.append(made)
        return made

    def rate(
        self, message: StoredMessage, member: str | None, value: int, reason: str | None = None
    ) -> Rating:
        rating = Rating(self._id("rating"), message.id, member, value, reason, self._now())
        self.rows.ratings.append(rating)
        return rating

    @property
    def snapshot(self) -> Snapshot:
        rows = self.rows
        return Snapshot(
            rows.conversations,
            rows.messages,
            rows.comparisons,
            rows.votes,
            rows.ratings,
            self.members,
            self.versions,
            rows.corrections,
            rows.prompts,
            rows.rounds,
            rows.decisions,
        )

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count:04}"

    def _now(self) -> datetime:
        return BEGIN + timedelta(seconds=self._count)
