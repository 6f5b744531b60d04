"""The user's own datasets: JSON lines of a prompt, an answer and metadata."""

from pathlib import Path

from dvaojax.data import rows
from dvaojax.data.records import ProblemRecord, messages, user
from dvaojax.data.rows import SourceRow
from dvaojax.errors import UserError, nearest

FIELDS = ("prompt", "answer", "metadata")


def read(path: Path, *, source: str | None = None) -> list[ProblemRecord]:
    """The records of a file of JSON lines.

    A line is `{"prompt": ..., "answer": ..., "metadata": {...}}`. The prompt is a string, which
    means one user message, or a list of messages with a role and a content. The answer is a string
    or any JSON except a float. Answer and metadata are optional.

    Args:
        path: the file.
        source: name of the source in the records' metadata; by default the file's name.

    Raises:
        UserError: the file cannot be read or has no record, or a line is malformed; the message
            names the line and the field.
    """
    source = source or path.name.partition(".")[0]
    records = [_record(source, row) for row in rows.read(path)]
    if not records:
        raise UserError(f"{path} has no record")
    return records


def _record(source: str, row: SourceRow) -> ProblemRecord:
    for name in row.values:
        if name not in FIELDS:
            close = nearest(name, FIELDS)
            row.refuse(name, f"is unknown; did you mean {close!r}? If not, put it in the metadata")
    is_text = isinstance(row.values.get("prompt"), str)
    prompt = user(row.field("prompt", str)) if is_text else messages(row, "prompt")
    answer = row.values.get("answer")
    if isinstance(answer, float):
        row.refuse("answer", f"is the float {answer!r}, which may be rounded; write it in quotes")
    metadata = row.field("metadata", dict) if "metadata" in row.values else {}
    return ProblemRecord(prompt, answer, {**metadata, "source": source, "row": row.number})
