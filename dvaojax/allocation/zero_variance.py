"""Zero-variance groups: no method learns from them, and dynamic sampling replaces them."""

import numpy as np


def is_zero_variance(rewards: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whether every objective is constant in a group.

    Dynamic sampling (DAPO, arXiv 2503.14476, eq. 11) drops groups that are all correct or all
    wrong. With several objectives a group is useful as long as one of them varies. So each raw
    reward is tested by itself, not their sum, in which two varying rewards may cancel.

    Args:
        rewards: `[B, G, K]`, as returned by the reward functions.
        mask: `[B, G, K]` bool, false where a completion was not sampled or not scored.

    Returns:
        `[B]` bool; also true where no objective has two scores.
    """
    where = mask & np.isfinite(rewards)
    low = np.where(where, rewards, np.inf).min(axis=1, initial=np.inf)
    high = np.where(where, rewards, -np.inf).max(axis=1, initial=-np.inf)
    return ~(high > low).any(axis=1)
