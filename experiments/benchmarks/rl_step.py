"""Time of a complete RL step, compared with other libraries and with the machine's limits.

A step is a rollout, two rewards computed on the host, aggregation, and an AdamW update. All systems
have the same prompts, lengths, model and initial weights; they run one after the other, each in its
own process.

    python experiments/benchmarks/rl_step.py \
        --prompt-length 32 --completion-length 64 --prompts 8 --group-size 8 --against trl tunix
    python experiments/benchmarks/rl_step.py \
        --prompt-length 64 --completion-length 512 --prompts 4 --group-size 8 --lengths ragged

With `--lengths ragged` completions have the lengths of a reasoning model
(`workload.ragged_lengths`), and the rate of real tokens is compared with that of full lengths in
the same run.

Only real tokens count: no padding, and a prompt counts once per group, even if a system computes it
several times. The arithmetic limit of a step is the time of its matrix products at the best rate
measured in the same run (`ceilings.py`; operations are counted by `dvaojax.models.flops`). The
bandwidth limit of a rollout is the time for reading weights and caches for every token. The shares
of peers use the same counts, with the prompt computed once.

Needs: any machine, a few minutes with peers. Models have their published shapes and random weights;
`tiny` is not a published model.
"""

import argparse
import dataclasses
import datetime
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import systems
from ceilings import Ceilings
from command_line import new_file
from rich.console import Console
from rich.table import Table
from shares import measured
from systems import OURS, Outcome
from workload import Workload, make_workload

from dvaojax.files import write_json
from dvaojax.models.presets import PRESETS

PEERS = ("trl", "tunix")
SHAPE = ("prompt_length", "completion_length", "prompts", "group_size")
ABOUT = ("version", "jax", "torch", "device", "micro_batches", "peak_bytes", "ceilings")
PROBE_TOLERANCE = 1e-3  # nats, between the log-probabilities of one model in two systems


def main() -> int:
    """Times every system and prints the table; returns 1 if an installed system failed."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as directory:
        rows = time_systems(arguments, Path(directory), arguments.lengths, arguments.against)
        if arguments.lengths == "ragged":
            rows += time_systems(arguments, Path(directory), "full", [])
    show(rows, arguments)
    if arguments.json:
        shape = {name: getattr(arguments, name) for name in ("model", *SHAPE)}
        today = datetime.date.today().isoformat()
        write_json(arguments.json, {"date": today, **shape, "systems": rows})
    return int(any(row["failed"] for row in rows))


def time_systems(
    arguments: argparse.Namespace, directory: Path, lengths: str, against: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per system, dvaojax first, on completions of these lengths."""
    path = directory / f"{lengths}.json"
    workload = make_workload(
        dataclasses.asdict(PRESETS[arguments.model]),
        prompt_length=arguments.prompt_length,
        completion_length=arguments.completion_length,
        num_prompts=arguments.prompts,
        group_size=arguments.group_size,
        steps=arguments.steps,
        ragged=lengths == "ragged",
        weights=f"{directory}/weights.npz" if against else "",
    )
    workload.save(path)
    options = ["--part", arguments.part]
    if arguments.micro_batches:
        options += ["--micro-batches", str(arguments.micro_batches)]
    ours = systems.run(OURS, path, options=options)
    if ours.failed:
        raise SystemExit(f"{OURS} {ours.complaint}")
    # The peers run last: they load the initial weights that dvaojax has saved.
    peers = [systems.run(peer, path, python=arguments.peer_python) for peer in against]
    outcomes = [ours, *(same_model(peer, ours) for peer in peers)]
    return [{"lengths": lengths, **as_row(outcome, ours, workload)} for outcome in outcomes]


