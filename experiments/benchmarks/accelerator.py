"""Utilisation, bandwidth, memory and kernels of RL steps on this machine's accelerator.

    python experiments/benchmarks/accelerator.py --markdown accelerator.md --json accelerator.json
    python experiments/benchmarks/accelerator.py --small       # any CPU, about two minutes

On one device, each part in its own process: the limits of the device; training attention by cuDNN
and in XLA's blocks, and cuDNN's attention in decoding; for Qwen3-1.7B, 0.6B and 4B with random
float32 weights and bfloat16 products, 8 prompts of 512 tokens with 16 completions of 1,024 tokens
each, the update's model-FLOP utilisation, the rollout's share of the memory bandwidth by einsums
and by cuDNN, with the loop over tokens on the host and in a CUDA graph, whole steps, memory, and
the kernels that take the most time; the aggregators; TRL and Tunix on a smaller shape, if they are
installed. Shares are those of the device's data sheet if `dvaojax.devices` has it, otherwise of the
limits measured in the same run. A part that fails or does not end within the time is reported, and
the others continue.

Needs: one GPU with 80 GB, or a TPU chip; Python 3.12 and jax 0.11 or newer, flax, optax, chex and
numpy. Takes at most five minutes; `--minutes 15` for all of it.
Result: not yet run on one.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import systems
from accelerator_tables import as_markdown
from command_line import new_file
from systems import OURS
from workload import make_workload

HERE = Path(__file__).parent
PEERS = ("trl", "tunix")
LEAST_SECONDS = 5  # in which a part may still end
PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "nvidia-cudnn-cu13", "libtpu", "flax", "optax")


class Part(NamedTuple):
    """One part of the benchmark.

    Attributes:
        name: a key of `device_parts.PARTS`.
        settings: its arguments.
        minutes: after which it is ended.
    """

    name: str
    settings: dict[str, Any]
    minutes: float


class BenchmarkPlan(NamedTuple):
    """The measurements of a run.

    Attributes:
        parts: in the order in which they run, the most important first.
        peers: arguments of `make_workload` for the comparison with peers, with a preset's name.
    """

    parts: tuple[Part, ...]
    peers: dict[str, Any]


def _model(name: str, shape: dict[str, int], calls: int, **more: Any) -> Part:
    changes = {"remat": more.pop("remat", "products_and_attention"), **more}
    settings = {"micro_batches": shape["num_prompts"], "calls": calls, "changes": changes}
    return Part("model", {"name": name, "shape": shape, **settings}, minutes=3.0)


_SHAPE = {"num_prompts": 8, "group_size": 16, "prompt_length": 512, "completion_length": 1024}
_HEADS = {"heads": [16, 8, 128], "dtype": "bfloat16"}
FULL = BenchmarkPlan(
    parts=(
        Part("limits", {}, 1.0),
        _model("qwen3-1.7b", _SHAPE, calls=2),
        Part("attention", {"shapes": [[1, 512, 8, 256], [1, 512, 16, 1024]], **_HEADS}, 1.0),
        Part("decode attention", {"rows": 128, "length": 1024, **_HEADS}, 1.0),
        _model("qwen3-0.6b", _SHAPE, calls=2),
        Part("aggregators", {"rounds": 5}, 1.0),
        _model("qwen3-4b", _SHAPE, calls=1, remat="layer"),
    ),
    peers={
        "name": "qwen3-0.6b",
        "shape": {
            "num_prompts": 4,
            "group_size": 8,
            "prompt_length": 256,
            "completion_length": 256,
        },
    },
)
_TINY = {"num_prompts": 2, "group_size": 4, "prompt_length": 16, "completion_length": 16}
SMALL = BenchmarkPlan(
    parts=(
        Part("limits", {}, 1.0),
        _model("tiny", _TINY, calls=1, num_layers=1),
        Part(
            "attention",
            {"shapes": [[1, 16, 4, 16]], "heads": [4, 2, 16], "dtype": "float32"},
            1.0,
        ),
        Part(
            "decode attention",
            {"rows": 4, "length": 16, "heads": [4, 2, 16], "dtype": "float32"},
            1.0,
        ),
        Part("aggregators", {"rounds": 1}, 1.0),
    ),
    peers={"name": "tiny", "shape": _TINY},
)


def main() -> int:
    """Runs every part and prints the tables; returns 1 if no update and no rollout was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="tiny shapes, for any CPU")
    parser.add_argument("--minutes", type=float, default=5.0, help="of all parts (default 5)")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--json", type=new_file, help="also write the numbers to this file")
    parser.add_argument("--markdown", type=new_file, help="also write the tables to this file")
    arguments = parser.parse_args()
    plan = SMALL if arguments.small else FULL
    # By default JAX leaves a quarter of the GPU's memory to other processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

    end = time.monotonic() + 60 * arguments.minutes
    rows = [row for part in plan.parts for row in run(part, end)]
    rows += peers(plan.peers, arguments.peer_python, end)
    report = {**circumstances(), "plan": plan._asdict(), "rows": rows}
    text = as_markdown(report)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(text)
    return int(not any(row["measured"] in ("update", "rollout") for row in rows))


