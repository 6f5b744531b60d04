"""Contests of the MAA whose answers are integers: AIME 2024 and 2025, AMC 2023."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import GITHUB, DataSet, File, by_split

_QWEN_MATH = f"{GITHUB}/QwenLM/Qwen2.5-Math/a45202bd16f1ec06f433442dc1152d0074773465/evaluation"
_LICENCE = "MIT or Apache-2.0 by the repositories; the problems are the MAA's, who gave no licence"


def _aime24(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    for row in rows:
        metadata = {"source": "aime24", "row": row.number, "label": row.field("answer", str)}
        answer = _integer(row, "answer", noted)
        yield ProblemRecord(user(row.field("problem", str)), answer, metadata)


def _aime25(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """The rows of 2025, from a file of several benchmarks or of this one only."""
    for row in rows:
        if row.field("source", str) != "aime2025":
            continue
        is_alone = "answer" in row.values
        problem, label = ("problem", "answer") if is_alone else ("prompt", "ground_truth")
        metadata = {"source": "aime25", "row": row.number, "label": row.field(label, str)}
        answer = _integer(row, label, noted)
        yield ProblemRecord(user(row.field(problem, str)), answer, metadata)


def _amc23(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """Answers become integers, 27.0 "27"; other numbers are refused."""
    for row in rows:
        label = row.field("answer", float)
        if not label.is_integer():
            row.refuse("answer", f"is {label}, not an integer")
        noted["floats written as integers"] += 1
        metadata = {"source": "amc23", "row": row.number, "label": str(label)}
        yield ProblemRecord(user(row.field("problem", str)), str(int(label)), metadata)


def _integer(row: SourceRow, name: str, noted: Counter[str]) -> str:
    """An answer of the AIME, an integer from 0 to 999, in its shortest form.

    Copies of the same problem contain `025` and `25`, and one has a degree sign that is not part of
    the answer.
    """
    label = row.field(name, str)
    digits = re.fullmatch(r"([0-9]{1,3})(\^\\circ)?", label.strip())
    if digits is None:
        row.refuse(name, f"is {label!r}, not an integer from 0 to 999")
    answer = str(int(digits[1]))
    noted["leading zeros removed"] += answer != digits[1]
    noted["degree signs removed"] += digits[2] is not None
    return answer


AIME24 = DataSet(
    name="aime24",
    title="AIME 2024, both papers",
    licence=_LICENCE,
    files={
        "test": File(
            ("test.jsonl",),
            f"{_QWEN_MATH}/data/aime24/test.jsonl",
            "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
        )
    },
    parse=by_split(_aime24),
)
"""Problems of the MAA; copy in QwenLM/Qwen2.5-Math a45202bd."""

AIME25 = DataSet(
    name="aime25",
    title="AIME 2025, both papers",
    licence=_LICENCE,
    files={
        "test": File(
            ("math_benchmarks.jsonl", "test.jsonl"),
            f"{GITHUB}/alibaba/ROLL/8eb27cc2dc34c4d1310b169d9b86d339004d811a"
            "/data/math_benchmarks.jsonl",
            "24321f4b298b375791ef8f21b6290f7529001a3d98a27cdaac24b9df0dea78d8",
        )
    },
    parse=by_split(_aime25),
)
"""Problems of the MAA; copy in alibaba/ROLL 8eb27cc2."""

AMC23 = DataSet(
    name="amc23",
    title="AMC 12 of 2023",
    licence=_LICENCE,
    files={
        "test": File(
            ("test.jsonl",),
            f"{_QWEN_MATH}/data/amc23/test.jsonl",
            "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4",
        )
    },
    parse=by_split(_amc23),
)
"""Problems of the MAA; copy in QwenLM/Qwen2.5-Math a45202bd."""
