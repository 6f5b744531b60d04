"""Problems whose answer is a program: MBPP (sanitized) and HumanEval.

No code is executed here; it is parsed to check that it is Python and which functions it defines.
"""

import ast
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dvaojax.data import rows as files
from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import GITHUB, DataSet, File, by_split

# The authors' own split: these are for evaluation, the others for training and prompts.
_MBPP_TEST = range(11, 511)


def _mbpp(paths: Mapping[str, Path], noted: Counter[str]) -> dict[str, list[ProblemRecord]]:
    splits: dict[str, list[ProblemRecord]] = {"train": [], "test": []}
    for path in paths.values():
        for row in files.read(path):
            split = "test" if row.field("task_id", int) in _MBPP_TEST else "train"
            splits[split].append(_mbpp_record(row))
    return {split: records for split, records in splits.items() if records}


def _mbpp_record(row: SourceRow) -> ProblemRecord:
    """The prompt contains the first test, which gives the function's name."""
    tests = row.strings("test_list")
    if not tests:
        row.refuse("test_list", "has no test")
    prompt = f"{row.field('prompt', str)}\nThe code has to pass this test:\n{tests[0]}"
    metadata = {
        "source": "mbpp",
        "row": row.number,
        "task_id": row.field("task_id", int),
        "test_imports": row.strings("test_imports"),
        "entry_point": _tested_function(row, tests[0]),
        "code": row.field("code", str),
    }
    return ProblemRecord(user(prompt), tests, metadata)


def _tested_function(row: SourceRow, test: str) -> str:
    """The last function of the solution that the test mentions."""
    solution, used = _python(row, "code", row.field("code", str)), _python(row, "test_list", test)
    names = {node.id for node in ast.walk(used) if isinstance(node, ast.Name)}
    defined = [n.name for n in solution.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    tested = [name for name in defined if name in names]
    if not tested:
        row.refuse("test_list", "does not call a function that the code defines")
    return tested[-1]


def _humaneval(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """The answer is a list of one program, which defines `check(candidate)`."""
    for row in rows:
        test, entry_point = row.field("test", str), row.field("entry_point", str)
        prompt, solution = row.field("prompt", str), row.field("canonical_solution", str)
        whole = _python(row, "canonical_solution", prompt + solution)
        if entry_point not in {n.name for n in whole.body if isinstance(n, ast.FunctionDef)}:
            row.refuse("entry_point", f"is {entry_point!r}, which the prompt does not define")
        checks = _python(row, "test", test).body
        if not any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in checks):
            row.refuse("test", "defines no function check")
        metadata = {
            "source": "humaneval",
            "row": row.number,
            "task_id": row.field("task_id", str),
            "entry_point": entry_point,
            "canonical_solution": solution,
        }
        yield ProblemRecord(user(prompt), [test], metadata)


def _python(row: SourceRow, name: str, source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes such as \\w in strings
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        row.refuse(name, f"is not Python: {error}")


MBPP = DataSet(
    name="mbpp",
    title="short Python programs with three or more tests each (sanitized)",
    licence="CC BY 4.0",
    files={
        "all": File(
            ("sanitized-mbpp.json",),
            f"{GITHUB}/mrigankpawagi/PropertyEval/b2be813dcff867cc350c61b8d3ea57ec088ce1ac"
            "/sanitized-mbpp.json",
            "8ac32b2799150228e2d745aed09c870b7e4444246d4727d1004576207ef40769",
        )
    },
    parse=_mbpp,
)
"""Austin et al., arXiv 2108.07732; copy in mrigankpawagi/PropertyEval b2be813d."""

HUMANEVAL = DataSet(
    name="humaneval",
    title="Python functions to be completed from their docstring",
    licence="MIT",
    files={
        "test": File(
            ("HumanEval.jsonl.gz", "HumanEval.jsonl"),
            f"{GITHUB}/openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d"
            "/data/HumanEval.jsonl.gz",
            "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        )
    },
    parse=by_split(_humaneval),
)
"""Chen et al., arXiv 2107.03374; the authors' repository."""
