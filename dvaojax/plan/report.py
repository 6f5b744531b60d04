"""A plan as text for the terminal, and as JSON."""

import importlib.metadata
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from dvaojax.models import flops
from dvaojax.plan import estimate
from dvaojax.plan.chips import GIB, GPU_MEMORY_SHARE, Gpu
from dvaojax.plan.compilation import MemoryExceeded
from dvaojax.plan.costs import SPLASH_SHARE
from dvaojax.plan.estimate import Roofline
from dvaojax.plan.job import Job
from dvaojax.plan.planning import Phase, Plan
from dvaojax.plan.profile import Profile

OPERATIONS = 20  # listed by `--profile` and in the JSON
JAX_SHARE = 0.75  # of a GPU's memory that JAX reserves by default

_PARTS = {
    "parameters": "parameters",
    "optimizer": "optimiser",
    "cache": "key/value cache",
    "activations": "activations kept for the backward pass",
    "temporaries": "temporaries",
}


def render(
    plan: Plan, fitting: Plan | None, *, steps: int | None, operations: int = 0
) -> RenderableType:
    """The plan as text and tables.

    Args:
        plan: of the requested or chosen layout.
        fitting: of another layout that fits, if the search found one.
        steps: of the whole run; None if unknown.
        operations: number of the most expensive operations of each phase to list.
    """
    job = plan.job
    config = job.config
    lines: list[RenderableType] = [
        f"{job.slice}, {job.slice.num_chips} chips: {config.prompts_per_step} prompts x "
        f"{config.group_size} completions, {job.prompt_length} + {config.max_new_tokens} tokens",
        f"layout: {job.layout}",
        f"compiled ahead of time with {_compiler(job)}; estimates, nothing was run",
        "",
        _verdict(plan),
        *_advice(plan, fitting),
        *_warnings(plan),
    ]
    shown = plan if plan.fits else fitting or plan
    if isinstance(shown.training, Phase):
        lines += [_memory(shown), _collectives(shown)]
    if shown.phases is not None:
        lines += [_times(shown, *shown.phases), *_notes(shown, *shown.phases, steps=steps)]
    if operations and plan.phases is not None:
        lines += [_operations(phase, name, operations) for name, phase in _named(plan).items()]
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
        "attainable_seconds": estimate.attainable(plan.job)._asdict(),
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


def _warnings(plan: Plan) -> list[str]:
    """Warnings about time and memory of a plan that fits."""
    lines = []
    for name, phase in _named(plan).items():
        profile = phase.compiled if isinstance(phase, Phase) else None
        if profile is not None and profile.recomputed:
            share = profile.recomputed_seconds / max(profile.seconds, 1e-30)
            lines.append(
                f"Warning: to save memory, XLA recomputes {profile.recomputed} instructions of the "
                f"{name} by itself, {share:.1%} of its time: use more micro-batches, a model.remat "
                "that keeps less, or more chips."
            )
    chip = plan.job.slice.chip
    if isinstance(chip, Gpu) and plan.fits and plan.needed > JAX_SHARE * chip.whole_memory:
        lines.append(
            f"Set XLA_PYTHON_CLIENT_MEM_FRACTION={GPU_MEMORY_SHARE}: by default JAX reserves "
            f"{_gib(JAX_SHARE * chip.whole_memory)} GiB."
        )
    return lines


def _named(plan: Plan) -> dict[str, Phase | MemoryExceeded | None]:
    return {"rollout": plan.rollout, "train step": plan.training}


def _compiler(job: Job) -> str:
    if isinstance(job.slice.chip, Gpu):
        return f"jax-cuda13-plugin {importlib.metadata.version('jax-cuda13-plugin')}"
    return f"libtpu {importlib.metadata.version('libtpu')}"


def _estimate_name(job: Job) -> str:
    """The name of the compiled program's own estimate: TPUs have one by the compiler."""
    return "kernels" if isinstance(job.slice.chip, Gpu) else "compiler"


