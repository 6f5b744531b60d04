"""Requirements on the docstrings of public names, checked on the source without importing it.

A public name is a module of the package, a function or class at the top of one, or a method or
property of such a class; none of the names on the way begins with an underscore, except that
`__call__` is public. Names that a package exports are documented where they are defined.

Each rule is a function from a documented name to the parts that its docstring lacks:

- meaning: there is a docstring, and its first paragraph says more than the name does;
- arguments: `Args:` lists every parameter and nothing else, `Attributes:` nothing but fields;
- shapes: of every parameter, field and result that is an array;
- errors: every exception that the body raises by name, and AssertionError where it asserts through
  chex; those of a class's construction are documented in the class;
- source: the paper or the repository of a method, a reward or a dataset; or a statement that it
  is ours, or that no paper was found.
"""

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef

CONSTRUCTION = ("__init__", "__new__", "__post_init__")
ARRAYS = {"Array", "ArrayLike", "ndarray"}
NO_ARRAYS = {"Callable", "Literal"}  # for any content of their brackets
SHAPE = re.compile(
    r"`\w*\[|\[\.\.\.|\b([Ss]calars?|shapes?|[Ee]lementwise|random keys?|the same)\b"
)
SOURCE = re.compile(
    r"arXiv[: ]\d{4}\.\d{4,5}|\b[\w.-]+/[\w.-]+[@ ][0-9a-f]{7,40}\b|https://|\bverl [0-9a-f]{7}"
    r"|\b[Oo]urs\b|paper was not found"
)
FILLER = {"a", "an", "and", "of", "the", "to", "for", "in", "this"}


class Documented(NamedTuple):
    """A public function or class with the parts of its docstring.

    Attributes:
        name: including its class, as `Class.method`.
        node: its definition.
        prose: the docstring without its sections.
        sections: title -> entry -> text; the entry is "" in a section without entries.
    """

    name: str
    node: Function | ast.ClassDef
    prose: str
    sections: dict[str, dict[str, str]]

    @property
    def text(self) -> str:
        """The whole docstring."""
        sections = [" ".join([*part, *part.values()]) for part in self.sections.values()]
        return " ".join([self.prose, *sections])


def documented(tree: ast.Module) -> Iterator[Documented]:
    """The public functions, classes and methods of a module."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and is_public(node.name):
            yield _by_parts(node.name, node)
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            for inner in node.body:
                if isinstance(inner, Function) and is_public(inner.name):
                    fallback = node if inner.name == "__call__" else inner
                    yield _by_parts(f"{node.name}.{inner.name}", inner, fallback)


def is_public(name: str) -> bool:
    """Whether a name may be used by other modules."""
    return not name.startswith("_") or name == "__call__"


def _by_parts(
    name: str, node: Function | ast.ClassDef, fallback: Function | ast.ClassDef | None = None
) -> Documented:
    """Splits the docstring of a definition, or of the fallback if it has none."""
    text = ast.get_docstring(node) or ast.get_docstring(fallback or node) or ""
    prose, *rest = re.split(r"^(Args|Attributes|Returns|Yields|Raises):$", text, flags=re.M)
    sections = {}
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        entries = re.split(r"^    \*{0,2}(\w+): ", body.rstrip(), flags=re.M)
        has_entries = title not in ("Returns", "Yields") and len(entries) > 1
        named = dict(zip(entries[1::2], entries[2::2], strict=True))
        sections[title] = named if has_entries else {"": body}
        prose += "\n".join(line for line in body.splitlines() if line and line[0] != " ")
    return Documented(name, node, prose, sections)


# The rules.


def lacks_meaning(name: str, text: str | None) -> list[str]:
    """Checks a name and its docstring, which may be those of a module."""
    used = set(re.findall(r"[^\W_]+", (text or "").split("\n\n")[0].lower()))
    words = set(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    if not used:
        return ["a docstring"]
    return [] if used - words - FILLER else ["a meaning beyond its name"]


def lacks_arguments(one: Documented) -> list[str]:
    """Parameters that `Args:` lacks, and entries that are no parameters."""
    title = "Attributes" if isinstance(one.node, ast.ClassDef) else "Args"
    expected = parameters_or_fields(one.node)
    listed = one.sections.get(title, {})
    missing = [
        name for name in expected if name not in (*listed, "cls") and not name.startswith("_")
    ]
    unknown = [
        name for name in listed if name not in expected and not has_attribute(one.node, name)
    ]
    lines = [f"a parameter or field `{name}`, which is listed" for name in unknown]
    return lines + [f"`{name}` under Args" for name in missing if title == "Args" and listed]


def has_attribute(node: ast.AST, name: str) -> bool:
    """Whether a class uses `self.name`, or has a property of that name."""
    return any(
        (isinstance(inner, ast.Attribute) and inner.attr == name)
        or (isinstance(inner, Function) and inner.name == name)
        for inner in ast.walk(node)
    )


def parameters_or_fields(node: Function | ast.ClassDef) -> dict[str, ast.expr | None]:
    """Name -> annotation of a function's parameters, or of a class's fields."""
    if isinstance(node, Function):
        given = node.args
        every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        named = {one.arg: one.annotation for one in every if one}
        return {name: annotation for name, annotation in named.items() if name != "self"}
    return {
        inner.target.id: inner.annotation
        for inner in node.body
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
    }


def lacks_shapes(one: Documented, module: str) -> list[str]:
    """Arrays without a shape.

    The shape may be given in the entry of the array; without an entry, in the prose; or in the
    docstring of the module, if all of its functions have the same shapes.
    """
    is_class = isinstance(one.node, ast.ClassDef)
    listed = one.sections.get("Attributes" if is_class else "Args", {})
    prose = f"{one.prose} {module}"
    lacking = [
        name
        for name, annotation in parameters_or_fields(one.node).items()
        if is_array(annotation) and name != "key" and not SHAPE.search(listed.get(name, prose))
    ]
    if isinstance(one.node, Function) and is_array(one.node.returns):
        described = prose + "".join(one.sections.get("Returns", {}).values())
        lacking += [] if SHAPE.search(described) else ["the result"]
    return [f"the shape of {name}" for name in lacking]


def is_array(annotation: ast.expr | None) -> bool:
    """Whether an annotation names an array, other than in the signature of a callable."""
    if isinstance(annotation, ast.Constant):  # in quotes
        return bool(ARRAYS.intersection(re.findall(r"\w+", str(annotation.value))))
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in NO_ARRAYS:
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id in ARRAYS
    if isinstance(annotation, ast.Attribute):
        return annotation.attr in ARRAYS
    inner = ast.iter_child_nodes(annotation) if annotation else ()
    return any(is_array(node) for node in inner if isinstance(node, ast.expr))


def lacks_errors(one: Documented) -> list[str]:
    """Exceptions of the body that the docstring does not name; a constructor may have its own."""
    bodies, text = [one.node], one.text
    if isinstance(one.node, ast.ClassDef):
        bodies = [inner for inner in one.node.body if getattr(inner, "name", "") in CONSTRUCTION]
        text = " ".join([text, *(ast.get_docstring(body) or "" for body in bodies)])
    raised = {name for body in bodies for name in raises(body)}
    return [name for name in sorted(raised) if not re.search(rf"\b{name}\b", text)]


def raises(function: Function) -> Iterator[str]:
    """The exceptions that a function's own body raises by class, or asserts through chex."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        waiting += ast.iter_child_nodes(node)
        match node:
            case ast.Raise(exc=ast.Call(func=made)) | ast.Raise(exc=ast.Name() as made):
                name = ast.unparse(made).rpartition(".")[2]
                if name[:1].isupper():
                    yield name
            case ast.Attribute(value=ast.Name(id="chex"), attr=name) if name.startswith("assert_"):
                yield "AssertionError"


