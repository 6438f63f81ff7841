"""Whole runs, as short as they can be."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def quick(small_matrix_products: None) -> None:
    """For every test here."""
