"""What a sweep shows while it goes on: a live table in a terminal, a line a cell elsewhere."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dvaojax.sweep.grid import Place, Sweep, places
from dvaojax.sweep.record import Row


class Progress:
    """Measured cells of each method in each situation, the latest of them, and the time left.

    A context manager, like `display.Display`.
    """

    def __init__(self, sweep: Sweep, console: Console | None = None):
        """Prepares the table; nothing is shown yet."""
        self._sweep = sweep
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._grid = places(sweep)
        self._begun: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def update(self, rows: Mapping[Place, Row]) -> None:
        """Shows what was measured so far."""
        done = [place for place in self._grid if place in rows]
        facts = f"{len(done)} of {len(self._grid)} cells · {self._time_left(len(done))} left"
        latest = next(reversed(list(rows.values())), None)
        lines = [facts] if latest is None else [facts, self._in_words(latest)]
        if self._live.is_started:
            texts = [Text(line, style="dim") for line in lines]
            self._live.update(Group(self._table(done), *texts), refresh=True)
        else:
            self._console.print(" · ".join(lines), markup=False, soft_wrap=True)

    def _table(self, done: list[Place]) -> Table:
        count = Counter((place.situation, place.method) for place in done)
        total = Counter((place.situation, place.method) for place in self._grid)
        table = Table(header_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("method")
        for situation in self._sweep.situations:
            table.add_column(situation, justify="right")
        for method in self._sweep.methods:
            pairs = [(situation, method) for situation in self._sweep.situations]
            table.add_row(
                method, *(f"{count[pair]}/{total[pair]}" if total[pair] else "" for pair in pairs)
            )
        return table

    def _in_words(self, row: Row) -> str:
        where = ", ".join(str(row[name]) for name in Place._fields)
        moved = ", ".join(
            f"{name} {row['before'][name]:.2f} to {row['after'][name]:.2f}"
            for name in self._sweep.objectives
        )
        return f"{where}: {moved}"

    def _time_left(self, done: int) -> str:
        """From the pace of this start."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = done, now
        first, then = self._begun
        if done == first:
            return "—"
        seconds = round((now - then) / (done - first) * (len(self._grid) - done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
