"""A sweep: one configuration under every combination of situation, method, trade-off and seed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dvaojax.config import Config, overrides, validate
from dvaojax.errors import UserError, nearest

# `KEY=VALUE` each, as `dvaojax train --set` takes them.
Settings = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is compared with what.

    Every value of an axis is a label and the settings that it makes; a cell of the grid is one
    value of each axis, applied to `base` together.

    Attributes:
        name: of the sweep; it is kept in `sweeps/NAME`.
        base: what all cells have in common.
        situations: what the methods are tried on; each has a picture and a table.
        methods: what is compared; each is a line of the pictures and a row of the tables.
        trade_offs: what traces each method's front, in order: usually the objectives' weights.
        seeds: repetitions, which intervals are over.
        against: the method that the others are held against, seed by seed.
        only: method -> the one situation that it is tried on; the others are tried on all.
        expected: situation -> what is said to happen there, kept with the results and above them.
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
        """The methods that are tried on a situation."""
        return [name for name in self.methods if self.only.get(name, situation) == situation]


class Place(NamedTuple):
    """Where a cell stands in the grid, by the labels of its values.

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
        place: where it stands.
        config: what is run.
    """

    place: Place
    config: Config


def places(sweep: Sweep) -> list[Place]:
    """All of the grid; those of one situation and seed, which share a start, follow one another."""
    return [
        Place(situation, seed, method, trade_off)
        for situation in sweep.situations
        for seed in sweep.seeds
        for method in sweep.methods_in(situation)
        for trade_off in sweep.trade_offs
    ]


def cell_at(sweep: Sweep, place: Place) -> Cell:
    """The run at a place.

    Raises:
        UserError: a setting cannot be made.
    """
    settings = [
        *sweep.situations[place.situation],
        *sweep.methods[place.method],
        *sweep.trade_offs[place.trade_off],
        f"seed={place.seed}",
    ]
    return Cell(place, overrides.apply(sweep.base, settings))


def corners(sweep: Sweep) -> list[Place]:
    """Every method in every situation with the first trade-off and seed, and every other one of
    these with the first method in the first situation."""
    first = places(sweep)[0]
    return [
        place
        for place in places(sweep)
        if (place.trade_off, place.seed) == (first.trade_off, first.seed)
        or (place.situation, place.method) == (first.situation, first.method)
    ]


def check(sweep: Sweep) -> None:
    """Holds the parts of a sweep against each other, before anything is written.

    Raises:
        UserError: they do not fit; one line that says where.
    """
    for axis in ("situations", "methods", "trade_offs", "seeds"):
        if not getattr(sweep, axis):
            raise UserError(f"sweep {sweep.name}: {axis} has no value")
    for what, name, known in _named(sweep):
        if name not in known:
            raise UserError(
                f"sweep {sweep.name}: {what} names {name!r}, the nearest is {nearest(name, known)}"
            )
    for label, settings in sweep.trade_offs.items():
        if any(setting.startswith("aggregator") for setting in settings):
            raise UserError(f"sweep {sweep.name}: trade-off {label} sets the method")
    for place in corners(sweep):
        try:
            _check_cell(sweep, cell_at(sweep, place))
        except UserError as error:
            raise UserError(f"sweep {sweep.name}, {', '.join(map(str, place))}: {error}") from error


def _named(sweep: Sweep) -> list[tuple[str, str, Sequence[str]]]:
    """What names a value of an axis, and the values there are."""
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
        found, meant = ", ".join(config.objectives), ", ".join(sweep.objectives)
        raise UserError(f"the objectives are {found}, and {meant} elsewhere")
    if config.pipeline_depth:
        raise UserError(f"pipeline_depth={config.pipeline_depth}: a sweep's runs are on-policy")
    if config.pretrained:
        raise UserError(f"pretrained={config.pretrained}: a sweep's runs start from a warm start")
