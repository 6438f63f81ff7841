"""What the tests of several parts share.

`make test` runs them in two processes, each file in one of them. What both might make at once, in
the cache, is made under a lock.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from guildgpt.errors import ModelError
from guildgpt.model.starter import starter_gguf
from guildgpt.paths import cache_dir

# Before torch is loaded, here and in every process that a test starts: at small products threads
# wait for each other longer than they compute, and far longer where other work fills the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test has several: sleep, do not spin

# No test may depend on how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """What tests start begins with default signals, however the tests were started.

    A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts inherits
    it. A handler that does nothing is as deaf, but is not handed on.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: begun last, one of them would keep a single process busy."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter's GGUF, fetched once; without a network its tests are skipped, but not in CI."""
    try:
        with made_once():
            return starter_gguf()
    except ModelError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the starter model is not here: {error}")


@pytest.fixture(scope="session")
def starter_base(starter: Path) -> Path:
    """The same, converted for training, which takes a while the first time."""
    from guildgpt.bases.converted import converted
    from guildgpt.model.starter import GGUF_SHA256

    with made_once():
        return converted(starter, GGUF_SHA256)


def made_once() -> FileLock:
    """Held by whoever looks into the cache and may have to fill it."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return FileLock(cache_dir() / ".tests.lock")
