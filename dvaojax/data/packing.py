"""How a step's completions are laid out for learning: cut to the longest, or packed.

A rectangle `[G, T]` is computed in full however short most completions are. Packed, the completions
of a group stand one behind the other after their prompt, and only the end of the row is padding.
Widths come in few sizes, for each is compiled once.
"""

from typing import NamedTuple

import numpy as np

SIXTEENTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)  # of the rectangle, the widths of packed rows
QUARTERS = (1, 2, 3, 4)  # of the sampler's limit, the widths of rectangles


class Layout(NamedTuple):
    """The shape that a step's completions are learnt from.

    Attributes:
        width: `T`, columns of each completion.
        slots: `S`, places of a packed row; 0 where completions stand in a rectangle.
    """

    width: int
    slots: int


def choose_layout(*, longest: int, fullest: int, group_size: int, limit: int) -> Layout:
    """The cheaper layout that holds all.

    Args:
        longest: tokens of the longest completion.
        fullest: tokens that the completions of one group feed to the decoder together, at most;
            the last token of each is predicted and not fed.
        group_size: `G`.
        limit: the sampler's, in tokens.
    """
    width = _smallest(longest, limit, QUARTERS, of=4)
    if fullest > max(SIXTEENTHS) * group_size * limit // 16:
        return Layout(width, 0)
    slots = _smallest(max(fullest, 1), group_size * limit, SIXTEENTHS, of=16)
    # A packed row's width does not depend on the longest completion: fewer shapes to compile.
    return Layout(limit, slots) if slots < group_size * (width - 1) else Layout(width, 0)


def fed(lengths: np.ndarray) -> np.ndarray:
    """`[B]`, the tokens that each group's completions, `[B, G]` long, feed to the decoder."""
    return np.maximum(lengths - 1, 0).sum(axis=1)


def pack(lengths: np.ndarray, layout: Layout) -> np.ndarray:
    """Which token stands in which place of a packed row.

    Args:
        lengths: `[B, G]` int, tokens of each completion.
        layout: one with slots.

    Returns:
        `[B, S]` int32, `g * T + t` where token `t` of completion `g` is fed, -1 on padding.

    Raises:
        ValueError: a group does not fit.
    """
    if fed(lengths).max() > layout.slots:
        raise ValueError(f"{fed(lengths).max()} tokens do not fit {layout.slots} slots")
    packed = np.full((len(lengths), layout.slots), -1, np.int32)
    starts = np.arange(lengths.shape[1]) * layout.width
    for row, members in zip(packed, lengths, strict=True):
        places = [start + np.arange(n - 1) for start, n in zip(starts, members, strict=True)]
        together = np.concatenate(places)
        row[: len(together)] = together
    return packed


def _smallest(needed: int, whole: int, parts: tuple[int, ...], *, of: int) -> int:
    """The smallest of some parts of the whole that is no less than needed."""
    return next(width for part in parts if (width := -(-whole * part // of)) >= needed)
