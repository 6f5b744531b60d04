"""The user's own datasets: rows of a prompt, an answer and metadata, such as JSON lines."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from dvaojax.data import rows
from dvaojax.data.records import ProblemRecord, messages, user
from dvaojax.data.rows import SourceRow
from dvaojax.errors import UserError

FIELDS = ("prompt", "answer", "metadata")

# Usual names of columns in other projects, the more specific ones first.
_USUAL_NAMES = {
    "prompt": ("problem", "question", "messages", "instruction", "query", "input", "text"),
    "answer": (
        "ground_truth", "final_answer", "gold_answer", "expected_answer", "gold", "target",
        "solution", "output", "response", "completion", "label",
    ),
}  # fmt: skip


def read(
    path: Path,
    *,
    source: str | None = None,
    columns: Mapping[str, str] | None = None,
    first: int = 0,
) -> list[ProblemRecord]:
    """The records of a file, in any format of `rows.read`.

    A row is `{"prompt": ..., "answer": ..., "metadata": {...}}`. The prompt is a string, which
    means one user message, or a list of messages with a role and a content. The answer is a string
    or any JSON except a float. Answer and metadata are optional.

    Args:
        path: the file.
        source: name of the source in the records' metadata; by default the file's name. Metadata
            of the row with the names `source` or `row` is not replaced.
        columns: field -> the column that has it, which may be a dotted path. If given, all columns
            that are none of the fields become metadata; otherwise they are refused.
        first: the number of the first row in the records' metadata.

    Raises:
        UserError: the file cannot be read or has no record, or a row is malformed; the message
            names the row and the field.
    """
    source = source or path.name.partition(".")[0]
    records = [_record(source, row, columns, first + row.number) for row in rows.read(path)]
    if not records:
        raise UserError(f"{path} has no record")
    return records


def _record(
    source: str, row: SourceRow, columns: Mapping[str, str] | None, number: int
) -> ProblemRecord:
    metadata = {} if columns is None else _other_columns(row, columns)
    if columns is None:
        _check_names(row)
        columns = {}
    prompt, answer, own = (columns.get(field, field) for field in FIELDS)
    value = row.get(answer)
    if isinstance(value, float):
        row.refuse(answer, f"is the float {value!r}, which may be rounded; write it in quotes")
    if row.get(own) is not None:
        given = row.field(own, dict)
        for name in given.keys() & metadata.keys():
            row.refuse(name, f"is also a key of {own!r}: rename one")
        metadata |= given
    is_text = isinstance(row.get(prompt), str)
    read_prompt = user(row.field(prompt, str)) if is_text else messages(row, prompt)
    return ProblemRecord(read_prompt, value, {"source": source, "row": number, **metadata})


def _other_columns(row: SourceRow, columns: Mapping[str, str]) -> dict[str, object]:
    """The columns of a row that are none of the fields."""
    for field, column in columns.items():
        if not row.has(column):
            names = ", ".join(row.values)
            raise UserError(f"{row.where}: there is no {column!r} for {field}; it has {names}")
    mapped_columns = {columns.get(field, field) for field in FIELDS}
    return {name: value for name, value in row.values.items() if name not in mapped_columns}


def _check_names(row: SourceRow) -> None:
    """Raises an error at the first column that is none of the fields, with the likely remedy."""
    for name in row.values:
        if name not in FIELDS:
            row.refuse(name, f"is unknown; {_remedy(name, row)}")


def _remedy(name: str, row: SourceRow) -> str:
    """How to prepare a row with a column of this name."""
    likely = {
        field: next((column for column in (field, *usual) if column in row.values), None)
        for field, usual in _USUAL_NAMES.items()
    }
    pairs = " ".join(f"{field}={column}" for field, column in likely.items() if column)
    option = f"add --columns {pairs}"
    meant = [field for field, usual in _USUAL_NAMES.items() if name.lower() in usual]
    meant = meant or difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.7)
    if meant:
        or_map = f", or {option}" if likely["prompt"] and row.number == 0 else ""
        return f"did you mean {meant[0]!r}? Rename it{or_map}"
    if likely["prompt"] is None:
        return "name the columns: --columns prompt=COLUMN answer=COLUMN"
    return f"put it in the metadata, or {option}, which makes metadata of all other columns"
