"""The web page as a whole: its pages, and the routers of what they ask the server for."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from guildgpt.engines.engine import SamplingParams
from guildgpt.model.locate import RUNS
from guildgpt.serve.asking import Asking
from guildgpt.serve.web import opinions, own, signing
from guildgpt.serve.web.answering import Answering
from guildgpt.serve.web.chats import Chats
from guildgpt.serve.web.comparing import Comparing
from guildgpt.serve.web.deciding import router as deciding
from guildgpt.serve.web.pages import Pages
from guildgpt.serve.web.people import router as people
from guildgpt.serve.web.pooling import router as pooling
from guildgpt.serve.web.reviewing import router as reviewing
from guildgpt.serve.web.runs import router as reports
from guildgpt.serve.web.voting import Tables
from guildgpt.serve.web.voting import router as voting


def add_site(app: FastAPI, asking: Asking, usual: SamplingParams, *, runs: Path = RUNS) -> None:
    """Add the page to an app whose `state.store` is the store, or None while it is not open.

    `runs` is the folder whose reports the operator sees.
    """
    answering = Answering(asking, usual)
    app.state.answering = answering
    app.state.pages = Pages.read()
    app.include_router(app.state.pages.router())
    chats = (signing.router(), own.router(), Chats(answering).router(), opinions.router())
    tables = Tables(asking, usual, answering.rendering)
    app.state.tables = tables
    votes = (voting(tables), Comparing(answering).router())
    operators = (
        deciding(asking),
        pooling(),
        reviewing(answering.rendering),
        people(),
        reports(runs),
    )
    for router in (*chats, *votes, *operators):
        app.include_router(router, prefix="/api", include_in_schema=False)
