"""Every Python task of the starter pack has a solution, and its tests let nothing else through."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import accumulate, combinations, groupby
from math import gcd, isqrt, prod
from typing import Any

import pytest

from guildgpt.data.starter import StarterTask, starter_tasks

Solution = Callable[..., Any]
SOLUTIONS: dict[str, Solution] = {}


def solution(function: Solution) -> Solution:
    SOLUTIONS[function.__name__] = function
    return function


def name_of(task: StarterTask) -> str:
    """The name of the function that the task asks for."""
    found = re.match(r"Write a Python function `(\w+)\(", task.prompt)
    assert found, task.prompt
    return found[1]


def passes(task: StarterTask, function: Solution) -> bool:
    try:
        exec(task.tests, {name_of(task): function})
    except Exception:
        return False
    return True


@cache
def tasks() -> dict[str, StarterTask]:
    return {name_of(task): task for task in starter_tasks()}


@solution
def double(n):
    return 2 * n


@solution
def is_even(n):
    return n % 2 == 0


@solution
def distance(a, b):
    return abs(a - b)


@solution
def average(numbers):
    return sum(numbers) / len(numbers) if numbers else 0


@solution
def last(items):
    return items[-1] if items else None


@solution
def with_capital(words):
    return [word for word in words if word[0].isupper()]


@solution
def initials(name):
    return "".join(word[0].upper() for word in name.split())


@solution
def longest(words):
    return max(words, key=len, default="")


@solution
def odd_only(numbers):
    return [n for n in numbers if n % 2]


@solution
def cubes(numbers):
    return [n**3 for n in numbers]


@solution
def echo(text, times):
    return " ".join([text] * times)


@solution
def between(n, low, high):
    return low <= n <= high


@solution
def to_seconds(hours, minutes, seconds):
    return (hours * 60 + minutes) * 60 + seconds


@solution
def clock(minutes):
    return f"{minutes // 60:02}:{minutes % 60:02}"


@solution
def in_both(a, b):
    return sorted(set(a) & set(b))


@solution
def without(items, unwanted):
    return [item for item in items if item != unwanted]


@solution
def middle(text):
    half = (len(text) - 1) // 2
    return text[half : len(text) - half]


@solution
def is_sorted(numbers):
    return list(numbers) == sorted(numbers)


@solution
def second_largest(numbers):
    values = sorted(set(numbers))
    return values[-2] if len(values) > 1 else None


@solution
def product(numbers):
    return prod(numbers)


@solution
def sum_to(n):
    return n * (n + 1) // 2


@solution
def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


@solution
def lcm(a, b):
    return a * b // gcd(a, b)


@solution
def collatz_steps(n):
    steps = 0
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    return steps


@solution
def count_capitals(text):
    return sum(character.isupper() for character in text)


@solution
def shout(text):
    return text.rstrip("!").upper() + "!"


@solution
def letters_only(text):
    return "".join(filter(str.isalpha, text))


@solution
def mismatches(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True))


@solution
def runs(text):
    return [(character, len(list(run))) for character, run in groupby(text)]


@solution
def chunks(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


@solution
def rotate(items, n):
    n %= len(items)
    return items[n:] + items[:n]


@solution
def zip_up(a, b):
    return [item for pair in zip(a, b, strict=True) for item in pair]


@solution
def transpose(rows):
    return [list(column) for column in zip(*rows, strict=True)]


@solution
def diagonal_sum(matrix):
    return sum(row[i] for i, row in enumerate(matrix))


@solution
def most_frequent(items):
    return Counter(items).most_common(1)[0][0]


@solution
def add_counts(a, b):
    return {name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}}


@solution
def lengths(text):
    return {word: len(word) for word in text.split()}


@solution
def max_depth(text):
    steps = ({"(": 1, ")": -1}.get(character, 0) for character in text)
    return max(accumulate(steps), default=0)


@solution
def balanced(text):
    expected = []
    for character in text:
        if character in "([{":
            expected.append(")]}"["([{".index(character)])
        elif character in ")]}" and (not expected or expected.pop() != character):
            return False
    return not expected


@solution
def is_square(n):
    return n >= 0 and isqrt(n) ** 2 == n


@solution
def power_of_two(n):
    return n > 0 and n & (n - 1) == 0


@solution
def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


@solution
def running_total(numbers):
    return list(accumulate(numbers))


@solution
def pairs_with_sum(numbers, target):
    return sum(a + b == target for a, b in combinations(numbers, 2))


@solution
def parse_query(text):
    return dict(part.split("=") for part in text.split("&") if part)


@solution
def mask(number):
    return "*" * (len(number) - 4) + number[-4:]


@solution
def slug(title):
    return "-".join(title.lower().split())


@solution
def ordinal(n):
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return f"{n}" + {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


@solution
def grade(points):
    return "A" if points >= 90 else "B" if points >= 80 else "C" if points >= 70 else "F"


@solution
def fewest_coins(cents):
    coins = 0
    for coin in (25, 10, 5, 1):
        coins += cents // coin
        cents %= coin
    return coins


@solution
def first_unique(text):
    return next((character for character in text if text.count(character) == 1), None)


@solution
def compare_versions(a, b):
    one, other = ([int(part) for part in version.split(".")] for version in (a, b))
    return (one > other) - (one < other)


@solution
def to_rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


@solution
def censor(text, word):
    return text.replace(word, "*" * len(word))


# What a model may write that has not understood the task, or has found out how it is rewarded.
EVASIONS: dict[str, Solution] = {
    "nothing": lambda *_: None,
    "the first argument": lambda *arguments: arguments[0],
    "the last argument": lambda *arguments: arguments[-1],
    **{repr(value): lambda *_, value=value: value for value in (True, False, 0, 1, "", [], {})},
}


def test_the_tasks_are_well_formed() -> None:
    assert len(tasks()) == len(starter_tasks()) == 54
    for task in tasks().values():
        assert re.fullmatch(
            r"Write a Python function `\w+\([a-z, ]+\)` that [a-z].*\.( [A-Z`].*\.)?",
            task.prompt,
        ), task.prompt


def test_each_task_has_a_solution() -> None:
    assert set(SOLUTIONS) == set(tasks())


@pytest.mark.parametrize("name", sorted(SOLUTIONS))
def test_a_solution_passes_and_nothing_lazy_does(name: str) -> None:
    task = tasks()[name]
    assert passes(task, SOLUTIONS[name])
    assert [evasion for evasion, function in EVASIONS.items() if passes(task, function)] == []


@pytest.mark.parametrize("name", sorted(SOLUTIONS))
def test_the_tests_are_three_to_six_assertions_about_the_function(name: str) -> None:
    lines = tasks()[name].tests.split("\n")
    assert 3 <= len(lines) <= 6
    for line in lines:
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.Assert)
        assert line.startswith(f"assert {name}(")


@pytest.mark.parametrize("name", sorted(SOLUTIONS))
def test_the_arguments_are_those_that_the_prompt_names(name: str) -> None:
    arguments = ", ".join(inspect.signature(SOLUTIONS[name]).parameters)
    assert f"`{name}({arguments})`" in tasks()[name].prompt
