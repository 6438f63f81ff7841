"""Models become versions in the store, and what may speak against one of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from guildgpt.errors import GuildError
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.versions import KnownVersion
from guildgpt.model.lineage import read_lineage
from guildgpt.model.version import check_model, named

LIST = "`guildgpt versions list` shows them."
ERASED = "something that it learned from was erased"
GONE = "its file is gone"


@dataclass(frozen=True, slots=True)
class Registered:
    """A version that is in the store, and how many events that it learned from are not."""

    version: KnownVersion
    not_there: int = 0


async def register(store: Store, model: str) -> Registered:
    """The version that a model is, or that an id names; a model is made known, with what it learned
    from. Raises ModelError where there is no such model, EngineError for a file that is broken, and
    GuildError for an id nobody knows."""
    version = await asyncio.to_thread(named, model)
    if isinstance(version, str):
        return Registered(await known(store, version))
    await asyncio.to_thread(check_model, Path(version.path))
    learned = await asyncio.to_thread(read_lineage, version.path)
    await store.versions.register(version)
    gone = await store.versions.learned(version.id, learned)
    return Registered(await known(store, version.id), len(gone))


async def known(store: Store, id: str) -> KnownVersion:
    """The version with this id."""
    found = await store.versions.by_id(id)
    if found is None:
        raise GuildError(f"there is no version {id} in the store", where="MODEL", remedy=LIST)
    return found


def flaw(version: KnownVersion) -> str | None:
    """Why a version is not to answer; None if nothing speaks against it."""
    if version.erased_at is not None:
        return ERASED
    return None if Path(version.path).is_file() else GONE


def refuse_flawed(version: KnownVersion) -> None:
    """GuildError for a version that is not to answer."""
    reason = flaw(version)
    if reason == ERASED:
        raise GuildError(
            f"{version.id} is not released: {ERASED}",
            remedy="Train it again without what was erased: `guildgpt learn --again`.",
        )
    if reason:
        raise GuildError(
            f"{version.id} is not released: {reason}",
            where=version.path,
            remedy="Put it back, or name the model where it lies now: that is noted.",
        )
