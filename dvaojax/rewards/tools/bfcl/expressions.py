"""Values of Python argument expressions, read from their syntax trees.

As in the leaderboard's `resolve_ast_by_type` (ShishirPatil/gorilla 6ea57973), including its quirks,
except that nothing is evaluated.
"""

import ast
import operator
from typing import Any

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_LARGEST_BITS = 4096


def value_of(node: ast.expr | None) -> Any:
    """The value of an argument's expression.

    A bare name is its own text, and so are a call without keyword arguments and an indexed
    expression. A call with keyword arguments is `{name: {parameter: value}}`. Any unary operator
    before a number negates it, including `+` and `not`.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: the expression has no value.
    """
    match node:
        case ast.Constant(value=value):
            return "..." if value is ... else value
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() | complex() as value)):
            return -value
        case ast.List(elts=elements):
            return [value_of(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(value_of(element) for element in elements)
        case ast.Dict(keys=keys, values=values):
            return {value_of(k): value_of(v) for k, v in zip(keys, values, strict=True)}
        case ast.BinOp():
            return _computed(node)
        case ast.Name(id=name):
            return name
        case ast.Call(keywords=[]):
            return ast.unparse(node)
        case ast.Call(keywords=keywords):
            return {call_name(node): {each.arg: value_of(each.value) for each in keywords}}
        case ast.Subscript(value=value, slice=item):
            return f"{ast.unparse(value)}[{ast.unparse(item)}]"
    raise ValueError(f"a {type(node).__name__} is not an argument")


def call_name(call: ast.Call) -> str:
    """Name of the called function with its dots, such as `math.sum`."""
    parts, function = [], call.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        parts.append(function.id)
    return ".".join(reversed(parts))


def _computed(node: ast.expr) -> Any:
    """Arithmetic on numbers, of bounded size, and sums of strings."""
    match node:
        case ast.Constant(value=int() | float() | complex() | str() as value):
            return value
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_computed(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _combined(_computed(left), sign, _computed(right))
    raise ValueError(f"a {type(node).__name__} is not a number")


def _combined(one: Any, sign: ast.operator, other: Any) -> Any:
    if isinstance(one, str) or isinstance(other, str):
        if isinstance(sign, ast.Add):
            return one + other
        raise ValueError("strings can only be added")
    bits = _bits(one) * abs(other) if isinstance(sign, ast.Pow) else _bits(one) + _bits(other)
    if bits > _LARGEST_BITS:
        raise ValueError("a number too large")
    return _OPERATORS[type(sign)](one, other)


def _bits(number: Any) -> int:
    return number.bit_length() if isinstance(number, int) else 0
