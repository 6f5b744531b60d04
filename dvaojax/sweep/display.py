"""Progress display of a sweep: a live table in a terminal, one line per cell elsewhere."""

from collections import Counter
from collections.abc import Mapping
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dvaojax.errors import printable
from dvaojax.run.display import TimeLeft
from dvaojax.sweep.directory import CellRow
from dvaojax.sweep.grid import CellKey, Sweep, cell_keys


class SweepDisplay:
    """Shows the number of finished cells by method and situation, the latest one and the time left.

    A context manager, like `dvaojax.run.display.Display`.
    """

    def __init__(self, sweep: Sweep, console: Console | None = None):
        """Prepares the table; nothing is shown yet."""
        self._sweep = sweep
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._grid = cell_keys(sweep)
        self._time_left = TimeLeft()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def update(self, rows: Mapping[CellKey, CellRow]) -> None:
        """Shows the cells finished so far."""
        done = [key for key in self._grid if key in rows]
        left = self._time_left(len(done), len(self._grid))
        facts = f"{len(done)} of {len(self._grid)} cells · {left} left"
        latest = next(reversed(list(rows.values())), None)
        lines = [facts] if latest is None else [facts, self._describe(latest)]
        if self._live.is_started:
            texts = [Text(printable(line), style="dim") for line in lines]
            self._live.update(Group(self._table(done), *texts), refresh=True)
        else:
            self._console.print(printable(" · ".join(lines)), markup=False, soft_wrap=True)

    def _table(self, done: list[CellKey]) -> Table:
        count = Counter((key.situation, key.method) for key in done)
        total = Counter((key.situation, key.method) for key in self._grid)
        table = Table(header_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("method")
        for situation in self._sweep.situations:
            table.add_column(Text(printable(situation)), justify="right")
        for method in self._sweep.methods:
            pairs = [(situation, method) for situation in self._sweep.situations]
            counts = [f"{count[pair]}/{total[pair]}" if total[pair] else "" for pair in pairs]
            table.add_row(Text(printable(method)), *counts)
        return table

    def _describe(self, row: CellRow) -> str:
        where = ", ".join(str(row[name]) for name in CellKey._fields)
        changes = ", ".join(
            f"{name} {row['before'][name]:.2f} to {row['after'][name]:.2f}"
            for name in self._sweep.objectives
        )
        return f"{where}: {changes}"
