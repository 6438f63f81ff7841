"""The web application: routes, guard, health, metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import generate_latest

from guildgpt import __version__
from guildgpt.engines.engine import SamplingParams
from guildgpt.feedback.store import Store
from guildgpt.serve.api import Api
from guildgpt.serve.asking import Asking
from guildgpt.serve.guard import LOCAL, Guard
from guildgpt.serve.models import Models
from guildgpt.serve.problems import AsciiJson, tell_problems


def make_app(
    asking: Asking,
    *,
    usual: SamplingParams,
    keys: Mapping[str, str],
    hosts: tuple[str, ...] = LOCAL,
    store: Store | None = None,
    models: Models | None = None,
) -> FastAPI:
    """The API over the models that `asking` asks; see `Guard` for `keys` and `hosts`.

    The store is `app.state.store`: None where it is not open yet, and set once it is. `asking` is
    `app.state.asking`, and `models`, which knows of releases, `app.state.models`.
    """
    app = FastAPI(
        title="GuildGPT",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        default_response_class=AsciiJson,
    )
    app.state.store = store
    app.state.asking = asking
    app.state.models = models
    app.include_router(Api(asking, usual, int(time.time())).router())
    tell_problems(app)
    metrics = asking.metrics
    metrics.answering.set_function(lambda: asking.queue.running)
    metrics.waiting.set_function(lambda: asking.queue.waiting)
    if models:
        models.show(metrics)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, Any]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        there = asking.fleet.open_versions.items()  # anybody may ask: why not is the log's
        versions = {id: "does not open" if why else "ok" for id, why in there}
        well = asking.fleet.well and bool(versions)
        told = {"ready": well, "versions": versions, **(models.state if models else {})}
        return JSONResponse(told, 200 if well else 503)

    @app.get("/metrics", include_in_schema=False)
    async def told() -> Response:
        metrics.open_versions(asking.fleet.open_versions)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    app.add_middleware(Guard, keys=keys, hosts=hosts, metrics=metrics)
    return app
