"""The API reference: one documented command builds a complete site."""

import ast
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from import_layers import PACKAGE, modules

ROOT = Path(__file__).parents[1]
PROBE = """
import runpy, socket, sys

asked = []

def refuse(*arguments, **named):
    asked.append(arguments)
    raise OSError("no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
runpy.run_module("pdoc", run_name="__main__")

from jax._src import xla_bridge
print("asked:", len(asked), "took devices:", xla_bridge.backends_are_initialized())
"""


def command():
    """The command of dvaojax/README.md, split into words."""
    (line,) = re.findall(r"^python -m pdoc .*$", (PACKAGE / "README.md").read_text(), re.M)
    return shlex.split(line)


def build(directory):
    """Builds the site with that command in a new interpreter; returns its directory and output."""
    python, _, pdoc, *arguments = command()
    assert (python, pdoc) == ("python", "pdoc")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return (directory / arguments[arguments.index("-o") + 1]).resolve(), done.stdout


def page(name):
    """Path of a module's page."""
    return name.replace(".", "/") + ".html"


def equations(tree):
    """Displayed equations of the public functions and classes of a module."""
    for one in tree.body:
        if isinstance(one, ast.FunctionDef | ast.ClassDef) and not one.name.startswith("_"):
            yield from re.findall(r"\$\$.*?\$\$", ast.get_docstring(one) or "", re.S)


class VisibleText(HTMLParser):
    """The text of a page as a browser shows it, without anything that parses as a tag."""

    def __init__(self, page):
        super().__init__()
        self.pieces = []
        self.feed(page)

    def handle_data(self, data):
        self.pieces.append(data)

    def __str__(self):
        return " ".join("".join(self.pieces).split())


def links(text):
    """Links to other pages of the site, with their anchors."""
    return re.findall(r'href="([^"#:$]+)#?([^":]*)"', text)


@pytest.mark.nightly
def test_one_command_builds_the_whole_site(tmp_path):
    site, output = build(tmp_path)
    assert output == "asked: 0 took devices: False\n"

    trees = {name: tree for name, tree in modules(PACKAGE).items() if name != "dvaojax.__main__"}
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    assert {site / page(name) for name in trees} <= set(pages)

    displayed = 0
    for name, tree in trees.items():
        text = pages[site / page(name)]
        assert "tex-mml-chtml.js" in text  # draws them
        shown = str(VisibleText(re.sub(r"(?s)<pre>.*?</pre>", "", text)))
        for equation in equations(tree):
            assert " ".join(equation.split()) in shown, (name, equation)
            displayed += 1
    assert displayed > 40

    anchors = {path: set(re.findall(r'id="([^"]+)"', text)) for path, text in pages.items()}
    followed = [(path, *link) for path, text in pages.items() for link in links(text)]
    assert len(followed) > 1000
    for path, link, anchor in followed:
        target = (path.parent / link).resolve()
        assert target in pages, (path, link)
        assert not anchor or anchor in anchors[target], (path, link, anchor)
