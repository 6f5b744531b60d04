"""Volumes, gains and means against hand-made cells; tables and pictures of the same."""

import io
import itertools

import numpy as np
import pytest
from little_sweep import changed
from rich.console import Console

from dvaojax.sweep import figures
from dvaojax.sweep.grid import places
from dvaojax.sweep.progress import Progress
from dvaojax.sweep.report import report
from dvaojax.sweep.statistics import findings, fronts

SEEDED = changed(seeds=range(6))


def row(place, after):
    before = dict.fromkeys(("digits", "pluses", "brevity"), 0.25)
    after = dict(zip(before, after, strict=True))
    return {**place._asdict(), "step": 2, "before": before, "after": after}


def earned(place):
    """Two corners of a front for each method; GDPO's reaches further, by its seed's luck."""
    reach = 0.5 + 0.01 * place.seed + (0.2 if place.method == "gdpo" else 0.0)
    if place.trade_off == "digits":
        return (reach, 0.4, 1.0)
    return (0.3, reach, 1.0)


ROWS = {place: row(place, earned(place)) for place in places(SEEDED)}


def inclusion(points):
    """The volume under a few points by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            total -= (-1) ** size * np.prod(np.min(some, axis=0))
    return total


def test_volumes_are_those_of_each_seed_s_trade_offs():
    front = fronts(SEEDED, ROWS)["short", "gdpo"]
    assert front.seeds == tuple(range(6))
    expected = [
        inclusion([earned(p) for p in places(SEEDED) if p[:3] == ("short", seed, "gdpo")])
        for seed in front.seeds
    ]
    np.testing.assert_allclose(front.volumes, expected)


def test_a_gain_is_taken_seed_by_seed():
    found = findings(SEEDED, ROWS)
    dvao, gdpo = found["short", "dvao"], found["short", "gdpo"]
    assert gdpo.gain.mean == pytest.approx(gdpo.volume.mean - dvao.volume.mean)
    # The luck of a seed is in both volumes and in no gain.
    assert gdpo.gain.high - gdpo.gain.low < 0.2 * (gdpo.volume.high - gdpo.volume.low)
    assert (dvao.gain, dvao.verdict, gdpo.verdict) == (None, "", "+")
    assert found["long", "annealed"].verdict == ""
    # Half of it from each trade-off; the mean seed is 2.5.
    assert dvao.means[0].mean == pytest.approx((0.3 + 0.525) / 2)


def test_a_seed_counts_only_where_every_trade_off_was_measured():
    missing = next(p for p in ROWS if p[1:] == (3, "gdpo", "even"))
    some = {place: row for place, row in ROWS.items() if place != missing}
    assert fronts(SEEDED, some)[missing.situation, "gdpo"].seeds == (0, 1, 2, 4, 5)
    assert findings(SEEDED, some)[missing.situation, "gdpo"].seeds == 5
    none = {place: row for place, row in ROWS.items() if place.method != "dvao"}
    assert findings(SEEDED, none)["short", "gdpo"].gain is None


def test_the_report_says_what_was_expected_and_what_came():
    text = report(SEEDED, findings(SEEDED, ROWS))
    assert "Expected: nothing." in text
    volume = 100 * findings(SEEDED, ROWS)["long", "gdpo"].volume.mean
    (line,) = [line for line in text.splitlines() if line.startswith("| `gdpo` |") and "+" in line][
        :1
    ]
    assert line.count(f"{volume:.1f} +") == 2
    assert len([line for line in text.splitlines() if line.startswith("| `annealed`")]) == 2
    assert report(SEEDED, {}).count("---") > 0


def test_there_is_a_picture_of_each_situation(tmp_path):
    written = figures.draw(SEEDED, ROWS, findings(SEEDED, ROWS), tmp_path)
    assert [path.name for path in written] == ["short.png", "long.png"]
    assert all(path.stat().st_size > 10_000 for path in written)


def shown(rows, *, terminal):
    """What a person sees once these cells are measured."""
    console = Console(force_terminal=terminal, width=100, file=io.StringIO())
    with Progress(SEEDED, console) as progress:
        progress.update({})
        progress.update(rows)
    return console.file.getvalue()


def test_progress_counts_the_cells_of_each_method():
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
