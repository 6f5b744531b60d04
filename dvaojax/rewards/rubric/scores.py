"""Scores computed from met and unmet items.

An item has points: positive for desirable properties of an answer, negative for undesirable ones;
`met` says whether the answer has the property. Every formula is `(points, met) -> float | None`,
where None means that the score is undefined.
"""

from collections.abc import Callable, Sequence

Formula = Callable[[Sequence[float], Sequence[bool]], float | None]


def healthbench_score(points: Sequence[float], met: Sequence[bool]) -> float | None:
    """Points of the met items over the sum of the positive points.

    HealthBench's score of an example and of a tag (arXiv:2505.08775; openai/simple-evals ee3b0318),
    which is not clipped: at most 1, and far below -1 if the penalties are larger than the positive
    points. Undefined without a positive item. This is the reference, but rarely suitable for
    training: one answer at -5 dominates the rest of its group.
    """
    best = sum(p for p in points if p > 0)
    if best == 0:
        return None
    return sum(p for p, m in zip(points, met, strict=True) if m) / best


def clipped_score(points: Sequence[float], met: Sequence[bool]) -> float | None:
    """`healthbench_score`, but at least 0; undefined in the same cases.

    Recommended for a whole rubric. HealthBench itself clips only the mean over examples.
    """
    score = healthbench_score(points, met)
    return None if score is None else max(score, 0.0)


def clipped_or_spared_score(points: Sequence[float], met: Sequence[bool]) -> float | None:
    """`clipped_score`, or if all items are penalties, the fraction of penalty points avoided.

    Recommended for parts of a rubric, such as an axis or a single item, some of which contain only
    penalties; `healthbench_score` is undefined for those. In [0, 1]. Undefined without items.
    """
    if any(p > 0 for p in points):
        return clipped_score(points, met)
    worst = sum(points)
    if worst == 0:
        return None
    return 1.0 - sum(p for p, m in zip(points, met, strict=True) if m) / worst
