# ruff: noqa: E501 - programs and their tests, each in one line
"""Answers against their tests, in the sandbox: what is right passes, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.errors import DataError
from guildgpt.rewards.confine import Limits
from guildgpt.rewards.verify import TestResult as Result
from guildgpt.rewards.verify import code_of, count_tests, is_python, verify_all

pytestmark = pytest.mark.usefixtures("nothing_left")


def fenced(code: str) -> str:
    return f"Here you are:\n\n```python\n{code}\n```\n\nHave fun!"


PATIENT = Limits(seconds=30)


def verify(code: str, tests: str, limits: Limits = PATIENT) -> Result:
    (verdict,) = verify_all([fenced(code)], [tests], limits=limits)
    return verdict


ADD = "def add(a, b):\n    return a + b"
ADD_TESTS = """
assert add(1, 2) == 3
assert add(-1, 1) == 0
assert add('a', 'b') == 'ab'
assert add(2, 2) == 4
"""

# --- where the code is ---


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Sure.\n```py\nx = 1\n```\nAnd:\n```python\nx = 2\n```", "x = 1\n"),
        ("```Python\nx = 1\n```", "x = 1\n"),
        ("```\nnot python at all\n```\n```\nx = 1\n```", "x = 1\n"),
        ("```sh\npip install x\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("```python\nx = 1", None),  # cut off
        ("```sh\nx = 1\n```", None),
        ("Dear friend, I cannot.", None),
        ("", None),
        ("   \n", None),
        ("(" * 5000, None),
        ("x = '\0'", None),
    ],
)
def test_the_code_of_an_answer(answer: str, code: str | None) -> None:
    assert code_of(answer) == code


@given(st.text())
def test_any_text_has_code_or_none(text: str) -> None:
    code = code_of(text)
    assert code is None or "```" in text or "~~~" in text or is_python(code)


def test_a_score_is_a_share_times_a_factor() -> None:
    assert Result(4, 4).score() == 1.0
    assert Result(3, 4).score() == 0.375
    assert Result(3, 4).score(partial=0.8) == pytest.approx(0.6)
    assert Result(0, 4).score() == 0.0


# --- what passes ---


def test_a_right_answer_passes_and_a_wrong_one_gets_its_share() -> None:
    answers = [fenced(ADD), fenced("def add(a, b):\n    return a - b or 0"), "I would rather not."]
    right, wrong, none = verify_all(answers, [ADD_TESTS] * 3, workers=2)
    assert right == Result(4, 4)
    assert (wrong.passed, wrong.total) == (0, 4) or wrong.passed < 4
    assert wrong.problem.startswith("assert add(1, 2) == 3: AssertionError")
    assert none == Result(0, 4, "there is no Python code in the answer", "no code")


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def f(*a, **n): return a, n", "assert f(1, k=2) == ((1,), {'k': 2})"),
        ("def f(): return [(1, {2}), frozenset({3}), {'a': None, 4: b'x'}]",
         "assert f() == [(1, {2}), frozenset({3}), {'a': None, 4: b'x'}]"),
        ("def f(n): return 7 ** n", "assert f(9999) == 7 ** 9999"),
        ("def f(): return float('inf'), -0.0, 1e-300, 1j",
         "import math\ninf, zero, tiny, i = f()\n"
         "assert math.isinf(inf) and math.copysign(1, zero) < 0 and tiny == 1e-300 and i == 1j"),
        ("def f(x): return isinstance(x, tuple)", "assert f((1,)) is True\nassert not f([1])"),
        ("from fractions import Fraction\ndef half(): return Fraction(1, 2)",
         "from fractions import Fraction\nassert half() == Fraction(1, 2)"),
        ("import datetime\ndef f(s): return datetime.date.fromisoformat(s)",
         "from datetime import date\nassert f('2024-02-29') == date(2024, 2, 29)"),
        ("from collections import Counter\ndef f(s): return Counter(s)",
         "assert f('aab')['a'] == 2"),
        ("def f():\n    yield 1\n    yield 2", "assert list(f()) == [1, 2]\nassert next(f()) == 1"),
        ("def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
         "try:\n    f(-1)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'negative'"),
        ("class Odd(LookupError): pass\ndef f(): raise Odd('x')",
         "def test_it():\n    try:\n        f()\n    except Odd:\n        return\n    assert False"),
        ("def f(g, x): return g(g(x))",
         "assert f(lambda x: x + 1, 3) == 5\nassert f(str, 3) == '3'"),
        ("def f(xs, key): return sorted(xs, key=key)",
         "assert f([3, -4, 1], key=lambda x: -x) == [3, 1, -4]\nassert f(['bb', 'a'], len) == ['a', 'bb']"),
        ("def adder(n): return lambda x: x + n", "assert adder(2)(3) == 5"),
        ("def f(xs): xs.sort()", "xs = [3, 1, 2]\nf(xs)\nassert xs == [1, 2, 3]"),
        ("def f(d): d['new'] = 1", "d = {}\nf(d)\nassert d == {'new': 1}"),
        ("class Stack:\n    def __init__(self): self.items = []\n"
         "    def push(self, x): self.items.append(x)\n    def pop(self): return self.items.pop()\n"
         "    def __len__(self): return len(self.items)",
         "s = Stack()\ns.push(1)\ns.push(2)\nassert len(s) == 2\nassert s.pop() == 2\n"
         "assert s.items == [1]\nassert isinstance(s, Stack)\nassert not isinstance(3, Stack)\n"
         "s.pop()\nassert not s\ntry:\n    s.pop()\n    assert False\nexcept IndexError:\n    pass"),
        ("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass V:\n    x: int\n"
         "    def __add__(self, o): return V(self.x + o.x)",
         "assert V(1) + V(2) == V(3)\nassert V(1) != V(2)\nassert (V(1) + V(2)).x == 3"),
        ("class Node:\n    def __init__(self, v): self.v, self.next = v, None\n"
         "def walk(n):\n    while n: yield n.v; n = n.next",
         "a, b = Node(1), Node(2)\na.next = b\nassert list(walk(a)) == [1, 2]"),
        ("def f(x):\n    'Doc.'\n    return x", "assert f.__doc__ == 'Doc.' and f.__name__ == 'f'"),
        ("limit = 3\nnames = ['a']", "assert limit == 3\nassert names == ['a']"),
        ("def f(x): return x", "from answer import f as g\nimport answer\nassert g(1) == answer.f(1)"),
        ("def f(x): return x", "def check(candidate):\n    assert candidate(1) == 1\ncheck(f)"),
        ("def f(x): return x", "for n in range(100):\n    assert f(n) == n"),
        ("def main(): print(input())\nif __name__ == '__main__': main()\ndef f(): return 1",
         "assert f() == 1"),
        ("import asyncio\nasync def g(): return 1\ndef f(): return asyncio.run(g())",
         "assert f() == 1"),
        ("def sum(xs): return 0\ndef f(xs): return xs", "assert sum(f([1, 2])) == 3"),
    ],
)  # fmt: skip
def test_right_answers_pass(code: str, tests: str) -> None:
    verdict = verify(code, tests)
    assert verdict == Result(count_tests(tests, ""), verdict.total)


def test_many_rows_each_against_its_own_tests() -> None:
    answers = [fenced(f"def f(): return {n}") for n in range(12)]
    tests = [f"assert f() == {n - n % 2}" for n in range(12)]
    passed = [verdict.passed for verdict in verify_all(answers, tests, workers=2)]
    assert passed == [1, 0] * 6
    assert verify_all([], []) == []


# --- what does not ---

CHEATS = {
    "leaves": "import sys; sys.exit(0)",
    "leaves at once": "import os; os._exit(0)",
    "leaves later": "import os\ndef add(a, b): os._exit(0)",
    "leaves with a word": "import sys\ndef add(a, b): sys.exit(0)",
    "leaves at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): raise SystemExit",
    "prints a verdict": "print('{\"passed\": true, \"problem\": \"\"}\\n' * 4, flush=True)",
    "writes a verdict everywhere": """
