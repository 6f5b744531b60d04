"""Rewards for programs, with problems of MBPP and HumanEval."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared

from dvaojax.rewards import RewardSuite
from dvaojax.rewards.programs import (
    Limits,
    Problem,
    all_passed,
    extract_program,
    from_assertions,
    from_check,
    one_passed,
    share_passed,
)
from dvaojax.rewards.programs.tests_passed import verdict
from dvaojax.types import Completion, Prompt

DOUBLE = from_assertions(
    ["assert double(2) == 4", "assert double(-1) == -2", "assert double(0) == 0"]
)


def answer(text):
    return Completion(text, (0,) * 3, True)


def fenced(program):
    return answer(f"Here it is.\n```python\n{program}\n```\nDone.")


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("a\n```python\nx = 1\n```\nb\n```python\ny = 2\nz = 3\n```\nc", "y = 2\nz = 3"),
        ("```py\nx\n```", "x"),
        ("```Python3 \r\nx\r\n```\r\n", "x\r"),
        ("```\nx\n```", "x"),
        ("```python\nx\n```\nIt prints\n```\n3\n```", "x"),
        ("```python\nx\n```\n```bash\nrun\n```", "x"),
        ("```bash\nrun\n```", None),
        ("  ```python\n  x\n  ```", "  x"),
        ("```python\nx = '''\n```python\n'''\n```", "x = '''\n```python\n'''"),
        ("<think>\n```python\nx\n```\n</think>\n```python\ny\n```", "y"),
        ("<think>\n```python\nx\n```\n</think>\ny", None),
        ("```python\nx", None),
        ("```python\nx\n```\n```python\ny", "x"),
        ("x = 1", None),
        ("``````", None),
        ("", None),
    ],
)
def test_extracts_last_python_block_after_the_thought(text, program):
    assert extract_program(text) == program


@given(st.text(st.sampled_from("`\n apython<>/think")))
def test_extraction_accepts_any_text(text):
    program = extract_program(text)
    assert program is None or program in text


def test_each_test_is_a_separate_objective():
    right, wrong = fenced("def double(x): return 2 * x"), fenced("def double(x): return x * x")
    assert [one_passed(right, DOUBLE, number=n) for n in (1, 2, 3)] == [1.0, 1.0, 1.0]
    assert [one_passed(wrong, DOUBLE, number=n) for n in (1, 2, 3)] == [1.0, 0.0, 1.0]
    assert one_passed(right, DOUBLE, number=4) is None
    assert share_passed(wrong, DOUBLE) == pytest.approx(2 / 3)
    assert (all_passed(right, DOUBLE), all_passed(wrong, DOUBLE)) == (1.0, 0.0)
    with pytest.raises(ValueError, match="counted from 1"):
        one_passed(right, DOUBLE, number=0)


HOSTILE = {
    "empty": "",
    "a cut block": "```python\ndef double(x): return 2 * x",
    "no block": "def double(x): return 2 * x",
    "one character": "`" * 100_000,
    "fences": "```\n" * 25_000,
    "NUL": "```python\n\x00\n```",
    "a lone surrogate": "```python\n'\ud800'\n```",
    "nested braces": "```python\n" + "{" * 10_000 + "}" * 10_000 + "\n```",
    "a large power": "```python\nx = 9**9**9**9\n```",
    "100 kB": "```python\n" + "a" * 100_000 + "\n```",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_gets_no_reward(text):
    limits = Limits(cpu_seconds=1, wall_seconds=0.4)
    for reward in (share_passed, all_passed):
        assert reward(answer(text), DOUBLE, limits=limits) == 0.0
    assert one_passed(answer(text), DOUBLE, number=1, limits=limits) == 0.0


@settings(max_examples=10, deadline=None)
@given(st.text())
def test_arbitrary_text_is_scored(text):
    assert share_passed(fenced(text), DOUBLE) == 0.0


def test_programs_run_in_reward_workers():
    objectives = {"all": all_passed, "share": share_passed}
    with RewardSuite(objectives, workers=1, timeout_seconds=60.0) as suite:
        scores = suite.score([[fenced("def double(x): return x + x")]], [Prompt("", DOUBLE, 0)])
    assert scores.rewards.tolist() == [[[1.0, 1.0]]]


def test_function_named_like_a_built_in():
    problem = from_assertions(["assert sum(1, 2) == 3"], reference="def sum(a, b): return a + b")
    assert problem.functions == {"sum": "sum"}
    assert all_passed(fenced("def sum(a, b): return a + b"), problem) == 1.0


def test_undefined_names_are_functions_of_the_program():
    problem = from_assertions(
        ["import math\nassert all(math.floor(f(x)) == y for x, y in [(1, 1)])"]
    )
    assert problem.functions == {"f": "f"}


CHECK = """
METADATA = {}
def check(candidate):
    assert True, "free"
    assert candidate([2]) == [2], "one"
    xs = list(range(3))
    assert candidate(xs) == xs[::-1]
    for n in range(4):
        assert candidate([n]) == [n]
    assert True
