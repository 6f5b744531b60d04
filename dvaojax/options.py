"""Options of a method, written `knob=value` or `knob.objective=value`, and the knobs they set.

A knob is a keyword-only parameter of a function. Its default determines the type of its values.
Aggregators, losses and allocation rules share this parser.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from dvaojax.errors import UserError, suggest

PerObjective: TypeAlias = float | Sequence[float]
"""Annotation of a knob with one number for all objectives, or one number for each of them.

In the settings of a run, `knob=value` sets all of them and `knob.objective=value` sets one.
"""

_BOOLEANS = {"true": True, "false": False}


def knobs_of(function: Callable[..., Any], *, without: Collection[str] = ()) -> dict[str, Any]:
    """The knobs of a function with their defaults.

    Args:
        function: a method.
        without: keyword-only parameters that are not knobs.

    Returns:
        Knob -> default, in the order of the signature; `inspect.Parameter.empty` for a knob without
        a default.
    """
    return {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind == p.KEYWORD_ONLY and p.name not in without
    }


def knobs_per_objective(function: Callable[..., Any]) -> frozenset[str]:
    """The knobs of a function that are annotated as `PerObjective`."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if _is_per_objective(p.annotation))


def _is_per_objective(annotation: Any) -> bool:
    if isinstance(annotation, str):  # from __future__ import annotations
        return annotation.rpartition(".")[2] == "PerObjective"
    return annotation == PerObjective


def require_knobs(name: str, knobs: Collection[str], known: Collection[str]) -> None:
    """Checks that a method has the knobs that are set.

    Args:
        name: of the method.
        knobs: names that are set.
        known: names of its knobs.

    Raises:
        UserError: it lacks one; the line names the nearest knob it has.
    """
    for knob in knobs:
        if knob not in known:
            raise UserError(f"{name} has no knob {suggest(knob, known)}")


def read_options(
    name: str,
    options: Sequence[str],
    defaults: Mapping[str, Any],
    *,
    per_objective: Collection[str] = (),
    objectives: Sequence[str] = (),
) -> dict[str, Any]:
    """The knobs that options set, as values of the types of their defaults.

    Args:
        name: of the method, for errors.
        options: `knob=value` each, or `knob.objective=value` for a knob in `per_objective`. Such a
            knob becomes a tuple; the other objectives keep the value set before, or the default.
        defaults: knob -> default, see `knobs_of`. The values of a knob without a default, or with
            None, are read as a number if possible, and as text otherwise.
        per_objective: knobs with a value for each objective, see `knobs_per_objective`.
        objectives: their names, in the order of the last axis of the rewards.

    Raises:
        UserError: an option has no value or one of another type, or there is no such knob or
            objective.
    """
    knobs: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        knob, dot, objective = key.partition(".")
        require_knobs(name, [knob], defaults)
        value = _read(name, knob, text, defaults[knob]) if equals else None
        if value is None:
            raise UserError(f"{option!r} is not {key}=<{_type_of(defaults[knob]).__name__}>")
        if not dot:
            knobs[knob] = value
            continue
        if knob not in per_objective:
            raise UserError(f"{name}: knob {knob!r} has one value for all objectives")
        if objective not in objectives:
            raise UserError(f"{key}: unknown objective {suggest(objective, objectives)}")
        before = knobs.get(knob, defaults[knob])
        values = before if isinstance(before, list | tuple) else (before,) * len(objectives)
        index = objectives.index(objective)
        knobs[knob] = (*values[:index], value, *values[index + 1 :])
    return knobs


def _type_of(default: Any) -> type:
    """The type of a knob's values; `object` if the default does not determine it."""
    if isinstance(default, list | tuple) and default:
        default = default[0]
    return object if default is None or default is inspect.Parameter.empty else type(default)


def _read(name: str, knob: str, text: str, default: Any) -> Any:
    """A knob's value; None if the text is not of its type.

    Raises:
        UserError: its type has no text form.
    """
    kind = _type_of(default)
    if kind is bool:
        return _BOOLEANS.get(text.lower())
    if kind is object:
        return next(
            (v for v in (_convert(int, text), _convert(float, text)) if v is not None), text
        )
    if kind not in (int, float, str):
        raise UserError(
            f"{name}: knob {knob!r} is a {kind.__name__} and cannot be set as an option"
        )
    return _convert(kind, text)


def _convert(kind: type, text: str) -> Any:
    """The text as an instance of a type, or None."""
    try:
        return kind(text)
    except ValueError:
        return None
