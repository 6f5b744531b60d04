r"""Structure of an answer: a value, several values, a tuple or interval, or a matrix.

`(3,4)` is a point or an open interval; both are compared in the same way, so one class covers them.
Inequalities of one letter with numbers are intervals: `x \ge 3` is `[3,\infty)`.
"""

import re
from fractions import Fraction
from typing import NamedTuple

_CLOSING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\langle": r"\rangle"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{([bpvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_SUBSCRIPT = r"(?:_\s*(?:\w|\\[A-Za-z]+|\{[^{}]*(?:\{[^{}]*\})?[^{}]*\}))?"
_LETTERS = r"\(\s*\w+\s*(?:,\s*\w+\s*)*\)"
_NAME = re.compile(rf"\\?[A-Za-z]+\s*{_SUBSCRIPT}'*\s*(?:{_LETTERS})?\s*")
_NAMES = re.compile(
    rf"\(\s*(\\?[A-Za-z]\s*{_SUBSCRIPT}\s*(?:,\s*\\?[A-Za-z]\s*{_SUBSCRIPT}\s*)+)\)\s*"
)
_MEMBERSHIP = re.compile(r"\A\s*[A-Za-z]\s*\\in(?![A-Za-z])")
_SEPARATORS = {",", ";", r"\lor", r"\land"}
_SMALLER, _LARGER = {"<", r"\le"}, {">", r"\ge"}
_CLOSED = {r"\le", r"\ge"}
_RELATIONS = _SMALLER | _LARGER | {r"\ne"}
_CONSTANTS = re.compile(r"\\(?:infty|pi|frac|sqrt|log|ln|text)|e")
_LETTER = re.compile(r"[A-Za-z]")


class SingleValue(NamedTuple):
    """One number, expression, relation or word."""

    text: str


class UnorderedValues(NamedTuple):
    """Several answers in any order, with multiplicity."""

    parts: tuple["AnswerStructure", ...]
    union: bool = False


class NamedValues(NamedTuple):
    """Two or more values, each with its own name; the order of the names as written."""

    names: tuple[str, ...]
    parts: tuple["AnswerStructure", ...]


class OrderedValues(NamedTuple):
    """A tuple, a point or an interval, including its brackets."""

    brackets: str
    parts: tuple["AnswerStructure", ...]


class MatrixValue(NamedTuple):
    """Rows of entries; the style of the brackets is ignored."""

    rows: tuple[tuple["AnswerStructure", ...], ...]


AnswerStructure = SingleValue | UnorderedValues | NamedValues | OrderedValues | MatrixValue


