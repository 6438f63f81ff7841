"""`guildgpt versions` called as an operator calls it, and what came of it in the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np

from feedback.command import Command
from feedback.conftest import KEY
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.versions_cli import versions_app

T = TypeVar("T")


COMMAND = Command(versions_app, columns=400)
ask, told, refused = COMMAND.ask, COMMAND.told, COMMAND.refused


def in_store(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """What is found or done in the store itself."""

    async def run() -> T:
        async with await Store.open(url, key=KEY) as store:
            return await work(store)

    return asyncio.run(run())


def shares(url: str) -> dict[str, float]:
    """Who answers how much."""
    now = in_store(url, lambda store: store.releases.current())
    return {one.version_id.partition("@")[0]: one.share for one in now}


def state(url: str) -> str:
    """That of the newest decision."""
    return in_store(url, lambda store: store.decisions.all())[0].state


def listed(name: str) -> dict[str, Any]:
    """A version as `list --json` has it."""
    versions = json.loads(told("list", "--json"))["versions"]
    [one] = [version for version in versions if version["id"].startswith(f"{name}@")]
    return dict(one)


def model(path: Path) -> Path:
    """A file that is a GGUF, and as whole as it says; its content is its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(str(path))
    writer.add_tensor("output.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def decide(url: str, new: str) -> None:
    """The rounds have come to a decision."""

    async def work(store: Store) -> None:
        current = await store.decisions.current()
        assert current
        await store.decisions.change(current.id, state=new)

    in_store(url, work)


ANNA = 111_111_111_111_111_111


async def erase(store: Store, id: str) -> None:
    """Something that a version learned from is erased."""
    anna = await store.members.of_user(ANNA)
    place = await store.conversations.start("chain", channel_id=8)
    said = await store.conversations.add_message(
        conversation_id=place, parent_id=None, role="user", text="Hm.", member_id=anna.id
    )
    await store.versions.learned(id, [("message", said.id)])
    assert id in (await store.privacy.erase(ANNA)).versions
