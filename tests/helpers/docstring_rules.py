"""What the docstring of a public name has to say, read from the source alone.

A public name is a module of the package, a function or class at the top of one, or a method or
property of such a class; none of the names on the way begins with an underscore, except that
`__call__` is public. What a package exports is documented where it is defined. Nothing is imported.

Each rule is a function from what is documented to what it lacks, a few words each:

- meaning: there is a docstring, and its first paragraph says more than the name does;
- arguments: `Args:` lists every parameter and nothing else, `Attributes:` nothing but fields;
- shapes: of every parameter, field and result that is an array;
- errors: every exception that the body raises by name, and AssertionError where it asserts through
  chex; those of a class's construction stand in the class;
- source: the paper or the repository of a method, a reward or a data set; or that it is ours, or
  that no paper was found.
"""

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef

CONSTRUCTION = ("__init__", "__new__", "__post_init__")
ARRAYS = {"Array", "ArrayLike", "ndarray"}
NO_ARRAYS = {"Callable", "Literal"}  # whatever stands in their brackets
SHAPE = re.compile(
    r"`\w*\[|\[\.\.\.|\b([Ss]calars?|shapes?|[Ee]lementwise|random keys?|the same)\b"
)
SOURCE = re.compile(
    r"arXiv[: ]\d{4}\.\d{4,5}|\b[\w.-]+/[\w.-]+[@ ][0-9a-f]{7,40}\b|https://|\bverl [0-9a-f]{7}"
    r"|\b[Oo]urs\b|paper was not found"
)
FILLER = {"a", "an", "and", "of", "the", "to", "for", "in", "this"}


class Documented(NamedTuple):
    """A public function or class with its docstring by parts.

    Attributes:
        name: with its class, as `Class.method`.
        node: its definition.
        prose: the docstring without its sections.
        sections: title -> entry -> text; where a section lists nothing, the entry is "".
    """

    name: str
    node: Function | ast.ClassDef
    prose: str
    sections: dict[str, dict[str, str]]

    @property
    def text(self) -> str:
        """All of the docstring."""
        said = [" ".join([*part, *part.values()]) for part in self.sections.values()]
        return " ".join([self.prose, *said])


