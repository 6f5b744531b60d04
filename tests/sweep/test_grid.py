"""The grid of a sweep: product of its axes, and one-line errors for invalid sweeps."""

import dataclasses
import itertools

import pytest
from little_sweep import BASE, SWEEP, Signs, changed

from dvaojax.config import AggregatorConfig
from dvaojax.errors import UserError
from dvaojax.sweep.execution import share_of
from dvaojax.sweep.grid import CellKey, cell_at, cell_keys, check, representative_keys


def test_grid_is_the_product_of_the_axes_ordered_by_start():
    grid = cell_keys(SWEEP)
    assert len(grid) == len(set(grid)) == 2 * 2 * (2 + 3)
    starts = [(key.situation, key.seed) for key in grid]
    assert len(set(starts)) == 1 + sum(a != b for a, b in itertools.pairwise(starts))
    assert {key.situation for key in grid if key.method == "annealed"} == {"long"}


def test_cell_is_the_base_with_the_settings_of_its_key():
    config = cell_at(SWEEP, CellKey("long", 1, "annealed", "digits")).config
    assert config == dataclasses.replace(
        BASE,
        seed=1,
        task=dataclasses.replace(BASE.task, long=16),
        aggregator=AggregatorConfig("rvpo_annealed", options=("num_steps=2",)),
        weights={"digits": 0.8, "pluses": 0.1, "brevity": 0.1},
    )


def test_representative_cells_have_every_value_and_every_method_in_each_situation():
    checked = representative_keys(SWEEP)
    for field in CellKey._fields:
        assert {getattr(k, field) for k in checked} == {getattr(k, field) for k in cell_keys(SWEEP)}
    pairs = {(key.situation, key.method) for key in cell_keys(SWEEP)}
    assert {(key.situation, key.method) for key in checked} == pairs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "seeds has no value"),
        ({"against": "dvoa"}, "against names 'dvoa', the nearest is dvao"),
        ({"only": {"gpdo": "long"}}, "only names 'gpdo', the nearest is gdpo"),
        ({"only": {"gdpo": "lnog"}}, "only names 'lnog', the nearest is long"),
        ({"expected": {"shrot": "?"}}, "expected names 'shrot', the nearest is short"),
        ({"trade_offs": {"x": ("aggregator=grpo",)}}, "trade-off x sets the method"),
        (
            {"methods": {"dvao": ("aggregator=dvo",)}},
            "short, 0, dvao, even: aggregator.name: unknown",
        ),
        ({"situations": {"s": ("task.lnog=3",)}}, "did you mean 'task.long'?"),
        ({"situations": {"s": ("pipeline_depth=1",)}}, "a sweep needs on-policy runs"),
        ({"situations": {"s": ("pretrained=a/b",)}}, "a sweep starts from random parameters"),
    ],
)
def test_check_names_the_invalid_part(changes, message):
    changes.setdefault("expected", {})
    if "situations" in changes or "methods" in changes:
        changes["only"] = {}
    with pytest.raises(UserError, match=message) as error:
        check(changed(**changes))
    assert "\n" not in str(error.value)


def test_check_accepts_a_valid_sweep():
    check(SWEEP)


@dataclasses.dataclass(frozen=True)
class Renamed(Signs):
    """The same objectives under other names."""

    @property
    def objectives(self):
        return {name.upper(): reward for name, reward in super().objectives.items()}


def test_check_rejects_cells_with_other_objectives(monkeypatch):
    original = cell_at(SWEEP, cell_keys(SWEEP)[-1])
    weights = {name.upper(): 1.0 for name in BASE.weights}
    other = dataclasses.replace(original.config, task=Renamed(), weights=weights)
    monkeypatch.setattr(
        "dvaojax.sweep.grid.cell_at", lambda sweep, key: original._replace(config=other)
    )
    with pytest.raises(UserError, match="the objectives are DIGITS"):
        check(SWEEP)


@pytest.mark.parametrize(("seeds", "shares"), [(4, 2), (5, 2), (2, 3), (1, 2)])
def test_shares_partition_the_grid_evenly_by_seed(seeds, shares):
    sweep = changed(seeds=range(seeds), only={})
    parts = [list(share_of(sweep, share, shares)) for share in range(shares)]
    assert sorted(key for part in parts for key in part) == sorted(cell_keys(sweep))
    assert max(map(len, parts)) - min(map(len, parts)) <= len(cell_keys(sweep)) // seeds
    seeds_of_parts = [{key.seed for key in part} for part in parts]
    for seed in range(seeds // shares * shares):
        assert sum(seed in part for part in seeds_of_parts) == 1
