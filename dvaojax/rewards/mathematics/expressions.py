r"""A parser for LaTeX arithmetic: text to a tree that can be evaluated.

Supports numbers, letters, `+ - * / ^ !`, `\frac`, `\sqrt`, `\binom`, brackets, absolute values,
floor and ceiling, `\pi`, `e`, `i`, degrees, and the elementary functions; everything else raises
`UnsupportedExpression`. There is no `eval`: a tree consists of the tuples below, and parsing is
bounded in length and depth. `\log` without a base is the natural logarithm as in sympy. A repeating
decimal is read as its fraction.
"""

import re
from collections.abc import Callable
from fractions import Fraction

_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\overline\{([0-9]+)\}")
_NUMBER = re.compile(r"[0-9]*\.[0-9]*\\overline\{[0-9]+\}|[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_TOKEN = re.compile(rf"\s*({_NUMBER.pattern}|\\[A-Za-z]+|\S)")
_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_LOGARITHMS = {r"\ln": ("constant", "e"), r"\log": ("constant", "e"), r"\lg": ("number", "10")}
_FUNCTIONS = {
    **{
        f"\\{name}": name
        for name in (*_TRIGONOMETRIC, *_INVERSE.values(), "sinh", "cosh", "tanh", "coth", "exp")
    },
    **dict.fromkeys(_LOGARITHMS, "logarithm"),
}
_GREEK = (
    *(r"\alpha", r"\beta", r"\gamma", r"\delta", r"\epsilon", r"\varepsilon", r"\zeta", r"\eta"),
    *(r"\theta", r"\kappa", r"\lambda", r"\mu", r"\nu", r"\xi", r"\rho", r"\sigma", r"\tau"),
    *(r"\phi", r"\varphi", r"\chi", r"\psi", r"\omega"),
)
_FENCES = {r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", "(": ")", "[": "]", "{": "}", "|": "|"}
_STARTS = {
    *("(", "[", "{", r"\lfloor", r"\lceil", r"\frac", r"\sqrt", r"\binom", r"\pi"),
    *_GREEK,
    *_FUNCTIONS,
}
_PRODUCTS = {"*": "multiply", "/": "divide", r"\div": "quotient"}
_DEEPEST = 40
_LONGEST = 250

ExpressionTree = tuple
"""("number", text), ("letter", name), or the name of an operation and its operands' trees."""


class UnsupportedExpression(ValueError):
    """A text that this parser does not support."""


def parse_expression(text: str) -> ExpressionTree:
    """Parses an expression.

    An integer before a fraction of integers is a mixed number: `1\\frac{4}{5}` is 9/5.

    Raises:
        UnsupportedExpression: the text is not one supported expression of moderate depth.
    """
    parser = _Parser(text)
    tree = parser.sum()
    if parser.token:
        raise UnsupportedExpression(text)
    return tree


def in_radians(tree: ExpressionTree) -> ExpressionTree:
    """The expression with every angle in degrees as its multiple of pi."""
    if tree[0] == "degrees":
        return ("multiply", tree[1], ("divide", ("constant", r"\pi"), ("number", "180")))
    return _mapped(in_radians, tree)


def degrees_dropped(tree: ExpressionTree) -> ExpressionTree:
    """The expression without degree signs, which outside of functions are a unit."""
    return tree[1] if tree[0] == "degrees" else _mapped(degrees_dropped, tree)


def letters_in(tree: ExpressionTree) -> set[str]:
    """The letters of an expression; `e` and `i` are numbers."""
    if tree[0] == "letter":
        return {tree[1]}
    return set().union(*(letters_in(part) for part in tree[1:] if isinstance(part, tuple)))


def contains(tree: ExpressionTree, *kinds: str) -> bool:
    """Whether the expression contains an operation or constant of one of the kinds."""
    return any(
        contains(part, *kinds) if isinstance(part, tuple) else part in kinds for part in tree
    )


def _mapped(
    function: Callable[[ExpressionTree], ExpressionTree], tree: ExpressionTree
) -> ExpressionTree:
    return tuple(function(part) if isinstance(part, tuple) else part for part in tree)


def _repeating(whole: str, start: str, period: str) -> Fraction:
    """The value of a repeating decimal: 2, "", 36 is 26/11."""
    head = Fraction(f"{whole or '0'}.{start or '0'}")
    return head + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(start))


class _Parser:
    """Recursive descent, one method for each level of precedence."""

    def __init__(self, text: str):
        tokens, position = [], 0
        while match := _TOKEN.match(text, position):
            tokens.append(match[1])
            position = match.end()
        if len(tokens) > _LONGEST:
            raise UnsupportedExpression("too long")
        self._tokens = [*tokens, ""]
        self._position = 0
        self._depth = 0

    @property
    def token(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._position]

    def take(self, *expected: str) -> str:
        """Consumes the next token, which has to be an expected one if any are given."""
        token = self.token
        if not token or (expected and token not in expected):
            raise UnsupportedExpression(token)
        self._position += 1
        return token

    def sum(self) -> ExpressionTree:
        tree = self.product()
        while self.token in ("+", "-"):
            sign = self.take()
            tree = ("add" if sign == "+" else "subtract", tree, self.product())
        return tree

    def product(self) -> ExpressionTree:
        tree = self.signed()
        while True:
            if self.token in _PRODUCTS:
                tree = (_PRODUCTS[self.take()], tree, self.signed())
            elif self._starts_a_factor():
                tree = ("multiply", tree, self.power())
            else:
                return tree

    def signed(self) -> ExpressionTree:
        negative = False
        while self.token in ("+", "-"):
            negative ^= self.take() == "-"
        tree = self.power()
        return ("subtract", ("number", "0"), tree) if negative else tree

    def power(self) -> ExpressionTree:
        tree = self.postfixed(self.atom())
        if self.token == "^":
            self.take()
            tree = ("power", tree, self.argument(whole=True))
        return self.postfixed(tree)

    def postfixed(self, tree: ExpressionTree) -> ExpressionTree:
        while self.token in ("!", "°"):
            tree = ("factorial" if self.take() == "!" else "degrees", tree)
        return tree

    def atom(self) -> ExpressionTree:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnsupportedExpression("too deep")
        tree = self._atom(self.take())
        self._depth -= 1
        return tree

    def _atom(self, token: str) -> ExpressionTree:
        if _NUMBER.fullmatch(token):
            return self._number(token)
        if token in _FENCES:
            return self._fenced(token)
        if token == r"\frac":
            return ("divide", self.argument(), self.argument())
        if token == r"\binom":
            return ("binomial", self.argument(), self.argument())
        if token == r"\sqrt":
            return self._root()
        if token in _FUNCTIONS:
            return self._function(token)
        if token in ("e", "i", r"\pi"):
            return ("constant", token)
        if token in _GREEK or (len(token) == 1 and token.isascii() and token.isalpha()):
            return ("letter", token + self._subscript())
        raise UnsupportedExpression(token)

    def argument(self, *, whole: bool = False) -> ExpressionTree:
        r"""A group, a single digit as in `\frac12`, or the whole number if `whole`."""
        token = self.token
        if len(token) > 1 and token.isdigit() and not whole:
            self._tokens[self._position : self._position + 1] = [token[0], token[1:]]
        return self.signed() if token == "-" else self.atom()

    def _number(self, token: str) -> ExpressionTree:
        """A number, or a mixed number if a fraction of integers follows an integer."""
        position = self._position
        repeating = _REPEATING.fullmatch(token)
        if repeating is not None:
            return ("number", str(_repeating(*repeating.groups())))
        if token.isdigit() and self.token == r"\frac":
            self.take()
            parts = (self.argument(), self.argument())
            if all(part[0] == "number" and part[1].isdigit() for part in parts):
                return ("mixed", ("number", token), ("divide", *parts))
            self._position = position
        return ("number", token)

    def _fenced(self, opening: str) -> ExpressionTree:
        tree = self.sum()
        self.take(_FENCES[opening])
        names = {"|": "absolute", r"\lfloor": "floor", r"\lceil": "ceiling"}
        return (names[opening], tree) if opening in names else tree

    def _root(self) -> ExpressionTree:
        degree: ExpressionTree = ("number", "2")
        if self.token == "[":
            degree = self.atom()
        return ("root", self.argument(whole=True), degree)

    def _function(self, command: str) -> ExpressionTree:
        base = _LOGARITHMS.get(command)
        if self.token == "_" and base is not None:
            self.take()
            base = self.argument()
        exponent: ExpressionTree | None = None
        if self.token == "^":
            self.take()
            exponent = self.argument()
        tree = self._operand()
        name = _FUNCTIONS[command]
        if name in _TRIGONOMETRIC:
            tree = in_radians(tree)
        if exponent == ("subtract", ("number", "0"), ("number", "1")) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        tree = (name, tree) if base is None else (name, tree, base)
        return tree if exponent is None else ("power", tree, exponent)

    def _operand(self) -> ExpressionTree:
        """The operand: sin 2x is the sine of 2x, sin (2) x and sin x cos x are products."""
        if self.token in _FENCES:
            return self.atom()
        tree = self.power()
        while self._starts_a_factor() and self.token not in (*_FENCES, *_FUNCTIONS):
            tree = ("multiply", tree, self.power())
        return tree

    def _subscript(self) -> str:
        if self.token != "_":
            return ""
        self.take()
        if self.token != "{":
            return "_" + self.take()
        depth, name = 0, "_"
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return name
            name += token if token != "{" else ""

    def _starts_a_factor(self) -> bool:
        token = self.token
        if _NUMBER.fullmatch(token):
            # Two adjacent numbers are a typing error, not a product.
            return not _NUMBER.fullmatch(self._tokens[self._position - 1])
        return token in _STARTS or (token.isascii() and token.isalpha())
