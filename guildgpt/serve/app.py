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
from guildgpt.serve.keyring import KeyRing
from guildgpt.serve.models import Models
from guildgpt.serve.problems import AsciiJson, tell_problems
from guildgpt.serve.web.site import add_site


def make_app(
    asking: Asking,
    *,
    usual: SamplingParams,
    keys: Mapping[str, str],
    hosts: tuple[str, ...] = LOCAL,
    store: Store | None = None,
    models: Models | None = None,
    public: bool = False,
    public_names: tuple[str, ...] = (),
    expects_store: bool = False,
) -> FastAPI:
    """The API over the models that `asking` asks; see `Guard` for `hosts` and
    `public_names`.

    `keys` are secrets by their names, beside those of the store; a `public` server asks everybody
    for one. The store is `app.state.store`: None where it is not open yet, and set once it is, if
    it is expected. `asking` is `app.state.asking`, `models`, which knows of releases,
    `app.state.models`, and the keys `app.state.ring`.
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
    app.state.public_names = public_names

    def share(count: int) -> None:
        """Each key has a share of the places to wait in."""
        asking.queue.per_user = max(1, asking.queue.bound // max(1, count))

    app.state.ring = KeyRing(
        keys,
        store=lambda: app.state.store,
        expects_store=expects_store or store is not None,
        public=public,
        changed=share,
    )
    app.include_router(Api(asking, usual, int(time.time())).router())
    add_site(app, asking, usual)
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

    app.add_middleware(Guard, ring=app.state.ring, hosts=hosts, names=public_names, metrics=metrics)
    return app
