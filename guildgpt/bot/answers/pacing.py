"""When may the bot write to a channel again? Nothing here waits; it is only told the time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST_BACKOFF = 8.0  # times `per_edit`


@dataclass(slots=True)
class _Channel:
    writes: deque[float]  # the latest, oldest first
    spacing: float  # seconds between two edits
    blocked_until: float = field(default=float("-inf"))


class Pacer:
    """The budget of each channel: sends and edits together, of all answers that stream in it.

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
        if burst < 2:
            raise ValueError("a burst holds 2 writes or more: one of them is kept for new answers")
        self._clock = clock
        self._per_edit = per_edit
        self._burst = burst
        self._window = window + margin
        self._second = 1.0 + margin
        self._everywhere = everywhere
        self._requests: deque[float] = deque(maxlen=everywhere)  # the latest of all
        self._held_until = float("-inf")
        self._channels: OrderedDict[int, _Channel] = OrderedDict()  # by latest use

    def __len__(self) -> int:
        """Channels that are remembered."""
        return len(self._channels)

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
            channel = _Channel(deque(maxlen=self._burst), self._per_edit)
            self._channels[channel_id] = channel
        self._channels.move_to_end(channel_id)
        return channel

    def _forget(self) -> None:
        """Drop the channels that hold nothing back any more, from the longest unused on."""
        now = self._clock()
        rest = max(self._window, self._per_edit * LONGEST_BACKOFF)
        while self._channels:
            channel = next(iter(self._channels.values()))
            latest = max(
                channel.blocked_until, channel.writes[-1] if channel.writes else now - rest
            )
            if latest + rest > now:
                return
            self._channels.popitem(last=False)
