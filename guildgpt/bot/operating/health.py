"""`/healthz` and `/metrics` on a port of their own, for systemd, Docker and Prometheus: whether the
bot is well, and what it counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from guildgpt.errors import GuildError

SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """The counters of one bot, in a registry of their own. No label ever holds a person, a text or
    an id."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answered = Histogram(
            "guildgpt_answer_seconds",
            "From an event to the end of its answer, by kind of event and how it ended",
            ["kind", "state"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.acknowledged = Histogram(
            "guildgpt_acknowledge_seconds",
            "From an event to the first sign that it was heard",
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 3),
            registry=self.registry,
        )
        self.feedback = self._counter("guildgpt_feedback", "Ratings, votes and reports", "kind")
        self.failures = self._counter("guildgpt_failures", "What went wrong, by where", "part")
        self.moderated = self._counter(
            "guildgpt_moderated", "Texts withheld, by side and rule", "side", "rule"
        )
        self.duplicates = self._counter("guildgpt_duplicates", "Events that came again")
        self.connected = self._gauge("guildgpt_connected", "Whether Discord's gateway is connected")
        self.commands = self._gauge(
            "guildgpt_commands_registered", "Whether Discord took the commands at this start"
        )
        self.guilds = self._gauge("guildgpt_guilds", "Guilds the bot is in")
        self.answering = self._gauge("guildgpt_answering", "Answers on their way")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


@asynccontextmanager
async def health_server(
    host: str,
    port: int,
    metrics: Metrics,
    state: Callable[[], dict[str, bool]],
    warnings: Callable[[], list[str]] = list,
) -> AsyncGenerator[int]:
    """Serve until the block ends; yields the port (a free one for 0).

    `/healthz` answers 200 where everything in `state()` is true and 503 else, with `state()` as
    JSON, and with `warnings()` where there are any: they change no status. Raises `GuildError` when
    the port is taken.
    """

    async def healthz(request: web.Request) -> web.Response:
        now = state()
        told = now | ({"warnings": warned} if (warned := warnings()) else {})
        return web.json_response(told, status=200 if all(now.values()) else 503)

    async def metrics_page(request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry),
            headers={"Content-Type": "text/plain; version=0.0.4"},
        )

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics_page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise GuildError(
                f"the health endpoint cannot listen on {host}:{port} ({error.strerror})",
                remedy="Choose another health_port, or leave it out.",
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
