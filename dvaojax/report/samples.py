"""Completions for the page's script to search: some of many, none of them endless."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dvaojax.report.contents import Contents
from dvaojax.report.markup import visible
from dvaojax.report.numbers import spaced

COMPLETIONS = 2000  # of all runs together
CHARACTERS = 4000  # of a prompt, and of a completion


class Kept(NamedTuple):
    """The completions of one run that are on the page.

    Attributes:
        groups: `{"run", "step", "prompt", "completions"}` each, in the order of the steps; a
            completion is `[text, rewards, advantage]`.
        total: completions that the run kept.
        unreadable: lines of its file that are no completion.
    """

    groups: Sequence[Mapping[str, Any]]
    total: int
    unreadable: int

    @property
    def shown(self) -> int:
        """How many are on the page."""
        return sum(len(group["completions"]) for group in self.groups)


def choose(run: Contents, place: int, *, at_most: int) -> Kept:
    """Whole steps, evenly spaced where not all of them fit, the first and the last among them.

    Args:
        run: whose completions.
        place: the run's in the report.
        at_most: completions, more or less: no step is cut.
    """
    rows = [row for row in run.samples if _is_sample(row)]
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt"]), []).append(row)
    every = list(groups.items())
    largest = max((len(group) for _, group in every), default=1)
    chosen = spaced(len(every), at_most=max(2, at_most // largest))
    return Kept(
        groups=[_group(place, *every[i]) for i in chosen],
        total=len(rows),
        unreadable=len(run.samples) - len(rows),
    )


def cut(text: str) -> str:
    """The text with unseen characters shown, and what is too long of it replaced by a note."""
    if len(text) <= CHARACTERS:
        return visible(text)
    return visible(text[:CHARACTERS]) + f" […] ({len(text) - CHARACTERS:,} more characters)"


def _group(place: int, key: tuple[int, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    step, prompt = key
    return {
        "run": place,
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