def _operations(phase: Phase | MemoryExceeded | None, name: str, count: int) -> RenderableType:
    """The operations of one phase that take the most time."""
    if not isinstance(phase, Phase) or phase.compiled is None:
        return f"No operations of the {name} are known."
    table = _table(f"{name}, ms", "share", "calls", "operation", "result", "source", "JAX")
    for column in table.columns[3:]:
        column.justify = "left"
    for each in phase.compiled.operations[:count]:
        table.add_row(
            f"{1e3 * each.seconds:.1f}",
            f"{each.seconds / max(phase.compiled.seconds, 1e-30):.1%}",
            f"{each.calls}",
            each.opcode,
            each.shape,
            each.source,
            each.name[-48:],
        )
    return table


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
    estimates = _estimates(plan.job, rollout, training)
    for name, seconds in estimates.items():
        table.add_row(name, *_seconds(*seconds), style="bold")
    if len(estimates) == 2:
        least, estimated = estimates.values()
        pairs = ((least[0], estimated[0]), (least[1], estimated[1]), (sum(least), sum(estimated)))
        table.add_row("share of the roofline", *(f"{a / b:.0%}" if b else "" for a, b in pairs))
        attainable = estimate.attainable(plan.job)
        table.add_row("attainable", *_seconds(*attainable))
        both = zip(estimated, attainable, strict=True)
        table.add_row("times the attainable", *(f"{a / b:.2f}" for a, b in both))
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
        *_decode_loops(plan.job, rollout),
        "The roofline is the least time that the chip's peak rates allow. " + _meaning(plan.job),
        f"Attainable: with {estimate.READING_SHARE:.0%} of the peak bandwidth in decoding, and "
        f"{SPLASH_SHARE:.0%} of the peak rate in the attention of the train step.",
    ]


def _decode_loops(job: Job, rollout: Phase) -> list[str]:
    if rollout.compiled is None:
        return []
    unit = "kernels" if isinstance(job.slice.chip, Gpu) else "instructions that take time"
    return [
        f"decoding: {loop.turns:,} tokens of {1e3 * loop.seconds:.2f} ms, {loop.kernels} {unit}"
        for loop in rollout.compiled.decode_loops
    ]


def _meaning(job: Job) -> str:
    if isinstance(job.slice.chip, Gpu):
        return (
            "The estimate by kernels takes each at the larger of its bytes and its products at the "
            "peak rates, without collectives and launches: a lower bound."
        )
    return (
        "The compiler's estimate is its number of cycles, with loops multiplied and without "
        "collectives; Pallas kernels, which have none, count by their bytes, and splash attention "
        "by its products at half of the peak rate."
    )


def _estimates(job: Job, rollout: Phase, training: Phase) -> dict[str, tuple[float, float]]:
    """Seconds of rollout and train step, by roofline and by the compiled programs if known."""
    estimates = {"roofline": (rollout.roofline.total, training.roofline.total)}
    if rollout.compiled is not None and training.compiled is not None:
        name = _estimate_name(job)
        estimates[name] = (rollout.compiled.seconds, training.compiled.seconds)
    return estimates


def _rates(plan: Plan, rollout: Phase, training: Phase, *, steps: int | None) -> dict[str, Any]:
    seconds = {
        name: sum(phases) for name, phases in _estimates(plan.job, rollout, training).items()
    }
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
            kind: {"calls": each.calls, "bytes_sent": each.sent, "seconds": each.seconds}
            for kind, each in phase.collectives.items()
        },
        "roofline_seconds": {**phase.roofline._asdict(), "total": phase.roofline.total},
        "compiled": None if phase.compiled is None else _profile_to_json(phase.compiled),
        "compilation_seconds": phase.compilation_seconds,
    }


def _profile_to_json(profile: Profile) -> dict[str, Any]:
    return {
        "seconds": profile.seconds,
        "kernels": profile.kernels,
        "decode_loops": [loop._asdict() for loop in profile.decode_loops],
        "recomputed_instructions": profile.recomputed,
        "recomputed_seconds": profile.recomputed_seconds,
        "operations": [each._asdict() for each in profile.operations[:OPERATIONS]],
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
