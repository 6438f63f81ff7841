"""The bot's way to follow releases: with the models that its settings name, its log and metrics."""

from __future__ import annotations

import logging
from typing import Any

from guildgpt.bot.operating.health import Metrics
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.engines.served_at import served_at
from guildgpt.feedback.messages.postponed import Postponed
from guildgpt.feedback.store import Store
from guildgpt.talk.fleet import Fleet, Open
from guildgpt.talk.following import Following, Opening, OpenVersion

log = EventLog(__name__)


class Counted:
    """The log, of whose events some are counted."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def __call__(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """See `EventLog`."""
        log(event, level=level, **fields)
        if event == "version_failed":
            self._metrics.failures.labels("version").inc()

    unforeseen = staticmethod(log.unforeseen)


def followed(
    store: Store,
    fleet: Fleet,
    postponed: Postponed,
    settings: BotSettings,
    metrics: Metrics,
    open_own: Open | None = None,
    open_version: OpenVersion | None = None,
) -> Following:
    """What keeps the bot's fleet as the newest release wants it; `open_own` opens what stands in
    for the model that the settings name, `open_version` what does for a released version."""
    at = served_at(settings.engine)
    opening = Opening(settings.context, settings.slots, settings.threads, at)
    return Following(
        store,
        fleet,
        postponed,
        Counted(metrics),
        own=open_own or opening.of(settings.model, _fetching),
        open_version=open_version or opening.version,
    )


def _fetching(_text: str) -> None:
    log("fetching_model")
