"""A snapshot as exports see it: paths, the votes and ratings that count, and what may not leave.

What of a member may leave:

- their own text (a turn that is not the model's and has a member, or a speaker's name) only if
  their consent is `train` *and* the operator has switched it on: `members` for text of any origin,
  `slash` for what was typed into a slash command alone, that is the first question of a
  conversation of kind `slash`. A turn refused takes everything below it along;
- what they only forwarded or linked to, never: nobody knows who wrote it;
- their votes and ratings unless their consent is `none`; the reason of a rating is their own text,
  submitted through a form;
- no vote of somebody who votes by position, and no vote or rating in a guild that was left;
- a prompt that they submitted to the pool, and a correction that is accepted, unless their consent
  is `none`: the form in which they wrote it says that it is to be learned from;
- on the web page, what they said above an answer that they worded better, if their consent is
  `train` and the operator has accepted the correction with what was said above it;
- never a prompt that is kept for decisions, with all that was answered to it;
- never their names, their ids, or anything that was deleted or blanked, nor an answer to a text
  that says something else by now.

Turns without a member or name (written by the operator, bundled, imported) always may; not on the
web page, where they are somebody's whom nobody knows any more.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from guildgpt.data import origin
from guildgpt.data.origin import Events
from guildgpt.feedback.exporting.departed import conversations_left
from guildgpt.feedback.messages.turns import is_imported, passed_review, place_of
from guildgpt.feedback.records import (
    NOT_THEIRS,
    ConversationKind,
    Correction,
    Rating,
    Snapshot,
    StoredMessage,
    Vote,
)
from guildgpt.feedback.storage.rows import storable
from guildgpt.feedback.voting.corrections import in_force
from guildgpt.feedback.voting.late import late_votes
from guildgpt.feedback.voting.prompts import sha256_of
from guildgpt.feedback.voting.rankings import Ballot, ballot, latest

_MENTION = re.compile(r"<@!?\d+>")  # Discord writes a member's id into the text
BELOW = "reply to a message that was left out"


@dataclass(frozen=True, slots=True)
class Switches:
    """What the operator allows of members' own text; each member's consent is needed besides."""

    members: bool = False  # `policy.RULE_21` stands beside this switch wherever it is shown
    slash: bool = False  # only what was submitted through a slash command's option or modal


@dataclass(slots=True)
class Export:
    """Rows to write, what was left out by reason, and the events that the rows rest on.

    `events` are those of all rows together, as `store.versions.learned` takes them; each row names
    its own.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    events: Events = field(default_factory=set)

    def add(self, row: dict[str, Any], events: Events) -> None:
        """One more row, which rests on these events."""
        self.rows.append(row | {origin.KEY: origin.written(events)})
        self.events |= events


@dataclass(frozen=True, slots=True)
class Cast:
    """A vote that counts, as an order of answers that may leave."""

    vote: Vote
    ballot: Ballot


