"""The Markdown documents of the project: their code blocks, links and generated tables.

Run as a program, it writes the generated tables anew:

    python tests/helpers/documentation.py

A generated table is between `<!-- generated: NAME -->` and `<!-- /generated -->`; `TABLES` has the
function for each name.
"""

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from import_layers import LAYERS, PACKAGE, modules

import dvaojax.types
from dvaojax.cli.method_tables import markdown

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / "colab" / "README.md",
    ROOT / "experiments" / "README.md",
    ROOT / "experiments" / "benchmarks" / "README.md",
    ROOT / "experiments" / "pods" / "README.md",
    *sorted(PACKAGE.rglob("*.md")),
]

# The line before a block of commands that the tests do not run, with the reason.
_REASON = r"(?:the network|an account|an accelerator|the extra `[\w-]+`)"
NOT_RUN = re.compile(rf"\*Not run by the tests: needs {_REASON}(?: and {_REASON})?\.\*")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"(<!-- generated: (.+?) -->\n)(.*?)(<!-- /generated -->)", re.DOTALL)


class Block(NamedTuple):
    """A fenced code block.

    Attributes:
        language: of the fence; "" if none is given.
        code: its lines.
        before: the last line of text before it.
        output: the text block that follows without text in between; "" if there is none.
    """

    language: str
    code: str
    before: str
    output: str

    @property
    def file(self) -> str:
        """The file that a Python block is written to, by its first line `# NAME.py`, or ""."""
        match = re.match(r"# (\w+\.py)\n", self.code)
        return match.group(1) if match and self.language == "python" else ""

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a block, one per line or `&&`, split into words, without comments."""
        joined = self.code.replace("\\\n", " ")
        parts = [part for line in joined.splitlines() for part in line.split(" && ")]
        return [words for part in parts if (words := shlex.split(part, comments=True))]


def blocks(text: str) -> list[Block]:
    """The fenced code blocks of a document."""
    matches = list(_BLOCK.finditer(text))
    following = [*matches[1:], None]  # one longer where there is no block
    result = []
    for match, after in zip(matches, following, strict=False):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        is_output = (
            after and after.group(1) == "text" and not text[match.end() : after.start()].strip()
        )
        result.append(Block(*match.groups(), before, after.group(2) if is_output else ""))
    return result


def generated(text: str) -> Iterator[tuple[str, str]]:
    """Name and content of each generated table of a document."""
    for match in _GENERATED.finditer(text):
        yield match.group(2), match.group(3)


def regenerate(text: str) -> str:
    """A document with its generated tables written anew."""
    return _GENERATED.sub(lambda m: f"{m.group(1)}{TABLES[m.group(2)]()}\n{m.group(4)}", text)


def _tree() -> str:
    """The top-level modules and packages by layer, with the first sentence of each docstring."""
    trees = modules(PACKAGE)
    lines = ["| layer | module | content |", "|---|---|---|"]
    for name, layer in sorted(LAYERS.items(), key=lambda item: item[1]):
        if name in ("", "__main__"):
            continue
        docstring = ast.get_docstring(trees[f"dvaojax.{name}"]) or ""
        first = " ".join(docstring.split("\n\n")[0].split())
        path = f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"
        target = f"{name}/__init__.py" if path.endswith("/") else path
        lines.append(f"| {layer} | [`{path}`]({target}) | {first.replace('|', '&#124;')} |")
    return "\n".join(lines)


def _axis_letters() -> str:
    """The axis letters as the docstring of `dvaojax.types` defines them."""
    rows = [line for line in (dvaojax.types.__doc__ or "").splitlines() if line.startswith("|")]
    return "\n".join(re.sub(r" {2,}", " ", row) for row in rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "tree": _tree,
    "axis letters": _axis_letters,
    "aggregators": lambda: markdown("aggregators"),
    "losses": lambda: markdown("losses"),
}


if __name__ == "__main__":
    for path in DOCUMENTS:
        text = path.read_text()
        path.write_text(regenerate(text))
