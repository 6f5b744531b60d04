r"""Structure of an answer: a value, an unordered collection, a tuple or interval, or a matrix.

`(3,4)` is a point or an open interval; both are compared in the same way, so one class covers them.
"""

import re
from typing import NamedTuple

_CLOSING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\langle": r"\rangle"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{([bpvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_LETTERS = r"\(\s*\w+\s*(?:,\s*\w+\s*)*\)"
_NAME = re.compile(
    rf"(?:\\?[A-Za-z]+\s*(?:_\s*(?:\w|\{{[^{{}}]*\}}))?\s*(?:{_LETTERS})?|{_LETTERS})\s*"
)
_MEMBERSHIP = re.compile(r"\A\s*[A-Za-z]\s*\\in(?![A-Za-z])")


class SingleValue(NamedTuple):
    """One number, expression or word."""

    text: str


class UnorderedValues(NamedTuple):
    """Several answers in any order, with multiplicity."""

    parts: tuple["AnswerStructure", ...]
    union: bool = False


class OrderedValues(NamedTuple):
    """A tuple, a point or an interval, including its brackets."""

    brackets: str
    parts: tuple["AnswerStructure", ...]


class MatrixValue(NamedTuple):
    """Rows of entries; the style of the brackets is ignored."""

    rows: tuple[tuple["AnswerStructure", ...], ...]


AnswerStructure = SingleValue | UnorderedValues | OrderedValues | MatrixValue


def parse_structure(text: str, *, depth: int = 8) -> AnswerStructure:
    r"""Parses the structure of a normalised answer.

    A name at the beginning is dropped (`x = 5`, `f(x) = 2x`, `x \in [2, 3]`), as are braces and
    brackets around a single value; `a \pm b` is a collection of two values.

    Args:
        text: see `normalisation.normalised`.
        depth: maximum depth of nested brackets that are parsed; deeper ones are text.
    """
    text = _MEMBERSHIP.sub("", text, count=1).strip()
    matrix = _MATRIX.fullmatch(text)
    if depth == 0:
        return SingleValue(text)
    if matrix is not None:
        return MatrixValue(
            tuple(
                tuple(parse_structure(entry, depth=depth - 1) for entry in row.split("&"))
                for row in matrix[2].strip().removesuffix(r"\\").split(r"\\")
            )
        )
    parts = split(text, {",", ";"})
    if len(parts) > 1:
        return _collection(parts, depth)
    parts = split(text, {r"\cup"})
    if len(parts) > 1:
        return UnorderedValues(
            tuple(parse_structure(part, depth=depth - 1) for part in parts), union=True
        )
    sides = split(text, {"="})
    if len(sides) > 1 and _NAME.fullmatch(sides[0]):
        return parse_structure("=".join(sides[1:]), depth=depth - 1)
    return _bracketed(text, depth)


def split(text: str, separators: set[str]) -> list[str]:
    """The non-empty parts between separators that are outside all brackets.

    Brackets of different kinds may close each other, as in the interval `(3, 4]`.
    """
    parts, start, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in _CLOSING:
            depth += 1
        elif token[0] in _CLOSING.values():
            depth -= 1
        elif depth == 0 and token[0] in separators:
            parts.append(text[start : token.start()])
            start = token.end()
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()] or [text]


def _bracketed(text: str, depth: int) -> AnswerStructure:
    """The structure of a text that may be enclosed in a pair of brackets."""
    outer = _outer_brackets(text)
    if outer is None:
        return _collection([text], depth) if r"\pm" in text else SingleValue(text)
    opening, closing = outer
    inside = text[len(opening) : len(text) - len(closing)].strip()
    parts = split(inside, {",", ";"})
    if opening == r"\{":
        return _collection(parts, depth) if inside else SingleValue(text)
    if len(parts) == 1 or opening == "{":
        return parse_structure(inside, depth=depth - 1) if inside else SingleValue(text)
    return OrderedValues(
        opening + closing, tuple(parse_structure(part, depth=depth - 1) for part in parts)
    )


def _outer_brackets(text: str) -> tuple[str, str] | None:
    """The first and the last token if they are a pair of brackets that encloses the text."""
    tokens = [match[0] for match in _TOKEN.finditer(text)]
    if len(tokens) < 2 or tokens[0] not in _CLOSING or tokens[-1] not in _CLOSING.values():
        return None
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token in _CLOSING) - (token in _CLOSING.values())
        if depth == 0 and index < len(tokens) - 1:
            return None
    return (tokens[0], tokens[-1]) if depth == 0 else None


def _collection(parts: list[str], depth: int) -> UnorderedValues:
    r"""A collection of values, in which each `a \pm b` counts as two."""
    signed = [
        part.replace(r"\pm", sign) if part.count(r"\pm") == 1 else part
        for part in parts
        for sign in (("+", "-") if part.count(r"\pm") == 1 else ("",))
    ]
    return UnorderedValues(tuple(parse_structure(part, depth=depth - 1) for part in signed))
