"""Rules for the language of the project: plain, field-standard English.

`complaints(path)` returns one line per violation in a file. It checks docstrings, comments,
strings and identifiers of Python files, text and code of notebooks, and the text of Markdown, TOML
and YAML files. As a program, it checks the given files and directories:

    python tests/helpers/language_rules.py dvaojax tests README.md
"""

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Words and phrases of no field, with a better choice.
WORDS = {
    r"whoever": "name the caller",
    r"whatever": "any",
    r"wherever": "everywhere",
    r"besides?": "next to, in addition to",
    r"affairs?": "say the thing",
    r"stands?": "is; for 'stands for': means",
    r"stood": "was",
    r"rooms?": "package, module; space, capacity",
    r"doors?": "subcommand, entry point",
    r"houses?": "package, project",
    r"staircases?": "import layers",
    r"floors": "layers, lower bounds",
    r"nobody": "no completion, no process",
    r"somebody": "name it",
    r"silent": "zero-variance, constant",
    r"silence": "zero variance",
    r"by lot": "at random",
    r"in vain": "without success",
    r"spoilt": "broken, invalid",
    r"meanwhile": "in the meantime, while ...",
    r"dear": "expensive",
    r"behind (?:the (?:end|last|prompts?|completions?)|a prompt|it|them|its)": "after",
    r"is what": "say the thing",
    r"are what": "say the thing",
    r"holds? of": "is true for",
    r"made of": "computed from, consists of",
    r"to be had": "available",
    r"laid": "placed",
    r"goes on": "continues",
    r"go on": "continue",
    r"going on": "in progress",
    r"a person": "a user",
    r"in today's words": "migrated",
    r"confused with(?<!to be confused with)": "Not to be confused with",
    r"hurry": "without optimisations",
    r"by heart": "memorised",
    r"alike": "the same",
    r"forever young": "never",
    r"the end of it": "the end",
    r"in the end": "finally",
    r"of one's own": "custom, your own",
    r"told": "given, passed",
    r"to tell apart": "to distinguish",
    r"tells? apart": "distinguish",
    r"told apart": "distinguished",
}

# Names that say nothing about the value they hold.
IDENTIFIERS = {"found", "seen", "places", "taken", "beside", "said", "told", "alike"}
PREFIXES = ("of_", "_of_")

# How a docstring, a comment or a help text may not begin.
OPENINGS = re.compile(r"What |Whoever |Whatever |Wherever |The same, |Of an? ")

_WORDS = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
_MARKER = "language: quoted"  # on a line that quotes somebody else's text


class Text(NamedTuple):
    """A piece of prose: the line it begins on, and whether its opening is checked."""

    line: int
    text: str
    is_prose: bool


def complaints(path: Path) -> list[str]:
    """One line per violation in a file: where, what, and the better choice."""
    source = path.read_text(encoding="utf-8")
    quoted = {n for n, line in enumerate(source.splitlines(), 1) if _MARKER in line}
    texts = list(_texts(path, source))
    found_words = [
        (text.line + text.text.count("\n", 0, match.start()), match)
        for text in texts
        for match in _WORDS.finditer(text.text)
    ]
    lines = [
        f"{path}:{line}: {match.group(0)!r}: {_better(match.group(0))}"
        for line, match in found_words
        if line not in quoted
    ]
    lines += [
        f"{path}:{text.line}: begins with {text.text.lstrip()[:20]!r}"
        for text in texts
        if text.is_prose and OPENINGS.match(text.text.lstrip()) and text.line not in quoted
    ]
    if path.suffix == ".py":
        lines += [f"{path}:{line}: identifier {name!r}" for line, name in _identifiers(source)]
    return lines


def _better(phrase: str) -> str:
    return next(
        better for pattern, better in WORDS.items() if re.fullmatch(pattern, phrase, re.IGNORECASE)
    )


def _texts(path: Path, source: str) -> Iterator[Text]:
    """The prose of a file."""
    if path.suffix == ".py":
        yield from _python_texts(source)
    elif path.suffix == ".ipynb":
        for cell in json.loads(source)["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                yield Text(1, text, True)
            else:
                code = re.sub(r"^(\s*)[%!].*$", r"\1pass", text, flags=re.MULTILINE)
                yield from (Text(1, one.text, one.is_prose) for one in _python_texts(code))
    else:
        yield Text(1, source, False)


def _python_texts(source: str) -> Iterator[Text]:
    """Docstrings and other strings, and comments; neighbouring comment lines are one text."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(node.lineno, node.value, id(node) in docstrings)
    comment, begin, previous = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        text = token.string.lstrip("#!: ")
        if line == previous + 1:
            comment += "\n" + text
        else:
            if comment:
                yield Text(begin, comment, True)
            comment, begin = text, line
        previous = line
    if comment:
        yield Text(begin, comment, True)


def _identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Names that a file binds and that say nothing, or contain a rejected word."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                pass
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case ast.ClassDef(name=name):
                name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
            case _:
                continue
        words = name.replace("_", " ")
        if name in IDENTIFIERS or name.startswith(PREFIXES) or _WORDS.search(words):
            yield node.lineno, name


def files(paths: list[Path]) -> Iterator[Path]:
    """The files below some paths that the rules apply to."""
    for path in paths:
        if path.is_file():
            yield path
        for file in sorted(path.rglob("*")):
            if file.suffix in (".py", ".ipynb", ".md", ".toml", ".yml", ".yaml"):
                yield file


if __name__ == "__main__":
    every = [
        line for path in files([Path(name) for name in sys.argv[1:]]) for line in complaints(path)
    ]
    print("\n".join(every))
    sys.exit(bool(every))
