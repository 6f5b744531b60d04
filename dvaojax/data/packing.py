"""Layout of a step's completions for training: a rectangle cut to the longest, or packed rows.

A rectangle `[G, T]` is computed in full even if most completions are short. Packed, the completions
of a group follow one another after their prompt, and only the end of the row is padding. There are
few widths, because each of them is compiled once.
"""

from typing import NamedTuple

import numpy as np

PACKED_SIXTEENTHS = (2, 3, 4, 5, 6, 8, 12)  # widths of packed rows, in 1/16 of the rectangle
MIN_WIDTH_STEP = 32  # tokens; closer widths cost more to compile than they save
RECTANGLE_QUARTERS = (1, 2, 3, 4)  # widths of rectangles, in 1/4 of the sampler's limit


class CompletionLayout(NamedTuple):
    """The shape in which the completions of a step are trained on.

    Attributes:
        width: `T`, columns of each completion.
        slots: `S`, columns of a packed row, always the largest of `packed_widths`: training
            computes only as many of them as a micro-batch needs. 0 if completions form a rectangle.
    """

    width: int
    slots: int


def choose_layout(
    *, longest: int, most_inputs: int, group_size: int, limit: int
) -> CompletionLayout:
    """The cheaper layout that fits all completions.

    Args:
        longest: tokens of the longest completion.
        most_inputs: the largest number of decoder input tokens of a group, see `num_inputs`.
        group_size: `G`.
        limit: the sampler's limit, in tokens.
    """
    rectangle_widths = _fractions(limit, RECTANGLE_QUARTERS, of=4)
    width = next(width for width in rectangle_widths if width >= longest)
    widths = packed_widths(group_size * limit)
    if any(most_inputs <= packed < group_size * (width - 1) for packed in widths):
        return CompletionLayout(limit, widths[-1])
    return CompletionLayout(width, 0)


def packed_widths(rectangle_size: int) -> tuple[int, ...]:
    """The widths that packed rows are computed in, ascending.

    Args:
        rectangle_size: `G * T`, where `T` is the sampler's limit.
    """
    widths: list[int] = []
    for width in reversed(_fractions(rectangle_size, PACKED_SIXTEENTHS, of=16)):
        if not widths or width <= widths[0] - MIN_WIDTH_STEP:
            widths.insert(0, width)
    return tuple(widths)


def num_inputs(lengths: np.ndarray) -> np.ndarray:
    """`[B]`, the number of completion tokens of each group that the decoder gets as input.

    The last token of each completion is predicted, but is not an input.

    Args:
        lengths: `[B, G]` int, tokens of each completion.
    """
    return np.maximum(lengths - 1, 0).sum(axis=1)


def pack(lengths: np.ndarray, layout: CompletionLayout) -> np.ndarray:
    """The token in each column of the packed rows.

    Args:
        lengths: `[B, G]` int, tokens of each completion.
        layout: a packed layout.

    Returns:
        `[B, S]` int32, `g * T + t` where token `t` of completion `g` is an input, -1 on padding.

    Raises:
        ValueError: the completions of a group do not fit into the row.
    """
    if num_inputs(lengths).max() > layout.slots:
        raise ValueError(
            f"{num_inputs(lengths).max()} tokens do not fit into {layout.slots} slots: choose the "
            "layout with `choose_layout`"
        )
    packed = np.full((len(lengths), layout.slots), -1, np.int32)
    starts = np.arange(lengths.shape[1]) * layout.width
    for row, members in zip(packed, lengths, strict=True):
        tokens = [start + np.arange(n - 1) for start, n in zip(starts, members, strict=True)]
        joined = np.concatenate(tokens)
        row[: len(joined)] = joined
    return packed


def _fractions(total: int, numerators: tuple[int, ...], *, of: int) -> list[int]:
    """`numerator / of` of the total for each numerator, rounded up."""
    return [-(-total * numerator // of) for numerator in numerators]