import os
for n in range(3, 40):
    try: os.write(n, b'{"passed": true, "problem": ""}\\n' * 4)
    except OSError: pass
""",
    "is equal to everything": """
class Any(int):
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __hash__(self): return 1
def add(a, b): return Any(99)
""",
    "is no number but equal": """
class Any:
    def __eq__(self, o): return True
    def __req__(self, o): return True
    def __bool__(self): return True
def add(a, b): return Any()
""",
    "is a class that is equal": """
class add:
    def __init__(self, a, b): pass
    def __eq__(self, o): return True
""",
    "changes what true means": """
import builtins
for name in ("AssertionError", "Exception", "bool", "all", "any", "isinstance", "compile", "exec"):
    setattr(builtins, name, lambda *a, **k: True)
def add(a, b): return True
""",
    "changes the runner": """
import sys
for name, module in list(sys.modules.items()):
    if "runner" in name or "wire" in name or "keeper" in name:
        for key in list(vars(module)):
            if callable(vars(module)[key]): setattr(module, key, lambda *a, **k: True)
def add(a, b): return True
""",
    "looks for the tests": """
import gc, sys
def add(a, b):
    for thing in gc.get_objects():
        if isinstance(thing, dict):
            for value in list(thing.values()):
                if isinstance(value, str) and "assert add" in value: return eval(value)
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if isinstance(value, str) and "assert add" in value: raise SystemExit(value)
        frame = frame.f_back
    return None
""",
    "looks for the tests in memory": """
import ctypes, re
def add(a, b):
    found = []
    for line in open('/proc/self/maps'):
        low, high = (int(x, 16) for x in line.split()[0].split('-'))
        found += re.findall(rb'assert add', ctypes.string_at(low, high - low))
    return found
""",
    "answers unasked": """
import gc, json, struct, os
def send(m):
    m = json.dumps(m).encode()
    for n in range(3, 32):
        try: os.write(n, struct.pack("=I", len(m)) + m)
        except OSError: pass
send(["names", {"add": {"value": {"builtin": "max"}}}])
for n in range(50): send(["value", True, None])
""",
    "hands over eval": "add = eval",
    "is named like a builtin": "def all(x): return True\nany = bool = isinstance = all",
    "speaks gibberish": """
