"""A server whose model never says the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guildgpt.engines.llamacpp import LlamaCppEngine

from ..conftest import Site, site_over
from .voters import Talker


@pytest.fixture
def site(engine: LlamaCppEngine, tmp_path: Path) -> Iterator[Site]:
    with site_over(Talker(engine.tokenizer), tmp_path) as there:
        yield there
