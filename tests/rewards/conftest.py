"""The tests here confine real processes; where that cannot be had they are skipped, not in CI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from guildgpt.rewards.confine import level

ROOT = Path(__file__).parents[2]
ORPHANS = 1  # the process that gets those whose parent ended


@pytest.fixture
def confined() -> None:
    """Skip where the kernel lacks Landlock or seccomp."""
    if level() != "full" and os.environ.get("CI") != "true":
        pytest.skip("this kernel cannot confine a process fully")


def processes() -> set[int]:
    """The keepers of this checkout, what they forked, and zombies of our own; not those that
    another process has and will end, such as tests that run beside these."""
    parents, keepers, zombies = {}, set(), set()
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

    def owner(number: int) -> int:
        while number in keepers:
            number = parents.get(number, ORPHANS)
        return number

    return zombies | {one for one in keepers if owner(one) in (os.getpid(), ORPHANS)}


@pytest.fixture
def nothing_left(confined: None) -> Iterator[None]:
    """After the test no keeper, nothing that one forked, and no zombie is there.

    One such test at a time, in however many processes tests run: an orphan tells nobody whose it
    was.
    """
    with FileLock(Path(tempfile.gettempdir()) / "guildgpt-sandbox-tests.lock"):
        before = processes()
        yield
        assert processes() <= before
