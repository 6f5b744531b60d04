r"""Whether an answer equals the gold answer: exact decisions here, all others by math-verify.

Both are normalised (`normalisation.normalised`) and read as a value, several values, a tuple,
interval or matrix (`answer_structure`), whose parts are compared one by one:

1. Equal spelling, up to spaces; words up to case and brackets.
2. Rational numbers are equal as fractions: integers of any size, decimals, fractions, mixed
   numbers, percents, repeating decimals, powers, factorials.
3. Everything else is decided by math-verify, in a process with a limit of processor time. Letters
   are real numbers. Expressions are read here and passed on as trees, so that degrees in
   trigonometric functions and `\sin x \cos x` mean what they should; other LaTeX is parsed by
   math-verify.

Rules in addition to equality, each of which decides before math-verify:

* Several values are one answer only if the gold has as many. Without brackets and in braces their
  order is free, in a tuple it is not. Two or more names are compared: `u=4, v=9` is not
  `u=9, v=4`. A single name is dropped, on either side, and so is a quantity:
  `\cos\theta = \frac12` gives `\frac12`. An equation that has yet to be solved for its letter
  (`x^2 = 4`) gives nothing.
* A gold that is a number wants a number: `347+586` is the problem and not its answer. Fractions
  need not be in lowest terms, and powers and factorials are numbers (`exact.is_carried_out`).
* A decimal fraction is its exact value. With nine or more decimals it may be a rounding of a number
  whose expansion does not end: `1.3333333333` for 4/3, but not `1.414214` for the square root of 2.
* What the gold states in addition to its value may be omitted but not contradicted: `52` and not
  `52_9` for `52_8`; `50\%`, `50` and `0.5` for `50\%`; but `34\%` is not 34.
* A sum, product, integral, limit, greatest common divisor or remainder that is left to be computed
  is the problem too, for every gold that does not contain one itself.
* Units and degrees are dropped, and not compared. Other words count: `\text{not }2` is not 2.
* The letter of a choice may be followed by the text of the choice.
* An interval and the inequality that describes it are equal.
"""

import functools
import re
from collections.abc import Sequence

from dvaojax.rewards.mathematics import math_verify_client, spelling
from dvaojax.rewards.mathematics.answer_structure import (
    AnswerStructure,
    MatrixValue,
    NamedValues,
    OrderedValues,
    SingleValue,
    UnorderedValues,
    named,
    parse_structure,
    split,
)
from dvaojax.rewards.mathematics.exact import (
    decimals_of_a_rounding,
    equal_or_rounded,
    exact_value,
    has_no_letters,
    is_carried_out,
)
from dvaojax.rewards.mathematics.expressions import (
    UnsupportedExpression,
    contains,
    degrees_dropped,
    in_radians,
    letters_in,
    parse_expression,
)
from dvaojax.rewards.mathematics.normalisation import (
    LONGEST_ANSWER,
    is_words,
    leftover_words,
    normalised,
    single_letter_unit_removed,
)

_SET = re.compile(
    r"[<>]|\\(?:begin|setminus|backslash|cap|infty|mathbb|l[et]q?|g[et]q?|neq?|in)(?![A-Za-z])"
)
_LEFT_TO_DO = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|gcd|lcm|max|min|det|[bp]?mod|operatorname)(?![A-Za-z])"
    r"|\\frac ?\{ ?d[^{}]*\} ?\{ ?d ?[a-z]"
)
_TWO_NUMBERS = re.compile(r"(?<![\w^.])[0-9]+\.?[0-9]* +[0-9]")
_FUNCTION = re.compile(r"\\[A-Za-z]+|\|")


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
    ours, golds = normalised(answer), normalised(gold)
    if not ours or not golds or (_TWO_NUMBERS.search(ours) and not _TWO_NUMBERS.search(golds)):
        return False
    if spelling.without_spaces(ours) == spelling.without_spaces(golds):
        return True
    verdict = spelling.same_integer(ours, golds)
    if verdict is not None:
        return verdict
    if spelling.is_choice_of(answer, golds):
        return True
    if is_words(gold) or is_words(answer):
        return spelling.same_words(ours, golds)
    if leftover_words(ours) != leftover_words(golds):
        return False
    if spelling.marks(ours) != spelling.marks(golds):
        return False
    if _LEFT_TO_DO.search(golds) is None and _is_left_to_do(ours):
        return False
    verdict = _same_equation(ours, golds)
    return _compared(ours, golds) if verdict is None else verdict


