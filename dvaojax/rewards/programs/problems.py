"""Programming problems: the context of the program and the tests it has to pass."""

import ast
import builtins
import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Problem:
    """The reference of a completion that answers with a program.

    Attributes:
        tests: each passes if its statements run without an exception.
        functions: name used in the tests -> function of the program.
        context: statements before the program and before each test: imports, given functions.
    """

    tests: tuple[str, ...]
    functions: Mapping[str, str]
    context: str = ""


def from_assertions(
    tests: Sequence[str], *, imports: Sequence[str] = (), reference: str = ""
) -> Problem:
    """A problem in MBPP's format: each test is an assertion about functions of the program.

    Args:
        tests: one assertion each.
        imports: required by the tests.
        reference: a correct program, if available. Its functions are the ones that the tests call,
            even if one has the name of a built-in function, and its imports are available to the
            tests. Without it, every otherwise undefined name in a test is the program's.

    Raises:
        ValueError: something is not Python, or the tests call no function of the program.
    """
    parts = [_parse(source, f"test import {source!r}") for source in imports]
    body = [node for part in parts for node in part.body]
    defined: set[str] = set()
    if reference:
        program = _parse(reference, "the reference").body
        body += [node for node in program if isinstance(node, ast.Import | ast.ImportFrom)]
        defined = {n.name for n in program if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    context = "\n".join(ast.unparse(node) for node in body)
    used = set().union(*(_loaded(_parse(test, f"test {test!r}")) for test in tests))
    known = set(dir(builtins)) | _bound(body) | set().union(*(_bound_in(test) for test in tests))
    names = (used & defined) or (used - known)
    if not names:
        raise ValueError("the tests call no function of the program")
    return Problem(tuple(tests), {name: name for name in sorted(names)}, context)


def from_check(check: str, *, entry_point: str, prompt: str) -> Problem:
    """A problem in HumanEval's format: a function `check(candidate)` that consists of assertions.

    Each assertion becomes a separate test, preceded by the earlier statements without assertions.
    A loop, or any other statement that contains assertions, is one test; `assert True` is dropped.

    Args:
        check: the module that defines `check`.
        entry_point: name of the requested function.
        prompt: text before the answer: imports, given functions, the head of the function.

    Raises:
        ValueError: something is not Python, or `check` is missing or asserts nothing.
    """
    module = _parse(check, "the tests").body
    functions = [n for n in module if isinstance(n, ast.FunctionDef) and n.name == "check"]
    if not functions or not functions[0].args.args:
        raise ValueError("the tests define no check(candidate)")
    candidate = functions[0].args.args[0].arg
    before: list[ast.stmt] = [n for n in module if isinstance(n, ast.Import | ast.ImportFrom)]
    tests = []
    for statement in functions[0].body:
        if not any(isinstance(node, ast.Assert) for node in ast.walk(statement)):
            before.append(statement)
        elif not _is_vacuous(statement):
            tests.append("\n".join(ast.unparse(node) for node in (*before, statement)))
    if not tests:
        raise ValueError("check asserts nothing")
    _parse(prompt, "the prompt")
    return Problem(tuple(tests), {candidate: entry_point, entry_point: entry_point}, prompt)


def _is_vacuous(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Assert)
        and isinstance(statement.test, ast.Constant)
        and bool(statement.test.value)
    )


def _parse(source: str, what: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # Invalid escapes cause a SyntaxWarning, which other code may turn into an error.
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{what} is not Python: {error}") from error


def _loaded(tree: ast.AST) -> set[str]:
    """Names that are read."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _bound(body: Iterable[ast.AST]) -> set[str]:
    """Names that imports bind."""
    aliases = [a for n in body if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names]
    return {(alias.asname or alias.name).partition(".")[0] for alias in aliases}


def _bound_in(test: str) -> set[str]:
    """Names that a test binds."""
    nodes = list(ast.walk(ast.parse(test)))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored | {n.arg for n in nodes if isinstance(n, ast.arg)} | _bound(nodes)
