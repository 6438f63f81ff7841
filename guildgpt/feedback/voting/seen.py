"""Who was shown what: a ticket that goes with a comparison to whoever sees it, and comes back with
their vote. Nothing has to be remembered for it, so any process that has the store can check it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from random import Random

from guildgpt.errors import StoreError


class NotSeen(StoreError):
    """A vote by somebody who was not shown the answers."""

    def __init__(self) -> None:
        super().__init__(
            "this vote is about answers that were not shown to you",
            remedy="Open the round again, and vote on what you see.",
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Tickets, by the store's key."""

    _key: bytes = field(repr=False)

    def ticket(self, comparison_id: str, member_id: str) -> str:
        """What shows that the member was shown these answers."""
        return self._digest("seen", comparison_id, member_id)

    def check(self, ticket: str, comparison_id: str, member_id: str) -> None:
        """Raise NotSeen for another's ticket, or none."""
        right = self.ticket(comparison_id, member_id)
        if not hmac.compare_digest(ticket.encode(), right.encode()):
            raise NotSeen

    def vote_id(self, given: str, comparison_id: str, member_id: str) -> str:
        """The id of a vote that its sender called `given`: the same each time they send it, and
        never another's."""
        return self._digest("vote", given, comparison_id, member_id)[:32]

    def order(self, comparison_id: str, member_id: str, count: int) -> list[int]:
        """In which order a member is shown the answers: their positions, drawn for each member and
        comparison, and the same whenever they look."""
        order = list(range(count))
        Random(self._digest("order", comparison_id, member_id)).shuffle(order)
        return order

    def code(self, member_id: str) -> str:
        """What an operator calls a voter by: the same for ever, and nobody's name. Who has a code
        and no key cannot tell whose it is."""
        return self._digest("code", member_id)[:8]

    def _digest(self, *words: str) -> str:
        return hmac.new(
            self._key, "\0".join(words).encode("utf-8", "replace"), hashlib.sha256
        ).hexdigest()
