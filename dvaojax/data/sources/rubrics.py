"""Conversations whose answers are graded by rubrics: HealthBench."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dvaojax.data.records import ProblemRecord, messages
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import DataSet, File, by_split


def _healthbench(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """No reference answer; the criteria with their points are in the metadata."""
    for row in rows:
        rubrics = row.field("rubrics", list)
        for item in rubrics:
            _check(row, item)
        if not any(item["points"] > 0 for item in rubrics):
            row.refuse("rubrics", "has no item with positive points, so no score is defined")
        metadata = {
            "source": "healthbench",
            "row": row.number,
            "prompt_id": row.field("prompt_id", str),
            "rubrics": rubrics,
            "example_tags": row.strings("example_tags"),
            "ideal_completions_data": row.values.get("ideal_completions_data"),
            "canary": row.field("canary", str),
        }
        yield ProblemRecord(messages(row, "prompt"), None, metadata)


def _check(row: SourceRow, item: Any) -> None:
    match item:
        case {"criterion": str(), "points": int() | float() as points, "tags": list() as tags}:
            if points and all(isinstance(tag, str) for tag in tags):
                return
    row.refuse("rubrics", "has an item that lacks a criterion, points other than 0, or tags")


HEALTHBENCH = DataSet(
    name="healthbench",
    title="health conversations with physicians' rubrics",
    licence="MIT; every row has a canary; OpenAI asks not to show examples online in plain text",
    files={
        "test": File(
            ("2025-05-07-06-14-12_oss_eval.jsonl", "sample50.jsonl"),
            "https://openaipublic.blob.core.windows.net/simple-evals/healthbench"
            "/2025-05-07-06-14-12_oss_eval.jsonl",
            "e99dd3c6372c10d6fcc5e385c5fae69d0dd40392dae56836ef9493ae324ecd2f",
        )
    },
    parse=by_split(_healthbench),
)
"""Arora et al., arXiv 2505.08775; published by the authors."""
