"""`dvaojax methods`: what there is to choose from, as tables; or one of them in full."""

import argparse
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dvaojax import aggregators, losses
from dvaojax.aggregators._core.aggregator import needs_key
from dvaojax.aggregators.catalogue import BESIDE, CATALOGUE, OTHER_NAMES, Method
from dvaojax.allocation import catalogue as of_shares
from dvaojax.cli import docstrings, method_page
from dvaojax.errors import UserError, nearest
from dvaojax.losses import catalogue as of_losses

_WIDTH = 132  # of the widest table; a narrower terminal breaks its lines

_COMPUTED = {
    "needs": "besides rewards and weights: the `lengths` of the completions, a random `key`, or a "
    "`state` that remembers earlier steps and is checkpointed.",
    "to be told": "knobs in which objectives may differ, such as a threshold: what it has to know "
    "of each reward.",
}


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables, or the page of the method that the arguments name; returns 0."""
    if arguments.name is not None:
        print(method_page.page(_known(arguments.name)))
        return 0
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(_of_advantages())
    _explain(console, docstrings.explain(Method).entries | _COMPUTED, ("family", *_HEADINGS))
    console.print(_of_functions())
    console.print(_of_losses())
    _explain(console, docstrings.explain(of_losses.Entry).entries, _HEADINGS_OF_LOSSES)
    console.print(_of_shares())
    _explain(console, docstrings.explain(of_shares.Entry).entries, _HEADINGS_OF_SHARES)
    console.print("dvaojax methods NAME: its equation, what it is confused with, knobs, BibTeX")
    return 0


def _known(name: str) -> str:
    """The name here of the method that is called `name` here or in a paper.

    Raises:
        UserError: there is none; the line names the nearest that is.
    """
    names = (*CATALOGUE, *BESIDE, *of_losses.CATALOGUE, *of_shares.CATALOGUE)
    written = name.lower().replace("+", "_plus").replace("-", "_").replace(".", "_")
    written = (OTHER_NAMES | of_losses.OTHER_NAMES).get(written, written)
    if written in names:
        return written
    begun = [known for known in names if known.startswith(written)]
    raise UserError(f"unknown method {name!r}; did you mean {nearest(written, begun or names)!r}?")


_HEADINGS = (
    *("order", "scale", "shift", "bound", "zero_sum", "conflict"),
    *("needs", "to be told", "cost", "paper"),
)


def _of_advantages() -> Table:
    """Rewards to advantages, family by family."""
    table = _table("advantages", _HEADINGS)
    for family in dict.fromkeys(row.family for row in CATALOGUE.values()):
        table.add_section()
        table.add_row(Text(family, style="italic"))
        for name, row in CATALOGUE.items():
            if row.family == family:
                table.add_row(f"  {name}", *_cells(name, row))
    return table


def _cells(name: str, row: Method) -> Iterable[str]:
    method = aggregators.METHODS[name]
    needs = {
        "lengths": aggregators.needs_lengths(method),
        "key": needs_key(method),
        "state": name in aggregators.STATEFUL,
    }
    yield from (row.order, row.scale, row.shift, row.bound, method_page.shown(row.zero_sum))
    yield row.conflict
    yield ", ".join(what for what, is_needed in needs.items() if is_needed)
    yield ", ".join(sorted(aggregators.knobs_per_objective(method)))
    yield row.cost
    yield method_page.credited(row)


def _of_functions() -> Table:
    """Methods that are no aggregator of a run."""
    table = _table("for a step of your own", ("takes", "paper"))
    for name, row in BESIDE.items():
        table.add_row(f"  {name}", row.takes, method_page.credited(row))
    return table


_HEADINGS_OF_LOSSES = ("unit", "bound", "beyond", "scales", "leaves", "mean over", "paper")


def _of_losses() -> Table:
    """Advantages to a loss."""
    table = _table("losses", _HEADINGS_OF_LOSSES)
    means: dict[losses.Reduction, str] = {
        losses.token_mean: "tokens",
        losses.sequence_mean: "sequences",
    }
    for name, row in of_losses.CATALOGUE.items():
        mean = means[losses.reduction_of(losses.BY_NAME[name])]
        cells = (row.unit, row.bound, row.beyond, row.scales, row.leaves, mean)
        table.add_row(f"  {name}", *map(method_page.shown, cells), method_page.credited(row))
    return table


_HEADINGS_OF_SHARES = ("looks_at", "most", "paper")


def _of_shares() -> Table:
    """What is known of problems to their completions."""
    table = _table("completions of each problem", _HEADINGS_OF_SHARES)
    for name, row in of_shares.CATALOGUE.items():
        table.add_row(f"  {name}", row.looks_at, row.most, method_page.credited(row))
    return table


def _table(first: str, others: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading.replace("_", " "))
    return table


def _explain(console: Console, entries: dict[str, str], headings: Iterable[str]) -> None:
    """What the columns say, below their table."""
    said = {heading: entries[heading] for heading in headings if heading in entries}
    for line in method_page.described(said, method_page.WIDTH):
        console.print(Text(line))