"""
HEAD = "from typing import List\n\ndef turn(xs: List[int]) -> List[int]:\n    '''Turn it.'''\n"


def test_check_is_split_into_its_assertions():
    problem = from_check(CHECK, entry_point="turn", prompt=HEAD)
    assert problem.tests == (
        "assert candidate([2]) == [2], 'one'",
        "xs = list(range(3))\nassert candidate(xs) == xs[::-1]",
        "xs = list(range(3))\nfor n in range(4):\n    assert candidate([n]) == [n]",
    )


@pytest.mark.parametrize(
    "program",
    [
        "    return xs[::-1]",
        HEAD + "    return xs[::-1]",
        "def turn(xs: List[int]):\n    return list(reversed(xs))",
        "from __future__ import annotations\ndef turn(xs: Anything):\n    return xs[::-1]",
    ],
)
def test_program_may_continue_the_prompt_or_start_over(program):
    assert all_passed(fenced(program), from_check(CHECK, entry_point="turn", prompt=HEAD)) == 1.0


def test_program_cannot_redefine_the_context_of_the_tests():
    prompt = "def key(x):\n    return x * 31\n\ndef unkey(y):\n    '''The inverse.'''\n"
    check = "def check(candidate):\n    for x in range(3):\n        assert candidate(key(x)) == x\n"
    problem = from_check(check, entry_point="unkey", prompt=prompt)
    assert all_passed(fenced("    return y // 31"), problem) == 1.0
    assert all_passed(fenced("def key(x): return x\ndef unkey(y): return y"), problem) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_assertions(["assert 1 == 1"]), "call no function"),
        (lambda: from_assertions([]), "call no function"),
        (lambda: from_assertions(["assert ("]), "is not Python"),
        (lambda: from_check("x = 1", entry_point="f", prompt=""), "no check"),
        (lambda: from_check("def check(c): assert True", entry_point="f", prompt=""), "nothing"),
    ],
)
def test_rejects_problems_without_tests(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def mbpp():
    rows = json.loads(shared("mbpp", "sanitized-mbpp.json").read_bytes())
    for row in rows:
        tests, imports = row["test_list"], row["test_imports"]
        problem = from_assertions(tests, imports=imports, reference=row["code"])
        yield row["task_id"], problem, row["code"]


def humaneval():
    with gzip.open(shared("humaneval", "HumanEval.jsonl.gz")) as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        problem = from_check(row["test"], entry_point=row["entry_point"], prompt=row["prompt"])
        yield row["task_id"], problem, row["canonical_solution"]


def failures(problems):
    """Every test that a reference program fails, with the reason."""
    return [
        (name, problem.tests[i], result.reason)
        for name, problem, program in problems
        for i in range(len(problem.tests))
        if not (result := verdict(fenced(program).text, problem, i)).passed
    ]


def test_sampled_reference_programs_pass():
    assert failures(list(mbpp())[::60]) == failures(list(humaneval())[::60]) == []


@pytest.mark.slow
def test_every_reference_program_passes():
    assert failures(mbpp()) == failures(humaneval()) == []


def test_number_of_tests_of_real_problems():
    counts = [len(problem.tests) for _, problem, _ in mbpp()]
    assert {n: counts.count(n) for n in set(counts)} == {3: 397, 4: 22, 5: 4, 6: 3, 7: 1}
    checks = {name: problem.tests for name, problem, _ in humaneval()}
    assert len(checks) == 164
    assert [len(checks[f"HumanEval/{i}"]) for i in (32, 38, 50)] == [1, 1, 1]
    assert all("candidate" in t or "sort_third" in t for tests in checks.values() for t in tests)


def test_wrong_programs_fail_real_problems():
    for _, problem, _ in list(mbpp())[::40]:
        name = next(iter(problem.functions))
        assert all_passed(fenced(f"def {name}(*a): return None"), problem) == 0.0


def test_problems_are_compared_by_value():
    assert Problem(DOUBLE.tests, dict(DOUBLE.functions), DOUBLE.context) == DOUBLE
