"""A chat's tree: which way through it is shown, and which others there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from guildgpt.feedback.records import StoredMessage


class Tree:
    """The messages of a chat, the oldest first. A question's siblings are what it was edited from
    and to; an answer's are those that were asked for again."""

    def __init__(self, messages: Sequence[StoredMessage]):
        self.messages = {message.id: message for message in messages}
        self._below: dict[str | None, list[str]] = defaultdict(list)
        for message in messages:
            self._below[message.parent_id].append(message.id)

    def path(self, id: str | None = None) -> list[StoredMessage]:
        """The way from the root past this message to the newest below it; without one, or where it
        is gone, to the newest of all."""
        way = self.above(id) if id in self.messages else []
        newest = self._newest_below(id if way else None)
        return way + self.above(newest)[len(way) :] if newest else way

    def above(self, id: str | None) -> list[StoredMessage]:
        """The way from the root to this message."""
        way = []
        while id is not None and (message := self.messages.get(id)):
            way.append(message)
            id = message.parent_id
        return way[::-1]

    def siblings(self, message: StoredMessage) -> list[str]:
        """The ids of the messages in its place, itself among them, the oldest first."""
        return self._below[message.parent_id]

    def _newest_below(self, id: str | None) -> str | None:
        """The newest message below this one, itself if there is none."""
        found, waiting = [], [id] if id else list(self._below[None])
        while waiting:
            one = waiting.pop()
            found.append(one)
            waiting += self._below[one]
        return max(found, key=lambda one: (self.messages[one].created_at, one), default=None)