def run(part: Part, end: float) -> Iterator[dict[str, Any]]:
    """The measurements of a part in its own process, and its complaint if it failed.

    Args:
        part: the part.
        end: of the benchmark, by the monotonic clock.
    """
    about = {"part": part.name, "model": part.settings.get("name", "")}
    title = " ".join(filter(None, about.values()))
    left = min(60 * part.minutes, end - time.monotonic())
    if left < LEAST_SECONDS:
        yield {**about, "measured": "complaint", "complaint": "not run: no time was left"}
        return
    print(f"{title} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        settings, out, err = (Path(directory) / name for name in ("settings", "out", "err"))
        settings.write_text(json.dumps(part.settings))
        command = [sys.executable, str(HERE / "device_parts.py"), part.name, str(settings)]
        complaint = _complaint(command, out, err, left)
        lines = out.read_text().splitlines()
    for line in lines:
        if line.startswith('{"measured"'):
            yield {**about, **json.loads(line)}
    if complaint:
        yield {**about, "measured": "complaint", "complaint": complaint}
    print(f"{title}: {time.monotonic() - began:.0f} s {complaint}", file=sys.stderr, flush=True)


def _complaint(command: Sequence[str], out: Path, err: Path, seconds: float) -> str:
    """Runs a command with its outputs in files; one line about its failure, empty if none."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "JAX_TRACEBACK_FILTERING": "off",  # the last line is then the error
    }
    with out.open("w") as stdout, err.open("w") as stderr:
        try:
            done = subprocess.run(
                command,
                stdout=stdout,
                stderr=stderr,
                check=False,
                timeout=seconds,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return f"ended after {seconds:.0f} s"
    if done.returncode == 0:
        return ""
    text = err.read_text()
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        return systems.OUT_OF_MEMORY
    last = text.strip().splitlines()[-1:] or [""]
    return f"failed with exit code {done.returncode}: {last[0][:200]}"


def peers(shape: dict[str, Any], python: str, end: float) -> list[dict[str, Any]]:
    """Median step seconds of the peers that are installed, and of dvaojax, on a smaller shape."""
    installed = [peer for peer in PEERS if systems.is_installed(peer, python)]
    if not installed:
        return [
            {"measured": "peers", "system": each, "complaint": "not installed"} for each in PEERS
        ]
    rows: list[dict[str, Any]] = []
    model = _fields(shape["name"])
    workload = make_workload(model, **shape["shape"], steps=1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "workload.json"
        workload.save(path)
        for system in (OURS, *installed):
            row: dict[str, Any] = {"measured": "peers", "system": system, "complaint": ""}
            if end - time.monotonic() < 20:
                rows.append({**row, "complaint": "not run: no time was left"})
                continue
            print(f"{system} on a smaller shape ...", file=sys.stderr, flush=True)
            # Peers hold all logits of a micro-batch, so they get the smallest ones.
            options = ["--micro-batches", str(shape["shape"]["num_prompts"])]
            interpreter = sys.executable if system == OURS else python
            left = end - time.monotonic()
            outcome = systems.run(system, path, python=interpreter, options=options, timeout=left)
            seconds = outcome.report.get("step_seconds", [None])
            rows.append({**row, "complaint": outcome.complaint, "seconds": seconds[-1]})
    return rows


def _fields(name: str) -> dict[str, Any]:
    """The fields of a preset, with the dtypes that all systems support."""
    code = (
        "import dataclasses, json; from dvaojax.models.presets import PRESETS; "
        f"print(json.dumps(dataclasses.asdict(PRESETS[{name!r}])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return json.loads(done.stdout)


def circumstances() -> dict[str, Any]:
    """Versions, date and commit of a measurement."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    return {
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "date": datetime.date.today().isoformat(),
        "commit": git.stdout.strip() or "unknown",
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


if __name__ == "__main__":
    sys.exit(main())
