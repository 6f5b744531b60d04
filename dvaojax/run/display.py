"""Progress display of a run: a live table in a terminal, one line per step elsewhere."""

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dvaojax.errors import printable


class Display:
    """Shows the latest step of a run, objective by objective.

    A context manager: the live table appears with the first step and remains visible after leaving.
    Without a terminal, and in one that cannot move its cursor (`TERM=dumb`), nothing is redrawn,
    and every step is one line.
    """

    def __init__(
        self,
        objectives: Sequence[str],
        weights: Sequence[float],
        num_steps: int,
        console: Console | None = None,
    ):
        """Prepares the table.

        Args:
            objectives: `K` names, one row each.
            weights: `[K]` configured weights.
            num_steps: steps of the whole run.
            console: standard output by default.
        """
        self._weights = dict(zip(objectives, weights, strict=True))
        self._num_steps = num_steps
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._first_rewards: dict[str, float] = {}
        self._time_left = TimeLeft()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the table as it is; everything printed afterwards is below it."""
        self._live.stop()

    @contextlib.contextmanager
    def waiting(self, line: str) -> Iterator[None]:
        """Shows a line with its duration, such as `compiling ... 41 s`, while the body runs.

        In a terminal the seconds are counted; elsewhere they are added at the end.

        Args:
            line: what the body does.
        """
        begun = time.monotonic()
        if self._live.is_started:
            with self._counting(line, begun):
                yield
            self.print(f"{line} ... {time.monotonic() - begun:.0f} s")
            return
        self._console.print(f"{line} ...", end="", markup=False, soft_wrap=True)
        outcome = "stopped"
        try:
            yield
            outcome = f"{time.monotonic() - begun:.0f} s"
        finally:
            self.print(f" {outcome}")

    @contextlib.contextmanager
    def _counting(self, line: str, begun: float) -> Iterator[None]:
        """Shows the line and its seconds below what is printed, from a thread of its own."""
        shown, done = self._live.renderable, threading.Event()

        def count() -> None:
            while not done.wait(0.5):
                text = Text(f"{line} ... {time.monotonic() - begun:.0f} s", style="dim")
                self._live.update(text, refresh=True)

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._live.update(shown, refresh=True)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows a step.

        Args:
            step: number of the step, from 1.
            metrics: row of the step, with the names of `dvaojax.run.metrics`; a missing value is
                shown as a dash.
        """
        known = {name: value for name, value in metrics.items() if math.isfinite(value)}
        for objective in self._weights:
            if f"reward/{objective}" in known:
                self._first_rewards.setdefault(objective, known[f"reward/{objective}"])
        facts = self._facts(step, known)
        if self._live.is_started:
            footer = Text(" · ".join(facts), style="dim")
            self._live.update(Group(self._table(known), footer), refresh=True)
        else:
            rewards = [f"{name} {_number(known.get(f'reward/{name}'))}" for name in self._weights]
            line = " · ".join([facts[0], *rewards, *facts[1:]])
            self._console.print(printable(line), markup=False, soft_wrap=True)

    def print(self, line: str) -> None:
        """Prints a line above the table, or below it once the display is closed.

        Control characters are escaped.
        """
        self._console.print(printable(line), markup=False, soft_wrap=True)

    def _table(self, known: Mapping[str, float]) -> Table:
        table = Table(header_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("objective")
        for header in ("reward", "since start", "spread", "weight", "effective weight"):
            table.add_column(header, justify="right")
        for objective, weight in self._weights.items():
            reward, first = known.get(f"reward/{objective}"), self._first_rewards.get(objective)
            change = None if reward is None or first is None else reward - first
            table.add_row(
                Text(printable(objective)),
                _number(reward),
                Text(_number(change, "+.3f"), style=_colour(change)),
                _number(known.get(f"spread/{objective}")),
                _number(weight, "g"),
                _number(known.get(f"effective_weight/{objective}")),
            )
        return table

    def _facts(self, step: int, known: Mapping[str, float]) -> list[str]:
        """Values of the whole step; the first one is its number."""
        return [
            f"step {step}/{self._num_steps}",
            f"agreement {_number(known.get('agreement'), '.2f')}",
            f"zero-variance groups {_number(known.get('zero_variance_groups'), '.0%')}",
            *self._unscored(known),
            f"length {_number(known.get('completion_length'), '.1f')} tokens",
            f"{_number(known.get('tokens_per_second'), ',.0f')} tokens/s",
            f"{self._time_left(step, self._num_steps)} left",
        ]

    def _unscored(self, known: Mapping[str, float]) -> list[str]:
        """The number of rewards whose scoring failed; empty if there are none."""
        count = sum(known.get(f"unscored/{name}", 0.0) for name in self._weights)
        return [f"{count:.0f} rewards not scored"] if count else []


class TimeLeft:
    """Estimates the time left of repeated work, from the mean duration since the first call.

    The first unit of work does not count: it may compile.
    """

    def __init__(self):
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> str:
        """The time left, as text.

        Args:
            done: units of work done so far.
            total: units of the whole work.
        """
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        first, then = self._first
        if done == first:
            return _duration(None if done < total else 0.0)
        return _duration((now - then) / (done - first) * (total - done))


def _number(value: float | None, form: str = ".3f") -> str:
    return "—" if value is None else format(value, form)


def _duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, such as `1:02:03` or `4:05`."""
    if seconds is None:
        return "—"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _colour(change: float | None) -> str:
    """Green for an increase and red for a decrease that is visible with three digits."""
    if change is None or abs(change) < 0.0005:
        return ""
    return "green" if change > 0 else "red"
