"""All that there is to say of one method, for `dvaojax methods NAME`."""

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dvaojax import aggregators, allocation, losses
from dvaojax.aggregators import catalogue as of_advantages
from dvaojax.allocation import catalogue as of_shares
from dvaojax.cli import docstrings
from dvaojax.losses import catalogue as of_losses
from dvaojax.papers import bibtex

Row = of_advantages.Method | of_advantages.Beside | of_losses.Entry | of_shares.Entry

WIDTH = 100
_BY_OBJECTIVE = " One for all objectives, or as KNOB.OBJECTIVE=VALUE for each."
_NO_PROPERTY = ("advantage", "objective", "share", "takes", "paper", "credit", "also")


class Subject(NamedTuple):
    """A method, from wherever it stands.

    Attributes:
        function: its code, with the docstring.
        row: of its catalogue.
        equation: on one line, in Markdown.
        letters: what the equation is written in.
        knobs: with their defaults.
        use: an example of how to ask for it.
    """

    function: Callable[..., Any]
    row: Row
    equation: str
    letters: Mapping[str, str]
    knobs: Mapping[str, Any]
    use: str


def find(name: str) -> Subject:
    """The method of that name.

    Args:
        name: a key of a catalogue.
    """
    kinds = (
        (of_advantages.CATALOGUE, _aggregator),
        (of_advantages.BESIDE, _beside),
        (of_losses.CATALOGUE, _loss),
        (of_shares.CATALOGUE, _rule),
    )
    return next(subject for catalogue, subject in kinds if name in catalogue)(name)


def _aggregator(name: str) -> Subject:
    method, row = aggregators.METHODS[name], of_advantages.CATALOGUE[name]
    knobs = aggregators.knobs_of(method)
    use = _setting("aggregator", name, "aggregator_options", knobs)
    return Subject(method, row, row.advantage, of_advantages.LETTERS, knobs, use)


def _beside(name: str) -> Subject:
    function, row = getattr(aggregators, name), of_advantages.BESIDE[name]
    use = f"from dvaojax.aggregators import {name}"
    knobs = aggregators.knobs_of(function)
    return Subject(function, row, row.advantage, of_advantages.LETTERS, knobs, use)


def _loss(name: str) -> Subject:
    loss, row = losses.BY_NAME[name], of_losses.CATALOGUE[name]
    knobs = losses.knobs_of(loss)
    use = _setting("loss.name", name, "loss.options", knobs)
    return Subject(loss, row, row.objective, of_losses.LETTERS, knobs, use)


def _rule(name: str) -> Subject:
    rule, row = getattr(allocation, name), of_shares.CATALOGUE[name]
    knobs = allocation.knobs_of(rule)
    use = f"from dvaojax.allocation import {name}"
    if name in allocation.BY_NAME:
        use = _setting("allocation.name", name, "allocation.options", knobs)
    return Subject(rule, row, row.share, of_shares.LETTERS, knobs, use)


def _setting(key: str, name: str, options: str, knobs: Mapping[str, Any]) -> str:
    first = [f" {options}={knob}={value}" for knob, value in knobs.items()][:1]
    return f"dvaojax train --set {key}={name}{''.join(first)}"


def page(name: str) -> str:
    """What a method is: equation, confusions, properties, knobs, paper and a BibTeX entry.

    Args:
        name: a key of a catalogue.
    """
    subject = find(name)
    said = docstrings.explain(subject.function)
    module = docstrings.explain(sys.modules[subject.function.__module__])
    differing = aggregators.knobs_per_objective(subject.function)
    knobs = {
        f"{knob}={value}": said.entries[knob] + _BY_OBJECTIVE * (knob in differing)
        for knob, value in subject.knobs.items()
    }
    sections = {
        "Equation": [subject.equation, "", *described(subject.letters, WIDTH - 2)],
        "In LaTeX": "\n\n".join(said.equations).splitlines(),
        "What it is confused with": _wrapped(said.confused, WIDTH - 2),
        "What holds of it": described(_properties(subject.row), WIDTH - 2),
        "Knobs": described(knobs, WIDTH - 2),
        "Use": [subject.use],
        "Paper": _cited(subject.row),
    }
    head = [name, *_wrapped(module.gist, WIDTH), "", *_wrapped(said.gist, WIDTH)]
    return "\n".join([*head, *_laid_out(sections)])


def credited(row: Row) -> str:
    """Where a method is from, in a few words."""
    return row.credit.format(row.paper.name if row.paper else "")


def shown(value: bool | str) -> str:
    """A property's value."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def described(entries: Mapping[str, str], width: int) -> Iterator[str]:
    """Names with what is said of them beside, in lines of at most `width`."""
    column = max(map(len, entries), default=0) + 2
    for name, text in entries.items():
        lines = _wrapped(text, width - column) or [""]
        yield f"{name:{column}}{lines[0]}"
        yield from (" " * column + line for line in lines[1:])


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _laid_out(sections: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for title, lines in sections.items():
        if lines := list(lines):
            yield from ("", title, *(f"  {line}".rstrip() for line in lines))


def _properties(row: Row) -> dict[str, str]:
    """What a row declares, with what that means."""
    meant = docstrings.explain(type(row)).entries
    return {
        f"{field.replace('_', ' ')}: {shown(value)}": meant[field]
        for field, value in row._asdict().items()
        if field not in _NO_PROPERTY
    }


def _cited(row: Row) -> Iterator[str]:
    yield credited(row)
    for paper in (row.paper, getattr(row, "also", None)):
        if paper is not None:
            yield ""
            yield from bibtex(paper).splitlines()
