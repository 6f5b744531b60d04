"""Rewards for programs, with problems of MBPP and HumanEval."""

import dataclasses
import gzip
import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_attacks import requires_bubblewrap
from shared_data import shared

from dvaojax.rewards import RewardError, RewardSuite
from dvaojax.rewards.programs import (
    Limits,
    Problem,
    ProgramsConfig,
    ProgramScorer,
    all_passed,
    extract_program,
    from_assertions,
    from_check,
    objectives_of_tests,
    one_passed,
    share_passed,
)
from dvaojax.rewards.programs import scorer as scorer_module
from dvaojax.rewards.programs.trials import Untested, make_trial, run_trials
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
        ("```Python3 \r\nx\r\n```\r\n", "x"),
        ("```\nx\n```", "x"),
        ("```python\nx\n```\nIt prints\n```\n3\n```", "x"),
        ("```python\nx\n```\n```bash\nrun\n```", "x"),
        ("```bash\nrun\n```", None),
        ("  ```python\n  x\n    y\n z\n  ```", "x\n  y\nz"),
        ('```python title="sol.py"\ny = 2\n```', "y = 2"),
        ("```python,ignore\nx\n```", "x"),
        ("```{.python .numberLines}\nx\n```", "x"),
        ("```javascript python\nx\n```", None),
        ("````python\ny = '''\n```\n'''\n````", "y = '''\n```\n'''"),
        ("````python\nx\n```", None),
        ("```python\nx\n`````  ", "x"),
        ("```python\nx\n~~~\n```", "x\n~~~"),
        ("~~~python\nx\n```\n~~~", "x\n```"),
        ("~~~ python `quoted`\nx\n~~~", "x"),
        ("``` python `quoted`\nx\n```", None),
        ("``python\nx\n``", None),
        ("    ```python\n    x\n    ```", None),
        ("1. So:\n\n   ```python\n   x\n     y\n   ```", "x\n  y"),
        ("- So:\n  - > ~~~py\n    > x\n    >\n    > y\n    > ~~~", "x\n\ny"),
        ("> ```python\n> x\ny", None),
        ("Text\n```python\nx\n```", "x"),
        ("<answer>\n```python\nx\n```\n</answer>", "x"),
        ("```python\n```", ""),
        ("```python\n    return x\n```", "    return x"),
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
    # Only indentation and the marks of lists and quotations are removed from its lines.
    assert program is None or all(line in text for line in program.split("\n"))


@requires_bubblewrap
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


@requires_bubblewrap
def test_hostile_text_gets_no_reward():
    random = Random(0)
    texts = [
        *HOSTILE.values(),
        *(fenced("".join(chr(random.randrange(0xD800)) for _ in range(20))).text for _ in range(9)),
    ]
    problem = dataclasses.replace(DOUBLE, tests=DOUBLE.tests[:1])
    scorer = ProgramScorer(objectives_of_tests(1), Limits(cpu_seconds=1, wall_seconds=5.0))
    scores = scorer.score([[answer(text) for text in texts]], [Prompt("", problem, 0)])
    assert scores.mask.all()
    assert not scores.rewards.any()


