r"""A small reader of LaTeX arithmetic: text to a tree that can be given numbers.

Reads numbers, letters, `+ - * / ^ !`, `\frac`, `\sqrt`, `\binom`, brackets, absolute values,
floors and ceilings, `\pi`, `e`, `i`, and the elementary functions; everything else is `UnsupportedExpression`.
There is no `eval`: a tree is made of the tuples below, and reading one is bounded in length and
depth. `\log` without a base is the natural logarithm, as in sympy.
"""

import re

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_TOKEN = re.compile(rf"\s*({_NUMBER.pattern}|\\[A-Za-z]+|\S)")
_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan")
_LOGARITHMS = {r"\ln": ("constant", "e"), r"\log": ("constant", "e"), r"\lg": ("number", "10")}
_FUNCTIONS = {
    **{f"\\{name}": name for name in (*_TRIGONOMETRIC, "sinh", "cosh", "tanh", "exp")},
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
_DEEPEST = 40
_LONGEST = 250

ExpressionTree = tuple
"""("number", text), ("letter", name), or an operation's name and the trees it works on."""


class UnsupportedExpression(ValueError):
    """Not an expression that this reader knows."""


def read(text: str) -> ExpressionTree:
    """The tree of an expression.

    A whole number before a fraction of whole numbers is a mixed number: `1\\frac{4}{5}` is 9/5.

    Raises:
        UnsupportedExpression: anything else than one expression of moderate depth.
    """
    reader = _Reader(text)
    tree = reader.sum()
    if reader.token:
        raise UnsupportedExpression(text)
    return tree


class _Reader:
    """Recursive descent; one method for each level of precedence."""

    def __init__(self, text: str):
        tokens, place = [], 0
        while match := _TOKEN.match(text, place):
            tokens.append(match[1])
            place = match.end()
        if len(tokens) > _LONGEST:
            raise UnsupportedExpression("too long")
        self._tokens = [*tokens, ""]
        self._place = 0
        self._depth = 0

    @property
    def token(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._place]

    def take(self, *expected: str) -> str:
        """The next token, which has to be one of the expected ones where there are any."""
        token = self.token
        if not token or (expected and token not in expected):
            raise UnsupportedExpression(token)
        self._place += 1
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
            if self.token in ("*", "/"):
                operation = "multiply" if self.take() == "*" else "divide"
                tree = (operation, tree, self.signed())
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
        tree = self.atom()
        while self.token == "!":
            self.take()
            tree = ("factorial", tree)
        if self.token == "^":
            self.take()
            tree = ("power", tree, self.argument(whole=True))
        while self.token == "!":
            self.take()
            tree = ("factorial", tree)
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
        r"""A group, or what follows: one digit of a number as in `\frac12`, or the whole of it."""
        token = self.token
        if len(token) > 1 and token.isdigit() and not whole:
            self._tokens[self._place : self._place + 1] = [token[0], token[1:]]
        return self.signed() if token == "-" else self.atom()

    def _number(self, token: str) -> ExpressionTree:
        """A number, or a mixed one where a fraction of whole numbers follows a whole number."""
        here = self._place
        if token.isdigit() and self.token == r"\frac":
            self.take()
            parts = (self.argument(), self.argument())
            if all(part[0] == "number" and part[1].isdigit() for part in parts):
                return ("add", ("number", token), ("divide", *parts))
            self._place = here
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
        tree = (name, tree) if base is None else (name, tree, base)
        return tree if exponent is None else ("power", tree, exponent)

    def _operand(self) -> ExpressionTree:
        """Of a function: sin 2x is the sine of 2x, sin (2) x and sin x cos x are products."""
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
            # Two numbers side by side are a slip, not a product.
            return not _NUMBER.fullmatch(self._tokens[self._place - 1])
        return token in _STARTS or (token.isascii() and token.isalpha())
