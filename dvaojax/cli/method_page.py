"""The help page of one method, for `dvaojax methods NAME`."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dvaojax import aggregators, allocation, losses, plugins
from dvaojax.aggregators import AggregatorRow, OtherFunctionRow
from dvaojax.allocation import AllocationRow
from dvaojax.cli import docstrings
from dvaojax.losses import LossRow, OtherLossRow
from dvaojax.papers import bibtex

Row = AggregatorRow | OtherFunctionRow | LossRow | OtherLossRow | AllocationRow

WIDTH = 100
_PER_OBJECTIVE = " One value for all objectives, or KNOB.OBJECTIVE=VALUE for each."
_NO_PROPERTIES = ("method", "paper", "equation", "takes", "use", "credit", "also", "settings")


class MethodEntry(NamedTuple):
    """The method that a page describes.

    Attributes:
        function: its code, with the docstring.
        row: in its table; None for a plug-in.
        symbols: of the row's equation, with their meanings.
        knobs: with their defaults.
        use: an example of how to select it.
    """

    function: Callable[..., Any]
    row: Row | None
    symbols: Mapping[str, str]
    knobs: Mapping[str, Any]
    use: str


def find(name: str) -> tuple[MethodEntry, ...]:
    """The methods of a name, such as a loss and an allocation rule of the same paper.

    Args:
        name: of a row of one of the tables, or a plug-in.

    Raises:
        UserError: the plug-in cannot be used.
    """
    if plugins.is_plugin(name):
        return (_plugin(name),)
    kinds = (
        (aggregators.ROWS, _aggregator),
        (aggregators.OTHER_FUNCTIONS, _other_function),
        (losses.ROWS, _loss),
        (losses.OTHERS, _other_loss),
        (allocation.ROWS, _allocation_rule),
    )
    return tuple(make(name) for rows, make in kinds if name in rows)


def _aggregator(name: str) -> MethodEntry:
    row = aggregators.ROWS.get(name)
    method = aggregators.find(name)
    knobs = aggregators.knobs_of(method)
    further = "" if row is None else row.settings
    use = _settings("aggregator", name, "aggregator.options", knobs, further)
    return MethodEntry(method, row, aggregators.SYMBOLS, knobs, use)


def _other_function(name: str) -> MethodEntry:
    row = aggregators.OTHER_FUNCTIONS[name]
    knobs = aggregators.knobs_of(row.method)
    use = f"from dvaojax.aggregators import {name}; in a run: {row.use}"
    return MethodEntry(row.method, row, aggregators.SYMBOLS, knobs, use)


def _loss(name: str) -> MethodEntry:
    loss = losses.find(name)
    knobs = losses.knobs_of(loss)
    use = _settings("loss.name", name, "loss.options", knobs)
    return MethodEntry(loss, losses.ROWS.get(name), losses.SYMBOLS, knobs, use)


def _other_loss(name: str) -> MethodEntry:
    row = losses.OTHERS[name]
    knobs = losses.knobs_of(row.method) if name in losses.PAIR_LOSSES else {}
    return MethodEntry(row.method, row, {}, knobs, f"dvaojax train --set {row.use}")


def _allocation_rule(name: str) -> MethodEntry:
    row = allocation.ROWS.get(name)
    rule = allocation.find(name) if row is None else row.method
    knobs = allocation.knobs_of(rule)
    further = "" if row is None else row.settings
    use = _settings("allocation.name", name, "allocation.options", knobs, further)
    return MethodEntry(rule, row, allocation.SYMBOLS, knobs, use)


def _plugin(name: str) -> MethodEntry:
    """A user's method; its parameters show whether it is an aggregator, a loss or a rule."""
    function = plugins.load(name)
    parameters = inspect.signature(function).parameters
    if "logp" in parameters:
        return _loss(name)
    return _allocation_rule(name) if "budget" in parameters else _aggregator(name)


def _settings(
    key: str, name: str, options: str, knobs: Mapping[str, Any], further: str = ""
) -> str:
    first = [f"{options}={knob}={value}" for knob, value in knobs.items()][:1]
    return " ".join(
        ["dvaojax train --set", f"{key}={name}", *first, *([further] if further else [])]
    )


def page(name: str) -> str:
    """Equation, similar methods, properties, knobs, source and BibTeX entry of a method.

    Args:
        name: of rows of one or more of the tables, or a plug-in.

    Raises:
        UserError: the plug-in cannot be used.
    """
    return "\n\n\n".join(_page(name, entry) for entry in find(name))


def _page(name: str, entry: MethodEntry) -> str:
    """The page of one method."""
    parts = docstrings.parse(entry.function)
    module = docstrings.parse(sys.modules.get(entry.function.__module__))
    per_objective = aggregators.knobs_per_objective(entry.function)
    knobs = {
        _knob(knob, default): parts.entries.get(knob, "") + _PER_OBJECTIVE * (knob in per_objective)
        for knob, default in entry.knobs.items()
    }
    row, sections = entry.row, {}
    if row is not None:
        sections["Equation"] = [row.equation, "", *described(entry.symbols, WIDTH - 2)]
    sections |= {
        "In LaTeX": "\n\n".join(parts.equations).splitlines(),
        "Not to be confused with": _wrapped(parts.similar, WIDTH - 2),
        "Properties": () if row is None else described(_properties(row), WIDTH - 2),
        "Knobs": described(knobs, WIDTH - 2),
        "Use": [entry.use],
        "Paper": () if row is None else _citation(row),
    }
    head = [name, *_wrapped(module.summary, WIDTH), "", *_wrapped(parts.summary, WIDTH)]
    return "\n".join([*head, *_format_sections(sections)])


def _knob(knob: str, default: Any) -> str:
    return knob if default is inspect.Parameter.empty else f"{knob}={default}"


def source(row: Row) -> str:
    """The source of a method, in a few words."""
    return row.credit.format(row.paper.name) if row.paper else row.credit.replace("{}", "")


def text_of(value: bool | str) -> str:
    """A property's value."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def described(entries: Mapping[str, str], width: int) -> Iterator[str]:
    """Names in one column and their descriptions in the next, in lines of at most `width`."""
    column = max(map(len, entries), default=0) + 2
    for name, text in entries.items():
        lines = _wrapped(text, width - column) or [""]
        yield f"{name:{column}}{lines[0]}".rstrip()
        yield from (" " * column + line for line in lines[1:])


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _format_sections(sections: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for title, lines in sections.items():
        if (lines := list(lines)) and any(lines):
            yield from ("", title, *(f"  {line}".rstrip() for line in lines))


def _properties(row: Row) -> dict[str, str]:
    """The properties that a row states, with their meanings."""
    meanings = docstrings.parse(type(row)).entries
    return {
        f"{field.replace('_', ' ')}: {text_of(value)}": meanings[field]
        for field, value in row._asdict().items()
        if field not in _NO_PROPERTIES
    }


def _citation(row: Row) -> Iterator[str]:
    yield source(row)
    for paper in (row.paper, getattr(row, "also", None)):
        if paper is not None:
            yield ""
            yield from bibtex(paper).splitlines()
