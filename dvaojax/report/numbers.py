"""Formatting of numbers, and round numbers for the ticks of axes."""

import math

import numpy as np

NOTHING = "—"


def number(value: float | None) -> str:
    """Four digits, or all digits of a large number: `0.9863`, `12,345`, `5.96e-14`."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0.0:
        return "0"
    if abs(value) >= 1000.0:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """`0.45 s`, `48 s`, `2 min 51 s`, `3 h 5 min`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 10.0:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Bytes: `812 B`, `79 kB`, `3.1 MB`."""
    if count < 1000:
        return f"{count} B"
    kilobytes = count / 1000.0
    return f"{kilobytes:.0f} kB" if kilobytes < 1000.0 else f"{kilobytes / 1000.0:.1f} MB"


def ticks(low: float, high: float) -> list[float]:
    """Equidistant round numbers that cover the range from `low` to `high`.

    The distance is 1, 2, 2.5 or 5 times a power of ten, chosen to leave little of the axis empty
    and to divide it into about four parts.

    Args:
        low: the smallest value to be shown.
        high: the largest; at least `low`.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a single value is shown from 0
        low, high = min(low, 0.0), max(high, 0.0) or float(low == 0.0)
    power = 10.0 ** math.floor(math.log10(high - low))
    steps = [power * m for m in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5)]
    # A value beyond a tick by a rounding error does not need another tick.
    ends = [(math.floor(low / s + 1e-4), math.ceil(high / s - 1e-4), s) for s in steps]

    def cost(first: int, last: int, step: float) -> float:
        return (last - first) * step / (high - low) + 0.06 * abs(last - first - 4)

    first, last, step = min((e for e in ends if e[1] - e[0] <= 7), key=lambda e: cost(*e))
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def label(tick: float, step: float) -> str:
    """The label of a tick, with enough decimals to distinguish it from the next.

    Args:
        tick: its value.
        step: the distance to the next.
    """
    if abs(tick) >= 1e6 or step < 1e-5:
        return f"{tick:.3g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if not math.isclose(step, round(step, decimals), rel_tol=1e-6):
        decimals += 1  # the 5 of 2.5
    return f"{tick:,.{decimals}f}"


def spaced(count: int, *, at_most: int) -> np.ndarray:
    """Indices `[N]` below `count`: all, or at most `at_most` evenly spaced ones with both ends."""
    if count <= at_most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, at_most).round().astype(int))