def documented(tree: ast.Module) -> Iterator[Documented]:
    """The public functions, classes and methods of a module."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and is_public(node.name):
            yield _by_parts(node.name, node)
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            for inner in node.body:
                if isinstance(inner, Function) and is_public(inner.name):
                    of_class = node if inner.name == "__call__" else inner
                    yield _by_parts(f"{node.name}.{inner.name}", inner, of_class)


def is_public(name: str) -> bool:
    """Whether a name may be used from elsewhere."""
    return not name.startswith("_") or name == "__call__"


def _by_parts(
    name: str, node: Function | ast.ClassDef, instead: Function | ast.ClassDef | None = None
) -> Documented:
    """What is documented; one without a docstring may have that of another."""
    text = ast.get_docstring(node) or ast.get_docstring(instead or node) or ""
    prose, *rest = re.split(r"^(Args|Attributes|Returns|Yields|Raises):$", text, flags=re.M)
    sections = {}
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        found = re.split(r"^    \*{0,2}(\w+): ", body.rstrip(), flags=re.M)
        lists = title not in ("Returns", "Yields") and len(found) > 1
        sections[title] = dict(zip(found[1::2], found[2::2], strict=True)) if lists else {"": body}
        prose += "\n".join(line for line in body.splitlines() if line and line[0] != " ")
    return Documented(name, node, prose, sections)


# The rules.


def lacks_meaning(name: str, text: str | None) -> list[str]:
    """Of a name and a docstring, which may be a module's."""
    said = set(re.findall(r"[^\W_]+", (text or "").split("\n\n")[0].lower()))
    words = set(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    if not said:
        return ["a docstring"]
    return [] if said - words - FILLER else ["a meaning beyond its name"]


def lacks_arguments(one: Documented) -> list[str]:
    """Parameters that `Args:` leaves out, and entries for what is not there."""
    title = "Attributes" if isinstance(one.node, ast.ClassDef) else "Args"
    there = parameters_or_fields(one.node)
    listed = one.sections.get(title, {})
    missing = [name for name in there if name not in (*listed, "cls") and not name.startswith("_")]
    strange = [name for name in listed if name not in there and not has_attribute(one.node, name)]
    found = [f"a parameter or field `{name}`, which is listed" for name in strange]
    return found + [f"`{name}` under Args" for name in missing if title == "Args" and listed]


def has_attribute(node: ast.AST, name: str) -> bool:
    """Whether `self.name` stands somewhere in it, or a property of that name."""
    return any(
        (isinstance(inner, ast.Attribute) and inner.attr == name)
        or (isinstance(inner, Function) and inner.name == name)
        for inner in ast.walk(node)
    )


def parameters_or_fields(node: Function | ast.ClassDef) -> dict[str, ast.expr | None]:
    """Name -> annotation: of a function's parameters, or of a class's fields."""
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
    """Arrays whose shape nothing tells.

    It stands in their own entry; without one, in the prose; or in the docstring of a module whose
    functions are alike.
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
        told = prose + "".join(one.sections.get("Returns", {}).values())
        lacking += [] if SHAPE.search(told) else ["what is returned"]
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
    bodies, told = [one.node], one.text
    if isinstance(one.node, ast.ClassDef):
        bodies = [inner for inner in one.node.body if getattr(inner, "name", "") in CONSTRUCTION]
        told = " ".join([told, *(ast.get_docstring(body) or "" for body in bodies)])
    raised = {name for body in bodies for name in raises(body)}
    return [name for name in sorted(raised) if not re.search(rf"\b{name}\b", told)]


def raises(function: Function) -> Iterator[str]:
    """The exceptions that a function's own body raises by their class, or asserts through chex."""
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
    """Of the docstring, and where it is a function's that of its module too."""
    return [] if SOURCE.search(text) else ["a source"]


def is_reward(one: Documented) -> bool:
    """Whether a function scores a completion."""
    if not isinstance(one.node, Function) or one.node.returns is None or "." in one.name:
        return False
    first = next(iter(parameters_or_fields(one.node).values()), None)
    of_completion = first is not None and ast.unparse(first) == "Completion"
    return of_completion and ast.unparse(one.node.returns) in ("float", "float | None")


def assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr, str]]:
    """Public names that a module assigns: name, value, and the docstring beneath."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            beneath = after.value if isinstance(after, ast.Expr) else None
            said = str(beneath.value) if isinstance(beneath, ast.Constant) else ""
            if isinstance(target, ast.Name) and is_public(target.id):
                yield target.id, node.value, said


def complaints(
    module: str, tree: ast.Module, *, is_package: bool = False, sourced: Collection[str] = ()
) -> list[str]:
    """One line for everything that a module's public names lack: module, name, what is missing.

    Args:
        module: its dotted name.
        tree: its syntax tree.
        is_package: whether it is one: then what it assigns is documented too.
        sourced: its functions that have a source to name; rewards and data sets have one anyway.
    """
    said = ast.get_docstring(tree) or ""
    found = [f"{module} lacks {what}" for what in lacks_meaning(module.rpartition(".")[2], said)]
    for one in documented(tree):
        lacks = lacks_meaning(one.name.rpartition(".")[2], one.text)
        if one.text:
            lacks += lacks_arguments(one) + lacks_shapes(one, said)
            lacks += [f"{error} under Raises" for error in lacks_errors(one)]
        if one.name in sourced or is_reward(one):
            lacks += lacks_source(f"{one.text} {said}")
        found += [f"{module}: {one.name} lacks {what}" for what in lacks]
    for name, value, beneath in assigned(tree):
        is_data_set = isinstance(value, ast.Call) and ast.unparse(value.func) == "DataSet"
        lacks = lacks_meaning(name, beneath) if is_package or is_data_set else []
        lacks += lacks_source(beneath) if is_data_set else []
        found += [f"{module}: {name} lacks {what}" for what in lacks]
    return found
