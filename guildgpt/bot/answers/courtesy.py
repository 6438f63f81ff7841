"""Who is told that they get no answer, and how often: a refusal must not become a flood itself."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

ONCE = ("busy", "too-many")  # refusals that whoever asks on would get again and again


class Courtesy:
    """What each person was told of late, in a channel that others read, too.

    That they ask too much they are told once in `seconds`; other sentences in place of an answer
    they get as often as answers: `most` times. Further ones are left unsaid. People who were told
    nothing for so long are forgotten.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]):
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._said: OrderedDict[int, deque[float]] = OrderedDict()  # by person, the latest last
        self._waits: OrderedDict[int, float] = OrderedDict()  # when they were told to wait

    def __len__(self) -> int:
        """People who are remembered."""
        return len(self._said.keys() | self._waits.keys())

    def tells(self, person: int, reason: str) -> bool:
        """Whether the person is told so, for that reason; it counts as said."""
        now = self._clock()
        self._forget(now)
        if reason in ONCE:
            if self.was_told_to_wait(person):
                return False
            self._waits[person] = now
            return True
        said = self._said.setdefault(person, deque(maxlen=self._most))
        if len(said) == self._most and said[0] > now - self._seconds:
            return False
        said.append(now)
        self._said.move_to_end(person)
        return True

    def was_told_to_wait(self, person: int) -> bool:
        """Whether they know already that they ask too much."""
        told = self._waits.get(person)
        return told is not None and told > self._clock() - self._seconds

    def _forget(self, now: float) -> None:
        over = now - self._seconds
        while self._waits and next(iter(self._waits.values())) <= over:
            self._waits.popitem(last=False)
        while self._said and next(iter(self._said.values()))[-1] <= over:
            self._said.popitem(last=False)
