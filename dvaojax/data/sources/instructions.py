"""Prompts with instructions that a program can check: IFEval."""

from collections import Counter
from collections.abc import Iterable, Iterator

from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import GITHUB, DataSet, File, by_split


def _ifeval(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """No reference answer; the instructions and their arguments are in the metadata."""
    for row in rows:
        instructions, arguments = row.strings("instruction_id_list"), row.field("kwargs", list)
        if len(instructions) != len(arguments) or not instructions:
            row.refuse(
                "kwargs", f"has {len(arguments)} entries for {len(instructions)} instructions"
            )
        if not all(isinstance(entry, dict) for entry in arguments):
            row.refuse("kwargs", "is not a list of objects")
        metadata = {
            "source": "ifeval",
            "row": row.number,
            "key": row.field("key", int),
            "instruction_id_list": instructions,
            "kwargs": arguments,
        }
        yield ProblemRecord(user(row.field("prompt", str)), None, metadata)


IFEVAL = DataSet(
    name="ifeval",
    title="prompts with one to three verifiable instructions",
    licence="CC BY 4.0",
    files={
        "test": File(
            ("input_data.jsonl",),
            f"{GITHUB}/microsoft/llm-steer-instruct/4f84882e57d22897a28cad4ce7e1f8ab60b06dad"
            "/data/input_data.jsonl",
            "67ffeee0fcb87c317c5b08a2de85557b4a7e96ada6178aa645b4954fe4b53d49",
        )
    },
    parse=by_split(_ifeval),
)
"""Zhou et al., arXiv 2311.07911; copy in microsoft/llm-steer-instruct 4f84882e."""
