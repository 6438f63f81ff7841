"""Whose question comes next: a queue that is fair to guilds, and inside them to members."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeVar

from guildgpt.errors import GuildError

_FIRST_GUESS = 15.0  # seconds that a turn takes, until one has been seen
_LATEST_WEIGHS = 0.2  # the share of the latest turn in the running mean

T = TypeVar("T")
User = int | str
GuildKey = tuple[str, User]
# The order of the keys is the order of the rounds: whoever is served goes to the end.
Waiting = dict[GuildKey, dict[User, deque[T]]]


class Busy(GuildError):
    """The queue is full; `seconds` is about how long a new question would have to wait."""

    def __init__(self, waiting: int, seconds: float):
        self.seconds = seconds
        super().__init__(
            f"{waiting} questions are waiting already",
            remedy=f"Ask again later; the wait would be about {seconds:.0f} seconds now.",
        )


class TooMany(GuildError):
    """One member asks too much at once; `seconds` is about when the next question is welcome."""

    def __init__(self, what: str, seconds: float):
        self.seconds = seconds
        super().__init__(what, remedy=f"Ask again in about {seconds:.0f} seconds.")


@dataclass(eq=False)
class FairQueue:
    """Turns for `workers` at once, handed out round robin: over guilds, inside a guild over users.

    Between two turns of a guild every other waiting guild gets one, and between two turns of a
    user every other waiting user of the same guild gets one, so nobody starves. Direct messages
    (guild None) count as a guild of their own for each user.

    At most `bound` questions wait, `per_user` of one user, who may ask `rate` times per
    `per_seconds` seconds. `clock` gives monotonic seconds. Memory is bounded: a guild or user
    without a waiting question is forgotten, a user's allowance once it is whole again.
    """

    workers: int
    _: KW_ONLY
    per_user: int = 1
    bound: int = 100
    rate: int = 10
    per_seconds: float = 60.0
    clock: Callable[[], float]
    running: int = 0
    _guilds: Waiting[asyncio.Future[None]] = field(default_factory=dict)
    # When a user may ask `rate` times again.
    _whole_at: dict[User, float] = field(default_factory=dict)
    _mean: float | None = None

    @property
    def waiting(self) -> int:
        """Questions whose turn has not come."""
        return sum(len(futures) for users in self._guilds.values() for futures in users.values())

    @asynccontextmanager
    async def turn(
        self, *, guild: int | None, user: User, admitted: bool = False
    ) -> AsyncGenerator[None, None]:
        """Wait for a turn; it lasts as long as the block.

        Raises `TooMany` and `Busy` at once, before anything waits; not for who was `admitted`
        before the process was started anew. A task that is cancelled while it waits leaves the
        queue as if it had never asked, but for its allowance.
        """
        if not admitted:
            self._admit(guild, user)
        await self._come_in(guild, user)
        started = self.clock()
        try:
            yield
        finally:
            took = self.clock() - started
            mean = took if self._mean is None else self._mean
            self._mean = mean + _LATEST_WEIGHS * (took - mean)
            self._leave()

    def ahead(self, guild: int | None, user: User) -> int:
        """Turns that begin before that of the user's last waiting question in this guild, or, if
        there is none, before that of one asked now; later arrivals do not count."""
        mine = (_key(guild, user), user)
        waiting: Waiting[object] = {
            key: {one: deque(futures) for one, futures in users.items()}
            for key, users in self._guilds.items()
        }
        waiting.setdefault(mine[0], {}).setdefault(user, deque([None]))
        turns = [(key, one) for key, one, _ in _turns(waiting)]
        return max(place for place, turn in enumerate(turns) if turn == mine)

    def estimate(self, guild: int | None, user: User) -> float:
        """Seconds until the turn that `ahead` speaks of; a guess until some turn has ended."""
        mean = _FIRST_GUESS if self._mean is None else self._mean
        idle = self.workers - self.running
        return max(0, self.ahead(guild, user) + 1 - idle) * mean / self.workers

    async def _come_in(self, guild: int | None, user: User) -> None:
        if self.running < self.workers:  # then nobody waits
            self.running += 1
            return
        key = _key(guild, user)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._guilds.setdefault(key, {}).setdefault(user, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # its turn had just come
                self._leave()
            else:
                self._take_out(key, user, mine)
            raise

    def _admit(self, guild: int | None, user: User) -> None:
        """Raise `TooMany` or `Busy`, or take one question off the user's allowance."""
        now = self.clock()
        full = self.running >= self.workers
        waiting = sum(len(users.get(user, ())) for users in self._guilds.values())
        if full and waiting >= self.per_user:
            raise TooMany("a question of yours is waiting", self.estimate(guild, user))
        # A token bucket: each question takes a token, which comes back in this time.
        per_token = self.per_seconds / self.rate
        self._whole_at = {one: at for one, at in self._whole_at.items() if at > now}
        whole_at = self._whole_at.get(user, now)
        too_early = whole_at - now - (self.rate - 1) * per_token
        if too_early > 0:
            raise TooMany("you ask quicker than I can answer", too_early)
        if full and self.waiting >= self.bound:
            raise Busy(self.waiting, self.estimate(guild, user))
        self._whole_at[user] = whole_at + per_token

    def _leave(self) -> None:
        self.running -= 1
        for _, _, mine in _turns(self._guilds):
            if not mine.done():  # a cancelled one takes itself for gone
                self.running += 1
                mine.set_result(None)
                return

    def _take_out(self, key: GuildKey, user: User, mine: asyncio.Future[None]) -> None:
        users = self._guilds.get(key, {})
        if mine in users.get(user, ()):
            users[user].remove(mine)
            if not users[user]:
                del users[user]
            if not users:
                del self._guilds[key]


def _turns(waiting: Waiting[T]) -> Iterator[tuple[GuildKey, User, T]]:
    """The questions in the order of their turns; each is taken out before it is told."""
    while waiting:
        key, users = next(iter(waiting.items()))
        user, questions = next(iter(users.items()))
        first = questions.popleft()
        del waiting[key], users[user]  # whoever is served goes to the end
        if questions:
            users[user] = questions
        if users:
            waiting[key] = users
        yield key, user, first


def _key(guild: int | None, user: User) -> GuildKey:
    return ("dm", user) if guild is None else ("guild", guild)
