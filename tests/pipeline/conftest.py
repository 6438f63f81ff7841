"""Whole runs, as short as they can be."""

from __future__ import annotations

import pytest
from tiny import write_feedback_run

from .road import SHORT, Road, train


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("road")
    recipe = write_feedback_run(folder, SHORT)
    report, printed = train(recipe, folder / "run")
    return Road(recipe, folder / "run", report, printed)
