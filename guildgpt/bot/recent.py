"""Ids of the last things that happened: a set that stays small."""

from __future__ import annotations

from collections import OrderedDict


class Recent:
    """The last `limit` ids that were added."""

    def __init__(self, limit: int = 10_000):
        self._limit = limit
        self._ids: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, id: int) -> bool:
        """Whether it was added of late."""
        return id in self._ids

    def add(self, id: int) -> bool:
        """Remember an id; whether it is new."""
        is_new = id not in self._ids
        self._ids[id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return is_new
