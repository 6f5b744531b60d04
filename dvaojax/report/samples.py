"""Completions for the page's search: limited in number and in length."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dvaojax.report.contents import RunContents
from dvaojax.report.markup import visible
from dvaojax.report.numbers import spaced

COMPLETIONS = 2000  # of all runs together
CHARACTERS = 4000  # of each prompt and completion


class SampleSelection(NamedTuple):
    """The completions of one run that are on the page.

    Attributes:
        groups: `{"run", "step", "prompt", "completions"}` each, ordered by step; a completion is
            `[text, rewards, advantage]`.
        total: number of completions that the run kept.
        unreadable: number of lines of its file that are not completions.
    """

    groups: Sequence[Mapping[str, Any]]
    total: int
    unreadable: int

    @property
    def shown(self) -> int:
        """Number of completions on the page."""
        return sum(len(group["completions"]) for group in self.groups)


def choose(run: RunContents, index: int, *, at_most: int) -> SampleSelection:
    """Selects whole groups, evenly spaced over the steps if not all fit, first and last included.

    Args:
        run: the run.
        index: of the run in the report.
        at_most: approximate limit on the number of completions; groups are not split.
    """
    rows = [row for row in run.samples if _is_sample(row)]
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt"]), []).append(row)
    ordered = list(groups.items())
    largest = max((len(group) for _, group in ordered), default=1)
    chosen = spaced(len(ordered), at_most=max(2, at_most // largest))
    return SampleSelection(
        groups=[_group(index, *ordered[i]) for i in chosen],
        total=len(rows),
        unreadable=len(run.samples) - len(rows),
    )


def cut(text: str) -> str:
    """The text with invisible characters made visible; a note replaces the rest of a long text."""
    if len(text) <= CHARACTERS:
        return visible(text)
    return visible(text[:CHARACTERS]) + f" […] ({len(text) - CHARACTERS:,} more characters)"


def _group(index: int, key: tuple[int, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    step, prompt = key
    return {
        "run": index,
        "step": step,
        "prompt": cut(prompt),
        "completions": [
            [cut(row["completion"]), _rewards(row["rewards"]), _short(row["advantage"])]
            for row in rows
        ],
    }


def _rewards(rewards: Mapping[str, float | None]) -> dict[str, float | None]:
    return {visible(name): _short(reward) for name, reward in rewards.items()}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _is_sample(row: Mapping[str, Any]) -> bool:
    rewards = row.get("rewards")
    return (
        isinstance(row.get("prompt"), str)
        and isinstance(row.get("completion"), str)
        and isinstance(rewards, Mapping)
        and all(_is_number(value) for value in [*rewards.values(), row.get("advantage")])
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
