"""Releases that the bot follows, and what it makes of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guildgpt.chat import CHATML
from guildgpt.feedback.versions.versions import KnownVersion
from guildgpt.model.version import Version
from guildgpt.talk import following
from guildgpt.talk.fleet import OpenedModel
from simguild.engine import PacedEngine
from simguild.fake import FakeMessage

from .house import FAST, House


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It looks often what was released."""
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)
    caplog.set_level("INFO", "guildgpt.bot")


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of every such line."""
    return [
        record.fields  # type: ignore[attr-defined]
        for record in caplog.records
        if record.message == event
    ]


def writer(house: House, asked: FakeMessage) -> str:
    """The version that answered a message."""
    query = (
        "SELECT answer.version_id FROM messages answer JOIN messages asked "
        "ON asked.id = answer.parent_id WHERE asked.discord_id = ?"
    )
    [(version,)] = house.rows(query, asked.id)
    return str(version)


def trouble(house: House) -> dict[str, str | None]:
    """What the store knows of each version."""
    return dict(house.rows("SELECT id, trouble FROM versions"))


async def release(house: House, **shares: float) -> None:
    """Release versions by their names."""
    async with house.store() as store:
        ids = {one.id.partition("@")[0]: one.id for one in await store.versions.all()}
        kind = "serve" if len(shares) == 1 else "canary"
        await store.releases.add({ids[name]: share for name, share in shares.items()}, kind)


class StandIns:
    """Versions that an engine stands in for; some of them do not start. What each says begins with
    its name."""

    def __init__(self, house: House, folder: Path):
        self.house, self.folder = house, folder
        self.broken: dict[str, Exception] = {}
        self.silent: set[str] = set()
        self.tries: list[str] = []
        self.engines: dict[str, list[PacedEngine]] = {}
        self.rate = FAST
        house.open_version = self.open

    async def known(self, *names: str) -> None:
        """Put them into the store."""
        async with self.house.store() as store:
            for name in names:
                path = self.folder / f"{name}.gguf"
                path.write_text(name)
                version = Version(f"{name}@00000000", name, str(path), name)
                await store.versions.register(version)

    def open(self, version: KnownVersion) -> OpenedModel:
        """What the bot opens."""
        self.tries.append(version.name)
        if error := self.broken.get(version.name):
            raise error
        text = "" if version.name in self.silent else f"{version.name} says this and that."
        engine = PacedEngine(self.rate, lambda prompt: text)
        self.engines.setdefault(version.name, []).append(engine)
        hash = Path(version.path).read_text()
        return OpenedModel(
            engine, CHATML, lambda: Version(version.id, version.name, version.path, hash)
        )


async def says(house: House, who: str) -> None:
    """Wait until new questions are answered by that version."""
    async with asyncio.timeout(60):
        while not (await house.ask("Who are you?", who=house.teacher)).content.startswith(who):
            await asyncio.sleep(0.05)
