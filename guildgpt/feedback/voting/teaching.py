"""Whose votes count for a turn of the circle: which guilds teach a candidate, and decide on it.

What was not said in a guild (at the terminal, on the web page, in an import) always counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from guildgpt.feedback.records import Snapshot


@dataclass(frozen=True, slots=True)
class Teaching:
    """The guilds that teach: `only` these, or all but those `without`."""

    only: frozenset[int] | None = None
    without: frozenset[int] = frozenset()

    def counts(self, guild_id: int | None) -> bool:
        """Whether what was said there does; None is no guild."""
        if guild_id is None:
            return True
        return guild_id not in self.without and (self.only is None or guild_id in self.only)

    def as_settings(self) -> dict[str, list[int]]:
        """As a decision's settings keep it; `of` reads it back."""
        only = {} if self.only is None else {"only": sorted(self.only)}
        return only | {"without": sorted(self.without)}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Teaching:
        """What a decision was begun with; of an older one, everybody."""
        said = settings.get("guilds") or {}
        only = said.get("only")
        return cls(None if only is None else frozenset(only), frozenset(said.get("without", ())))


EVERYBODY = Teaching()


def teaching(guilds: Literal["served"] | Sequence[int], left: Iterable[int]) -> Teaching:
    """What a setting means now: guilds that are `served` are those that the bot has not `left`."""
    if guilds == "served":
        return Teaching(without=frozenset(left))
    return Teaching(only=frozenset(guilds))


def taught(snapshot: Snapshot, teaching: Teaching) -> tuple[Snapshot, Counter[str]]:
    """The snapshot without the votes, ratings and corrections of guilds that do not teach, and how
    many went, by reason. What was said stays: others may have an opinion on it."""
    if teaching.only:  # a guild that is named teaches even if it was left
        snapshot = replace(snapshot, left_guilds=snapshot.left_guilds - teaching.only)
    apart = {one.id for one in snapshot.conversations if not teaching.counts(one.guild_id)}
    if not apart:
        return snapshot, Counter()
    said = {one.id for one in snapshot.messages if one.conversation_id in apart}
    compared = {one.id for one in snapshot.comparisons if one.question_id in said}
    stay = replace(
        snapshot,
        votes=[one for one in snapshot.votes if one.comparison_id not in compared],
        ratings=[one for one in snapshot.ratings if one.message_id not in said],
        corrections=[one for one in snapshot.corrections if one.message_id not in said],
    )
    went = Counter(
        {
            f"{what} of a server that does not teach": len(getattr(snapshot, f"{what}s"))
            - len(getattr(stay, f"{what}s"))
            for what in ("vote", "rating", "correction")
        }
    )
    return stay, +went
