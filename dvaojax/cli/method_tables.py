"""The tables of `dvaojax methods`, for a terminal and in Markdown."""

from collections.abc import Iterable, Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dvaojax import aggregators, allocation, losses
from dvaojax.aggregators import AggregatorRow
from dvaojax.allocation import AllocationRow
from dvaojax.cli import docstrings, method_page
from dvaojax.errors import UserError, nearest
from dvaojax.losses import LossRow

_WIDTH = 132  # of the widest table; a narrower terminal breaks its lines

_DERIVED = {
    "needs": "inputs in addition to rewards and weights: the `lengths` of the completions, a "
    "random `key`, the `norms` of the gradients, which take a forward pass, several `scores` of "
    "each completion (`rewards.repeats`), or a `state` that is carried from step to step and "
    "checkpointed.",
    "per objective": "knobs that may differ between objectives, such as a threshold.",
}
_AGGREGATOR_HEADINGS = (
    *("order", "scale", "shift", "bound", "zero_sum", "conflict"),
    *("needs", "per objective", "cost", "paper"),
)
_LOSS_HEADINGS = ("unit", "bound", "beyond", "scales", "leaves", "mean over", "paper")
_ALLOCATION_HEADINGS = ("looks_at", "most", "paper")


def print_tables() -> None:
    """Prints the tables with explanations of their columns."""
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(_aggregators())
    headings = ("family", *_AGGREGATOR_HEADINGS)
    _explain(console, docstrings.parse(AggregatorRow).entries | _DERIVED, headings)
    console.print(_other_functions())
    console.print(_losses())
    _explain(console, docstrings.parse(LossRow).entries, _LOSS_HEADINGS)
    console.print(_other_losses())
    console.print(_allocation_rules())
    _explain(console, docstrings.parse(AllocationRow).entries, _ALLOCATION_HEADINGS)
    console.print("dvaojax methods NAME: equation, similar methods, knobs, BibTeX entry")


def known_name(name: str) -> str:
    """The name in this package of a method, by this name or by that in a paper.

    Raises:
        UserError: there is none; the line names the nearest.
    """
    names = (
        *(*aggregators.ROWS, *aggregators.OTHER_FUNCTIONS),
        *(*losses.ROWS, *losses.OTHERS, *allocation.ROWS),
    )
    written = name.lower().replace("+", "_plus").replace("-", "_").replace(".", "_")
    written = {**aggregators.ALIASES, **losses.ALIASES}.get(written, written)
    if written in names:
        return written
    begun = [known for known in names if known.startswith(written)]
    raise UserError(f"unknown method {name!r}; did you mean {nearest(written, begun or names)!r}?")


def markdown(kind: str) -> str:
    """The table of a README.

    Args:
        kind: "aggregators" or "losses".
    """
    head, rows = {"aggregators": _aggregator_cells, "losses": _loss_cells}[kind]()
    lines = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([next(lines), "|---" * len(head) + "|", *lines])


def _aggregator_cells() -> tuple[list[str], Iterator[list[str]]]:
    rows = (
        [f"`{name}`", _cell(row.equation), _link(row)] for name, row in aggregators.ROWS.items()
    )
    return ["name", "advantage", "paper"], rows


def _loss_cells() -> tuple[list[str], Iterator[list[str]]]:
    def cells(name: str, row: LossRow) -> list[str]:
        knobs = " ".join(f"`{knob}={v:g}`" for knob, v in losses.knobs_of(row.method).items())
        return [f"`{name}`", _cell(row.equation), knobs, _mean_over(row), _link(row)]

    rows = (cells(name, row) for name, row in losses.ROWS.items())
    return ["name", "to be maximised", "knobs", "mean over", "paper"], rows


def _cell(markdown_text: str) -> str:
    return markdown_text.replace("|", "\\|")


def _link(row: AggregatorRow | LossRow) -> str:
    """The source with a link to the paper."""
    paper = row.paper
    return row.credit.format(f"[{paper.name}]({paper.link})" if paper else "")


def _aggregators() -> Table:
    """Rewards to advantages, by family."""
    table = _table("advantages", _AGGREGATOR_HEADINGS)
    for family in dict.fromkeys(row.family for row in aggregators.ROWS.values()):
        table.add_section()
        table.add_row(Text(family, style="italic"))
        for name, row in aggregators.ROWS.items():
            if row.family == family:
                table.add_row(f"  {name}", *_cells(row))
    return table


def _cells(row: AggregatorRow) -> Iterable[str]:
    needs = {
        "lengths": aggregators.needs_lengths(row.method),
        "key": aggregators.needs_key(row.method),
        "norms": not {*aggregators.further_arguments(row.method)}.isdisjoint(aggregators.NORMS),
        "scores": "scores" in aggregators.needs_of(row.method),
        "state": aggregators.is_factory(row.method),
    }
    yield from (row.order, row.scale, row.shift, row.bound, method_page.text_of(row.zero_sum))
    yield row.conflict
    yield ", ".join(name for name, is_needed in needs.items() if is_needed)
    yield ", ".join(sorted(aggregators.knobs_per_objective(row.method)))
    yield row.cost
    yield method_page.source(row)


def _other_functions() -> Table:
    """Functions with other inputs than those of the aggregators of a run."""
    table = _table("for your own training loop", ("takes", "in a run", "paper"))
    for name, row in aggregators.OTHER_FUNCTIONS.items():
        table.add_row(f"  {name}", row.takes, row.use, method_page.source(row))
    return table


def _losses() -> Table:
    """Advantages to a loss."""
    table = _table("losses", _LOSS_HEADINGS)
    for name, row in losses.ROWS.items():
        cells = (row.unit, row.bound, row.beyond, row.scales, row.leaves, _mean_over(row))
        table.add_row(f"  {name}", *map(method_page.text_of, cells), method_page.source(row))
    return table


def _other_losses() -> Table:
    """Losses of pairs, and methods that leave out tokens of any loss."""
    table = _table("pairs and masks", ("takes", "setting", "paper"))
    for name, row in losses.OTHERS.items():
        table.add_row(f"  {name}", row.takes, row.use, method_page.source(row))
    return table


def _mean_over(row: LossRow) -> str:
    """The unit of the default reduction's mean."""
    means: Mapping[losses.Reduction, str] = {
        losses.token_mean: "tokens",
        losses.sequence_mean: "sequences",
    }
    return means[losses.reduction_of(row.method)]


def _allocation_rules() -> Table:
    """Statistics of problems to their numbers of completions."""
    table = _table("completions of each problem", _ALLOCATION_HEADINGS)
    for name, row in allocation.ROWS.items():
        table.add_row(f"  {name}", row.looks_at, row.most, method_page.source(row))
    return table


def _table(first: str, others: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading.replace("_", " "))
    return table


def _explain(console: Console, entries: Mapping[str, str], headings: Iterable[str]) -> None:
    """Prints the meanings of the columns below their table."""
    meanings = {heading: entries[heading] for heading in headings if heading in entries}
    for line in method_page.described(meanings, method_page.WIDTH):
        console.print(Text(line))
