"""What the store hands out and takes in: plain frozen rows, no database in them.

Ids of our own rows are uuid4 strings, Discord's ids are whole numbers, times are in UTC and aware.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from guildgpt.chat import Role
from guildgpt.model.version import Version

Consent = Literal["none", "chat", "train"]
ConversationKind = Literal["chain", "thread", "dm", "slash", "terminal", "import", "round", "web"]
Passed = Literal["partly", "wholly"]
NOT_THEIRS = "not_theirs"  # in a message's `extra`: how far its member passed on what others wrote
DeliveryState = Literal["pending", "answering", "done", "failed", "skipped"]
Verdict = Literal["ranked", "tie", "both_bad", "skip"]
AccountKind = Literal["terminal", "web"]
AccountRole = Literal["voter", "operator"]
CorrectionState = Literal["offered", "accepted", "refused"]
PromptState = Literal["offered", "accepted", "refused"]
Purpose = Literal["train", "decide"]
Place = Literal["discord", "terminal", "web"]
RoundState = Literal["posting", "open", "closing", "closed", "cancelled"]
OVER: tuple[RoundState, ...] = ("closing", "closed", "cancelled")
"""Of rounds that take no more votes."""
ReleaseKind = Literal["serve", "canary", "promote", "drop", "rollback"]
Drawn = Literal["random", "unsure"]
DecisionState = Literal[
    "training", "gate", "canary", "preferred", "not_preferred", "undecided", "promoted", "dropped"
]
LogKind = Literal[
    "began",  # a turn: what it learns from
    "trained",
    "gate",
    "canary",
    "decided",
    "promoted",
    "dropped",
    "rolled_back",
    "erased",  # something that a version learned from
    "night",  # one that took a step: what it came to
    "waited",  # a night in which a candidate was undecided
    "too_little",  # a night in which there was too little to learn from
    "nothing_new",  # a night in which the last turn had learned from all there was
    "failed",  # a night that ended in an error, in words
    "asked",  # pairs proposed of which the reward model is unsure
]
Ranking = tuple[int | tuple[int, ...], ...]
"""Positions of a comparison's answers, the best first; equals of a place together."""
OPEN_STATES: tuple[DecisionState, ...] = ("training", "gate", "canary", "preferred")
"""Of decisions that stand in the way of the next candidate."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who talks to the bot; who they are on Discord, only the keyed hash knows."""

    id: str
    consent: Consent


