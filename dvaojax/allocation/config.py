"""How a run shares out its completions, as settings."""

import dataclasses
from collections.abc import Mapping

from dvaojax.allocation.rules import BY_NAME, make
from dvaojax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class AllocationConfig:
    """How many completions each problem of a step gets, and what becomes of silent groups.

    A step has `prompts_per_step` x `group_size` completions, however they are shared out.

    Attributes:
        name: "uniform", or a rule that goes by what is known of each problem: "neyman", "dynamo".
        options: knobs of that rule, "knob=value" each.
        objective: the one whose rewards a rule looks at; empty for all of them by their weights.
        floor: fewest completions of a problem; "uniform" needs neither this nor a cap.
        cap: most completions of a problem, and what memory is laid out for; 0 takes half as many
            again as `group_size`.
        memory: what earlier completions of a problem count at its next visit, in [0, 1].
        refills: times that a step may give the places of its silent groups, in which every
            objective is constant, to the next problems (dynamic sampling); 0 keeps them.

    Raises:
        ValueError: there is no such rule, or a setting is out of its range.
    """

    name: str = "uniform"
    options: tuple[str, ...] = ()
    objective: str = ""
    floor: int = 2
    cap: int = 0
    memory: float = 1.0
    refills: int = 0

    def __post_init__(self):
        if self.name not in BY_NAME:
            guess = nearest(self.name, BY_NAME)
            raise ValueError(f"allocation.name={self.name!r} is no rule; the nearest is {guess!r}")
        try:
            make(self.name, self.options)
        except UserError as error:
            raise ValueError(f"allocation.options: {error}") from error
        for key in ("floor", "cap", "refills"):
            if getattr(self, key) < 0:
                raise ValueError(f"allocation.{key}={getattr(self, key)} must not be negative")
        if not 0.0 <= self.memory <= 1.0:
            raise ValueError(f"allocation.memory={self.memory} must lie in [0, 1]")

    def largest(self, group_size: int) -> int:
        """`G` of a step's arrays: the most completions that a problem may get."""
        if self.name == "uniform":
            return group_size
        return self.cap or group_size + -(-group_size // 2)

    def check(self, group_size: int, weights: Mapping[str, float]) -> None:
        """Holds the settings against the run's.

        Args:
            group_size: completions of a problem on average.
            weights: objective -> weight.

        Raises:
            UserError: there is no such objective or none that counts, or floor and cap do not
                enclose the group size.
        """
        if self.objective and self.objective not in weights:
            guess = nearest(self.objective, weights)
            raise UserError(
                f"allocation.objective={self.objective!r} is unknown; the nearest is {guess!r}"
            )
        if self.name == "uniform":
            return
        cap = self.largest(group_size)
        if not self.floor <= group_size <= cap:
            raise UserError(
                f"allocation.floor={self.floor} and allocation.cap={cap} must enclose "
                f"group_size={group_size}, the completions of a problem on average"
            )
        if not self.objective and not any(weights.values()):
            raise UserError(
                f"allocation.name={self.name} looks at objectives by their weights, and all are "
                "0: set allocation.objective"
            )
