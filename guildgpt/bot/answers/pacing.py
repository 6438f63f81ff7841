"""When the bot may write to a channel again, who of several writers does so first, and how often
people are told that they get no answer: a refusal must not become a flood itself."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from guildgpt.bot.answers.outlet import Outlet, Undeliverable

LONGEST_BACKOFF = 8.0  # times `per_edit`
ONCE = ("busy", "too-many")  # refusals that whoever asks on would get again and again


@dataclass(slots=True)
class _Channel:
    writes: deque[float]  # the latest, oldest first
    spacing: float  # seconds between two edits
    blocked_until: float = float("-inf")

    @property
    def latest(self) -> float:
        """When something last happened to it that holds writes back."""
        return max([self.blocked_until, *self.writes])


class Pacer:
    """The budget of each channel: sends and edits together, of all answers that stream in it. It
    waits for nothing, and is only told the time.

    Within any `window` seconds a channel gets at most `burst` writes, one of which edits may not
    take: so a new answer need not wait for the ones that are streaming. Edits are `per_edit`
    seconds apart at least. Times are those of `clock`, in monotonic seconds; `margin` seconds are
    added to the window, since requests do not all take the same time to arrive.

    All requests together are at most `everywhere` a second, of the 50 that Discord allows a bot. A
    quarter of them only new answers may take: what can wait, edits and what is no write at all
    (typing, reading), leaves it to them. What cannot wait for anything is counted all the same.

    Ask `ready_at` (or `free_at`), wait until then, ask again (another answer may have been
    quicker), and call `wrote` (or `asked`) before awaiting the request itself. Channels at rest are
    forgotten.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        per_edit: float = 1.0,
        burst: int = 5,
        window: float = 5.0,
        margin: float = 0.25,
        everywhere: int = 36,
    ):
        self._clock = clock
        self._per_edit = per_edit
        self._burst = burst
        self._window = window + margin
        self._second = 1.0 + margin
        self._everywhere = everywhere
        self._requests: deque[float] = deque(maxlen=everywhere)  # the latest of all
        self._held_until = float("-inf")
        self._channels: OrderedDict[int, _Channel] = OrderedDict()  # by latest use

    def ready_at(self, channel_id: int, *, new: bool = False) -> float:
        """When the next write is fine: now, or later; `new` is an answer's first message."""
        at = self.free_at(new=new)
        channel = self._channels.get(channel_id)
        if channel is None:
            return at
        at = max(at, channel.blocked_until)
        slots = self._burst if new else self._burst - 1
        if len(channel.writes) >= slots:
            at = max(at, channel.writes[-slots] + self._window)
        if channel.writes and not new:
            at = max(at, channel.writes[-1] + channel.spacing)
        return at

    def wrote(self, channel_id: int) -> None:
        """A message is being sent to the channel, or one in it edited."""
        channel = self._touch(channel_id)
        channel.writes.append(self._clock())
        self.asked()
        channel.spacing = max(self._per_edit, channel.spacing * 0.9)

    def free_at(self, *, new: bool = False) -> float:
        """When the next request that no channel's budget counts is fine: now, or later."""
        now = max(self._clock(), self._held_until)
        slots = self._everywhere if new else self._everywhere * 3 // 4
        if len(self._requests) < slots:
            return now
        return max(now, self._requests[-slots] + self._second)

    def asked(self) -> None:
        """Such a request is being made."""
        self._requests.append(self._clock())

    def hold_off(self, seconds: float) -> None:
        """Nothing at all for `seconds`."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def slow_down(self, channel_id: int, seconds: float) -> None:
        """Discord answered 429: nothing for `seconds`, and edits are twice as far apart at first.

        Every write after that brings them a tenth closer again.
        """
        channel = self._touch(channel_id)
        channel.blocked_until = max(channel.blocked_until, self._clock() + seconds)
        channel.spacing = min(channel.spacing * 2, self._per_edit * LONGEST_BACKOFF)

    def _touch(self, channel_id: int) -> _Channel:
        channel = self._channels.get(channel_id)
        if channel is None:
            self._forget()
            channel = self._channels[channel_id] = _Channel(
                deque(maxlen=self._burst), self._per_edit
            )
        self._channels.move_to_end(channel_id)
        return channel

    def _forget(self) -> None:
        """Drop the channels that hold nothing back any more, from the longest unused on."""
        over = self._clock() - max(self._window, self._per_edit * LONGEST_BACKOFF)
        while self._channels and next(iter(self._channels.values())).latest <= over:
            self._channels.popitem(last=False)


@dataclass
class ChannelWriter:
    """Writes into channels within their budgets; what must be said goes before what may be."""

    pacer: Pacer
    clock: Callable[[], float]
    _urgent: Counter[int] = field(default_factory=Counter)  # writers that wait for a channel
    _whispers: Counter[int] = field(default_factory=Counter)  # ... and those that let them go first
    _shown: set[int] = field(default_factory=set)  # where whispers wait, and an answer wrote last

    async def turn(self, channel_id: int, *, new: bool = False) -> None:
        """Wait until the channel takes another write, and count it; `new`: an answer's first."""
        self._urgent[channel_id] += 1
        try:
            while (wait := self.pacer.ready_at(channel_id, new=new) - self.clock()) > 0:
                await asyncio.sleep(wait)
            self.pacer.wrote(channel_id)
        finally:
            self._urgent -= Counter([channel_id])

    async def request(self) -> None:
        """Wait until Discord takes a request that is no write, and count it."""
        while (wait := self.pacer.free_at() - self.clock()) > 0:
            await asyncio.sleep(wait)
        self.pacer.asked()

    def may_write(self, channel_id: int) -> bool:
        """Take the channel's next write if it is free now and nobody waits for it."""
        is_their_turn = self._whispers[channel_id] and channel_id in self._shown
        if self._urgent[channel_id] or is_their_turn:
            return False
        if self.pacer.ready_at(channel_id) > self.clock():
            return False
        self.pacer.wrote(channel_id)
        if self._whispers[channel_id]:
            self._shown.add(channel_id)
        return True

    def wait(self, channel_id: int, *, least: float = 0.05) -> float:
        """Seconds until a write may be tried again."""
        return max(self.pacer.ready_at(channel_id) - self.clock(), least)

    async def whisper(self, outlet: Outlet, sentence: str) -> int | None:
        """Say a sentence, if there is one, and if it can be said; see `Outlet.whisper`. In a
        channel it comes after all that answers have to write there, and in turn with what they show
        on the way."""
        if not sentence:
            return None
        if not outlet.is_private:
            await self._last_turn(outlet.channel_id)
        with suppress(Undeliverable):
            return await outlet.whisper(sentence)
        return None

    async def _last_turn(self, channel_id: int) -> None:
        """Wait until the channel takes a write and nobody else must write there."""
        self._whispers[channel_id] += 1
        try:
            while self._urgent[channel_id] or self.wait(channel_id, least=0.0):
                await asyncio.sleep(self.wait(channel_id))
            self.pacer.wrote(channel_id)
        finally:
            self._whispers -= Counter([channel_id])
            self._shown.discard(channel_id)


@dataclass
class Courtesy:
    """What each person was told of late, in a channel that others read, too.

    That they ask too much they are told once in `seconds`; other sentences in place of an answer
    they get as often as answers: `most` times. Further ones are left unsaid. People who were told
    nothing for so long are forgotten.
    """

    most: int
    seconds: float
    clock: Callable[[], float]
    # When a person was told to wait (True), or something else (False); who was told last is last.
    _told: OrderedDict[tuple[int, bool], deque[float]] = field(default_factory=OrderedDict)

    def tells(self, person: int, reason: str) -> bool:
        """Whether the person is told so, for that reason; it counts as said."""
        now = self.clock()
        while self._told and next(iter(self._told.values()))[-1] <= now - self.seconds:
            self._told.popitem(last=False)
        once = reason in ONCE
        told = self._told.setdefault((person, once), deque(maxlen=1 if once else self.most))
        if len(told) == told.maxlen and told[0] > now - self.seconds:
            return False
        told.append(now)
        self._told.move_to_end((person, once))
        return True

    def was_told_to_wait(self, person: int) -> bool:
        """Whether they know already that they ask too much."""
        told = self._told.get((person, True))
        return told is not None and told[-1] > self.clock() - self.seconds
