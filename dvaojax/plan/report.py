"""A plan as text for the terminal, and as JSON."""

import importlib.metadata
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from dvaojax.models import flops
from dvaojax.plan import estimate
from dvaojax.plan.chips import GIB
from dvaojax.plan.compilation import MemoryExceeded
from dvaojax.plan.estimate import Roofline
from dvaojax.plan.planning import Phase, Plan

_PARTS = {
    "parameters": "parameters",
    "optimizer": "optimiser",
    "cache": "key/value cache",
    "activations": "activations kept for the backward pass",
    "temporaries": "temporaries",
}


def render(plan: Plan, fitting: Plan | None, *, steps: int | None) -> RenderableType:
    """The plan as text and tables.

    Args:
        plan: of the requested or chosen layout.
        fitting: of another layout that fits, if the search found one.
        steps: of the whole run; None if unknown.
    """
    job = plan.job
    config = job.config
    lines: list[RenderableType] = [
        f"{job.slice}, {job.slice.num_chips} chips: {config.prompts_per_step} prompts x "
        f"{config.group_size} completions, {job.prompt_length} + {config.max_new_tokens} tokens",
        f"layout: {job.layout}",
        f"compiled ahead of time with libtpu {importlib.metadata.version('libtpu')}; "
        "estimates, nothing was run",
        "",
        _verdict(plan),
        *_advice(plan, fitting),
    ]
    shown = plan if plan.fits else fitting or plan
    if isinstance(shown.training, Phase):
        lines += [_memory(shown), _collectives(shown)]
    if shown.phases is not None:
        lines += [_times(shown, *shown.phases), *_notes(shown, *shown.phases, steps=steps)]
    return Group(*lines)


def to_json(plan: Plan, fitting: Plan | None, *, steps: int | None) -> dict[str, Any]:
    """The plan as plain numbers in bytes, seconds and floating-point operations."""
    job = plan.job
    summary = {
        "topology": str(job.slice),
        "chips": job.slice.num_chips,
        "layout": job.layout,
        "prompts": job.config.prompts_per_step,
        "group_size": job.config.group_size,
        "prompt_length": job.prompt_length,
        "completion_length": job.config.max_new_tokens,
        "fits": plan.fits,
        "memory_of_a_chip": job.slice.chip.memory,
        "memory_needed": plan.needed,
        "flops": _flops(plan),
        "rollout": _phase_to_json(plan.rollout),
        "training": _phase_to_json(plan.training),
        "steps": steps,
    }
    if plan.phases is not None:
        summary |= _rates(plan, *plan.phases, steps=steps)
    if fitting is not None:
        summary["would_fit"] = to_json(fitting, None, steps=steps)
    return summary


def _verdict(plan: Plan) -> str:
    chip = plan.job.slice.chip
    if plan.fits:
        return f"It fits: {_gib(plan.needed)} of {_gib(chip.memory)} GiB on every chip."
    which = "the train step" if plan.rollout is None else "the rollout"
    needed = f"needs {_gib(plan.needed)}" if plan.needed > chip.memory else "needs more than the"
    return f"It does not fit: {which} {needed} of {_gib(chip.memory)} GiB on every chip."


def _advice(plan: Plan, fitting: Plan | None) -> list[str]:
    if plan.fits:
        return []
    if fitting is None:
        return ["None of the layouts tried fits: use a larger slice or shorter completions."]
    before, after = plan.job.layout.split(), fitting.job.layout.split()
    changed = " ".join(new for old, new in zip(before, after, strict=True) if old != new)
    return [f"This layout fits in {_gib(fitting.needed)} GiB: --set {changed}"]


def _memory(plan: Plan) -> Table:
    table = _table("memory, GiB per chip", "rollout", "train step")
    phases = (plan.rollout, plan.training)
    for part, label in _PARTS.items():
        table.add_row(label, *(_part(phase, part) for phase in phases))
    table.add_row("total", *(_part(phase, "total") for phase in phases), style="bold")
    return table


