"""The grid is the product of its axes, and what does not fit is refused in one line."""

import dataclasses
import itertools

import pytest
from little_sweep import BASE, SWEEP, Signs, changed

from dvaojax.errors import UserError
from dvaojax.sweep.grid import Place, cell_at, check, corners, places
from dvaojax.sweep.sweeping import share_of


def test_every_combination_stands_once_and_those_of_one_start_together():
    grid = places(SWEEP)
    assert len(grid) == len(set(grid)) == 2 * 2 * (2 + 3)
    starts = [(place.situation, place.seed) for place in grid]
    assert len(set(starts)) == 1 + sum(a != b for a, b in itertools.pairwise(starts))
    assert {place.situation for place in grid if place.method == "annealed"} == {"long"}


def test_a_cell_is_the_base_with_the_settings_of_its_place():
    config = cell_at(SWEEP, Place("long", 1, "annealed", "digits")).config
    assert config == dataclasses.replace(
        BASE,
        seed=1,
        task=dataclasses.replace(BASE.task, long=16),
        aggregator="rvpo_annealed",
        aggregator_options=("num_steps=2",),
        weights={"digits": 0.8, "pluses": 0.1, "brevity": 0.1},
    )


def test_what_is_checked_holds_every_value_and_every_method_in_each_situation():
    tried = corners(SWEEP)
    for field in Place._fields:
        assert {getattr(p, field) for p in tried} == {getattr(p, field) for p in places(SWEEP)}
    pairs = {(place.situation, place.method) for place in places(SWEEP)}
    assert {(place.situation, place.method) for place in tried} == pairs


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seeds": ()}, "seeds has no value"),
        ({"against": "dvoa"}, "against names 'dvoa', the nearest is dvao"),
        ({"only": {"gpdo": "long"}}, "only names 'gpdo', the nearest is gdpo"),
        ({"only": {"gdpo": "lnog"}}, "only names 'lnog', the nearest is long"),
        ({"expected": {"shrot": "?"}}, "expected names 'shrot', the nearest is short"),
        ({"trade_offs": {"x": ("aggregator=grpo",)}}, "trade-off x sets the method"),
        ({"methods": {"dvao": ("aggregator=dvo",)}}, "short, 0, dvao, even: unknown aggregator"),
        ({"situations": {"s": ("task.lnog=3",)}}, "the nearest is task.long"),
        ({"situations": {"s": ("pipeline_depth=1",)}}, "a sweep's runs are on-policy"),
        ({"situations": {"s": ("pretrained=a/b",)}}, "start from a warm start"),
    ],
)
def test_what_does_not_fit_is_named(changes, complaint):
    changes.setdefault("expected", {})
    if "situations" in changes or "methods" in changes:
        changes["only"] = {}
    with pytest.raises(UserError, match=complaint) as error:
        check(changed(**changes))
    assert "\n" not in str(error.value)


def test_a_sweep_that_fits_is_left_alone():
    check(SWEEP)


@dataclasses.dataclass(frozen=True)
class Renamed(Signs):
    """The same objectives under other names."""

    @property
    def objectives(self):
        return {name.upper(): reward for name, reward in super().objectives.items()}


def test_all_cells_have_the_same_objectives(monkeypatch):
    original = cell_at(SWEEP, places(SWEEP)[-1])
    weights = {name.upper(): 1.0 for name in BASE.weights}
    other = dataclasses.replace(original.config, task=Renamed(), weights=weights)
    monkeypatch.setattr(
        "dvaojax.sweep.grid.cell_at", lambda sweep, place: original._replace(config=other)
    )
    with pytest.raises(UserError, match="the objectives are DIGITS"):
        check(SWEEP)


@pytest.mark.parametrize(("seeds", "shares"), [(4, 2), (5, 2), (2, 3), (1, 2)])
def test_shares_are_the_whole_grid_once_and_even(seeds, shares):
    sweep = changed(seeds=range(seeds), only={})
    parts = [list(share_of(sweep, share, shares)) for share in range(shares)]
    assert sorted(place for part in parts for place in part) == sorted(places(sweep))
    assert max(map(len, parts)) - min(map(len, parts)) <= len(places(sweep)) // seeds
    at_home = [{place.seed for place in part} for part in parts]
    for seed in range(seeds // shares * shares):
        assert sum(seed in home for home in at_home) == 1
