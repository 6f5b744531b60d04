"""Utilisation, bandwidth and memory of RL steps on this machine's accelerator.

    python experiments/benchmarks/accelerator.py --markdown accelerator.md --json accelerator.json
    python experiments/benchmarks/accelerator.py --small       # any CPU, under two minutes

Qwen3-0.6B, 1.7B and 4B with random bfloat16 weights and bfloat16 optimiser moments, on one device:
8 prompts of 512 tokens with 16 completions of 1,024 tokens each. For every size it measures the
update's model-FLOP utilisation, the sampler's share of the memory bandwidth, peak memory, and the
same work by Tunix if it is installed; then the aggregators. Limits are those of the device's data
sheet if `dvaojax.devices` has it, otherwise the ceilings measured in the same run. A size that does
not fit is tried again in smaller micro-batches; a second failure is reported in the table.

Needs: one accelerator with 80 GB or more for all three sizes (estimated), about 20 minutes.
Result: not yet run on one.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import systems
from ceilings import Ceilings
from command_line import new_file
from shares import measured
from systems import OURS, Outcome
from workload import Workload, make_workload

from dvaojax.devices import peak_of
from dvaojax.files import write_json
from dvaojax.models.presets import PRESETS

STEPS = 5
PEER = "tunix"


class BenchmarkPlan(NamedTuple):
    """The measurements of a run.

    Attributes:
        models: names of presets.
        shape: arguments of `make_workload`: prompts, group size and lengths.
        rounds: of the benchmark of the aggregators.
    """

    models: tuple[str, ...]
    shape: dict[str, Any]
    rounds: int


FULL = BenchmarkPlan(
    models=("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b"),
    shape={"prompt_length": 512, "completion_length": 1024, "num_prompts": 8, "group_size": 16},
    rounds=9,
)
SMALL = BenchmarkPlan(
    models=("tiny",),
    shape={"prompt_length": 16, "completion_length": 16, "num_prompts": 2, "group_size": 4},
    rounds=1,
)


def main() -> int:
    """Measures every size and prints the tables; returns 1 if dvaojax failed at every size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="a shape for any CPU")
    parser.add_argument("--models", nargs="+", choices=sorted(PRESETS), help="instead of the three")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with Tunix")
    parser.add_argument("--json", type=new_file, help="also write the numbers to this file")
    parser.add_argument("--markdown", type=new_file, help="also write the tables to this file")
    arguments = parser.parse_args()
    plan = SMALL if arguments.small else FULL
    if arguments.models:
        plan = plan._replace(models=tuple(arguments.models))
    # By default JAX leaves a quarter of the GPU's memory to other processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

    rows = [row for name in plan.models for row in measure(name, plan, arguments.peer_python)]
    report = {
        **circumstances(rows),
        "shape": plan.shape,
        "rows": rows,
        "aggregators": aggregators(plan.rounds),
    }
    text = as_markdown(report)
    print(text)
    if arguments.json:
        write_json(arguments.json, report)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    return int(not any(row["system"] == OURS and not row["complaint"] for row in rows))


def measure(name: str, plan: BenchmarkPlan, peer_python: str) -> Iterator[dict[str, Any]]:
    """Rows of dvaojax and of the peer for one model."""
    model = dataclasses.replace(
        PRESETS[name], param_dtype="bfloat16", compute_dtype="bfloat16", remat="layer"
    )
    workload = make_workload(dataclasses.asdict(model), **plan.shape, steps=STEPS)
    num_prompts = plan.shape["num_prompts"]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "workload.json"
        workload.save(path)
        ours = systems.run(OURS, path)
        if ours.complaint == systems.OUT_OF_MEMORY:
            ours = systems.run(OURS, path, options=["--micro-batches", str(num_prompts)])
        # It stores all logits of a micro-batch, so it gets the smallest ones.
        options = ["--micro-batches", str(num_prompts)]
        peer = systems.run(PEER, path, python=peer_python, options=options)
    limits = limits_of(ours)
    yield as_row(name, ours, workload, limits)
    yield as_row(name, peer, workload, limits)


def limits_of(ours: Outcome) -> Ceilings | None:
    """Limits of the device, from its data sheet or else as measured in the run."""
    if ours.complaint:
        return None
    return sheet_of(ours.report["device"]) or Ceilings(**ours.report["ceilings"])


