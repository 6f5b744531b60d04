"""Shows that the functions of a run are being compiled, which takes up to minutes."""

import dataclasses
from collections.abc import Callable
from typing import Any

from dvaojax.run.display import Display
from dvaojax.train.program import Program


def announced(program: Program, display: Display) -> Program:
    """The program with functions that show `compiling ... 41 s` at their first call.

    The duration is that of the first call, in which the host waits for the compiler, or reads the
    compiled function from JAX's cache.
    """
    return dataclasses.replace(
        program,
        warm_start=_announced(program.warm_start, "the warm start", display),
        evaluate=_announced(program.evaluate, "the evaluation", display),
        sample=_announced(program.sample, "the sampler", display),
        step=_announced(program.step, "the update", display),
        gradient_norms=_announced(program.gradient_norms, "gradient norms", display),
        group_gradients=_announced(program.group_gradients, "gradients of candidates", display),
    )


def _announced(function: Callable[..., Any], name: str, display: Display) -> Callable[..., Any]:
    is_first = True

    def call(*arguments: Any) -> Any:
        nonlocal is_first
        if not is_first:
            return function(*arguments)
        is_first = False
        with display.waiting(f"compiling {name}"):
            return function(*arguments)

    return call
