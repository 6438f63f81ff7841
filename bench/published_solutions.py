"""Do the published solutions of HumanEval and MBPP pass their tests in our sandbox? They should.

    python bench/published_solutions.py humaneval:HumanEval.jsonl.gz mbpp:mbpp.jsonl

Needs the files that docs/evaluation.md names, and no model.
"""

from __future__ import annotations

import sys
from pathlib import Path

from guildgpt.data.files import read_records
from guildgpt.engines.cores import usable_cores
from guildgpt.evaluate.code import LIMITS
from guildgpt.evaluate.code_tasks import read_code_tasks
from guildgpt.rewards.verify import try_all


def main(sources: list[str]) -> None:
    """How many pass, and which do not."""
    for source in sources:
        tasks = read_code_tasks(source).tasks
        rows = dict(_solutions(Path(source.partition(":")[2])))
        codes = [task.code(rows[task.id], chat=False) for task in tasks]
        tests = [task.tests for task in tasks]
        results = try_all(codes, tests, usable_cores(), LIMITS)
        passed = sum(one.outcome == "passed" for one in results)
        print(f"{source}: {passed} of {len(tasks)}")
        for task, one in zip(tasks, results, strict=True):
            if one.outcome != "passed":
                print(f"  {task.id}: {one.outcome}, {one.problem}")


def _solutions(path: Path) -> list[tuple[str, str]]:
    rows = [row for _, row in read_records(path)]
    return [
        (row["task_id"], row["canonical_solution"])
        if "canonical_solution" in row
        else (f"MBPP/{row['task_id']}", row["code"])
        for row in rows
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
