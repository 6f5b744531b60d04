"""What sections are made of: headings, tables, runs by their colour, lines for what is missing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dvaojax.report import axes
from dvaojax.report.contents import Contents
from dvaojax.report.markup import Markup, element, join


class Section(NamedTuple):
    """A part of the page that can be linked to.

    Attributes:
        name: what links to it say.
        markup: all of it, its heading included.
    """

    name: str
    markup: Markup


def section(name: str, title: str, about: str, *blocks: Markup | None) -> Section:
    """One section of the page.

    Args:
        name: what links to it say.
        title: its heading.
        about: what is to be seen and how it is meant; may be empty.
        blocks: the rest; None is left out.
    """
    said = element("p", about, class_="about") if about else None
    return Section(name, element("section", element("h2", title), said, *blocks, id=name))


def gap(text: str) -> Markup:
    """The line that stands where something is missing."""
    return element("p", text, class_="gap")


def gaps(runs: Sequence[Contents], part: str) -> Markup:
    """A line for each run that lacks a part; of several runs each is named."""
    lines = [(place, run, run.gaps[part]) for place, run in enumerate(runs) if part in run.gaps]
    return join(
        gap(text)
        if len(runs) == 1
        else element("p", run_name(place, run), ": ", text, class_="gap")
        for place, run, text in lines
    )


def run_name(place: int, run: Contents) -> Markup:
    """A run with the line that stands for it in every picture."""
    line = element(
        "svg",
        element("path", d="M1 5H23", class_="smooth"),
        viewBox="0 0 24 10",
        aria_hidden="true",
        class_=f"key {axes.look(place)}",
    )
    return element("span", line, element("bdi", run.name), class_="name")


def table(
    head: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "numbers", name: str
) -> Markup:
    """A table that scrolls sideways where the page is too narrow for it.

    Args:
        head: of every column.
        rows: cells; the first is the row's own head.
        kind: "numbers" are aligned to the right, "words" to the left.
        name: of what it is a table, for who cannot see it.
    """
    body = []
    for first, *others in rows:
        cells = [element("td", cell) for cell in others]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    top = element("tr", *(element("th", text, scope="col") for text in head))
    whole = element("table", element("thead", top), element("tbody", join(body)), class_=kind)
    return element("div", whole, class_="wide", tabindex=0, role="region", aria_label=name)


def folded(title: str | Markup, *blocks: Markup | None) -> Markup:
    """Blocks behind a line that opens them."""
    return element("details", element("summary", title), *blocks)


def figures(drawn: Iterable[Markup]) -> Markup:
    """Pictures beside and below each other, as the width allows."""
    return element("div", join(drawn), class_="figures")
