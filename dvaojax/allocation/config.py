"""The settings for distributing completions over problems."""

import dataclasses
from collections.abc import Mapping
from functools import partial

import numpy as np

from dvaojax import plugins
from dvaojax.allocation.gradalign import MODES
from dvaojax.allocation.methods import ROWS
from dvaojax.allocation.rules import check_sizes, find, make
from dvaojax.allocation.selection import SelectionConfig
from dvaojax.allocation.statistics import initial_statistics
from dvaojax.errors import UserError, suggest

COUNTS = ("rewards", "above_mean")
"""The values of `AllocationConfig.counts`."""


@dataclasses.dataclass(frozen=True)
class AllocationConfig:
    """Completions of each problem of a step, zero-variance groups, and the choice of problems.

    A step always has `prompts_per_step` x `group_size` completions.

    Attributes:
        name: a key of `allocation.BY_NAME`, or a plug-in, "my_file.py:my_rule" or
            "module:my_rule"; "uniform" keeps no statistics.
        options: knobs of that rule, "knob=value" each.
        counts: what the statistics of a problem are of: "rewards", or "above_mean", which is 1 for
            a reward above the mean of its objective over the step and else 0, for graded rewards.
        objective: the objective whose rewards a rule uses; empty for the weighted sum of all.
        floor: fewest completions of a problem; "uniform" and "gradalign" ignore `floor` and `cap`.
        cap: most completions of a problem, which determines the array shapes; 0 means 1.5 times
            `group_size`.
        memory: weight in [0, 1] of a problem's earlier completions at its next visit; 0 counts the
            latest only, as the official code of "gradalign" does.
        refills: how many times a step may replace its zero-variance groups, in which every
            objective is constant, by the next problems (dynamic sampling); 0 keeps them.
        selection: how "gradalign" chooses problems.

    Raises:
        ValueError: there is no such rule, or a setting is out of its range.
    """

    name: str = "uniform"
    options: tuple[str, ...] = ()
    counts: str = "rewards"
    objective: str = ""
    floor: int = 2
    cap: int = 0
    memory: float = 1.0
    refills: int = 0
    selection: SelectionConfig = SelectionConfig()

    def __post_init__(self):
        if not plugins.is_plugin(self.name):  # user code is loaded by `check`, not by reading
            self._check_options()
        if self.counts not in COUNTS:
            raise ValueError(f"allocation.counts: unknown {suggest(self.counts, COUNTS)}")
        for key in ("floor", "cap", "refills"):
            if getattr(self, key) < 0:
                raise ValueError(f"allocation.{key}={getattr(self, key)} must not be negative")
        if not 0.0 <= self.memory <= 1.0:
            raise ValueError(f"allocation.memory={self.memory} must lie in [0, 1]")

    def _check_options(self) -> None:
        try:
            find(self.name)
        except UserError as error:
            raise UserError(f"allocation.name: {error}") from error
        try:
            make(self.name, self.options)
        except UserError as error:
            raise UserError(f"allocation.options: {error}") from error

    @property
    def selects(self) -> bool:
        """Whether problems are chosen among candidates."""
        return self.name == "gradalign"

    @property
    def measures_gradients(self) -> bool:
        """Whether the rule depends on the gradients of single completions."""
        return self.name in ROWS and ROWS[self.name].looks_at == "gradients"

    @property
    def evidence(self) -> str:
        """The basis of the choices of `gradalign`, a value of `MODES`."""
        settings = dict(option.split("=", 1) for option in self.options)
        return MODES[settings.get("mode", "sim")]

    def largest(self, group_size: int) -> int:
        """`G` of a step's arrays: the most completions that a problem may get."""
        if self.name == "uniform" or self.selects:
            return group_size
        return self.cap or group_size + -(-group_size // 2)

    def check(self, group_size: int, weights: Mapping[str, float]) -> None:
        """Compares the settings with those of the run.

        Args:
            group_size: completions of a problem on average.
            weights: objective -> weight.

        Raises:
            UserError: there is no such rule or objective, all weights are 0, or floor and cap do
                not enclose the group size.
        """
        self._check_options()
        if self.objective and self.objective not in weights:
            raise UserError(f"allocation.objective: unknown {suggest(self.objective, weights)}")
        if self.name == "uniform":
            return
        if not self.objective and not any(weights.values()):
            raise UserError(
                f"allocation.name={self.name} weights the objectives, and all weights are 0: "
                "set allocation.objective"
            )
        if self.selects:
            self._try_rule(group_size, len(weights), floor=0)
            self._check_selection()
            return
        self._check_bounds(group_size)
        self._try_rule(group_size, len(weights), floor=self.floor)

    def _check_bounds(self, group_size: int) -> None:
        cap = self.largest(group_size)
        if not self.floor <= group_size <= cap:
            raise UserError(
                f"allocation.floor={self.floor} and allocation.cap={cap} must enclose "
                f"group_size={group_size}, the completions of a problem on average"
            )

    def _check_selection(self) -> None:
        """Compares the settings of rounds with each other."""
        if self.refills:
            raise UserError(
                f"allocation.refills={self.refills} takes the next problems of the stream, and "
                "gradalign chooses them in rounds: set allocation.refills=0"
            )
        if self.evidence == "trusted" and not self.selection.trusted:
            raise UserError(
                "allocation.selection.trusted=0, but this mode compares candidates with trusted "
                "problems: set their number, or allocation.options=mode=align"
            )

    def _try_rule(self, group_size: int, num_objectives: int, *, floor: int) -> None:
        """Applies the rule to problems without completions so far."""
        statistics = initial_statistics(4, num_objectives)
        budget, cap = 4 * group_size, self.largest(group_size)
        rule = partial(make(self.name, self.options), budget=budget, floor=floor, cap=cap)
        if not plugins.is_plugin(self.name):
            try:
                rule(statistics, np.ones(num_objectives))
            except ValueError as error:
                raise UserError(f"allocation.options, of {self.name}: {error}") from error
            return
        with plugins.blaming(self.name):
            sizes = np.asarray(rule(statistics, np.ones(num_objectives)))
        check_sizes(self.name, sizes, count=4, budget=budget, floor=floor, cap=cap)
