r"""Whether an answer equals the gold answer, decided exactly where possible.

The parts of lists, sets, tuples, intervals and matrices are compared one by one. Two values are
equal if one of these holds:

1. They are the same text up to spaces, or the same word.
2. They are exact numbers and equal as fractions: `025` is `25`, `27.0` is `27`, and different
   integers above 2**53 are different.
3. They are expressions that agree at several points: exactly if their values are fractions,
   otherwise to twelve digits.
4. math-verify finds them equal. It is only used for answers that cannot be read here, and only if
   it is installed.

Details that the gold states in addition to its value may be omitted but not contradicted: for
`52_8` both `52_8` and `52` are right and `52_9` is wrong; for `50\%` all of `50\%`, `50` and `0.5`
are right; but for `34`, `34\%` is wrong. Units are ignored. A decimal fraction equals its exact
value only, except that six or more decimals may be a rounding of a number whose decimal expansion
does not terminate: `1.3333333333` for 4/3, but not `9.999999999` for 10.
"""

import functools
import re
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction

from dvaojax.rewards.mathematics import math_verify_client
from dvaojax.rewards.mathematics.answer_structure import (
    AnswerStructure,
    MatrixValue,
    OrderedValues,
    SingleValue,
    UnorderedValues,
    parse_structure,
    split,
)
from dvaojax.rewards.mathematics.expressions import (
    ExpressionTree,
    UnsupportedExpression,
    parse_expression,
)
from dvaojax.rewards.mathematics.normalisation import is_words, normalised
from dvaojax.rewards.mathematics.values import (
    Number,
    NumberTooLarge,
    UndefinedValue,
    letters_in,
    operations_in,
    value,
)

LONGEST_ANSWER = 2_000
"""In characters; a longer answer is wrong unless it is identical to the gold."""

_POINTS = 12
_PRECISION = 1e-12
_NUMERAL = re.compile(r"([0-9A-Za-z]+) ?_ ?(?:(\d+)|\{ ?(\d+) ?\})")
_SET = re.compile(
    r"[<>]|\\(?:begin|setminus|backslash|cap|infty|mathbb|l[et]q?|g[et]q?|neq?|[lg]eqslant)(?![A-Za-z])"
)
_DECIMALS = re.compile(r"-? ?\d*\.(\d{6,})")


@functools.lru_cache(maxsize=50_000)
def equivalent(answer: str, gold: str) -> bool:
    """Whether the answer equals the gold answer; not symmetric.

    Args:
        answer: the content of a box.
        gold: likewise.
    """
    if answer == gold:
        return True
    if len(answer) > LONGEST_ANSWER or len(gold) > LONGEST_ANSWER:
        return False
    if is_words(gold):
        return _same_words(normalised(answer), normalised(gold))
    ours, golds = normalised(answer), normalised(gold)
    if _plain(ours) == _plain(golds):
        return True
    if not ours or not golds:
        return False
    if "=" in ours and "=" in golds and _same_expression(ours, golds):
        return True
    verdict = _same(parse_structure(ours), parse_structure(golds))
    return math_verify_client.equivalent(answer, gold) if verdict is None else verdict


def _same(answer: AnswerStructure, gold: AnswerStructure) -> bool | None:
    """Whether two answers are equal; None if they cannot be read."""
    answer, gold = _unwrapped(answer), _unwrapped(gold)
    match answer, gold:
        case SingleValue(), SingleValue():
            return _same_value(answer.text, gold.text)
        case UnorderedValues(), UnorderedValues() if answer.union == gold.union:
            return _same_collection(answer.parts, gold.parts)
        case OrderedValues(), OrderedValues():
            if answer.brackets != gold.brackets:
                return False
            return _same_sequence(answer.parts, gold.parts)
        case MatrixValue(), MatrixValue():
            if [len(row) for row in answer.rows] != [len(row) for row in gold.rows]:
                return False
            return _same_sequence(sum(answer.rows, ()), sum(gold.rows, ()))
        case UnorderedValues(), _ if not isinstance(gold, UnorderedValues):
            # The same answer in several forms, as in 15 39/40, or 639/40.
            return _same_sequence(answer.parts, [gold] * len(answer.parts))
        case (SingleValue(text), _) | (_, SingleValue(text)):
            # A value is not a tuple or a matrix, but 2 < x < 3 may be an interval.
            return None if _SET.search(text) else False
        case _:
            return False


def _unwrapped(answer: AnswerStructure) -> AnswerStructure:
    """The only part of a collection of one part; other answers unchanged."""
    while isinstance(answer, UnorderedValues) and len(answer.parts) == 1:
        answer = answer.parts[0]
    return answer


