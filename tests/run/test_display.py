"""Display of a run: a table in a terminal, lines elsewhere."""

import io
import math
import time

import pytest
from rich.console import Console

from dvaojax.run import display
from dvaojax.run.display import Display

ROW = {
    "reward/accuracy": 0.5,
    "reward/brevity": 0.75,
    "spread/accuracy": 0.25,
    "spread/brevity": 0.125,
    "effective_weight/accuracy": 1.5,
    "agreement": 0.8,
    "zero_variance_groups": 0.25,
    "completion_length": 17.25,
    "tokens_per_second": 12345.6,
}


def show(*, terminal, rows=(ROW,), width=100, term="xterm"):
    """Output of the display for some rows."""
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=terminal,
        width=width,
        color_system=None,
        _environ={"TERM": term},
    )
    with Display(["accuracy", "brevity"], [1.0, 0.5], 10, console) as shown:
        shown.print("run runs/a [resumed]")
        for step, row in enumerate(rows, start=1):
            shown.update(step, row)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_names_and_messages_cannot_control_the_terminal(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    name = "safe\x1b]0;owned\x07"
    with Display([name], [1.0], 1, console) as shown:
        shown.print("HTTP 401: \x1b[31mno\x9b2J\u202e")
        shown.update(1, {f"reward/{name}": 0.5})
    text = out.getvalue()
    assert r"safe\x1b]0;owned\x07" in text
    assert r"HTTP 401: \x1b[31mno\x9b2J\u202e" in text
    assert not [part for part in ("\x1b]", "\x07", "\x1b[31m", "\x9b", "\u202e") if part in text]


@pytest.fixture
def clock(monkeypatch):
    ticks = iter(range(100, 10_000, 30))
    monkeypatch.setattr(display.time, "monotonic", lambda: float(next(ticks)))


def test_prints_one_line_per_step_without_a_terminal(clock):
    better = ROW | {"reward/accuracy": 0.9}
    lines = show(terminal=False, rows=[ROW, better, better], width=40).splitlines()
    assert lines == [
        "run runs/a [resumed]",
        "step 1/10 · accuracy 0.500 · brevity 0.750 · agreement 0.80 · zero-variance groups 25% · "
        "length 17.2 tokens · 12,346 tokens/s · — left",
        # At 30 seconds per step, 8 steps take 4 minutes and 7 steps 3.5.
        "step 2/10 · accuracy 0.900 · brevity 0.750 · agreement 0.80 · zero-variance groups 25% · "
        "length 17.2 tokens · 12,346 tokens/s · 4:00 left",
        "step 3/10 · accuracy 0.900 · brevity 0.750 · agreement 0.80 · zero-variance groups 25% · "
        "length 17.2 tokens · 12,346 tokens/s · 3:30 left",
    ]


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_prints_one_line_per_step_in_a_terminal_without_a_cursor(clock, term):
    lines = show(terminal=True, rows=[ROW, ROW], term=term).splitlines()
    assert [line.split(" · ")[0] for line in lines] == [
        "run runs/a [resumed]",
        "step 1/10",
        "step 2/10",
    ]
    assert not any("\x1b" in line for line in lines)


def waited(*, terminal, seconds=0.0):
    """Output of a wait, and of a step after it."""
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=100, color_system=None, _environ={"TERM": "xterm"}
    )
    with Display(["accuracy"], [1.0], 10, console) as shown:
        with shown.waiting("compiling the [update]"):
            time.sleep(seconds)
        shown.update(1, ROW)
    return out.getvalue()


def test_a_wait_is_one_line_with_its_duration():
    assert waited(terminal=False).startswith("compiling the [update] ... 0 s\nstep 1/10 ")


def test_a_terminal_counts_the_seconds_of_a_wait():
    shown = waited(terminal=True, seconds=1.3)
    counted = shown.split("compiling the [update] ... ")
    assert len(counted) >= 4  # at least two updates, and the line that remains
    assert counted[-1].startswith("1 s\n")
    assert "step 1/10" in counted[-1]


def test_a_wait_that_fails_leaves_the_line_complete():
    out = io.StringIO()
    display = Display(["accuracy"], [1.0], 10, Console(file=out, width=100))
    with pytest.raises(RuntimeError), display.waiting("compiling the update"):
        raise RuntimeError
    assert out.getvalue() == "compiling the update ... stopped\n"


def test_lines_after_closing_are_below_the_table():
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=100, color_system=None, _environ={"TERM": "xterm"}
    )
    with Display(["accuracy"], [1.0], 10, console) as shown:
        shown.update(1, ROW)
        shown.close()
        shown.print("the result")
    assert out.getvalue().rstrip().endswith("the result")


def test_shows_one_table_row_per_objective_in_a_terminal(clock):
    better = ROW | {"reward/accuracy": 0.9, "reward/brevity": 0.7}
    shown = show(terminal=True, rows=[ROW, better], width=120)
    assert "run runs/a [resumed]" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.split()}
    assert rows["accuracy"] == ["0.900", "+0.400", "0.250", "1", "1.500"]
    assert rows["brevity"] == ["0.700", "-0.050", "0.125", "0.5", "—"]
    footer = "step 2/10 · agreement 0.80 · zero-variance groups 25% · length 17.2 tokens"
    assert f"{footer} · 12,346 tokens/s · 4:00 left" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_shows_missing_values_as_a_dash(terminal):
    shown = show(terminal=terminal, rows=[{}, {"reward/accuracy": math.nan, "agreement": math.inf}])
    assert "agreement —" in shown
    assert "nan" not in shown
    assert "inf" not in shown


def test_reward_change_starts_at_the_first_value(clock):
    rows = [{}, {"reward/accuracy": 0.25}, {"reward/accuracy": 0.5}]
    accuracy = [line.split() for line in show(terminal=True, rows=rows).splitlines()]
    assert [line for line in accuracy if "accuracy" in line][-1][1:3] == ["0.500", "+0.250"]


def test_formats_durations_as_hours_minutes_seconds(clock):
    text = show(terminal=False, rows=[{}] * 10).splitlines()
    assert text[-1].endswith("0:00 left")
    long = Display(["a"], [1.0], 1000, Console(file=io.StringIO()))
    long.update(1, {})
    assert long._time_left(2, 1000) == "8:19:00"  # 998 steps of 30 seconds
