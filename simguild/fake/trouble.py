"""What goes wrong on the way: other answers than the right ones, for as long as a test wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

_CLOUDFLARE = """<!DOCTYPE html>
<html><head><title>Access denied | discord.com used Cloudflare to restrict access</title></head>
<body><h1>Error 1015</h1><h2>You are being rate limited</h2></body></html>
"""
_GATEWAY = """<html>
<head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered in place of the right thing; without a `status` the connection is torn.

    `done`: what was asked for is done all the same, and only the answer to it is another.
    """

    status: int = 0
    body: str = ""
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)
    done: bool = False

    def response(self) -> web.Response:
        """The same for the wire."""
        return web.Response(
            status=self.status,
            body=self.body.encode(),
            content_type=self.content_type,
            headers=dict(self.headers),
        )


def cloudflare(retry_after: float | None = None) -> Answer:
    """Cloudflare's 429: a page of HTML, no `Via`, and a `Retry-After` if it feels like it."""
    headers = {"Server": "cloudflare", "CF-RAY": "8a1b2c3d4e5f6789-FRA"}
    if retry_after is not None:
        headers["Retry-After"] = f"{retry_after:g}"
    return Answer(429, _CLOUDFLARE, headers=headers)


def html(status: int, *, done: bool = False) -> Answer:
    """A page of a proxy between the bot and Discord: 502, 503, 504."""
    return Answer(status, _GATEWAY.format(status=status), headers={"Via": "1.1 google"}, done=done)


def torn(*, done: bool = False) -> Answer:
    """The connection is reset before an answer comes."""
    return Answer(done=done)


def refusal(status: int, code: int, message: str) -> Answer:
    """Discord itself says no."""
    body = json.dumps({"message": message, "code": code})
    return Answer(status, body, "application/json", {"Via": "1.1 google"})


@dataclass(eq=False)
class Trouble:
    """One that a test has made: on a route (`PATCH /channels/{channel}`; `*` for all of them),
    so often (`times`; None: until it is `over`)."""

    route: str
    answer: Answer
    times: int | None = None
    met: int = 0  # requests that were answered so

    def meets(self, route: str) -> bool:
        """Whether a request of that route gets into it now; it counts as one."""
        if self.route not in (route, "*") or (self.times is not None and self.met >= self.times):
            return False
        self.met += 1
        return True

    def over(self) -> None:
        """It has passed."""
        self.times = 0
