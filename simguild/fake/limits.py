"""The numbers that the fake enforces, and its rate limiter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

CONTENT = 2000  # UTF-16 units
NONCE = 25
CUSTOM_ID = 100
LABEL = 80
ROWS = 5
BUTTONS = 5  # in a row
EMBEDS = 10
EMBED_TOTAL = 6000
EMBED_PARTS = {"title": 256, "description": 4096}
EMBED_FIELDS = 25
FILES = 10
MODAL_TITLE = 45
MODAL_LABEL = 45
MODAL_INPUT = 4000
MODAL_TEXT = 4000
TICKS = 10  # boxes in a group
TICK = 100  # what stands beside one
THREAD_NAME = 100
COMMANDS = 100
COMMAND_NAME = 32
COMMAND_DESCRIPTION = 100
OPTIONS = 25
HISTORY = 100  # messages in one answer
GATEWAY_SENDS = 120  # frames a minute from one client


@dataclass(slots=True)
class Limits:
    """What a test may set otherwise; times in seconds."""

    messages: int = 5  # sent, edited and deleted together, per channel (or interaction) and window
    window: float = 5.0
    global_requests: int = 50  # a second
    interaction_seconds: float = 3.0  # to the first response
    token_seconds: float = 900.0  # for edits and follow-ups of an interaction
    nonce_seconds: float = 300.0  # for which a nonce is remembered
    session_seconds: float = 120.0  # for which a lost gateway session can be resumed
    heartbeat_seconds: float = 41.25
    upload_bytes: int = 10 * 1024 * 1024
    active_threads: int = 1000  # of a guild
    thread_members: int = 1000


def utf16_length(text: str) -> int:
    """Length in UTF-16 units: characters outside the basic plane count twice."""
    return len(text) + sum(character > "\uffff" for character in text)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one request took out of its bucket."""

    bucket: str
    limit: int
    remaining: int
    reset_after: float
    refused: bool = False
    is_global: bool = False

    def headers(self) -> dict[str, str]:
        """The headers that a client paces itself by, and those of a 429."""
        # Rounded up, so that who waits this long finds the next window open.
        after = math.ceil(self.reset_after * 1000) / 1000
        headers = (
            {}
            if self.is_global
            else {
                "X-RateLimit-Limit": str(self.limit),
                "X-RateLimit-Remaining": str(self.remaining),
                "X-RateLimit-Reset": f"{time.time() + after:.3f}",
                "X-RateLimit-Reset-After": f"{after:.3f}",
                "X-RateLimit-Bucket": self.bucket,
            }
        )
        if self.refused:
            headers["Retry-After"] = str(math.ceil(after))
            headers["X-RateLimit-Scope"] = "global" if self.is_global else "user"
            headers["Via"] = "1.1 simguild"  # discord.py retries a 429 only if it carries this
            if self.is_global:
                headers["X-RateLimit-Global"] = "true"
        return headers

    def body(self) -> dict[str, object]:
        """The JSON of a 429."""
        return {
            "message": "You are being rate limited.",
            "retry_after": math.ceil(self.reset_after * 1000) / 1000,
            "global": self.is_global,
        }


class RateLimiter:
    """Fixed windows: a bucket's window opens with its first request."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._windows: dict[Hashable, tuple[float, int]] = {}  # key: (when it ends, requests)

    def take(
        self, bucket: str, major: Hashable, limit: int, seconds: float, *, is_global: bool = False
    ) -> Taken:
        """Count one request against `bucket` of the channel or token `major`, if there is room."""
        now = self._clock()
        key = (bucket, major)
        ends, used = self._windows.get(key, (now, 0))
        if ends <= now:
            ends, used = now + seconds, 0
            self._forget(now)
        if used >= limit:
            return Taken(bucket, limit, 0, ends - now, refused=True, is_global=is_global)
        self._windows[key] = (ends, used + 1)
        return Taken(bucket, limit, limit - used - 1, ends - now, is_global=is_global)

    def _forget(self, now: float) -> None:
        if len(self._windows) > 1024:
            self._windows = {key: one for key, one in self._windows.items() if one[0] > now}
