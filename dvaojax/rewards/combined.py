"""Several scorers combined into one whose columns are theirs in order."""

import contextlib
from collections.abc import Sequence

import numpy as np

from dvaojax.types import Completion, Prompt, Scorer, Scores


class CombinedScorer:
    """Scores a batch with every scorer, one after the other.

    A context manager: on exit, it closes the scorers that are context managers themselves.
    """

    def __init__(self, scorers: Sequence[Scorer]):
        """Takes ownership of the scorers.

        Args:
            scorers: their objectives become the columns, in this order.

        Raises:
            ValueError: there is no objective, or two have the same name.
        """
        names = [name for scorer in scorers for name in scorer.objectives]
        if not names:
            raise ValueError("a scorer needs at least one objective")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two scorers have an objective called {twice[0]!r}")
        self._scorers = tuple(scorers)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives in the order of the columns."""
        return tuple(name for scorer in self._scorers for name in scorer.objectives)

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores every completion on every objective."""
        parts = [scorer.score(completions, prompts) for scorer in self._scorers]
        return Scores(
            rewards=np.concatenate([part.rewards for part in parts], axis=-1),
            mask=np.concatenate([part.mask for part in parts], axis=-1),
            failures={name: n for part in parts for name, n in part.failures.items()},
            messages=[message for part in parts for message in part.messages],
            measures={name: x for part in parts for name, x in part.measures.items()},
        )

    def __enter__(self) -> "CombinedScorer":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.ExitStack() as stack:
            for scorer in self._scorers:
                if isinstance(scorer, contextlib.AbstractContextManager):
                    stack.push(scorer)
