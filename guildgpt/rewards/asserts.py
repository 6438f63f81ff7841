"""What in a piece of Python counts as a test: statements at the top that hold an assert."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def steps(tests: str) -> list[tuple[ast.stmt, bool]]:
    """The statements in order, and whether each is a test that passes or fails; else set-up.

    A test is an assert, a loop, `try` or other block around one, and the call of a function that
    the tests define and that holds one. Functions named `test…` that take nothing and are not
    called by the tests themselves are called at the end. Raises what `ast.parse` raises.
    """
    body = ast.parse(tests).body
    defined = {one.name: one for one in body if isinstance(one, _Function)}
    asserting = {name for name, one in defined.items() if _holds_an_assert(one)}
    done = [(one, _is_test(one, asserting)) for one in body]
    called = {name for one in body for name in _calls(one)}
    for name, function in defined.items():
        if name.startswith("test") and name not in called and not _takes_something(function):
            call = ast.parse(f"{name}()").body[0]
            done.append((ast.copy_location(call, function), True))
    return done


def count(tests: str) -> int:
    """How many tests there are."""
    return sum(is_test for _, is_test in steps(tests))


def _is_test(statement: ast.stmt, asserting: set[str]) -> bool:
    if isinstance(statement, _Function | ast.ClassDef):
        return False
    return _holds_an_assert(statement) or any(name in asserting for name in _calls(statement))


def _holds_an_assert(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Assert) for one in ast.walk(node))


def _calls(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
            yield one.func.id


def _takes_something(function: _Function) -> bool:
    given = function.args
    return bool(given.posonlyargs or given.args or given.kwonlyargs)
