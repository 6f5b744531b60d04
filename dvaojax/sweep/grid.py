"""A sweep: one run for every combination of situation, method, trade-off and seed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dvaojax.config import Config, overrides, validate
from dvaojax.errors import UserError, nearest

# Strings `KEY=VALUE`, as in `dvaojax train --set`.
Settings = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The axes of a comparison.

    Every value of an axis is a label with settings. A cell of the grid takes one value of each
    axis and applies their settings to `base`.

    Attributes:
        name: of the sweep; its results are in `sweeps/NAME`.
        base: the configuration that all cells share.
        situations: problems on which the methods are compared; one plot and one table each.
        methods: the compared methods; one line in the plots and one row in the tables each.
        trade_offs: settings that trace each method's front, in order: usually the objectives'
            weights.
        seeds: repetitions; confidence intervals are over seeds.
        against: the baseline method; gains are differences to it, seed by seed.
        only: method -> the only situation in which it is run; other methods are run in all.
        expected: situation -> the expected result, stored with the results and shown above them.
    """

    name: str
    base: Config
    situations: Mapping[str, Settings]
    methods: Mapping[str, Settings]
    trade_offs: Mapping[str, Settings]
    seeds: Sequence[int]
    against: str
    only: Mapping[str, str] = dataclasses.field(default_factory=dict)
    expected: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the reward vector's columns, the same in every cell."""
        return self.base.objectives

    def methods_in(self, situation: str) -> list[str]:
        """The methods that are run in a situation."""
        return [name for name in self.methods if self.only.get(name, situation) == situation]


class CellKey(NamedTuple):
    """Position of a cell in the grid, as the labels of its values.

    Attributes:
        situation: of `Sweep.situations`.
        seed: of `Sweep.seeds`.
        method: of `Sweep.methods`.
        trade_off: of `Sweep.trade_offs`.
    """

    situation: str
    seed: int
    method: str
    trade_off: str


class Cell(NamedTuple):
    """One run of the grid.

    Attributes:
        key: its position in the grid.
        config: its configuration.
    """

    key: CellKey
    config: Config


def cell_keys(sweep: Sweep) -> list[CellKey]:
    """All cells of the grid; cells of one situation and seed, which share a start, are adjacent."""
    return [
        CellKey(situation, seed, method, trade_off)
        for situation in sweep.situations
        for seed in sweep.seeds
        for method in sweep.methods_in(situation)
        for trade_off in sweep.trade_offs
    ]


def cell_at(sweep: Sweep, key: CellKey) -> Cell:
    """The cell with a key.

    Raises:
        UserError: a setting cannot be applied.
    """
    settings = [
        *sweep.situations[key.situation],
        *sweep.methods[key.method],
        *sweep.trade_offs[key.trade_off],
        f"seed={key.seed}",
    ]
    return Cell(key, overrides.apply(sweep.base, settings))


def representative_keys(sweep: Sweep) -> list[CellKey]:
    """Some cells that together contain every value of every axis.

    These are every method in every situation with the first trade-off and seed, and every
    trade-off and seed with the first method in the first situation.
    """
    first = cell_keys(sweep)[0]
    return [
        key
        for key in cell_keys(sweep)
        if (key.trade_off, key.seed) == (first.trade_off, first.seed)
        or (key.situation, key.method) == (first.situation, first.method)
    ]


def check(sweep: Sweep) -> None:
    """Checks that the parts of a sweep are consistent, before anything is written.

    Raises:
        UserError: they are not; one line that names the part.
    """
    for axis in ("situations", "methods", "trade_offs", "seeds"):
        if not getattr(sweep, axis):
            raise UserError(f"sweep {sweep.name}: {axis} has no value")
    for what, name, known in _references(sweep):
        if name not in known:
            raise UserError(
                f"sweep {sweep.name}: {what} names {name!r}, the nearest is {nearest(name, known)}"
            )
    for label, settings in sweep.trade_offs.items():
        if any(setting.startswith("aggregator") for setting in settings):
            raise UserError(f"sweep {sweep.name}: trade-off {label} sets the method")
    for key in representative_keys(sweep):
        try:
            _check_cell(sweep, cell_at(sweep, key))
        except UserError as error:
            raise UserError(f"sweep {sweep.name}, {', '.join(map(str, key))}: {error}") from error


def _references(sweep: Sweep) -> list[tuple[str, str, Sequence[str]]]:
    """Each reference to a value of an axis: its origin, the value, and the values of that axis."""
    situations, methods = list(sweep.situations), list(sweep.methods)
    return [
        ("against", sweep.against, methods),
        *(("only", method, methods) for method in sweep.only),
        *(("only", situation, situations) for situation in sweep.only.values()),
        *(("expected", situation, situations) for situation in sweep.expected),
    ]


def _check_cell(sweep: Sweep, cell: Cell) -> None:
    config = cell.config
    validate(config)
    if config.objectives != sweep.objectives:
        actual, expected = ", ".join(config.objectives), ", ".join(sweep.objectives)
        raise UserError(f"the objectives are {actual}, but {expected} in the other cells")
    if config.pipeline_depth:
        raise UserError(f"pipeline_depth={config.pipeline_depth}: a sweep needs on-policy runs")
    if config.evaluation.every:
        raise UserError(
            f"evaluation.every={config.evaluation.every}: a sweep evaluates its runs before and "
            "after training only"
        )
    if config.pretrained:
        raise UserError(f"pretrained={config.pretrained}: a sweep starts from random parameters")
