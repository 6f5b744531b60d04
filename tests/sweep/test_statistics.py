"""Hypervolumes, gains and means of artificial results; tables and plots of them."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from little_sweep import changed
from rich.console import Console

from dvaojax.sweep import figures
from dvaojax.sweep.display import SweepDisplay
from dvaojax.sweep.grid import cell_keys
from dvaojax.sweep.report import report
from dvaojax.sweep.statistics import findings, fronts

SEEDED = changed(seeds=range(6))


def row(key, after):
    before = dict.fromkeys(("digits", "pluses", "brevity"), 0.25)
    after = dict(zip(before, after, strict=True))
    return {**key._asdict(), "step": 2, "before": before, "after": after}


def rewards(key):
    """Two points of a front for each method; they depend on the seed, and GDPO's are better."""
    reach = 0.5 + 0.01 * key.seed + (0.2 if key.method == "gdpo" else 0.0)
    if key.trade_off == "digits":
        return (reach, 0.4, 1.0)
    return (0.3, reach, 1.0)


ROWS = {key: row(key, rewards(key)) for key in cell_keys(SEEDED)}


def inclusion_exclusion(points):
    """The hypervolume of a few points by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            total -= (-1) ** size * np.prod(np.min(some, axis=0))
    return total


def test_hypervolumes_are_computed_per_seed_over_trade_offs():
    front = fronts(SEEDED, ROWS)["short", "gdpo"]
    assert front.seeds == tuple(range(6))
    expected = [
        inclusion_exclusion(
            [rewards(k) for k in cell_keys(SEEDED) if k[:3] == ("short", seed, "gdpo")]
        )
        for seed in front.seeds
    ]
    np.testing.assert_allclose(front.volumes, expected)


def test_gains_are_paired_by_seed():
    results = findings(SEEDED, ROWS)
    dvao, gdpo = results["short", "dvao"], results["short", "gdpo"]
    assert gdpo.gain.mean == pytest.approx(gdpo.volume.mean - dvao.volume.mean)
    # The effect of a seed is in both hypervolumes and cancels in the gain.
    assert gdpo.gain.high - gdpo.gain.low < 0.2 * (gdpo.volume.high - gdpo.volume.low)
    assert (dvao.gain, dvao.verdict, gdpo.verdict) == (None, "", "+")
    assert results["long", "annealed"].verdict == ""
    assert (results["long", "annealed"].p_value, dvao.p_value) == (1.0, 1.0)
    # The mean over both trade-offs; the mean seed is 2.5.
    assert dvao.means[0].mean == pytest.approx((0.3 + 0.525) / 2)


def test_verdicts_are_corrected_for_the_number_of_comparisons():
    """Significant as the only comparison, not as one of three."""
    wanted = {0: 0.2, 1: 0.1, 2: 0.15}

    def gained(key):
        first, *others = rewards(key._replace(method="dvao"))
        gain = wanted[key.seed] if (key.method, key.situation) == ("gdpo", "short") else 0.0
        return (first + gain, *others)

    def verdict(sweep):
        rows = {key: row(key, gained(key)) for key in cell_keys(sweep)}
        return findings(sweep, rows)["short", "gdpo"]

    few = changed(seeds=range(3))
    alone = verdict(
        dataclasses.replace(
            few,
            situations={"short": few.situations["short"]},
            methods={n: few.methods[n] for n in ("dvao", "gdpo")},
        )
    )
    among = verdict(few)
    assert alone.verdict == "+"
    assert among.verdict == ""
    assert among.gain == alone.gain
    assert among.p_value == pytest.approx(3 * alone.p_value)


def test_seeds_with_a_missing_trade_off_are_left_out():
    missing = next(k for k in ROWS if k[1:] == (3, "gdpo", "even"))
    some = {key: row for key, row in ROWS.items() if key != missing}
    assert fronts(SEEDED, some)[missing.situation, "gdpo"].seeds == (0, 1, 2, 4, 5)
    assert findings(SEEDED, some)[missing.situation, "gdpo"].seeds == 5
    none = {key: row for key, row in ROWS.items() if key.method != "dvao"}
    assert findings(SEEDED, none)["short", "gdpo"].gain is None


def test_report_has_expectations_and_results():
    text = report(SEEDED, findings(SEEDED, ROWS))
    assert "Expected: nothing." in text
    volume = 100 * findings(SEEDED, ROWS)["long", "gdpo"].volume.mean
    (line,) = [line for line in text.splitlines() if line.startswith("| `gdpo` |") and "+" in line][
        :1
    ]
    assert line.count(f"{volume:.1f} +") == 2
    assert len([line for line in text.splitlines() if line.startswith("| `annealed`")]) == 2
    assert report(SEEDED, {}).count("---") > 0


def test_draws_a_figure_of_each_situation(tmp_path):
    written = figures.draw(SEEDED, ROWS, findings(SEEDED, ROWS), tmp_path)
    assert [path.name for path in written] == ["short.png", "long.png"]
    assert all(path.stat().st_size > 10_000 for path in written)


def shown(rows, *, terminal):
    """Output of the display when these cells are finished."""
    console = Console(force_terminal=terminal, width=100, file=io.StringIO())
    with SweepDisplay(SEEDED, console) as display:
        display.update({})
        display.update(rows)
    return console.file.getvalue()


def test_display_counts_the_cells_of_each_method():
    some = dict(itertools.islice(ROWS.items(), 7))
    words = shown(some, terminal=True).split()
    last = len(words) - words[::-1].index("dvao") - 1
    table = words[last:]
    assert table[:3] == ["dvao", "4/12", "0/12"]
    assert table[3:6] == ["gdpo", "3/12", "0/12"]
    assert table[6:8] == ["annealed", "0/12"]
    lines = shown(some, terminal=False)
    assert "7 of 60 cells" in lines
    assert "digits 0.25 to" in lines