import os
for n in range(3, 32):
    try: os.write(n, b'\\xff' * 64)
    except OSError: pass
def add(a, b): return 3
""",
    "is too deep": """
def add(a, b):
    x = []
    for n in range(100_000): x = [x]
    return x
""",
    "is too large": "def add(a, b): return 'x' * 50_000_000",
    "never comes back": "def add(a, b):\n    while True: pass",
    "kills": "import os, signal\ndef add(a, b):\n    os.kill(os.getppid(), 9)\n    return 3",
    "forks and lets the child answer": "import os\ndef add(a, b):\n    os.fork()\n    return a + b",
}  # fmt: skip


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_cheats_pass_nothing(code: str) -> None:
    verdict = verify(code, ADD_TESTS, Limits(seconds=6, cpu_seconds=2))
    assert (verdict.passed, verdict.total) == (0, 4)
    assert verdict.problem


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        # Absorbs whatever is done to it.
        ("class A:\n    def __getattr__(s, n): return lambda *a: s\n"
         "    def __sub__(s, o): return s\n    def __rsub__(s, o): return s\n"
         "    def __abs__(s): return s\n    def __lt__(s, o): return True\n"
         "    def __gt__(s, o): return True\n    def __le__(s, o): return True\n"
         "    def __contains__(s, o): return True\n    def __iter__(s): return iter([])\n"
         "def f(x): return A()",
         "assert abs(f(2) - 1.41) < 0.01\nassert f(2) < 3\nassert 3 > f(2)\nassert 7 in f(2)"),
        ("def abs(x): return 0\ndef round(*x): return 4\ndef f(x): return 0",
         "assert abs(f(2)) == 2\n"
         "assert round(f(2)) == 4"),
        ("def f(x): raise StopIteration",
         "assert all(map(f, [1, 2]))\nassert list(map(f, [1])) == []"),
        ("def f(x): raise AssertionError", "try:\n    assert f(1) == 2\nexcept ValueError:\n    pass"),
        ("def f(xs):\n    xs.clear()\n    return []", "xs = [2, 1]\nassert f(xs) == sorted(xs)"),
        ("def f(g):\n    return g.__globals__['secret']", "secret = 7\nassert f(lambda: 0) == 7"),
        ("def f(g):\n    return g.__code__.co_consts[1]", "assert f(lambda: 7) == 7"),
        ("def f(x): return float('nan')", "assert f(1) == f(1)\nassert f(1) == float('nan')"),
        ("import sys\nsys.modules['tests'] = None\ndef f(): return 0", "assert f() == 1"),
        ("class E(BaseException): pass\ndef f(): raise E", "try:\n    f()\nexcept KeyError:\n    pass\n"
         "else:\n    assert 0"),
    ],
)  # fmt: skip
def test_subtler_cheats_pass_nothing(code: str, tests: str) -> None:
    assert verify(code, tests).passed == 0


def test_what_passed_before_an_endless_loop_counts() -> None:
    code = "def f(x):\n    while x == 3: pass\n    return x"
    tests = "assert f(1) == 1\nassert f(2) == 2\nassert f(3) == 3\nassert f(4) == 4"
    assert (
        verify(code, tests, Limits(seconds=30, cpu_seconds=1)).passed == 2
    )  # ended by its CPU time
    sleeping = code.replace("pass", "__import__('time').sleep(9)")
    slept = verify(sleeping, tests, Limits(seconds=2))
    assert (slept.passed, slept.problem) == (2, "it ran out of time")


def test_set_up_that_fails_is_told() -> None:
    verdict = verify("x = 1", "s = Stack()\nassert s.pop() == 1")
    assert verdict.passed == 0
    assert verdict.problem == "s = Stack(): NameError name 'Stack' is not defined"
    assert verify("1 / 0", "assert f()").problem == (
        "the code did not run: ZeroDivisionError: division by zero"
    )


def test_tests_may_not_do_what_an_answer_may_not() -> None:
    tests = "assert f()\nassert open('/etc/passwd').read()\nassert open('here', 'w').write('x')"
    assert verify("def f(): return 1", tests).passed == 1
    tests = "import os\nassert f()\nassert os.fork() >= 0"
    assert verify("def f(): return 1", tests).passed == 1


# --- tests that are of no use ---


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("", "hold no assert"),
        ("x = 1\ndef helper(): assert x", "hold no assert"),
        ("assert (", "are no Python"),
        ("assert '\0'", "are no Python"),
    ],
)
def test_rows_without_tests_are_errors(tests: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:3: .*{said}"):
        verify_all(["x = 1"], [tests], where=["rows.jsonl:3"])


def test_tests_that_hand_over_what_cannot_be_are_an_error_with_the_row() -> None:
    rows = ["assert f(1)", "import datetime, types\nassert f(types.SimpleNamespace())"]
    with pytest.raises(DataError, match=r"rows\.jsonl:4: .*SimpleNamespace"):
        verify_all([fenced("def f(x): return 1")] * 2, rows, where=["rows.jsonl:3", "rows.jsonl:4"])
