"""The tests here confine real processes; where that cannot be had they are skipped, not in CI."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guildgpt.rewards.confine import level

ROOT = Path(__file__).parents[2]


@pytest.fixture
def confined() -> None:
    """Skip where the kernel lacks Landlock or seccomp."""
    if level() != "full" and os.environ.get("CI") != "true":
        pytest.skip("this kernel cannot confine a process fully")


def processes() -> set[int]:
    """Keepers that this process started, what they forked, orphans of theirs, and zombies of our
    own. Keepers of other tests, which may run beside these, have parents that are alive."""
    parents: dict[int, int] = {}
    keepers, zombies = set(), set()
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                command = (place / "cmdline").read_bytes()
                state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            number = int(place.name)
            parents[number] = int(parent)
            if b"guildgpt.rewards" in command and bytes(ROOT) in command:
                keepers.add(number)
            if state == "Z" and int(parent) == os.getpid():
                zombies.add(number)
    return zombies | {one for one in keepers if _root(one, keepers, parents) in (os.getpid(), 1)}


def _root(number: int, keepers: set[int], parents: dict[int, int]) -> int:
    """Who started the first keeper that a process comes from; 1 where that one is gone."""
    while number in keepers:
        number = parents.get(number, 1)
    return number


@pytest.fixture
def nothing_left(confined: None) -> Iterator[None]:
    """After the test no keeper, nothing that one forked, and no zombie is there.

    What another test's keeper forked may be an orphan for the moment in which it is cleared up.
    """
    before = processes()
    yield
    for _ in range(100):
        if processes() <= before:
            return
        time.sleep(0.05)
    assert processes() <= before
