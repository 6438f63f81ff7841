"""The web application: routes, guard, health, metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from guildgpt import __version__
from guildgpt.engines.engine import SamplingParams
from guildgpt.serve.api import Api
from guildgpt.serve.asking import Asking
from guildgpt.serve.guard import LOCAL, Guard
from guildgpt.serve.problems import AsciiJson, tell_problems


def make_app(
    asking: Asking,
    *,
    usual: SamplingParams,
    keys: Mapping[str, str],
    hosts: tuple[str, ...] = LOCAL,
    public: tuple[str, ...] = (),
) -> FastAPI:
    """The API over the models that `asking` asks; see `Guard` for `keys`, `hosts` and `public`."""
    app = FastAPI(
        title="GuildGPT",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        default_response_class=AsciiJson,
    )
    app.include_router(Api(asking, usual, int(time.time())).router())
    tell_problems(app)
    registry = CollectorRegistry()
    for name, text, value in (
        ("answering", "Answers on their way", lambda: asking.queue.running),
        ("waiting", "Questions that wait", lambda: asking.queue.waiting),
    ):
        Gauge(f"guildgpt_{name}", text, registry=registry).set_function(value)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, Any]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        there = asking.fleet.open_versions.items()  # anybody may ask: why not is the log's
        versions = {id: "does not open" if why else "ok" for id, why in there}
        well = asking.fleet.well and bool(versions)
        return JSONResponse({"ready": well, "versions": versions}, 200 if well else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    app.add_middleware(Guard, keys=keys, hosts=hosts, public=public)
    return app
