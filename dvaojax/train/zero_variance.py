"""Warns of groups that teach nothing: all of their completions have equal rewards."""

from collections import deque

from dvaojax.config import Config, compares_within_groups

WINDOW = 10  # steps whose mean share counts
_SHARE = 0.9


class ZeroVarianceWatch:
    """Says when nearly all groups of the last steps taught nothing, and repeats it ever less often.

    Methods that learn from such groups as well are not warned of.
    """

    def __init__(self, config: Config):
        self._config = config
        self._shares: deque[float] = deque(maxlen=WINDOW)
        self._pause = WINDOW
        self._next = 0

    def note(self, step: int, share: float) -> str | None:
        """A warning after a step, if there is reason for one.

        Args:
            step: its number.
            share: share of its groups whose completions all have equal rewards.
        """
        self._shares.append(share)
        mean = sum(self._shares) / len(self._shares)  # NaN if no reward applied in a step
        if len(self._shares) < WINDOW or not mean >= _SHARE or step < self._next:
            return None
        if not compares_within_groups(self._config, group_size=self._config.group_size):
            self._next = self._config.num_steps + 1
            return None
        self._next, self._pause = step + self._pause, 2 * self._pause
        return (
            f"step {step}: in {mean:.0%} of the groups of the last {WINDOW} steps all completions "
            "have equal rewards, and such groups teach nothing; try easier or harder problems, a "
            "larger group_size, another sampling.temperature, graded rewards, or "
            "allocation.refills=2"
        )
