"""The web page as a whole: its pages, and the routers of what they ask the server for."""

from __future__ import annotations

from fastapi import FastAPI

from guildgpt.engines.engine import SamplingParams
from guildgpt.serve.asking import Asking
from guildgpt.serve.web.pages import Pages
from guildgpt.serve.web.signing import router as signing


def add_site(app: FastAPI, asking: Asking, usual: SamplingParams) -> None:
    """Add the page to an app whose `state.store` is the store, or None while it is not open."""
    app.include_router(Pages.read().router())
    for router in (signing(),):
        app.include_router(router, prefix="/api", include_in_schema=False)
