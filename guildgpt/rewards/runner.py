"""What a confined process runs: code alone, or one side of a verification, the answer or its tests.

The answer's side runs the code and then does what it is asked. The tests' side runs the tests, in
which the answer's names stand for `Remote`s, and reports each test over a pipe that only it has. A
test is a statement at the top that holds an assert.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from guildgpt.rewards.wire import CannotCross, Gone, Peer

FILE = "answer.py"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def run_alone(code: str) -> None:
    """Run the code as a script; what it raises is raised."""
    module = _module("__main__")
    exec(compile(code, FILE, "exec"), module.__dict__)


def run_answer(code: str, peer: Peer) -> None:
    """Run the answer's code, tell the tests' side its names, and serve it to the end."""
    module = _module("answer")
    try:
        exec(compile(code, FILE, "exec"), module.__dict__)
    except BaseException as error:  # sys.exit() too
        peer.send(["broken", f"{type(error).__name__}: {error}"[:500]])
        return
    names = {}
    for name, value in list(module.__dict__.items()):
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        if isinstance(value, type) and issubclass(value, Exception):
            names[name] = {"error": [one.__name__ for one in value.__mro__]}
        else:
            names[name] = {"value": peer.out(value)}
    peer.send(["names", names])
    peer.serve()


def run_tests(tests: str, peer: Peer, report_fd: int) -> None:
    """Run each test and report it: a JSON line `{"passed": …, "problem": …, "kind": …}`, at last
    an empty one. `kind` is "wrong" for a test that came to a false assert, and to nothing else
    before it, "gone" where the answer's side has ended, else "error".

    What goes wrong in the set-up shows in the tests that need it. `{"unusable": …}` if the tests
    hand over what cannot be handed over.
    """

    def report(**what: Any) -> None:
        os.write(report_fd, json.dumps(what).encode() + b"\n")

    module, setup = _module("tests"), ""
    try:
        names = _names(peer)
        module.__dict__.update(names)
        _module("answer").__dict__.update(names)  # for tests that import what they test
    except Exception as error:  # whatever the other side sends instead of its names
        setup = f"the code did not run: {error}"
    for statement, is_test in steps(tests):
        problem, kind = "", ""
        try:
            exec(compile(ast.Module([statement], []), "tests", "exec"), module.__dict__)
        except CannotCross as error:
            report(unusable=f"{_shown(statement)}: {error}")
            return
        except BaseException as error:
            problem = f"{_shown(statement)}: {type(error).__name__} {error}".rstrip()[:500]
            kind = "gone" if isinstance(error, Gone) else "error"
            kind = "wrong" if isinstance(error, AssertionError) and not setup else kind
        if is_test:
            report(passed=not problem, problem=(problem and setup) or problem, kind=kind)
        setup = setup or problem
    report()


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look for the module of a class
    return module


def _names(peer: Peer) -> dict[str, Any]:
    """The answer's names and what they stand for here. Builtins stay what they are."""
    kind, names = peer.receive()
    if kind != "names" or not isinstance(names, dict):
        raise Gone(str(names))
    here = {}
    for name, described in names.items():
        if not name.isidentifier() or name.startswith("_") or hasattr(builtins, name):
            continue
        if "error" in described:
            bases = [getattr(builtins, str(one), None) for one in described["error"][1:]]
            base = next(
                (b for b in bases if isinstance(b, type) and issubclass(b, Exception)), None
            )
            peer.errors[name] = type(name, (base or Exception,), {})
            here[name] = peer.errors[name]
        else:
            here[name] = peer.in_(described.get("value"))
    return here


def _shown(statement: ast.stmt) -> str:
    text = ast.unparse(statement)
    return text if len(text) <= 200 else f"{text[:200]}…"


# --- what counts as a test -----------------------------------------------------------------------


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
