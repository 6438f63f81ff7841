"""Who is told that they get no answer, and how often: a refusal must not become a flood itself."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

ONCE = ("busy", "too-many")  # refusals that whoever asks on would get again and again


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
