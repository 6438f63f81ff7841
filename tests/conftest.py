"""What the tests of several parts share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guildgpt.errors import ModelError
from guildgpt.model.starter import starter_gguf


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter's GGUF, fetched once; without a network its tests are skipped, but not in CI."""
    try:
        return starter_gguf()
    except ModelError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the starter model is not here: {error}")