class View:
    """A snapshot with its links followed once. Nothing in it changes after the first line."""

    def __init__(self, snapshot: Snapshot, switches: Switches | None = None) -> None:
        self.snapshot = snapshot
        self.switches = switches or Switches()
        self.messages = {message.id: message for message in snapshot.messages}
        self.conversations = {item.id: item for item in snapshot.conversations}
        self.comparisons = {item.id: item for item in snapshot.comparisons}
        self._rounds = {item.comparison_id: item for item in snapshot.rounds}
        self._decide = {one.sha256 for one in snapshot.prompts if one.purpose == "decide"}
        asked = {one.comparison_id: one.prompt_id for one in snapshot.rounds}
        self._prompt_of = {  # by question
            item.question_id: asked[item.id] for item in snapshot.comparisons if item.id in asked
        }
        self._offered = {one.id for one in snapshot.prompts if one.member_id is not None}
        self.uncounted_votes: Counter[str] = Counter()  # by reason
        self.uncounted_ratings: Counter[str] = Counter()
        late = late_votes(snapshot)  # what was said blindly before stays
        if late:
            self.uncounted_votes["vote cast once it was told who wrote which"] = len(late)
        votes = latest([vote for vote in snapshot.votes if vote.id not in late])
        self._left = conversations_left(snapshot)
        self.votes = [vote for vote in votes if self._vote_counts(vote)]
        self.ratings = self._latest_ratings()
        self._replies: dict[str | None, list[StoredMessage]] = {}
        for message in sorted(snapshot.messages, key=place_of):
            parent = message.parent_id if message.parent_id in self.messages else None
            self._replies.setdefault(parent, []).append(message)
        self._casts: dict[str, list[Cast]] = {}  # by question
        self.cast: list[Cast] = []  # the votes that count, in the order cast
        for vote in self.votes:
            self._cast(vote)

    def replies(self, message_id: str | None) -> list[StoredMessage]:
        """The replies to a message; the first messages of all trees for None.

        Imported ones come in the order of their file, then the others by age.
        """
        return self._replies.get(message_id, [])

    def path(self, message_id: str) -> list[StoredMessage]:
        """From the first message of the tree to this one."""
        path: list[StoredMessage] = []
        at: str | None = message_id
        while at in self.messages:
            path.append(self.messages[at])
            at = path[-1].parent_id
        return path[::-1]

    def group(self, path: list[StoredMessage]) -> str:
        """What keeps rows on one side of a split: the prompt of the pool, else the tree."""
        return self._prompt_of.get(path[-1].id) or path[0].id

    def refusal(self, message: StoredMessage, under: Correction | None = None) -> str | None:
        """Why this message itself may not leave, in words; None if it may. What stands above an
        answer may leave `under` a correction of it by the same member."""
        if message.deleted or not message.text.strip():
            return "deleted or blank"
        if message.outdated:
            return "answers a text that has been edited since"
        if message.parent_id is not None and message.parent_id not in self.messages:
            return "its parent is missing"
        if message.extra.get(NOT_THEIRS):
            return "text that a member only passed on"
        if message.role == "user" and self._decide and sha256_of(message.text) in self._decide:
            return "prompt that is kept for decisions"
        if message.role == "assistant":
            return None
        if message.member_id is None and message.name is None:
            anonymous = message.role == "user" and self._kind(message) == "web"
            return "text of nobody who is on record" if anonymous else None
        member = self.snapshot.members.get(message.member_id or "")
        if member is None:
            return "text of a speaker who is not on record"
        if self._prompt_of.get(message.id) in self._offered and member.consent != "none":
            return None
        if member.consent != "train":
            return f"text of a member with consent {member.consent}"
        if (
            under is not None
            and under.decided_at is not None
            and under.member_id == member.id
            and self._kind(message) == "web"
        ):
            return None
        if self.switches.members or (self.switches.slash and self._in_slash(message)):
            return None
        return "text of members (the operator's switch is off)"

    def leave_out(self, export: Export, message: StoredMessage, reason: str) -> None:
        """Count a message and everything below it."""
        export.left_out[reason] += 1
        below = list(self.replies(message.id))
        for reply in below:  # grows while it is walked
            below += self.replies(reply.id)
        if below:
            export.left_out[BELOW] += len(below)

    def casts(self, question_id: str) -> list[Cast]:
        """The votes that count on the answers to this question, in the order cast."""
        return self._casts.get(question_id, [])

    def questions(self) -> list[StoredMessage]:
        """Every message whose answers have votes or an imported ranking, oldest first."""
        asked = {item.question_id for item in self.snapshot.comparisons}
        asked |= {m.parent_id for m in self.snapshot.messages if m.rank is not None and m.parent_id}
        found = (self.messages[id] for id in asked if id in self.messages)
        return sorted(found, key=lambda message: (message.created_at, message.id))

    def imported_ranking(self, question_id: str) -> Ballot | None:
        """The ranks that an import gave the answers, if they tell at least two apart."""
        tiers: dict[int, set[str]] = {}
        for reply in self.replies(question_id):
            if reply.rank is not None and self.refusal(reply) is None:
                tiers.setdefault(reply.rank, set()).add(reply.id)
        return tuple(frozenset(tiers[rank]) for rank in sorted(tiers)) if len(tiers) > 1 else None

    def ups_and_downs(self, message_id: str) -> tuple[int, int]:
        """How many members rate the message up, and how many down."""
        values = [rating.value for rating in self.ratings.get(message_id, [])]
        return values.count(1), values.count(-1)

    def reasons(self, message_id: str) -> list[str]:
        """Why members rate the message down, as far as their words may leave: by the same two
        switches as all that they write."""
        said = []
        for rating in self.ratings.get(message_id, []):
            member = self.snapshot.members.get(rating.member_id or "")
            may = rating.member_id is None or (
                member is not None
                and member.consent == "train"
                and (self.switches.members or self.switches.slash)
            )
            if rating.reason and rating.value < 0 and may:
                said.append(_MENTION.sub("@member", str(storable(rating.reason))))
        return said

    def corrections(self) -> list[Correction]:
        """Each member's newest accepted correction of each answer, unless it was taken back; the
        oldest first. What nobody is known to have written is none."""
        return [
            one
            for one in in_force(self.snapshot.corrections)
            if one.member_id and one.message_id in self.messages and self._consents(one.member_id)
        ]

    def score(self, message_id: str) -> int:
        """Ratings up minus ratings down."""
        ups, downs = self.ups_and_downs(message_id)
        return ups - downs

    def text(self, message: StoredMessage) -> str:
        """The text as it may leave: in our own conversations no member's Discord id is left."""
        text = str(storable(message.text))
        return text if is_imported(message) else _MENTION.sub("@member", text)

    def wording(self, correction: Correction) -> str:
        """A correction's text as it may leave."""
        return _MENTION.sub("@member", str(storable(correction.text)))

    def turn(self, message: StoredMessage) -> dict[str, str]:
        """`{"role": …, "content": …}`."""
        return {"role": message.role, "content": self.text(message)}

    def _in_slash(self, message: StoredMessage) -> bool:
        """Whether it was typed into a slash command: later turns are ordinary messages."""
        is_slash = self._kind(message) == "slash"
        return is_slash and all(turn.role == "system" for turn in self.path(message.id)[:-1])

    def _kind(self, message: StoredMessage) -> ConversationKind:
        return self.conversations[message.conversation_id].kind

    def _vote_counts(self, vote: Vote) -> bool:
        if vote.member_id in self.snapshot.by_position:
            self.uncounted_votes["vote of somebody who votes by position"] += 1
            return False
        asked = self.comparisons.get(vote.comparison_id)
        if asked is not None and self._is_left(asked.question_id):
            self.uncounted_votes["vote in a server that the bot was taken out of"] += 1
            return False
        return self._counts(vote, "vote", self.uncounted_votes)

    def _is_left(self, message_id: str) -> bool:
        """Whether it was said in a guild that was left."""
        there = self.messages.get(message_id)
        return there is not None and there.conversation_id in self._left

    def _counts(self, event: Vote | Rating, what: str, uncounted: Counter[str]) -> bool:
        if self._consents(event.member_id):
            return True
        uncounted[f"{what} of a member with consent none"] += 1
        return False

    def _consents(self, member_id: str | None) -> bool:
        """Whether what they think counts; the operator's at the terminal always does."""
        member = self.snapshot.members.get(member_id or "")
        return member_id is None or (member is not None and member.consent != "none")

    def _latest_ratings(self) -> dict[str, list[Rating]]:
        ordered = sorted(self.snapshot.ratings, key=lambda rating: (rating.created_at, rating.id))
        newest = {(r.message_id, r.member_id or r.id): r for r in ordered}
        found: dict[str, list[Rating]] = {}
        for rating in newest.values():
            if rating.value and self._is_left(rating.message_id):
                reason = "rating in a server that the bot was taken out of"
                self.uncounted_ratings[reason] += 1
                continue
            # 0 takes a rating back.
            if rating.value and self._counts(rating, "rating", self.uncounted_ratings):
                found.setdefault(rating.message_id, []).append(rating)
        return found

    def _cast(self, vote: Vote) -> None:
        comparison = self.comparisons.get(vote.comparison_id)
        tiers = ballot(comparison, vote) if comparison else None
        if comparison is None or tiers is None:
            self.uncounted_votes["skipped vote"] += 1
            return
        asked_in = self._rounds.get(comparison.id)
        if asked_in is not None and asked_in.state != "closed":
            reason = "cancelled" if asked_in.state == "cancelled" else "still open"
            self.uncounted_votes[f"vote of a round that is {reason}"] += 1
            return
        stay = {
            answer
            for answer in comparison.candidates
            if answer in self.messages and self.refusal(self.messages[answer]) is None
        }
        if len(stay) < 2:
            self.uncounted_votes["vote on answers that were deleted"] += 1
            return
        tiers = tuple(tier & stay for tier in tiers if tier & stay)
        cast = Cast(vote, tiers)
        self.cast.append(cast)
        self._casts.setdefault(comparison.question_id, []).append(cast)


def unfit(
    view: View,
    path: list[StoredMessage],
    *answers: StoredMessage,
    under: Correction | None = None,
) -> str | None:
    """Why a prompt or its answers cannot be trained on or may not leave; see `View.refusal`."""
    refused = [reason for turn in path if (reason := view.refusal(turn, under))]
    if refused:
        return refused[0]
    if not any(turn.role == "user" for turn in path):
        return "no question before the answer"
    if not all(map(passed_review, (*path, *answers))):
        return "not passed in review"
    return None