def lacks_source(text: str) -> list[str]:
    """Checks a docstring, together with that of its module for a function."""
    return [] if SOURCE.search(text) else ["a source"]


def is_reward(one: Documented) -> bool:
    """Whether a function is a reward function."""
    if not isinstance(one.node, Function) or one.node.returns is None or "." in one.name:
        return False
    first = next(iter(parameters_or_fields(one.node).values()), None)
    scores = first is not None and ast.unparse(first) == "Completion"
    return scores and ast.unparse(one.node.returns) in ("float", "float | None")


def assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr, str]]:
    """Public names that a module assigns: name, value, and the docstring below."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            below = after.value if isinstance(after, ast.Expr) else None
            text = str(below.value) if isinstance(below, ast.Constant) else ""
            if isinstance(target, ast.Name) and is_public(target.id):
                yield target.id, node.value, text


def complaints(
    module: str, tree: ast.Module, *, is_package: bool = False, sourced: Collection[str] = ()
) -> list[str]:
    """One line for each part that the public names of a module lack: module, name, part.

    Args:
        module: its dotted name.
        tree: its syntax tree.
        is_package: whether it is a package; names that a package assigns are documented too.
        sourced: functions that must name a source; rewards and datasets always must.
    """
    text = ast.get_docstring(tree) or ""
    lines = [f"{module} lacks {part}" for part in lacks_meaning(module.rpartition(".")[2], text)]
    for one in documented(tree):
        lacks = lacks_meaning(one.name.rpartition(".")[2], one.text)
        if one.text:
            lacks += lacks_arguments(one) + lacks_shapes(one, text)
            lacks += [f"{error} under Raises" for error in lacks_errors(one)]
        if one.name in sourced or is_reward(one):
            lacks += lacks_source(f"{one.text} {text}")
        lines += [f"{module}: {one.name} lacks {part}" for part in lacks]
    for name, value, below in assigned(tree):
        is_data_set = isinstance(value, ast.Call) and ast.unparse(value.func) == "DataSet"
        lacks = lacks_meaning(name, below) if is_package or is_data_set else []
        lacks += lacks_source(below) if is_data_set else []
        lines += [f"{module}: {name} lacks {part}" for part in lacks]
    return lines