def _collectives(plan: Plan) -> Table:
    table = _table("collectives, GiB sent per chip", "rollout", "train step")
    phases = [
        phase.collectives if isinstance(phase, Phase) else {}
        for phase in (plan.rollout, plan.training)
    ]
    for kind in sorted({kind for phase in phases for kind in phase}):
        cells = (phase.get(kind) for phase in phases)
        table.add_row(
            kind, *("" if c is None else f"{_gib(c.sent)} in {c.calls} calls" for c in cells)
        )
    return table


def _times(plan: Plan, rollout: Phase, training: Phase) -> Table:
    table = _table("seconds per step", "rollout", "train step", "both")
    counts = _flops(plan).values()
    table.add_row("model FLOPs", *(f"{count:.3g}" for count in (*counts, sum(counts))))
    for name in Roofline._fields:
        bounds = (getattr(phase.roofline, name) for phase in (rollout, training))
        table.add_row(f"roofline: {name}", *_seconds(*bounds))
    for name, seconds in _estimates(rollout, training).items():
        table.add_row(name, *_seconds(*seconds), style="bold")
    return table


def _notes(plan: Plan, rollout: Phase, training: Phase, *, steps: int | None) -> list[str]:
    rates = _rates(plan, rollout, training, steps=steps)
    lines = [
        f"{name}: {rate:,.0f} completion tokens per second"
        + (f", {rates['hours'][name]:.1f} hours for {steps} steps" if steps else "")
        for name, rate in rates["tokens_per_second"].items()
    ]
    return [
        *lines,
        "All completions are assumed to reach the limit; rewards, evaluation and the host's time "
        "are not included.",
        f"The rollout is compiled with rollout_stages={plan.job.config.rollout_stages}.",
        "The roofline is the least time that the chip's peak rates allow. The compiler's estimate "
        "is its number of cycles, with loops multiplied and without collectives.",
    ]


def _estimates(rollout: Phase, training: Phase) -> dict[str, tuple[float, float]]:
    """Seconds of rollout and train step, by roofline and by the compiler if it has an estimate."""
    estimates = {"roofline": (rollout.roofline.total, training.roofline.total)}
    if rollout.compiler_seconds is not None and training.compiler_seconds is not None:
        estimates["compiler"] = (rollout.compiler_seconds, training.compiler_seconds)
    return estimates


def _rates(plan: Plan, rollout: Phase, training: Phase, *, steps: int | None) -> dict[str, Any]:
    seconds = {name: sum(phases) for name, phases in _estimates(rollout, training).items()}
    tokens = estimate.tokens_per_step(plan.job)
    return {
        "seconds_per_step": seconds,
        "tokens_per_second": {name: tokens / s if s else 0.0 for name, s in seconds.items()},
        "hours": {name: s * steps / 3600 for name, s in seconds.items()} if steps else None,
    }


def _flops(plan: Plan) -> dict[str, int]:
    """Operations of the model on all chips, without padding and recomputation."""
    model, lengths = plan.job.config.model, plan.job.lengths
    return {
        "rollout": flops.prefill_flops(model, lengths) + flops.decode_flops(model, lengths),
        "training": flops.train_flops(model, lengths) * plan.job.config.learning.epochs,
    }


def _phase_to_json(phase: Phase | MemoryExceeded | None) -> dict[str, Any] | None:
    if not isinstance(phase, Phase):
        return None if phase is None else {"too_large": True, **phase._asdict()}
    return {
        "memory": {**phase.memory._asdict(), "total": phase.memory.total},
        "collectives": {
            kind: {"calls": each.calls, "bytes_sent": each.sent}
            for kind, each in phase.collectives.items()
        },
        "roofline_seconds": {**phase.roofline._asdict(), "total": phase.roofline.total},
        "compiler_seconds": phase.compiler_seconds,
        "compilation_seconds": phase.compilation_seconds,
    }


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _part(phase: Phase | MemoryExceeded | None, part: str) -> str:
    return _gib(getattr(phase.memory, part)) if isinstance(phase, Phase) else "too large"


def _seconds(rollout: float, training: float) -> list[str]:
    return [f"{value:.2f}" for value in (rollout, training, rollout + training)]


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}" if count >= 0.05 * GIB or count == 0 else f"{count / GIB:.2g}"