def parse_structure(text: str, *, depth: int = 8) -> AnswerStructure:
    r"""Parses the structure of a normalised answer.

    A single name is dropped (`x = 5`, `5 = x`, `f(x) = 2x`, `x \in [2, 3]`); two or more different
    ones are kept (`u=4, v=9`, `(m,n)=(4,9)`). Braces and brackets around a single value are
    dropped; `a \pm b` is a collection of two values.

    Args:
        text: see `normalisation.normalised`.
        depth: maximum depth of nested brackets that are parsed; deeper ones are text.
    """
    text = _MEMBERSHIP.sub("", text, count=1).strip()
    if depth == 0:
        return SingleValue(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        return _matrix(matrix[2], depth)
    ranges = _ranges(text)
    if ranges is not None:
        return ranges
    parts = split(text, _SEPARATORS)
    if len(parts) > 1:
        return _several(parts, depth)
    parts = split(text, {r"\cup"})
    if len(parts) > 1:
        return UnorderedValues(
            tuple(parse_structure(part, depth=depth - 1) for part in parts), union=True
        )
    names, value = named(text)
    if len(names) > 1:
        return _with_names(names, value, depth)
    return _bracketed(value, depth)


def named(text: str) -> tuple[tuple[str, ...], str]:
    """The plain names that a value is given, and the value with the rest of its equation.

    `x = 5`, `5 = x` and `x = 2+3 = 5` have one name, `u = v = 3` and `(m,n) = (4,9)` two. A text
    that consists of names only, and an equation without a plain name, are values.
    """
    sides = split(text, {"="})
    names: list[str] = []
    while len(sides) > 1 and (several := _NAMES.fullmatch(sides[0])) is not None:
        names += [_spelling(name) for name in split(several[1], {","})]
        sides = sides[1:]
    while len(sides) > 1 and _NAME.fullmatch(sides[0]) is not None and not names[1:]:
        names.append(_spelling(sides[0]))
        sides = sides[1:]
    if len(sides) == 2 and not names and _NAME.fullmatch(sides[1]) is not None:
        return (_spelling(sides[1]),), sides[0]
    return tuple(dict.fromkeys(names)), "=".join(sides)


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


def _matrix(entries: str, depth: int) -> MatrixValue:
    rows = entries.strip().removesuffix(r"\\").split(r"\\")
    return MatrixValue(
        tuple(
            tuple(parse_structure(entry, depth=depth - 1) for entry in row.split("&"))
            for row in rows
        )
    )


def _several(parts: list[str], depth: int) -> AnswerStructure:
    """Values between separators: with names if there are two or more different ones."""
    equations = [named(part) for part in parts]
    names = [names[0] for names, _ in equations if len(names) == 1]
    if len(names) < len(parts) or len(set(names)) == 1:
        return _collection(parts, depth)
    count = len(set(names))
    values = [parse_structure(value, depth=depth - 1) for _, value in equations]
    groups = [
        NamedValues(tuple(names[k : k + count]), tuple(values[k : k + count]))
        for k in range(0, len(names), count)
    ]
    if any(set(group.names) != set(names) for group in groups):
        return SingleValue(", ".join(parts))
    return groups[0] if len(groups) == 1 else UnorderedValues(tuple(groups))


def _with_names(names: tuple[str, ...], value: str, depth: int) -> AnswerStructure:
    """A tuple with a name for each place, or one value with several names."""
    parsed = parse_structure(value, depth=depth - 1)
    if isinstance(parsed, OrderedValues):
        if len(parsed.parts) == len(names) and parsed.brackets == "()":
            return NamedValues(names, parsed.parts)
        return parsed
    if isinstance(parsed, SingleValue):
        return NamedValues(names, (parsed,) * len(names))
    return parsed


def _bracketed(text: str, depth: int) -> AnswerStructure:
    """The structure of a text that may be enclosed in a pair of brackets."""
    outer = _outer_brackets(text)
    if outer is None:
        return _collection([text], depth) if r"\pm" in text else SingleValue(text)
    opening, closing = outer
    inside = text[len(opening) : len(text) - len(closing)].strip()
    parts = split(inside, {",", ";"})
    if opening == r"\{":
        if inside == r"\emptyset":
            return SingleValue(text)
        return _several(parts, depth) if inside else SingleValue(r"\emptyset")
    if len(parts) == 1 or opening == "{":
        return parse_structure(inside, depth=depth - 1) if inside else SingleValue(text)
    brackets = opening + closing
    return OrderedValues(
        "()" if brackets == r"\langle\rangle" else brackets,
        tuple(parse_structure(part, depth=depth - 1) for part in parts),
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


def _ranges(text: str) -> AnswerStructure | None:
    r"""The set of numbers that inequalities of one letter describe; None if the text has none.

    Several are joined by "or", which gives their union, or by "and" or a comma, which gives the
    interval between a lower and an upper bound: `x > 2, x < 7` is `(2, 7)`. If a comma separates
    bounds that do not overlap, as in `x < 2, x > 7`, it means "or".
    """
    if text == r"\mathbb{R}":
        return OrderedValues("()", (SingleValue(r"-\infty"), SingleValue(r"\infty")))
    if not any(relation in text for relation in _RELATIONS):
        return None
    alternatives = split(text, {r"\lor"})
    parts = split(text, _SEPARATORS)
    ranges = [_range(part) for part in parts]
    if None in ranges or len({name for name, _ in filter(None, ranges)}) > 1:
        return None
    intervals = [interval for _, several in filter(None, ranges) for interval in several]
    if len(intervals) == 1:
        return intervals[0]
    if len(intervals) == 2 and len(alternatives) == 1 and len(parts) == 2:
        between = _intersection(*intervals)
        if r"\land" in text or (between is not None and _ascending(between)):
            return between
    return UnorderedValues(tuple(intervals), union=True)


def _range(text: str) -> tuple[str, list[OrderedValues]] | None:
    """The letter of one inequality and the intervals of its numbers; None for other texts."""
    sides = split(text, _RELATIONS)
    relations = [token[0] for token in _TOKEN.finditer(text) if token[0] in _RELATIONS]
    if len(relations) != len(sides) - 1 or not 2 <= len(sides) <= 3:
        return None
    letters = [side for side in sides if _NAME.fullmatch(side) and not _is_number(side)]
    if len(letters) != 1 or not all(_is_number(side) for side in sides if side != letters[0]):
        return None
    name = letters[0]
    if len(sides) == 3:
        if set(relations) <= _LARGER:
            sides.reverse()
            relations.reverse()
        if sides[1] != name or not all(r in ("<", ">", r"\le", r"\ge") for r in relations):
            return None
        if len({r in _SMALLER for r in relations}) > 1:
            return None
        opening = "[" if relations[0] in _CLOSED else "("
        closing = "]" if relations[1] in _CLOSED else ")"
        return _spelling(name), [_interval(opening, sides[0], sides[2], closing)]
    relation, number = relations[0], sides[0] if sides[1] == name else sides[1]
    if relation == r"\ne":
        below, above = (
            _interval("(", r"-\infty", number, ")"),
            _interval("(", number, r"\infty", ")"),
        )
        return _spelling(name), [below, above]
    closed = relation in _CLOSED
    if (relation in _SMALLER) == (sides[0] == name):
        return _spelling(name), [_interval("(", r"-\infty", number, "]" if closed else ")")]
    return _spelling(name), [_interval("[" if closed else "(", number, r"\infty", ")")]


def _interval(opening: str, lower: str, upper: str, closing: str) -> OrderedValues:
    return OrderedValues(opening + closing, (SingleValue(lower), SingleValue(upper)))


def _intersection(a: OrderedValues, b: OrderedValues) -> OrderedValues | None:
    """The interval between a lower and an upper bound, in either order."""
    if a.parts[0] == SingleValue(r"-\infty"):
        a, b = b, a
    if a.parts[1] != SingleValue(r"\infty") or b.parts[0] != SingleValue(r"-\infty"):
        return None
    return OrderedValues(a.brackets[0] + b.brackets[1], (a.parts[0], b.parts[1]))


def _ascending(interval: OrderedValues) -> bool:
    """Whether the bounds are plain numbers in ascending order."""
    try:
        lower, upper = (
            Fraction(part.text.replace(" ", ""))
            for part in interval.parts
            if isinstance(part, SingleValue)
        )
    except (ValueError, ZeroDivisionError):
        return False
    return lower < upper


def _is_number(text: str) -> bool:
    return _LETTER.search(_CONSTANTS.sub("", text)) is None


def _spelling(name: str) -> str:
    return re.sub(r"[\s{}]", "", name)