def parse() -> argparse.Namespace:
    """Parses the command line; exits with code 2 if it is invalid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, text in (
        ("prompt-length", "P, tokens of every prompt"),
        ("completion-length", "T, maximal tokens of a completion"),
        ("prompts", "B, prompts per step"),
        ("group-size", "G, completions per prompt"),
    ):
        parser.add_argument(f"--{name}", type=int, required=True, help=text)
    parser.add_argument("--against", nargs="+", choices=PEERS, default=[], help="peers to time")
    parser.add_argument("--model", choices=sorted(PRESETS), default="tiny")
    parser.add_argument(
        "--lengths",
        choices=("full", "ragged"),
        default="full",
        help="all completions of length T, or log-normal with mean T / 4 and a few of length T",
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps, at least 5 (default 5)")
    parser.add_argument(
        "--part", choices=("step", "sampler", "train"), default="step", help="part to be timed"
    )
    parser.add_argument(
        "--micro-batches", type=int, help="of dvaojax's update (default: by device)"
    )
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--json", type=new_file, help="also write the numbers to this file")
    arguments = parser.parse_args()
    least = {"prompt_length": 2, "steps": 5}
    for name in (*SHAPE, "steps"):
        if getattr(arguments, name) < least.get(name, 1):
            parser.error(f"--{name.replace('_', '-')} must be at least {least.get(name, 1)}")
    if arguments.micro_batches and arguments.prompts % arguments.micro_batches:
        parser.error(f"--micro-batches must divide {arguments.prompts} prompts")
    if arguments.against and arguments.part != "step":
        parser.error(f"--part {arguments.part} needs dvaojax alone; peers run complete steps")
    return arguments


def same_model(peer: Outcome, ours: Outcome) -> Outcome:
    """The peer's outcome, or a failure if its model has other log-probabilities than dvaojax's."""
    if peer.complaint:
        return peer
    difference = abs(peer.report["probe_logprob"] - ours.report["probe_logprob"])
    if difference <= PROBE_TOLERANCE:
        return peer
    complaint = f"computes another model: {difference:.2g} nats difference"
    return Outcome(peer.system, {}, complaint, failed=True)


def as_row(outcome: Outcome, ours: Outcome, workload: Workload) -> dict[str, Any]:
    """Row of the table for one system."""
    row: dict[str, Any] = outcome._asdict()
    del row["report"]
    if outcome.complaint:
        return row
    row |= measured(outcome.report, workload, Ceilings(**ours.report["ceilings"]))
    row["times_ours"] = row["step_seconds"] / statistics.median(ours.report["step_seconds"])
    return row | {name: outcome.report[name] for name in ABOUT if name in outcome.report}


COLUMNS = {
    "step s": ("step_seconds", "{:.3f}"),
    "rollout s": ("rollout_seconds", "{:.3f}"),
    "rewards s": ("reward_seconds", "{:.3f}"),
    "train s": ("train_seconds", "{:.3f}"),
    "tokens/s": ("tokens_per_second", "{:,.0f}"),
    "x ours": ("times_ours", "{:.2f}"),
    "arithmetic": ("arithmetic_share", "{:.0%}"),
    "of rollout": ("rollout_arithmetic_share", "{:.0%}"),
    "of train": ("train_arithmetic_share", "{:.0%}"),
    "bandwidth": ("rollout_bandwidth_share", "{:.0%}"),
}


def show(rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Prints the table of medians and shares of the limits."""
    ours = rows[0]
    products, copies = (limit / 1e9 for limit in Ceilings(**ours["ceilings"]))
    shape = " / ".join(str(getattr(arguments, name)) for name in SHAPE)
    table = Table(
        title=f"{arguments.model}, prompt / completion / prompts / group {shape}; "
        f"{ours['device']}, {products:,.0f} GFLOP/s, {copies:,.0f} GB/s"
    )
    table.add_column("system")
    table.add_column("lengths")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [form.format(row[key]) if key in row else "-" for key, form in COLUMNS.values()]
        table.add_row(f"{row['system']} {row.get('version', '')}", row["lengths"], *cells)
    console = Console(width=max(140, Console().width))
    console.print(table)
    for row in rows:
        if row["complaint"]:
            console.print(f"{row['system']}: {row['complaint']}", markup=False, soft_wrap=True)
    if ours["lengths"] == "ragged":
        kept = {
            name.removesuffix("tokens_per_second").rstrip("_") or "step": ours[name] / value
            for name, value in rows[-1].items()
            if name.endswith("tokens_per_second")
        }
        parts = ", ".join(f"{part} {share:.0%}" for part, share in kept.items())
        console.print(f"Ragged over full lengths, real tokens per second: {parts}")


if __name__ == "__main__":
    sys.exit(main())
