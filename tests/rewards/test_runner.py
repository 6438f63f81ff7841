"""What counts as a test."""

from __future__ import annotations

import pytest

from guildgpt.rewards.runner import count


@pytest.mark.parametrize(
    ("tests", "number"),
    [
        ("assert f(1)\nassert f(2)", 2),
        ("import math\nx = f(1)\nassert x\nx.go()", 1),
        ("for n in range(9):\n    assert f(n)\n    assert g(n)", 1),
        ("try:\n    f()\nexcept ValueError:\n    pass\nelse:\n    assert False", 1),
        ("def helper(x):\n    assert x\nhelper(f(1))\nhelper(f(2))", 2),
        ("def helper(x):\n    assert x", 0),
        ("def test_one():\n    assert f(1)\ndef test_two():\n    assert f(2)", 2),
        ("def test_one():\n    assert f(1)\ntest_one()", 1),
        ("def test_with(fixture):\n    assert f(1)", 0),
        ("class TestIt:\n    def test_one(self): assert f(1)", 0),
        ("", 0),
    ],
)
def test_statements_that_hold_an_assert_count(tests: str, number: int) -> None:
    assert count(tests) == number
