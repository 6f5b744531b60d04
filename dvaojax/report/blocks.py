"""Elements of sections: headings, tables, names of runs, notes about missing parts."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dvaojax.report import axes
from dvaojax.report.contents import RunContents
from dvaojax.report.markup import Markup, element, join


class Section(NamedTuple):
    """A part of the page that can be linked to.

    Attributes:
        name: its anchor, and the text of links to it.
        markup: the section with its heading.
    """

    name: str
    markup: Markup


def section(name: str, title: str, about: str, *blocks: Markup | None) -> Section:
    """One section of the page.

    Args:
        name: its anchor, and the text of links to it.
        title: its heading.
        about: an explanation; may be empty.
        blocks: its content; None is skipped.
    """
    explanation = element("p", about, class_="about") if about else None
    return Section(name, element("section", element("h2", title), explanation, *blocks, id=name))


def gap(text: str) -> Markup:
    """A note in the place of a missing part."""
    return element("p", text, class_="gap")


def gaps(runs: Sequence[RunContents], part: str) -> Markup:
    """A note for each run without a part; with several runs, the notes name the run."""
    lines = [(index, run, run.gaps[part]) for index, run in enumerate(runs) if part in run.gaps]
    return join(
        gap(text)
        if len(runs) == 1
        else element("p", run_name(index, run), ": ", text, class_="gap")
        for index, run, text in lines
    )


def run_name(index: int, run: RunContents) -> Markup:
    """A run's name after a sample of its line in the figures."""
    line = element(
        "svg",
        element("path", d="M1 5H23", class_="smooth"),
        viewBox="0 0 24 10",
        aria_hidden="true",
        class_=f"key {axes.run_style(index)}",
    )
    return element("span", line, element("bdi", run.name), class_="name")


def table(
    head: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "numbers", name: str
) -> Markup:
    """A table, which scrolls horizontally on narrow screens.

    Args:
        head: headings of the columns.
        rows: cells; the first of each row is its heading.
        kind: "numbers" are aligned right, "words" left.
        name: for screen readers.
    """
    body = []
    for first, *others in rows:
        cells = [element("td", cell) for cell in others]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    top = element("tr", *(element("th", text, scope="col") for text in head))
    content = element("table", element("thead", top), element("tbody", join(body)), class_=kind)
    return element("div", content, class_="wide", tabindex=0, role="region", aria_label=name)


def folded(title: str | Markup, *blocks: Markup | None) -> Markup:
    """Blocks that are hidden until the reader opens them."""
    return element("details", element("summary", title), *blocks)


def figures(items: Iterable[Markup]) -> Markup:
    """Figures in a grid."""
    return element("div", join(items), class_="figures")
