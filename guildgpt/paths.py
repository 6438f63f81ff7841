"""Where GuildGPT keeps what can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "GUILDGPT_CACHE"


def cache_dir() -> Path:
    """The folder for downloads: $GUILDGPT_CACHE, or the user's cache folder. It may not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("guildgpt", appauthor=False))
