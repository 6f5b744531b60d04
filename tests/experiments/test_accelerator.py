"""Parts, profiles and tables of the accelerator benchmark; a complete run is a nightly test."""

import dataclasses
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import accelerator
import device_attention
import device_model
import device_parts
import jax
import jax.numpy as jnp
import our_step
import pytest
from accelerator import FULL, SMALL, Part
from accelerator_tables import as_markdown
from workload import make_workload

from dvaojax import sharding
from dvaojax.devices import PEAKS
from dvaojax.models.attention import backend
from dvaojax.models.presets import PRESETS
from dvaojax.sharding import MeshConfig

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "accelerator.py"
GPU = "NVIDIA H200"
MODEL = {"part": "model", "model": "qwen3-0.6b"}
MEMORY = {"arguments": 2**30, "results": 0, "temporaries": 2 * 2**30}
ROWS = [
    {
        "measured": "limits",
        "part": "limits",
        "model": "",
        "device": GPU,
        "flops_per_second": 5e14,
        "bytes_per_second": 4e12,
    },
    {**MODEL, "measured": "update", "seconds": 2.0, "flops": 0.8 * PEAKS[GPU].flops_per_second},
    {**MODEL, "measured": "step", "seconds": 3.5},
    {**MODEL, "measured": "memory", "update": MEMORY, "rollout": MEMORY, "state": 2**29},
    {**MODEL, "measured": "peak", "bytes": 5 * 2**30},
    {
        **MODEL,
        "measured": "rollout",
        "kind": "cuDNN",
        "seconds": 4.0,
        "calls": [5.0, 4.0],
        "bytes": 2.0 * PEAKS[GPU].bytes_per_second,
        "tokens": 8000,
    },
    {**MODEL, "measured": "kernels", "of": "update", "seconds": 2.0, "launches": 1234,
     "longest": [["gemm", 1.5]]},
    {"measured": "attention", "shape": [1, 2, 3, 4], "backend": "cudnn", "complaint": "too old"},
    {"measured": "decode attention", "filled": 0.5, "seconds": 1e-4, "bytes_per_second": 2e12},
    {"measured": "aggregators", "microseconds": {"dvao": 12.3}},
    {"measured": "peers", "system": "trl", "complaint": "not installed"},
    {**MODEL, "model": "qwen3-4b", "measured": "complaint", "complaint": "out of memory"},
]  # fmt: skip
HEADER = {"date": "2026-11-28", "commit": "abc", "versions": {"jax": "0.11.2"}}


def test_tables_have_shares_of_the_data_sheet_and_every_complaint():
    text = as_markdown({**HEADER, "rows": ROWS})
    for expected in (
        f"{GPU}, 2026-11-28, commit abc, jax 0.11.2",
        "Limits (data sheet): 989.40 TFLOP/s, 4,800 GB/s.",
        "Best product and copy: 500.00 TFLOP/s, 4,000 GB/s.",
        "| qwen3-0.6b | 2.000 | 40.0% | 3.500 |  |",
        "| qwen3-0.6b | cuDNN | 4.000 | 50.0% | 2,000 | 5.000 / 4.000 |",
        "| qwen3-0.6b | 3.00 (2.00) | 3.00 (2.00) | 0.50 | 5.00 |",
        "| qwen3-0.6b, update: 1,234 kernels | ms | share |",
        "| `gemm` | 1500.00 | 75.0% |",
        "| 1 x 2 x 3 x 4 | cudnn | too old |  |",
        "| 50.0% | 100 | 2,000 |",
        "| trl | not installed |",
        "| dvao | 12 |",
        "model qwen3-4b: out of memory",
    ):
        assert expected in text
    for row in ROWS:
        as_markdown({**HEADER, "rows": [each for each in ROWS if each is not row]})


def test_unknown_device_has_measured_limits():
    rows = [{**ROWS[0], "device": "cpu"}, *ROWS[1:]]
    share = 0.8 * PEAKS[GPU].flops_per_second / 2.0 / 5e14
    assert f"| qwen3-0.6b | 2.000 | {share:.1%} |" in as_markdown({**HEADER, "rows": rows})


@pytest.mark.parametrize("plan", [FULL, SMALL])
def test_plans_have_known_parts_and_models(plan):
    models = [part.settings["name"] for part in plan.parts if part.name == "model"]
    assert {part.name for part in plan.parts} == set(device_parts.PARTS)
    assert {*models, plan.peers["name"]} <= set(PRESETS)