def _compared(answer: str, gold: str) -> bool:
    verdict = _same(parse_structure(answer), parse_structure(gold))
    if verdict is None:
        return math_verify_client.equal_latex(answer, gold)
    return verdict


def _same(answer: AnswerStructure, gold: AnswerStructure) -> bool | None:
    """Whether two answers are equal; None if they cannot be read here."""
    answer, gold = _unwrapped(answer), _unwrapped(gold)
    match answer, gold:
        case SingleValue(), SingleValue():
            return _same_value(answer.text, gold.text)
        case NamedValues(), NamedValues():
            if set(answer.names) != set(gold.names):
                return False
            values = dict(zip(answer.names, answer.parts, strict=True))
            return _same_sequence([values[name] for name in gold.names], gold.parts)
        case (NamedValues(), OrderedValues() | UnorderedValues()) | (
            OrderedValues() | UnorderedValues(),
            NamedValues(),
        ):
            # Names on one side only: the values in the order in which they are written.
            return _same_sequence(answer.parts, gold.parts)
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
        case (SingleValue(text), _) | (_, SingleValue(text)):
            # A value is not a tuple or a matrix, but a set may be written in another form.
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
    undecided = False
    for answer, gold in zip(answers, golds, strict=True):
        verdict = _same(answer, gold)
        if verdict is False:
            return False
        undecided |= verdict is None
    return None if undecided else True


def _same_collection(
    answers: Sequence[AnswerStructure], golds: Sequence[AnswerStructure]
) -> bool | None:
    """Whether answers and golds are equal one to one in some order."""
    if len(answers) != len(golds):
        return False
    left, undecided = list(golds), False
    for answer in answers:
        verdicts = []
        for gold in left:
            verdicts.append(_same(answer, gold))
            if verdicts[-1]:
                break
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _same_value(answer: str, gold: str) -> bool | None:
    """Compares two single values; None if one of them cannot be read."""
    if spelling.without_spaces(answer) == spelling.without_spaces(gold):
        return True
    if len(gold) > 1 and gold.isalpha() and spelling.same_words(answer, gold):
        return True
    if "=" in gold:
        return False if _SET.search(gold) is None else None
    sides = _stated_sides(answer)
    if sides is None:
        return False
    base = spelling.same_numeral(sides[-1], gold)
    if base is not None:
        return base
    if gold.endswith("%"):
        bare, gold = answer.removesuffix("%"), gold.removesuffix("%")
        verdict = _same_sides([side.removesuffix("%") for side in sides], gold)
        if verdict is not False or answer != bare:
            return verdict
        return _same_sides(sides, rf"\frac{{{gold}}}{{100}}")
    return _same_sides([_without_percent(side) for side in sides], gold)


def _stated_sides(answer: str) -> list[str] | None:
    r"""The sides of an answer that state its value; None if it is an equation yet to be solved.

    Of `x^2+1 = 10` none, since the answer is a value of x; of `2+3 = 5` both; of
    `\cos\theta = \frac12` and `a+b = 7`, which name a quantity, the last.
    """
    sides = split(answer, {"="})
    if len(sides) == 1:
        return sides
    try:
        trees = [parse_expression(side) for side in sides]
    except UnsupportedExpression:
        return sides[-1:]
    numbers = [side for side, tree in zip(sides, trees, strict=True) if has_no_letters(tree)]
    if not numbers:
        return sides[-1:]
    end = 0 if has_no_letters(trees[-1]) else -1
    if has_no_letters(trees[0]) and has_no_letters(trees[-1]):
        return numbers
    quantity = _FUNCTION.search(sides[end].replace(r"\frac", "")) is not None
    return numbers if quantity or len(letters_in(trees[end])) > 1 else None


