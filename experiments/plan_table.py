"""The table of plans in `dvaojax/plan/README.md`: every planned experiment, compiled anew.

    python experiments/plan_table.py                        # every row, one after the other
    python experiments/plan_table.py dvao_tools_3b.py       # the rows of one experiment
    python experiments/plan_table.py --table                # only the table, from the stored plans

A row is one `dvaojax plan`; its numbers are stored in `results/plans.json`, and the table is
written between its two marks in the README.

Needs: pip install '.[plan,plan-cuda]', and about an hour on two cores for all rows.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dvaojax.plan.chips import GPUS

HERE = Path(__file__).parent
README = HERE.parent / "dvaojax" / "plan" / "README.md"
STORED = HERE / "results" / "plans.json"
BEGIN, END = "<!-- plans: python experiments/plan_table.py -->", "<!-- /plans -->"

ROWS = (
    ("dvao_mathematics_4b.py", "v5p:4x4x4"),
    ("dvao_mathematics_8b.py", "v5p:4x4x4"),
    ("dvao_tools_3b.py", "v5p:4x4x4"),
    ("dvao_tools_7b.py", "v5p:4x4x4"),
    ("gdpo_gsm8k.py", "v6e:2x2"),
    ("rvpo_healthbench.py", "v5p:2x2x2"),
    ("rvpo_tools.py", "v5p:2x2x2"),
    ("qwen3_gsm8k.py", "v6e:1x1"),
    ("qwen3_gsm8k.py", "v5e:1x1"),
    ("dvao_mathematics_4b.py", "h100:8x8"),
    ("rvpo_tools.py", "h100:8"),
    ("gdpo_gsm8k.py", "h100:4"),
    ("qwen3_gsm8k.py", "h100:1"),
    ("qwen3_gsm8k.py", "l4:1"),
    ("rvpo_tools.py", "a100:8"),
    ("rvpo_tools.py", "h200:8"),
    ("rvpo_tools.py", "b200:8"),
)
OPERATIONS = 8  # stored of each program
# On GPUs decoding attends by cuDNN, as where a device has confirmed it.
ON_GPUS = "model.decode_attention=cudnn"

HEADER = (
    "experiment",
    "devices",
    "GiB per chip, rollout / update",
    "roofline, s per step",
    "compiled, s per step",
    "share of the roofline",
    "times the attainable",
    "ms per token",
    "hours in total",
    "planned in",
)


def main() -> int:
    """Plans the rows and writes the table; returns 1 if a plan failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", help="experiments, or EXPERIMENT@TOPOLOGY")
    parser.add_argument("--table", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    failed = []
    for row in [] if arguments.table else chosen(arguments.rows):
        plan = planned(*row)
        if plan is None:
            failed.append("@".join(row))
            continue
        stored["@".join(row)] = plan
        STORED.write_text(json.dumps(stored, indent=1) + "\n")
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    README.write_text(before + BEGIN + "\n" + table(stored) + END + rest.partition(END)[2])
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return int(bool(failed))


def chosen(names: list[str]) -> list[tuple[str, str]]:
    """The rows with these experiments, or `EXPERIMENT@TOPOLOGY`; all if there are none.

    Raises:
        SystemExit: no row has one of the names.
    """
    rows = [row for row in ROWS if not names or row[0] in names or "@".join(row) in names]
    for name in names:
        if not any(name in (row[0], "@".join(row)) for row in rows):
            raise SystemExit(f"no row {name}; rows are {', '.join('@'.join(row) for row in ROWS)}")
    return rows


def planned(experiment: str, topology: str) -> dict[str, Any] | None:
    """The numbers of one plan; None if it failed, whose messages are printed."""
    print(f"{experiment} on {topology}", file=sys.stderr)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "plan.json"
        command = [sys.executable, "-m", "dvaojax", "plan", "--topology", topology]
        command += ["--experiment", str(HERE / experiment), "--json", str(file)]
        if topology.partition(":")[0] in GPUS:
            command += ["--set", ON_GPUS]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if done.returncode or not file.exists():
            return None
        plan = json.loads(file.read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {name: _version(name) for name in ("jax", "libtpu", "jax-cuda13-plugin")},
        "seconds": round(time.perf_counter() - started),
        "plan": _with_few_operations(plan),
    }


def table(stored: dict[str, Any]) -> str:
    """The table of the stored plans, in the order of `ROWS`."""
    lines = [list(HEADER), ["---"] * len(HEADER)]
    for row in ROWS:
        if "@".join(row) in stored:
            lines.append(_cells(*row, stored["@".join(row)]))
    dates = sorted({each["date"] for each in stored.values()})
    compilers = sorted(
        {
            f"{name} {number}"
            for each in stored.values()
            for name, number in each["versions"].items()
        }
    )
    note = (
        f"Compiled {' to '.join(dict.fromkeys((dates[0], dates[-1])))} with {', '.join(compilers)}."
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}\n"


def _cells(experiment: str, topology: str, entry: dict[str, Any]) -> list[str]:
    plan = entry["plan"]
    phases = [plan[name] for name in ("rollout", "training")]
    if not all(phase and "memory" in phase for phase in phases):
        return [f"`{experiment}`", topology, "does not fit", *[""] * 6, f"{entry['seconds']} s"]
    memory = [f"{phase['memory']['total'] / 2**30:.1f}" for phase in phases]
    least = [phase["roofline_seconds"]["total"] for phase in phases]
    attainable = plan["attainable_seconds"].values()
    compiled = [phase["compiled"]["seconds"] for phase in phases]
    loops = [loop for loop in plan["rollout"]["compiled"]["decode_loops"] if loop["turns"] > 1]
    turns = sum(loop["turns"] for loop in loops)
    mean = sum(loop["turns"] * loop["seconds"] for loop in loops) / max(turns, 1)
    hours = plan["hours"] or {}
    return [
        f"`{experiment}`",
        topology,
        f"{' / '.join(memory)} of {plan['memory_of_a_chip'] / 2**30:.1f}",
        " + ".join(f"{seconds:.1f}" for seconds in least),
        " + ".join(f"{seconds:.1f}" for seconds in compiled),
        " / ".join(f"{a / b:.0%}" for a, b in zip(least, compiled, strict=True)),
        " / ".join(f"{a / b:.2f}" for a, b in zip(compiled, attainable, strict=True)),
        f"{1e3 * mean:.1f}",
        " to ".join(f"{value:.1f}" for value in hours.values()),
        f"{entry['seconds']} s",
    ]


def _with_few_operations(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with the most expensive ones of its operations only."""
    for name in ("rollout", "training"):
        compiled = (plan[name] or {}).get("compiled")
        if compiled:
            del compiled["operations"][OPERATIONS:]
    return plan


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