@requires_bubblewrap
class TestScorer:
    """Whole batches of programs."""

    RIGHT = fenced("def double(x): return 2 * x")
    SQUARE = fenced("def double(x): return x * x")
    PROMPTS = (Prompt("", DOUBLE, 0), Prompt("", dataclasses.replace(DOUBLE, tests=("1",)), 1))

    def scores(self, settings=ProgramsConfig()):  # noqa: B008, a frozen constant
        scorer = ProgramScorer(objectives_of_tests(2), settings=settings)
        assert scorer.objectives == ("passed", "test_1", "test_2")
        completions = [[self.RIGHT, self.SQUARE], [self.RIGHT, answer("I cannot.")]]
        return scorer.score(completions, self.PROMPTS)

    def test_objectives_are_those_of_single_completions(self):
        scores = self.scores()
        assert scores.rewards.tolist() == [[[1, 1, 1], [0, 1, 0]], [[1, 1, 0], [0, 0, 0]]]
        assert scores.mask.tolist() == [[[True] * 3] * 2, [[True, True, False]] * 2]
        assert scores.failures == {"passed": 0, "test_1": 0, "test_2": 0}
        assert scores.messages == []
        assert scores.measures["programs/tried"] == 3
        assert scores.measures["programs/untested"] == 0
        assert scores.measures["programs/seconds"] > 0

    def test_programs_without_a_result_are_masked_and_counted(self, monkeypatch):
        def without_the_second(trials, **_):
            outcomes = run_trials(trials)
            return [outcomes[0], Untested("the server is full"), outcomes[2]]

        monkeypatch.setattr(scorer_module, "run_trials", without_the_second)
        scores = self.scores()
        assert scores.rewards.tolist() == [[[1, 1, 1], [0, 0, 0]], [[1, 1, 0], [0, 0, 0]]]
        assert scores.mask[0].tolist() == [[True] * 3, [False] * 3]
        assert scores.failures == {"passed": 1, "test_1": 1, "test_2": 1}
        assert scores.messages == ["programs: 1 of 3 were not tested: the server is full (1)"]
        assert scores.measures["programs/untested"] == 1

    def test_a_batch_without_any_result_is_an_error(self, monkeypatch):
        monkeypatch.setattr(
            scorer_module, "run_trials", lambda trials, **_: [Untested("full")] * len(trials)
        )
        with pytest.raises(RewardError, match=r"none of 3 programs was tested: full \(3\)"):
            self.scores()

    def test_a_batch_without_programs_needs_no_sandbox(self):
        scorer = ProgramScorer(objectives_of_tests(0))
        scores = scorer.score([[answer("no")]], [Prompt("", DOUBLE, 0)])
        assert scores.rewards.tolist() == [[[0.0]]]
        assert scores.mask.all()

    def test_rejects_no_objective(self):
        with pytest.raises(ValueError, match="at least one objective"):
            ProgramScorer({})


@requires_bubblewrap
def test_programs_run_in_reward_workers():
    objectives = {"all": all_passed, "share": share_passed}
    with RewardSuite(objectives, workers=1, timeout_seconds=60.0) as suite:
        scores = suite.score([[fenced("def double(x): return x + x")]], [Prompt("", DOUBLE, 0)])
    assert scores.rewards.tolist() == [[[1.0, 1.0]]]


@requires_bubblewrap
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


@requires_bubblewrap
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


@requires_bubblewrap
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
    problems = list(problems)
    outcomes = run_trials(
        [make_trial(program, problem) for _, problem, program in problems],
        limits=Limits(cpu_seconds=20, wall_seconds=60.0, problem_seconds=120.0),  # if busy, too
    )
    return [
        (name, test, result.reason)
        for (name, problem, _), outcome in zip(problems, outcomes, strict=True)
        for test, result in zip(problem.tests, outcome, strict=True)
        if not result.passed
    ]


@requires_bubblewrap
def test_sampled_reference_programs_pass():
    assert failures([*list(mbpp())[::30], *list(humaneval())[::30]]) == []


@requires_bubblewrap
@pytest.mark.nightly
def test_every_reference_program_passes():
    assert failures([*mbpp(), *humaneval()]) == []


def test_number_of_tests_of_real_problems():
    counts = [len(problem.tests) for _, problem, _ in mbpp()]
    assert {n: counts.count(n) for n in set(counts)} == {3: 397, 4: 22, 5: 4, 6: 3, 7: 1}
    checks = {name: problem.tests for name, problem, _ in humaneval()}
    assert len(checks) == 164
    assert [len(checks[f"HumanEval/{i}"]) for i in (32, 38, 50)] == [1, 1, 1]
    assert all("candidate" in t or "sort_third" in t for tests in checks.values() for t in tests)


@requires_bubblewrap
def test_wrong_programs_fail_real_problems():
    problems = [problem for _, problem, _ in list(mbpp())[::40]]
    programs = [f"def {next(iter(p.functions))}(*a): return None" for p in problems]
    outcomes = run_trials(list(map(make_trial, programs, problems)))
    assert not any(all(verdict.passed for verdict in outcome) for outcome in outcomes)


def test_problems_are_compared_by_value():
    assert Problem(DOUBLE.tests, dict(DOUBLE.functions), DOUBLE.context) == DOUBLE