def _same_sequence(
    answers: Sequence[AnswerStructure], golds: Sequence[AnswerStructure]
) -> bool | None:
    if len(answers) != len(golds):
        return False
    verdicts = [_same(answer, gold) for answer, gold in zip(answers, golds, strict=True)]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _same_collection(
    answers: Sequence[AnswerStructure], golds: Sequence[AnswerStructure]
) -> bool | None:
    """Whether answers and golds are equal one to one in some order."""
    if len(answers) != len(golds):
        return False
    left, undecided = list(golds), False
    for answer in answers:
        verdicts = [_same(answer, gold) for gold in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _same_value(answer: str, gold: str) -> bool | None:
    if _plain(answer) == _plain(gold):
        return True
    if len(gold) > 1 and gold.isalpha() and _same_words(answer, gold):
        return True
    base = _same_numeral(answer, gold)
    if base is not None:
        return base
    if gold.endswith("%"):
        bare, gold = answer.removesuffix("%"), gold.removesuffix("%")
        verdict = _same_expression(bare, gold)
        if verdict is not False or answer != bare:
            return verdict
        return _same_expression(answer, rf"\frac{{{gold}}}{{100}}")
    if answer.endswith("%"):
        answer = rf"\frac{{{answer.removesuffix('%')}}}{{100}}"
    return _same_expression(answer, gold)


def _plain(text: str) -> str:
    return text.replace(" ", "").removeprefix("+")


def _same_words(answer: str, gold: str) -> bool:
    """Whether two texts are equal up to case and surrounding brackets."""
    answer, gold = (_plain(text).strip("()").casefold() for text in (answer, gold))
    return answer == gold != ""


def _same_numeral(answer: str, gold: str) -> bool | None:
    """Compares numerals with the subscript of a base; None if there is none."""
    ours, golds = _NUMERAL.fullmatch(answer), _NUMERAL.fullmatch(gold)
    if golds is not None and golds[1].isalpha():
        return None
    if golds is None:
        if ours is None or ours[1].isalpha():
            return None
        return (ours[2] or ours[3]) == "10" and ours[1].lstrip("0") == gold.lstrip("0")
    if ours is None:
        return answer.strip().lstrip("0") == golds[1].lstrip("0")
    same_base = (ours[2] or ours[3]) == (golds[2] or golds[3])
    return same_base and ours[1].lstrip("0") == golds[1].lstrip("0")


def _same_expression(answer: str, gold: str) -> bool | None:
    """Compares expressions and equations by their values; None if one of them cannot be read."""
    try:
        ours = [parse_expression(side) for side in split(answer, {"="})]
        golds = [parse_expression(side) for side in split(gold, {"="})]
    except UnsupportedExpression:
        return None
    if len(golds) == 1:
        # As in 17 + 17 = 34: every side of the chain is the answer.
        return all(_agree(side, golds[0], answer, gold) for side in ours)
    if len(golds) == len(ours) == 2:
        return _proportional(*(("subtract", *sides) for sides in (ours, golds)))
    return None


def _agree(answer: ExpressionTree, gold: ExpressionTree, answer_text: str, gold_text: str) -> bool:
    """Whether two expressions have the same values at every point tried."""
    pairs = _values(answer, gold)
    return bool(pairs) and all(
        _close(ours, golds)
        or _rounded(ours, golds, answer_text)
        or _rounded(golds, ours, gold_text)
        for ours, golds in pairs
    )


def _proportional(answer: ExpressionTree, gold: ExpressionTree) -> bool:
    """Whether two equations, as differences of their sides, are equal up to a factor."""
    pairs = _values(answer, gold)
    if len(pairs) < 2 or not all(ours and golds for ours, golds in pairs):
        return False
    (first, first_gold), *others = pairs
    return all(_close(ours * first_gold, golds * first) for ours, golds in others)


def _values(answer: ExpressionTree, gold: ExpressionTree) -> list[tuple[Number, Number]]:
    """Both values at points where they exist; empty if there are too few such points.

    Expressions without letters are evaluated once. Floor, factorial and binomial
    functions are compared at integers. If only one of the values is too large, the
    expressions differ and the result is empty.
    """
    letters = letters_in(answer) | letters_in(gold)
    operations = operations_in(answer) | operations_in(gold)
    whole = not operations.isdisjoint(("floor", "ceiling", "factorial", "binomial"))
    pairs = []
    for point in range(_POINTS if letters else 1):
        at = {letter: _coordinate(letter, point, whole=whole) for letter in letters}
        try:
            both = _value_or_none(answer, at), _value_or_none(gold, at)
        except UndefinedValue:
            continue
        if both[0] is not None and both[1] is not None:
            pairs.append((both[0], both[1]))
        elif both != (None, None):
            return []
    return pairs if len(pairs) > 1 or not letters else []


def _value_or_none(tree: ExpressionTree, letters: Mapping[str, Fraction]) -> Number | None:
    """The value, or None if it is too large."""
    try:
        return value(tree, letters)
    except NumberTooLarge:
        return None


def _coordinate(letter: str, point: int, *, whole: bool) -> Fraction:
    """A fixed pseudo-random number between 2 and 40 for a letter and a point."""
    seed = zlib.crc32(f"{letter} {point}".encode())
    return Fraction(2 + seed % 39) if whole else Fraction(202 + seed % 1_009, 101)


def _close(a: Number, b: Number) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = (float(x) if isinstance(x, Fraction) else x for x in (a, b))
    scale = max(abs(a), abs(b)) if a and b else 1.0
    return abs(a - b) <= _PRECISION * scale


def _rounded(decimal: Number, exact: Number, text: str) -> bool:
    """Whether one is a decimal fraction and equals the other rounded to as many decimals."""
    decimals = _DECIMALS.fullmatch(text)
    if decimals is None or not isinstance(decimal, Fraction) or isinstance(exact, complex):
        return False
    if isinstance(exact, Fraction) and _terminates(exact):
        return False
    half = Fraction(1, 2 * 10 ** len(decimals[1]))
    return abs(float(decimal) - float(exact)) <= float(half) * (1 + 1e-6) + 1e-15 * abs(exact)


def _terminates(number: Fraction) -> bool:
    """Whether the decimal expansion of a number terminates."""
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