def sheet_of(device: str) -> Ceilings | None:
    """The limits in the device's data sheet; None if unknown."""
    peak = peak_of(device)
    return None if peak is None else Ceilings(*peak)


def as_row(
    name: str, outcome: Outcome, workload: Workload, limits: Ceilings | None
) -> dict[str, Any]:
    """Row of the tables for one system on one model."""
    row: dict[str, Any] = {"model": name, "system": outcome.system, "complaint": outcome.complaint}
    if outcome.complaint or limits is None:
        return row | outcome.report
    row |= outcome.report | measured(outcome.report, workload, limits)
    completions = [sum(map(sum, limits)) for limits in workload.limits][-STEPS:]
    row["sampled_tokens_per_second"] = statistics.median(completions) / row["rollout_seconds"]
    for name in ("peak", "update"):
        if outcome.report.get(f"{name}_bytes") is not None:
            row[f"{name}_gib"] = outcome.report[f"{name}_bytes"] / 2**30
    return row


def circumstances(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Device, limits, versions, date and commit of a measurement."""
    device = next((row["device"] for row in rows if "device" in row), "unknown")
    ceilings = [Ceilings(**row["ceilings"]) for row in rows if "ceilings" in row]
    sheet = sheet_of(device)
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return {
        "device": device,
        "measured_ceilings": [limits._asdict() for limits in ceilings],
        "data_sheet": sheet._asdict() if sheet else None,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("jax", "jaxlib", "flax", "optax")},
        },
        "date": datetime.date.today().isoformat(),
        "commit": git.stdout.strip() or "unknown",
    }


def aggregators(rounds: int) -> dict[str, Any]:
    """The report of `aggregators.py`, whose exit code, a missed target, is ignored."""
    script = Path(__file__).parent / "aggregators.py"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "aggregators.json"
        command = [sys.executable, str(script), "--rounds", str(rounds), "--json", str(path)]
        subprocess.run(command, capture_output=True, check=False)
        return json.loads(path.read_text()) if path.exists() else {}


COLUMNS = {
    "step, s": ("step_seconds", "{:.2f}"),
    "rollout, s": ("rollout_seconds", "{:.2f}"),
    "train, s": ("train_seconds", "{:.2f}"),
    "sampled tokens/s": ("sampled_tokens_per_second", "{:,.0f}"),
    "train MFU": ("train_arithmetic_share", "{:.1%}"),
    "rollout, share of bandwidth": ("rollout_bandwidth_share", "{:.1%}"),
    "peak memory, GiB": ("peak_gib", "{:.1f}"),
    "update as compiled, GiB": ("update_gib", "{:.2f}"),
    "micro-batches": ("micro_batches", "{}"),
}


def as_markdown(report: dict[str, Any]) -> str:
    """The tables, below a description of the device and the versions."""
    limits = report["data_sheet"] or next(iter(report["measured_ceilings"]), None)
    origin = "data sheet" if report["data_sheet"] else "measured in the same run"
    lines = [
        f"{report['device']}, {report['date']}, commit {report['commit']}, "
        + ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
        "; ".join(f"{name.replace('_', ' ')} {size}" for name, size in report["shape"].items()),
    ]
    if limits:
        products, copies = limits["flops_per_second"] / 1e12, limits["bytes_per_second"] / 1e9
        lines.append(f"Limits ({origin}): {products:,.2f} TFLOP/s, {copies:,.0f} GB/s.")
    lines += ["", *_table(["model", "system", *COLUMNS], map(_cells, report["rows"])), ""]
    times = report["aggregators"].get("aggregators", [])
    cells = [[row["aggregator"], f"{row['microseconds']:.0f}"] for row in times]
    lines += _table(["aggregator, 4,096 x 16 x 8", "median, us"], cells)
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    name = [row["model"], f"{row['system']} {row.get('version', '')}".strip()]
    if row["complaint"]:
        return [*name, row["complaint"], *[""] * (len(COLUMNS) - 1)]
    values = [
        "-" if row.get(key) is None else form.format(row[key]) for key, form in COLUMNS.values()
    ]
    return [*name, *values]


def _table(header: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


if __name__ == "__main__":
    sys.exit(main())
