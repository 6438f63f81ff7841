"""`/healthz` and `/metrics` on a port of their own, for systemd, Docker and Prometheus."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import generate_latest

from guildgpt.bot.operating.metrics import Metrics
from guildgpt.errors import GuildError


@asynccontextmanager
async def health_server(
    host: str, port: int, metrics: Metrics, state: Callable[[], dict[str, bool]]
) -> AsyncGenerator[int]:
    """Serve until the block ends; yields the port (a free one for 0).

    `/healthz` answers 200 where everything in `state()` is true and 503 else, with `state()` as
    JSON. Raises `GuildError` when the port is taken.
    """

    async def healthz(request: web.Request) -> web.Response:
        now = state()
        return web.json_response(now, status=200 if all(now.values()) else 503)

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
