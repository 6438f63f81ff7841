"""Blind votes: cast by who was shown the answers, in the order in which they saw them.

Each voter sees the answers in an order of their own, so that a side which is liked for being there
weighs for nobody. Who wrote which is told once it cannot sway a vote any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.records import Decision, Snapshot, Verdict, Vote
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.decisions import secret_of

Places = Sequence[int | Sequence[int]]


class KeepsNothing(StoreError):
    """A vote by somebody who wants nothing kept."""

    def __init__(self) -> None:
        super().__init__(
            "you chose that nothing of yours is kept, and a vote would be",
            remedy="Choose otherwise under your account, and vote.",
        )


@dataclass(frozen=True, slots=True)
class Given:
    """A vote as it comes from a page: `ranking` has places as they were shown, from 0, and `id` is
    the same each time that the vote is sent."""

    id: str
    comparison_id: str
    ticket: str
    verdict: Verdict
    ranking: Places = ()


async def cast(store: Store, member_id: str, given: Given) -> Vote:
    """Note a vote; what the member said of these answers before counts no more.

    Raises NotSeen where they were not shown to them, RecordGone where they were erased, RoundClosed
    where it is too late, KeepsNothing, ValueError for no ranking.
    """
    store.seen.check(given.ticket, given.comparison_id, member_id)
    await check_keeps(store, member_id)
    comparison = await store.votes.comparison(given.comparison_id)
    if comparison is None:
        raise RecordGone(
            "what you vote on was erased, and your vote with it",
            remedy="Nothing is left to do: the next one comes.",
        )
    order = store.seen.order(comparison.id, member_id, len(comparison.candidates))

    def stood(place: int) -> int:
        if not 0 <= place < len(order):
            raise ValueError(f"no place of {len(order)} answers: {place}")
        return order[place]

    ranking = [
        stood(place) if isinstance(place, int) else [stood(one) for one in place]
        for place in given.ranking
    ]
    id = store.seen.vote_id(given.id, comparison.id, member_id)
    return await store.votes.cast(comparison.id, member_id, given.verdict, ranking, id=id)


async def check_keeps(store: Store, member_id: str) -> None:
    """Raise KeepsNothing for who wants nothing kept: a vote would be."""
    member = await store.members.by_id(member_id)
    if member is None:
        raise RecordGone("you were erased here", remedy="Ask for a new invitation.")
    if member.consent == "none":
        raise KeepsNothing


def first_shown(store: Store, snapshot: Snapshot) -> dict[str, int]:
    """By vote, the position that its member was shown first, of those who had an order of their
    own: on the web page, whose rounds at a terminal's place have a time at which they close."""
    chats = {one.id for one in snapshot.conversations if one.kind == "web"}
    asked = {one.id for one in snapshot.messages if one.conversation_id in chats}
    shown = {
        one.comparison_id for one in snapshot.rounds if one.place != "discord" and one.closes_at
    }
    counts = {
        one.id: len(one.candidates)
        for one in snapshot.comparisons
        if one.id in shown or one.question_id in asked
    }
    return {
        vote.id: store.seen.order(vote.comparison_id, vote.member_id, counts[vote.comparison_id])[0]
        for vote in snapshot.votes
        if vote.member_id and vote.comparison_id in counts
    }


def is_secret(versions: Iterable[str | None], current: Decision | None) -> bool:
    """Whether nobody may be told yet who wrote these answers: one of them is by a version that is
    being tried. A file may be registered under two names: it is known by its hash."""
    if current is None or current.state not in ("canary", "preferred"):
        return False
    tried = _file(current.candidate_id)
    return any(_file(version) == tried for version in versions)


async def secret_versions(store: Store) -> frozenset[str]:
    """The versions of whose answers nobody may be told now."""
    return secret_of(await store.decisions.current())


def _file(id: str | None) -> str:
    """What stands for the version's file in its id."""
    return (id or "").rpartition("@")[2]
