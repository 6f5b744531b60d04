"""Which groups teach nothing under any method: those that dynamic sampling replaces."""

import numpy as np


def silent(rewards: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Groups in which every objective is constant.

    Dynamic sampling (DAPO, arXiv 2503.14476, eq. 11) leaves out groups that are all right or all
    wrong. With several objectives a group teaches as long as one of them varies: it is judged by
    each of its raw rewards and never by their sum, in which two that vary may cancel.

    Args:
        rewards: `[B, G, K]`, as the reward functions return them.
        mask: `[B, G, K]` bool, false where a completion was not drawn or not scored.

    Returns:
        `[B]` bool; true too where no objective was scored twice.
    """
    where = mask & np.isfinite(rewards)
    low = np.where(where, rewards, np.inf).min(axis=1, initial=np.inf)
    high = np.where(where, rewards, -np.inf).max(axis=1, initial=-np.inf)
    return ~(high > low).any(axis=1)