@pytest.mark.parametrize(
    ("ending", "complaint"),
    [
        ("", None),
        ("raise ValueError('too wide')", "failed with exit code 1: ValueError: too wide"),
        ("raise RuntimeError('RESOURCE_EXHAUSTED: 9 GiB')", "out of memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "failed with exit code -11: "),
    ],
)
def test_part_that_fails_keeps_its_measurements(monkeypatch, tmp_path, ending, complaint):
    child = "import sys, json; print('noise'); print(json.dumps({'measured': 'x', 'seconds': 1}))"
    (tmp_path / "device_parts.py").write_text(f"{child}\nsys.stdout.flush()\n{ending}")
    monkeypatch.setattr(accelerator, "HERE", tmp_path)
    part = Part("model", {"name": "tiny"}, 1.0)
    rows = list(accelerator.run(part, time.monotonic() + 60))
    assert rows[0] == {"part": "model", "model": "tiny", "measured": "x", "seconds": 1}
    assert [row["complaint"] for row in rows[1:]] == ([] if complaint is None else [complaint])


def test_part_ends_with_the_time_of_the_benchmark(monkeypatch, tmp_path):
    (tmp_path / "device_parts.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(accelerator, "HERE", tmp_path)
    monkeypatch.setattr(accelerator, "LEAST_SECONDS", 0.5)
    none_left = list(accelerator.run(Part("limits", {}, 1.0), time.monotonic() + 0.4))
    assert none_left[0]["complaint"] == "not run: no time was left"
    (row,) = accelerator.run(Part("limits", {}, 1 / 60), time.monotonic() + 60)
    assert row["complaint"] == "ended after 1 s"


def event(name, milliseconds, **stats):
    return SimpleNamespace(name=name, duration_ns=1e6 * milliseconds, stats=list(stats.items()))


def plane(name, **lines):
    return SimpleNamespace(
        name=name, lines=[SimpleNamespace(name=line, events=lines[line]) for line in lines]
    )


def test_kernels_of_a_profile_are_those_of_the_devices_streams():
    ops, stream = "XLA Ops", "Stream #13(compute)"
    host = plane("/host:CPU", **{"a": [event("python", 9), event("fusion", 2, hlo_op="f")]})
    gpu = plane(
        "/device:GPU:0",
        **{stream: [event("gemm", 3), event("gemm", 4)], "XLA Modules": [event("step", 9)]},
    )
    tpu = plane("/device:TPU:0", **{ops: [event("dot", 5)], "Steps": [event("0", 9)]})
    assert device_model.kernels([host]) == ({"fusion": 0.002}, 1)
    assert device_model.kernels([host, gpu]) == ({"gemm": 0.007}, 2)
    assert device_model.kernels([tpu, host]) == ({"dot": 0.005}, 1)


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_refuses_unwritable_output_before_measuring(monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["accelerator.py", option, "nowhere/at/all"])
    monkeypatch.delattr(accelerator, "run")
    with pytest.raises(SystemExit) as stopped:
        accelerator.main()
    assert stopped.value.code == 2
    assert f"argument {option}: there is no directory nowhere/at" in capsys.readouterr().err


@pytest.mark.slow
def test_parts_can_be_lowered_for_a_gpu(monkeypatch):
    """Update, every kind of sampler and the attention in training call cuDNN as they should."""
    monkeypatch.setattr(backend, "platform", lambda: "gpu")
    monkeypatch.setattr(backend, "_capability", lambda: (9, 0))

    def calls(function, *arguments):
        lowered = function.trace(*arguments).lower(lowering_platforms=("cuda",))
        return lowered.as_text().count("cudnn$fmha")

    model = dataclasses.replace(PRESETS["tiny"], num_layers=1, compute_dtype="bfloat16")
    model = dataclasses.replace(model, remat="products_and_attention")
    shape = {"num_prompts": 2, "group_size": 4, "prompt_length": 16, "completion_length": 16}
    workload = make_workload(dataclasses.asdict(model), **shape, steps=1)
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    system, state = our_step.begin(model, workload, mesh=mesh, micro_batches=2)
    assert calls(system.train, state, our_step.random_experience(system, 0), None) == 6
    prompts, limits = jnp.asarray(system.prompts[0]), jnp.asarray(system.limits[0])
    for kind in device_model.SAMPLERS["gpu"].values():
        attending = dataclasses.replace(model, decode_attention=kind.attention)
        sample = our_step.make_sampler(attending, workload, mesh=mesh, max_stages=1)
        expected = 1 if kind.attention == "einsum" else 3  # prefill, and two in decoding
        serials = jnp.arange(2, dtype=jnp.int32)
        assert calls(sample, state.learner.params, prompts, limits, serials) == expected
    arrays = [jnp.zeros((1, 16 + 4 * 16, heads, 64), jnp.bfloat16) for heads in (4, 2, 2, 4)]
    both = partial(device_attention._both, "cudnn", jnp.ones((1, 16), bool), 4)
    assert calls(jax.jit(both), *arrays) == 6


@pytest.mark.slow
def test_parts_need_no_packages_but_those_of_flax_and_optax():
    absent = ("antlr4", "grain", "math_verify", "matplotlib", "moocore", "pebble", "shtab",
              "tensorboard", "torch", "transformers", "tyro")  # fmt: skip
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import device_parts"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPT.parent)


@pytest.mark.nightly
def test_command_runs_on_a_cpu(tmp_path):
    path, markdown = tmp_path / "report.json", tmp_path / "report.md"
    command = [sys.executable, str(SCRIPT), "--small", "--json", str(path)]
    done = subprocess.run(
        [*command, "--markdown", str(markdown)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["rows"]
    assert markdown.read_text() == done.stdout.rstrip("\n") + "\n"
    measured = {row["measured"]: row for row in rows}
    assert measured["update"]["seconds"] > 0
    assert measured["update"]["flops"] > 0
    assert len(measured["rollout"]["calls"]) == 2
    assert measured["memory"]["update"]["temporaries"] > 0
    assert measured["kernels"]["longest"]
    assert measured["aggregators"]["microseconds"]["dvao"] > 0
    blocks, cudnn = (row for row in rows if row["measured"] == "attention")
    assert max(blocks["errors"].values()) < 1e-5
    assert cudnn["complaint"]