@dataclass(frozen=True, slots=True)
class Account:
    """A member under a name on the web page, and what they may do there; of one that `ended_at`,
    nobody is signed in any more."""

    id: str
    member_id: str
    name: str
    role: AccountRole
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that makes an account, or signs one in again (`account_id`), until it is used or
    expires."""

    id: str
    role: AccountRole
    name: str | None
    account_id: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in; `device` is what it says of itself."""

    id: str
    account_id: str
    device: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may ask the API. `sha256` is that of the secret; a limit that is None is none."""

    id: str
    name: str
    sha256: str
    requests_per_minute: int | None
    tokens_per_day: int | None
    created_at: datetime
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What a program had stored: `body` is as the API tells it, with what was asked. `owner` is the
    hash of the key that asked."""

    id: str
    owner: str
    previous_id: str | None
    body: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A tree of messages: where it takes place, or which file it came from (`source`).

    `home_id` is the channel that a thread hangs from.
    """

    id: str
    kind: ConversationKind
    guild_id: int | None
    channel_id: int | None
    source: str
    lang: str
    created_at: datetime
    home_id: int | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation of the web page, by its conversation's id."""

    id: str
    title: str
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class FoundChat:
    """A chat in which something was looked for, and what stands around it."""

    chat: Chat
    excerpt: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one member thinks of an answer: thumbs (1, -1 or 0), and how they would have worded it,
    with what the operator made of that."""

    value: int
    reason: str | None
    correction: str
    state: CorrectionState | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a tree.

    `name` is the speaker's display name as the model was told it; `version_id`, `sampling` and
    `stop` say how a model wrote it; `rank` is 0 for the best of several answers; `synthetic` text
    was written by a model; the text of a `deleted` message is gone; `extra` is what an import
    carried beside all this. `edited_at` is Discord's time of the newest edit that the text has; an
    `outdated` answer was told a text that has been edited since.
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: Role
    text: str
    name: str | None
    member_id: str | None
    version_id: str | None
    sampling: dict[str, Any] | None
    stop: str | None
    discord_id: int | None
    rank: int | None
    synthetic: bool
    deleted: bool
    extra: dict[str, Any]
    created_at: datetime
    edited_at: datetime | None = None
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event of Discord's on its way to its answer; `parts` are the answer's messages in order.

    `answer_id` may name an answer that is not yet written down.
    """

    id: str
    event_id: int
    kind: str
    guild_id: int | None
    channel_id: int | None
    question_id: str | None
    answer_id: str | None
    state: DeliveryState
    parts: tuple[int, ...]
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredComparison:
    """Answers to one question in the order shown; `candidates` are messages' ids."""

    id: str
    question_id: str
    candidates: tuple[str, ...]
    discord_id: int | None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict on a comparison; `ranking` are positions, the best first, if it is `ranked`, and
    `(0, (1, 3))` holds 1 and 3 equal. Those left out share the last place.

    Of several votes of one member the newest counts. A vote without a member replaces none.
    """

    id: str
    comparison_id: str
    member_id: str | None
    verdict: Verdict
    ranking: Ranking
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Rating:
    """Thumbs up (1) or down (-1), or taken back (0); of several of one member the newest counts."""

    id: str
    message_id: str
    member_id: str | None
    value: int
    reason: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Correction:
    """A person's own wording of an answer; of several of one member the newest counts. One without
    words takes back those before it. `licence` is what they gave it under; one that is `offered`
    waits for the operator's review."""

    id: str
    message_id: str
    member_id: str | None
    text: str
    created_at: datetime
    licence: str = ""
    state: CorrectionState = "accepted"
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WaitingCorrection:
    """A correction that waits for the operator, what was said, up to the answer it is of, and what
    speaks for its having been pasted from elsewhere (`flags`)."""

    correction: Correction
    said: tuple[StoredMessage, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolPrompt:
    """A prompt of the pool: who wrote it, under which licence, and what it may be used for.

    `purpose` follows from the text: on what decides nothing is trained, and the other way round.
    `member_id` is who submitted it; `credit` names whom the licence wants to be named.
    """

    id: str
    text: str
    sha256: str
    purpose: Purpose
    source: str
    licence: str
    credit: str
    lang: str
    member_id: str | None
    state: PromptState
    created_at: datetime
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """A prompt of the pool with two blind answers, put to the vote at a place.

    One with a decision helps to decide on a candidate; one without gathers votes to learn from.
    One that is `closing` takes no votes, and its message on Discord does not say so yet. `drawn`
    says how prompt and answers were chosen: one that decides is always `random`.
    """

    id: str
    prompt_id: str
    comparison_id: str
    decision_id: str | None
    place: Place
    guild_id: int | None
    channel_id: int | None
    discord_id: int | None
    state: RoundState
    created_at: datetime
    closes_at: datetime | None = None
    closed_at: datetime | None = None
    drawn: Drawn = "random"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer to be put to the vote, and how a version wrote it."""

    text: str
    version_id: str
    sampling: dict[str, Any] | None = None
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Ballots:
    """A round with its answers' versions in the order shown, and each member's newest vote."""

    round: Round
    purpose: Purpose
    versions: tuple[str | None, ...]
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class RoundMean:
    """What a round of a guild said of a candidate, the `number`th that closed on its decision.

    `mean` is that of its `voters`' verdicts, from 0 to 1; None without any. `people` had voted in
    the decision's rounds by then. Further ones voted and were `excluded`: they vote by position. Of
    a round that is gone there is no `round_id`.
    """

    decision_id: str
    number: int
    round_id: str | None
    mean: float | None
    voters: int
    people: int
    excluded: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """The share of conversations that a version answers; all rows of a number belong together."""

    number: int
    version_id: str
    share: float
    kind: ReleaseKind
    why: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a candidate, from its training to its promotion.

    `folder` is where its turn of the circle works; `settings` and `result` are the sequential
    test's; `gate` is what was measured before any member saw it. Of one that was `erased_at`
    something that it learned from is gone: it is not promoted.
    """

    id: str
    state: DecisionState
    candidate_id: str | None
    baseline_id: str | None
    folder: str | None
    settings: dict[str, Any]
    result: dict[str, Any] | None
    why: str | None
    created_at: datetime
    updated_at: datetime
    erased_at: datetime | None = None
    gate: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Something that the circle did; without a decision, between two turns."""

    id: str
    decision_id: str | None
    kind: LogKind
    detail: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two answers to a prompt of which a reward model cannot say which people like better; taken
    once a round asks for them."""

    id: str
    prompt_id: str
    answers: tuple[Candidate, ...]
    unsure: float
    created_at: datetime
    taken_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AbuseReport:
    """An answer that somebody finds wrong, and where it stands on Discord. Of one that is gone
    there is no `text`; who reported it is nobody's business."""

    id: str
    message_id: str
    version_id: str | None
    text: str
    guild_id: int | None
    channel_id: int | None
    discord_id: int | None
    reason: str | None
    created_at: datetime
    resolved_at: datetime | None

    @property
    def link(self) -> str | None:
        """The address of the message on Discord, if it is known."""
        if self.channel_id is None or self.discord_id is None:
            return None
        place = f"{self.guild_id or '@me'}/{self.channel_id}/{self.discord_id}"
        return f"https://discord.com/channels/{place}"


@dataclass(frozen=True, slots=True)
class VersionStats:
    """What members think of a version's answers."""

    answers: int = 0
    up: int = 0
    down: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of what is in the store; of votes and ratings, each member's newest. 0 counts none.

    `messages` and `answers` leave out deleted ones; an answer is what the assistant said.
    """

    members: int
    conversations: int
    messages: int
    answers: int
    up: int
    down: int
    comparisons: int
    votes: dict[Verdict, int]
    reports: int
    consents: dict[Consent, int]
    versions: dict[str, VersionStats]


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure took away, by kind of row, and the versions that had learned from it."""

    counts: dict[str, int]
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store's contents for export, oldest first; or what an import brings.

    Deleted messages are in it, flagged. `members` has everybody who is referred to, `by_position`
    those whose votes count no more, `left_guilds` the guilds that the bot was taken out of.
    """

    conversations: list[StoredConversation] = field(default_factory=list)
    messages: list[StoredMessage] = field(default_factory=list)
    comparisons: list[StoredComparison] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    corrections: list[Correction] = field(default_factory=list)
    prompts: list[PoolPrompt] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)  # all of them; no import brings any
    by_position: set[str] = field(default_factory=set)
    left_guilds: set[int] = field(default_factory=set)
