"""Rows of data files with their location, so that errors name file, line and field."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from dvaojax.errors import UserError, import_extra

Kind = TypeVar("Kind")

_JSON_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class SourceRow(NamedTuple):
    """One object of a data file.

    Attributes:
        number: index of the row in its file, from 0.
        where: the file and the line or row, for error messages.
        values: the object; integers of any size are exact.
    """

    number: int
    where: str
    values: dict[str, Any]

    def field(self, name: str, kind: type[Kind]) -> Kind:
        """The value of a required field.

        Args:
            name: a dotted path for fields of nested objects.
            kind: the expected JSON type; booleans do not count as integers.

        Raises:
            UserError: the field is missing or of another type.
        """
        value: Any = self.values
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UserError(f"{self.where}: there is no field {name!r}")
            value = value[part]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            shown = json.dumps(value, default=str)[:60]
            raise UserError(f"{self.where}: field {name!r} is {shown}, not {_JSON_NAMES[kind]}")
        return value

    def strings(self, name: str) -> list[str]:
        """The value of a required field that is a list of strings.

        Raises:
            UserError: the field is missing or of another type.
        """
        values = self.field(name, list)
        if not all(isinstance(value, str) for value in values):
            self.refuse(name, "is not a list of strings")
        return values

    def refuse(self, name: str, fault: str) -> NoReturn:
        """Raises a `UserError` about one field."""
        raise UserError(f"{self.where}: field {name!r} {fault}")


def read(path: Path) -> Iterator[SourceRow]:
    """The rows of a file; its format is detected from its content, not its name.

    Formats: Parquet, one JSON list of objects, or JSON lines; the latter two may be compressed with
    gzip. Only a newline ends a line, not the other line separators of Unicode. Empty lines are
    skipped.

    Raises:
        UserError: the file cannot be read, or a row is not a JSON object of valid text.
    """
    content = _content(path)
    if content.startswith(b"PAR1"):
        return _parquet(path, content)
    if content.lstrip().startswith(b"["):
        return _json_list(path, content)
    return _json_lines(path, content)


def _json_lines(path: Path, content: bytes) -> Iterator[SourceRow]:
    number = 0
    for line_number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            where = f"{path}:{line_number}"
            yield SourceRow(number, where, _object(_parsed(line, where), where))
            number += 1


def _json_list(path: Path, content: bytes) -> Iterator[SourceRow]:
    for number, value in enumerate(_parsed(content, str(path))):
        where = f"{path}: row {number}"
        yield SourceRow(number, where, _object(value, where))


def _parquet(path: Path, content: bytes) -> Iterator[SourceRow]:
    parquet = import_extra("pyarrow.parquet", extra="data")
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a valid Parquet file: {error}") from error
    for number, values in enumerate(table.to_pylist()):
        yield SourceRow(number, f"{path}: row {number}", values)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: {reason}") from error


def _parsed(content: bytes, where: str) -> Any:
    """A JSON value that can be written again: without NaN and lone surrogates."""
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: a string contains a lone surrogate") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}") from error
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object")
    return value
