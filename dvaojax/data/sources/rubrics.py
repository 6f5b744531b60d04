"""Conversations whose answers are judged by rubrics: HealthBench."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dvaojax.data.records import Record, messages
from dvaojax.data.rows import Row
from dvaojax.data.sources.published import DataSet, File, by_split


def _healthbench(rows: Iterable[Row], noted: Counter[str]) -> Iterator[Record]:
    """There is no right answer; the criteria with their points are in the metadata."""
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
        yield Record(messages(row, "prompt"), None, metadata)


def _check(row: Row, item: Any) -> None:
    match item:
        case {"criterion": str(), "points": int() | float() as points, "tags": list() as tags}:
            if points and all(isinstance(tag, str) for tag in tags):
                return
    row.refuse("rubrics", "has an item that is not a criterion, points other than 0, and tags")


HEALTHBENCH = DataSet(
    name="healthbench",
    title="health conversations with physicians' rubrics",
    licence="MIT; every row carries a canary, and OpenAI asks that none is shown in plain text",
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
"""Arora et al., arXiv 2505.08775; from its authors."""