def _same_sides(sides: Sequence[str], gold: str) -> bool | None:
    """Whether all sides of a chain such as `17+17 = 34` are the gold, and one is its value."""
    try:
        wanted = _Value(gold)
    except UnsupportedExpression:
        return None
    except ArithmeticError:
        return False
    if wanted.is_number:
        sides = [single_letter_unit_removed(side) for side in sides]
    try:
        ours = [_Value(side) for side in sides]
    except UnsupportedExpression:
        return None
    except ArithmeticError:  # a number that is too large, or no number
        return False
    if wanted.is_number and not any(is_carried_out(side.tree) for side in ours):
        return False
    return all(_same_expression(side, wanted) for side in ours)


class _Value:
    """An expression with its exact value, if that is a rational number."""

    def __init__(self, text: str):
        self.written = spelling.without_spaces(text)
        self.tree = parse_expression(text)
        self.number = exact_value(degrees_dropped(self.tree))

    @property
    def is_number(self) -> bool:
        """Whether it is a rational number in its final form."""
        return self.number is not None and is_carried_out(self.tree)


def _same_expression(answer: _Value, gold: _Value) -> bool:
    if answer.number is not None and gold.number is not None:
        return equal_or_rounded(answer.number, gold.number, answer.written, gold.written)
    trees = answer.tree, gold.tree
    angle, exact = (contains(tree, "degrees") for tree in trees), None
    if any(angle) and contains(("both", *trees), r"\pi"):
        trees = in_radians(trees[0]), in_radians(trees[1])
    ours, golds = map(degrees_dropped, trees)
    for decimal, exact in ((answer, golds), (gold, ours)):
        decimals = decimals_of_a_rounding(decimal.written)
        if decimals is not None and has_no_letters(exact):
            return math_verify_client.rounded(decimal.written, decimals, exact)
    return math_verify_client.equal_expressions(ours, golds)


def _same_equation(answer: str, gold: str) -> bool | None:
    """Whether two single equations have the same solutions; None if they are compared by value.

    Two assignments such as `f(x) = 2x` and `y = 2x` are compared by value; but `x = 2y` and
    `y = 2x`, in which a name is a letter of the other, as equations. Of a gold such as `x = 5` the
    value counts.
    """
    pair = [split(text, {"="}) for text in (answer, gold)]
    if any(len(sides) != 2 for sides in pair):
        return None
    names, values = zip(*(named(text) for text in (answer, gold)), strict=True)
    if any(len(name) > 1 for name in names):
        return None
    try:
        ours, golds = ([parse_expression(side) for side in sides] for sides in pair)
        for side in (*ours, *golds):
            exact_value(side)
        letters = [
            letters_in(parse_expression(value)) if name else None
            for name, value in zip(names, values, strict=True)
        ]
    except UnsupportedExpression:
        return None
    except ArithmeticError:
        return False
    if letters[1] == set():
        return None
    if all(names):
        answer_letters, gold_letters = (set(several or ()) for several in letters)
        if names[0] == names[1] or not (answer_letters & {*names[1]} or gold_letters & {*names[0]}):
            return None
    return math_verify_client.equal_equations(ours, golds)


def _without_percent(side: str) -> str:
    return rf"\frac{{{side.removesuffix('%')}}}{{100}}" if side.endswith("%") else side


def _is_left_to_do(answer: str) -> bool:
    """Whether a value of the answer is stated only as a sum, limit or the like."""
    values = split(answer, {",", ";", r"\lor", r"\land"})
    return any(all(map(_LEFT_TO_DO.search, split(value, {"="}))) for value in values)
