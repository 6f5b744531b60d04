"""Rows of data files with their location, so that errors name file, line and field."""

import codecs
import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from dvaojax import files
from dvaojax.errors import UserError, first_line, import_extra

Kind = TypeVar("Kind")

_JSON_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


# Beginnings of files.
_ARROW_FILE, _ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


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

    def has(self, name: str) -> bool:
        """Whether there is such a field, whose value may be null."""
        outer, _, last = name.rpartition(".")
        parent = self.get(outer) if outer else self.values
        return name in self.values or (isinstance(parent, dict) and last in parent)

    def get(self, name: str) -> Any:
        """The value of a field; None if there is no such field.

        Args:
            name: as in `field`.
        """
        if name in self.values:
            return self.values[name]
        value: Any = self.values
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value

    def field(self, name: str, kind: type[Kind]) -> Kind:
        """The value of a required field.

        Args:
            name: a dotted path for fields of nested objects.
            kind: the expected JSON type; booleans do not count as integers.

        Raises:
            UserError: the field is missing or of another type.
        """
        value = self.get(name)
        if value is None and not self.has(name):
            raise UserError(f"{self.where}: there is no field {name!r}")
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
    """The rows of a file; its format is detected from its content, except for tables of text.

    Formats: Parquet, Arrow, one JSON list of objects, JSON lines, and files named `.csv` or `.tsv`,
    whose first row has the names of the columns and whose values are strings. All but Parquet and
    Arrow may be compressed with gzip. Text is UTF-8, with or without a byte order mark. In JSON
    lines only a newline ends a line, not the other line separators of Unicode. Empty lines are
    skipped.

    Raises:
        UserError: the file cannot be read, or a row has something else than JSON with valid text
            and finite numbers; the message names file, row and field.
    """
    content = _content(path)
    if content.startswith(b"PAR1"):
        return _parquet(path, content)
    if content.startswith((_ARROW_FILE, _ARROW_STREAM)):
        return _arrow(path, content)
    if content.startswith(_UTF16):
        raise UserError(f"{path} is UTF-16 text: save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    delimiter = _DELIMITERS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if delimiter is not None:
        return _table_of_text(path, content, delimiter)
    if content.lstrip().startswith(b"["):
        return _json_list(path, content)
    return _json_lines(path, content)


def _table_of_text(path: Path, content: bytes, delimiter: str) -> Iterator[SourceRow]:
    csv.field_size_limit(2**31 - 1)  # the default refuses long texts
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    number, line = 0, 1
    try:
        for cells in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            if not cells:
                continue
            if names is None:
                names = _column_names(where, cells)
                continue
            if len(cells) != len(names):
                number_of = f"{len(cells)} value{'s' * (len(cells) != 1)}"
                raise UserError(f"{where} has {number_of} for {len(names)} columns")
            yield SourceRow(number, where, dict(zip(names, cells, strict=True)))
            number += 1
    except csv.Error as error:
        raise UserError(f"{path}:{line} is not a row of a CSV file: {error}") from error


def _column_names(where: str, names: list[str]) -> list[str]:
    """The names in the first row of a table; each has to be there once."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where} names the column {name!r} more than once")
    if len(names) == 1 and ";" in names[0]:
        raise UserError(f"{where} separates columns by semicolons: separate them by commas")
    return names


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
    return _arrow_rows(path, "Parquet", lambda: parquet.read_table(io.BytesIO(content)))


def _arrow(path: Path, content: bytes) -> Iterator[SourceRow]:
    ipc = import_extra("pyarrow.ipc", extra="data")
    is_file = content.startswith(_ARROW_FILE)
    read = ipc.open_file if is_file else ipc.open_stream
    return _arrow_rows(path, "Arrow", lambda: read(content).read_all())


def _arrow_rows(path: Path, name: str, read: Callable[[], Any]) -> Iterator[SourceRow]:
    """The rows of a table of Arrow, with the values that JSON has too."""
    arrow = import_extra("pyarrow", extra="data")
    try:
        table = read()
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise UserError(f"{path} is not a valid {name} file: {first_line(error)}") from error
    names = _column_names(str(path), table.column_names)
    number = 0
    for batch in table.to_batches(max_chunksize=1024):
        columns = [
            _column(path, column, values, number)
            for column, values in zip(names, batch.columns, strict=True)
        ]
        for cells in zip(*columns, strict=True):
            yield SourceRow(number, f"{path}: row {number}", dict(zip(names, cells, strict=True)))
            number += 1


def _column(path: Path, name: str, values: Any, first: int) -> list[Any]:
    """The values of a part of a column, whose first row has this number."""
    cells = []
    for number, value in enumerate(values, start=first):
        row = SourceRow(number, f"{path}: row {number}", {})
        try:
            cells.append(_checked(row, name, value.as_py()))
        # Text that is not UTF-8, or a time that Python cannot represent.
        except (ValueError, OverflowError) as error:
            if isinstance(error, UserError):
                raise
            row.refuse(name, f"cannot be read as {values.type}: {error}")
    return cells


def _checked(row: SourceRow, name: str, value: Any) -> Any:
    """The value of a field, if JSON has it.

    Decimals, times and bytes are not converted: there is more than one way to write them as text.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            _checked(row, f"{name}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _checked(row, f"{name}[{index}]", item)
    elif isinstance(value, float) and not math.isfinite(value):
        row.refuse(name, f"is {value}, which is not a finite number")
    elif not (value is None or isinstance(value, str | int | float)):
        row.refuse(name, f"is of type {type(value).__name__}: write it as a string")
    return value


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: {reason}") from error


def _parsed(content: bytes, where: str) -> Any:
    """A JSON value that can be written again: without NaN, repeated keys and lone surrogates."""
    try:
        text = content.decode()
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=files.unique_keys,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: a string contains a lone surrogate") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}") from error
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object")
    return value
