"""The web page as a whole: its pages, and the routers of what they ask the server for."""

from __future__ import annotations

from fastapi import FastAPI

from guildgpt.engines.engine import SamplingParams
from guildgpt.serve.asking import Asking
from guildgpt.serve.web import opinions, signing
from guildgpt.serve.web.answering import Answering
from guildgpt.serve.web.chats import Chats
from guildgpt.serve.web.pages import Pages


def add_site(app: FastAPI, asking: Asking, usual: SamplingParams) -> None:
    """Add the page to an app whose `state.store` is the store, or None while it is not open."""
    answering = Answering(asking, usual)
    app.state.answering = answering
    app.include_router(Pages.read().router())
    for router in (signing.router(), Chats(answering).router(), opinions.router()):
        app.include_router(router, prefix="/api", include_in_schema=False)
