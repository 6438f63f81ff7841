"""Whose question comes next: a queue that is fair to guilds, and inside them to members."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from guildgpt.errors import GuildError

_FIRST_GUESS = 15.0  # seconds that a turn takes, until one has been seen
_LATEST_WEIGHS = 0.2  # the share of the latest turn in the running mean

User = int | str
GuildKey = tuple[str, User]


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


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that has come; `waited` is in seconds."""

    guild: int | None
    user: User
    waited: float


@dataclass(slots=True)
class _Allowance:
    """A token bucket: what a user may still ask, as of a time."""

    tokens: float
    at: float


class FairQueue:
    """Turns for `workers` at once, handed out round robin: over guilds, inside a guild over users.

    Between two turns of a guild every other waiting guild gets one, and between two turns of a
    user every other waiting user of the same guild gets one, so nobody starves. Direct messages
    (guild None) count as a guild of their own for each user.

    At most `bound` questions wait, `per_user` of one user, who may ask `rate` times per
    `per_seconds` seconds. `clock` gives monotonic seconds. Memory is bounded: a guild or user
    without a waiting question is forgotten, a user's allowance once it is whole again.
    """

    def __init__(
        self,
        workers: int,
        *,
        per_user: int = 1,
        bound: int = 100,
        rate: int = 10,
        per_seconds: float = 60.0,
        clock: Callable[[], float],
    ):
        if min(workers, per_user, rate) < 1 or bound < 0 or per_seconds <= 0:
            raise ValueError("workers, per_user and rate are 1 or more, bound 0 or more")
        self.workers = workers
        self.bound = bound
        self.running = 0
        self.waiting = 0
        self._per_user = per_user
        self._rate = rate
        self._per_seconds = per_seconds
        self._clock = clock
        # The order of the keys is the order of the rounds: whoever is served goes to the end.
        self._guilds: OrderedDict[GuildKey, OrderedDict[User, deque[asyncio.Future[None]]]]
        self._guilds = OrderedDict()
        self._waiting_of: dict[User, int] = {}
        self._allowances: OrderedDict[User, _Allowance] = OrderedDict()
        self._mean: float | None = None

    @asynccontextmanager
    async def turn(
        self, *, guild: int | None, user: User, admitted: bool = False
    ) -> AsyncGenerator[Turn, None]:
        """Wait for a turn; it lasts as long as the block.

        Raises `TooMany` and `Busy` at once, before anything waits; not for who was `admitted`
        before the process was started anew. A task that is cancelled while it waits leaves the
        queue as if it had never asked, but for its allowance.
        """
        asked = self._clock()
        if not admitted:
            self._admit(guild, user, asked)
        await self._come_in(guild, user)
        started = self._clock()
        try:
            yield Turn(guild, user, started - asked)
        finally:
            took = self._clock() - started
            mean = took if self._mean is None else self._mean
            self._mean = mean + _LATEST_WEIGHS * (took - mean)
            self._leave()

    def ahead(self, guild: int | None, user: User) -> int:
        """Turns that begin before that of the user's last waiting question in this guild, or, if
        there is none, before that of one asked now; later arrivals do not count."""
        mine = (_key(guild, user), user)
        places = [place for place, turn in enumerate(self._rounds()) if turn == mine]
        return places[-1] if places else self._before_a_new_one(guild, user)

    def estimate(self, guild: int | None, user: User) -> float | None:
        """Seconds until the turn that `ahead` speaks of; None until some turn has ended."""
        return None if self._mean is None else self._seconds(guild, user, self._mean)

    def _seconds(self, guild: int | None, user: User, mean: float) -> float:
        idle = self.workers - self.running
        return max(0, self.ahead(guild, user) + 1 - idle) * mean / self.workers

    async def _come_in(self, guild: int | None, user: User) -> None:
        if self.running < self.workers:  # then nobody waits
            self.running += 1
            return
        key = _key(guild, user)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._guilds.setdefault(key, OrderedDict()).setdefault(user, deque()).append(mine)
        self.waiting += 1
        self._waiting_of[user] = self._waiting_of.get(user, 0) + 1
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # its turn had just come
                self._leave()
            else:
                self._take_out(key, user, mine)
            raise

    def _admit(self, guild: int | None, user: User, now: float) -> None:
        """Raise `TooMany` or `Busy`, or take one question off the user's allowance."""
        full = self.running >= self.workers
        mean = self._mean or _FIRST_GUESS
        if full and self._waiting_of.get(user, 0) >= self._per_user:
            raise TooMany("a question of yours is waiting", self._seconds(guild, user, mean))
        per_token = self._per_seconds / self._rate
        tokens = self._tokens(user, now)
        if tokens < 1:
            raise TooMany("you ask quicker than I can answer", (1 - tokens) * per_token)
        if full and self.waiting >= self.bound:
            raise Busy(self.waiting, self._seconds(guild, user, mean))
        self._allowances[user] = _Allowance(tokens - 1, now)
        self._allowances.move_to_end(user)
        while self._allowances:  # the longest untouched are whole again first
            first = next(iter(self._allowances))
            if self._allowances[first].at + self._per_seconds > now:
                break
            del self._allowances[first]

    def _tokens(self, user: User, now: float) -> float:
        allowance = self._allowances.get(user)
        if allowance is None:
            return float(self._rate)
        earned = (now - allowance.at) * self._rate / self._per_seconds
        return min(float(self._rate), allowance.tokens + earned)

    def _leave(self) -> None:
        self.running -= 1
        while self._guilds and self.running < self.workers:
            key, users = next(iter(self._guilds.items()))
            user, futures = next(iter(users.items()))
            users.move_to_end(user)
            self._guilds.move_to_end(key)
            mine = futures[0]
            self._take_out(key, user, mine)
            if not mine.done():  # a cancelled one takes itself for gone
                self.running += 1
                mine.set_result(None)

    def _take_out(self, key: GuildKey, user: User, mine: asyncio.Future[None]) -> None:
        users = self._guilds.get(key, OrderedDict())
        futures = users.get(user, deque())
        if mine not in futures:
            return
        futures.remove(mine)
        self.waiting -= 1
        self._waiting_of[user] -= 1
        if not self._waiting_of[user]:
            del self._waiting_of[user]
        if not futures:
            del users[user]
        if not users:
            del self._guilds[key]

    def _rounds(self) -> Iterator[tuple[GuildKey, User]]:
        """Guild and user of every waiting question in the order of their turns."""
        guilds = deque(
            (key, deque((user, len(futures)) for user, futures in users.items()))
            for key, users in self._guilds.items()
        )
        while guilds:
            key, users = guilds.popleft()
            user, count = users.popleft()
            yield key, user
            if count > 1:
                users.append((user, count - 1))
            if users:
                guilds.append((key, users))

    def _before_a_new_one(self, guild: int | None, user: User) -> int:
        """Turns before that of a user who comes now: as many rounds as users wait in the guild."""
        key = _key(guild, user)
        rounds = len(self._guilds.get(key, ()))
        order = list(self._guilds)
        place = order.index(key) if key in order else len(order)
        total = rounds
        for index, other in enumerate(order):
            if other != key:
                waiting = sum(len(futures) for futures in self._guilds[other].values())
                total += min(waiting, rounds + (index < place))
        return total


def _key(guild: int | None, user: User) -> GuildKey:
    return ("dm", user) if guild is None else ("guild", guild)
