"""Sampling settings of the papers' evaluations, by name."""

import dataclasses
from collections.abc import Mapping

from dvaojax.rollout.sampling import Sampling

_NUCLEUS = Sampling(temperature=0.6, top_p=0.95)


@dataclasses.dataclass(frozen=True)
class Preset:
    """The evaluation settings of one paper; they use all test problems.

    Attributes:
        source: the paper, and which settings it does not state.
        sampling: distribution from which tokens are drawn.
        samples: completions per problem.
        max_new_tokens: limit per completion; 0 if the paper states none, then as in training.
    """

    source: str
    sampling: Sampling
    samples: int
    max_new_tokens: int = 0


PRESETS: Mapping[str, Preset] = {
    "dvao": Preset(
        source="DVAO (arXiv 2605.25604), mathematics: avg@16; no token limit stated",
        sampling=_NUCLEUS,
        samples=16,
    ),
    "dvao-tools": Preset(
        source="DVAO (arXiv 2605.25604), tools; samples (here 1) and token limit not stated",
        sampling=_NUCLEUS,
        samples=1,
    ),
    "gdpo": Preset(
        source="GDPO (arXiv 2601.05242), mathematics: 16 samples of at most 32k tokens",
        sampling=_NUCLEUS,
        samples=16,
        max_new_tokens=32_000,
    ),
}
