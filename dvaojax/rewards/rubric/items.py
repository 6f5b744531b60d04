"""Rubrics, and the objectives that are computed from their items."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dvaojax.rewards.rubric.scores import Formula, clipped_or_spared_score, clipped_score

AXES = (
    "accuracy",
    "communication_quality",
    "completeness",
    "context_awareness",
    "instruction_following",
)
"""HealthBench's axes; an item is tagged with one of them as `axis:accuracy`."""


@dataclasses.dataclass(frozen=True)
class RubricItem:
    """One criterion for an answer.

    Attributes:
        criterion: in words.
        points: positive for desirable properties, negative for undesirable ones; never 0.
        tags: such as `axis:accuracy`.
    """

    criterion: str
    points: float
    tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rubric:
    """The reference of a completion that is judged by a rubric.

    Attributes:
        conversation: role and content of each message that the completion answers.
        items: the criteria.
    """

    conversation: tuple[tuple[str, str], ...]
    items: tuple[RubricItem, ...]


@dataclasses.dataclass(frozen=True)
class RubricObjective:
    """A reward computed from some items of a rubric.

    Attributes:
        choose: selects the items; none if the objective does not apply to a rubric.
        formula: computes the score of the selected items.
    """

    choose: Callable[[Sequence[RubricItem]], Sequence[RubricItem]]
    formula: Formula


def read_rubric(
    conversation: Sequence[Mapping[str, str]], items: Sequence[Mapping[str, Any]]
) -> Rubric:
    """A rubric from JSON in HealthBench's format.

    Args:
        conversation: messages `{"role", "content"}`.
        items: criteria `{"criterion", "points", "tags"}`.

    Raises:
        ValueError: an item does not have that form, or its points are 0 or not finite.
    """
    read = []
    for number, item in enumerate(items):
        criterion, points, tags = (item.get(name) for name in ("criterion", "points", "tags"))
        if not isinstance(criterion, str) or not criterion:
            raise ValueError(f"item {number} of the rubric has no criterion")
        if isinstance(points, bool) or not isinstance(points, int | float):
            raise ValueError(f"item {number} of the rubric has no number of points: {points!r}")
        if points == 0 or not math.isfinite(points):
            raise ValueError(f"item {number} of the rubric has {points} points")
        if not all(isinstance(tag, str) for tag in tags or ()):
            raise ValueError(f"item {number} of the rubric has a tag that is not a string")
        read.append(RubricItem(criterion, float(points), tuple(tags or ())))
    return Rubric(tuple((m["role"], m["content"]) for m in conversation), tuple(read))


def overall(*, formula: Formula = clipped_score) -> RubricObjective:
    """The score of all items of a rubric."""
    return RubricObjective(tuple, formula)


def tagged(tag: str, *, formula: Formula = clipped_or_spared_score) -> RubricObjective:
    """The score of the items with a tag; does not apply if there are none."""
    return RubricObjective(partial(_with_tag, tag=tag), formula)


def axes(*, formula: Formula = clipped_or_spared_score) -> dict[str, RubricObjective]:
    """One objective for each of HealthBench's five axes."""
    return {axis: tagged(f"axis:{axis}", formula=formula) for axis in AXES}


def single_items(count: int) -> dict[str, RubricObjective]:
    """One objective for each item: 1 if a desirable item is met or a penalty avoided, else 0.

    `item_1` to `item_<count>`; those after the end of a rubric do not apply to it, and a rubric's
    items after `count` are ignored. RVPO (arXiv:2605.05750) has up to 17 objectives.
    """
    return {
        f"item_{n}": RubricObjective(partial(_nth, number=n), clipped_or_spared_score)
        for n in range(1, count + 1)
    }


def _with_tag(items: Sequence[RubricItem], *, tag: str) -> Sequence[RubricItem]:
    return [item for item in items if tag in item.tags]


def _nth(items: Sequence[RubricItem], *, number: int) -> Sequence[RubricItem]:
    return items[number - 1 : number]
