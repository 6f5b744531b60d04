"""`dvaojax plan`: bad input gives one line and exit code 2, good input is compiled with libtpu."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental import topologies

from dvaojax.cli import main
from dvaojax.config import EvaluationConfig, overrides, validate
from dvaojax.devices import peak_of
from dvaojax.errors import UserError
from dvaojax.plan import command, described
from dvaojax.plan.chips import parse_slice
from dvaojax.plan.collectives import Links
from dvaojax.plan.costs import GpuCost
from dvaojax.plan.profile import profile
from dvaojax.plan.sizes import with_sizes_only
from dvaojax.sharding import MeshConfig, make_mesh

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SIZE_OPTIONS = ("prompts", "group-size", "prompt-length", "completion-length", "steps")
LENGTHS = "--prompt-length 32 --completion-length 64"
SIZES = f"--prompts 8 --group-size 4 {LENGTHS}"
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install '.[plan]'",
)


needs_cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason="the CUDA plugin is not installed: pip install '.[plan-cuda]'",
)


def plan(arguments):
    return main(["plan", *arguments.split()])


def error_line(capsys, arguments):
    """The one line on standard error of a command that fails with exit code 2."""
    assert plan(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--topology v7x:4x4 --model qwen3-8b", "unknown topology 'v7x:4x4'"),
        (
            f"--topology v5p:4x4x4 --model qwen3-9b {LENGTHS}",
            "unknown model 'qwen3-9b'; did you mean 'qwen3-",
        ),
        ("--topology v5p:4x4x4", "plan needs --model or --experiment"),
        (
            f"--topology v5p:4x4x4 --model tiny --set model.width=0 {LENGTHS}",
            "model.width=0 must be positive",
        ),
        (
            f"--topology v5p:4x4x4 --model tiny --set modle.width=8 {LENGTHS}",
            "unknown key 'modle.width'",
        ),
        ("--model tiny", "--topology"),
        (
            f"--topology v5p:4x4x4 --model tiny --set num_steps=0 {LENGTHS}",
            "num_steps=0 must be at least 1",
        ),
        (
            f"--topology v5p:4x4x4 --model tiny {LENGTHS} --prompts 6 "
            "--set learning.micro_batches=4",
            "divide",
        ),
        (
            f"--topology v5p:4x4x4 --model tiny {LENGTHS} --set mesh.fsdp=7",
            "tensor=1 does not fit 64",
        ),
        (f"--topology v5p:4x4x4 --model tiny --json nowhere/plan.json {LENGTHS}", "no such folder"),
        (f"--topology v5p:4x4x4 --model tiny --json . {LENGTHS}", "is a folder"),
    ],
)
def test_rejects_bad_input_before_loading_the_compiler(capsys, monkeypatch, arguments, message):
    monkeypatch.delattr(described, "slice_devices")
    assert message in error_line(capsys, arguments)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("prompts", size) for size in ("-3", "1.5", "many")),
        *((name, "0") for name in SIZE_OPTIONS),
    ],
)
def test_rejects_sizes_below_one(capsys, name, size):
    line = error_line(capsys, f"--topology v5p:4x4x4 --model tiny --{name} {size}")
    assert f"argument --{name}" in line
    assert f"{size} is not a whole number of at least 1" in line


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("", "--prompt-length N and --completion-length N"),
        ("--prompt-length 512", "needs --completion-length N"),
        ("--completion-length 512 --prompts 4", "needs --prompt-length N"),
    ],
)
def test_a_model_is_not_planned_without_its_lengths(capsys, monkeypatch, given, missing):
    monkeypatch.delattr(described, "slice_devices")
    line = error_line(capsys, f"--topology v5e:4x4 --model qwen3-4b {given}")
    assert missing in line.replace("also ", "")


def test_sizes_that_are_assumed_are_printed(capsys, monkeypatch):
    def compile_plan(*_, **__):
        raise UserError("compiling")

    monkeypatch.setattr(described, "slice_devices", lambda slice: ())
    monkeypatch.setattr(command, "compile_plan", compile_plan)
    assert plan(f"--topology v5e:4x4 --model tiny --prompts 32 {LENGTHS}") == 2
    assumed = "not given, assumed from defaults: --group-size 8\n"
    assert capsys.readouterr().err == f"{assumed}dvaojax: compiling\n"
    assert plan(f"--topology v5e:2x2 --model tiny {SIZES}") == 2
    assert capsys.readouterr().err == "dvaojax: compiling\n"


def test_unknown_model_lists_known_models(capsys):
    line = error_line(capsys, f"--topology v5p:4x4x4 --model llama {LENGTHS}")
    for name in ("qwen3-4b", "qwen3-8b", "qwen3-32b", "qwen2.5-3b", "qwen2.5-7b"):
        assert name in line


def test_missing_libtpu_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    line = error_line(capsys, f"--topology v5e:2x2 --model tiny {SIZES}")
    assert "pip install '.[plan]'" in line


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ABORTED: Internal error when accessing libtpu multi-process lockfile.", "is in use by"),
        ("INVALID_ARGUMENT: not divisible by 2x2x1", "topology v5e:3x3 is unknown to libtpu: not"),
    ],
)
def test_errors_of_libtpu_are_one_line(capsys, monkeypatch, error, message):
    def fail(**_):
        raise jax.errors.JaxRuntimeError(error)

    monkeypatch.setitem(sys.modules, "libtpu", sys)
    monkeypatch.setattr(topologies, "get_topology_desc", fail)
    assert message in error_line(capsys, f"--topology v5e:3x3 --model tiny {SIZES}")


def test_missing_or_failing_cuda_plugin_names_the_remedy(capsys, monkeypatch):
    def fail(**_):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setitem(sys.modules, "jax_cuda13_plugin", None)
    line = error_line(capsys, f"--topology h100:8 --model tiny {SIZES}")
    assert "pip install '.[plan-cuda]'" in line
    monkeypatch.setitem(sys.modules, "jax_cuda13_plugin", sys)
    monkeypatch.setattr(topologies, "get_topology_desc", fail)
    line = error_line(capsys, f"--topology h100:8 --model tiny {SIZES}")
    assert "set JAX_PLATFORMS=cpu" in line
    assert "pip install '.[plan-cuda]'" in line


def test_folder_of_programs_is_made_before_compiling(capsys, monkeypatch, tmp_path):
    monkeypatch.delattr(described, "slice_devices")
    (tmp_path / "file").write_text("")
    line = error_line(
        capsys, f"--topology h100:8 --model tiny {SIZES} --hlo {tmp_path / 'file' / 'programs'}"
    )
    assert "programs cannot be written" in line


def test_experiment_is_planned_without_its_problems_judge_and_tokenizer(capsys, monkeypatch):
    """None of them is available on this machine; only the sizes matter."""

    def slice_devices(slice):
        raise UserError("compiling")

    monkeypatch.setattr(described, "slice_devices", slice_devices)
    for name in ("dvao_mathematics_4b", "rvpo_healthbench"):
        assert plan(f"--experiment {EXPERIMENTS / name}.py --topology v5p:4x4x4") == 2
        assert capsys.readouterr().err.endswith("dvaojax: compiling\n")
        config = with_sizes_only(overrides.load_experiment(EXPERIMENTS / f"{name}.py"))
        validate(dataclasses.replace(config, evaluation=EvaluationConfig(num_prompts=128)))


@pytest.mark.slow
@needs_libtpu
def test_tiny_decoder_is_compiled_for_four_chips_and_the_process_keeps_its_devices(tmp_path):
    file, before = tmp_path / "plan.json", jax.devices()
    command = f"--model tiny --topology v5e:2x2 {SIZES} --steps 100 --json {file}"
    assert plan(f"{command} --set model.num_layers=1 rollout_stages=2") == 0
    summary = json.loads(file.read_text())
    assert summary["fits"]
    state = summary["training"]["memory"]
    assert state["optimizer"] == pytest.approx(2 * state["parameters"], rel=1e-3)
    assert 0 < summary["memory_needed"] < summary["memory_of_a_chip"] / 10
    assert summary["training"]["roofline_seconds"]["total"] > 0
    compiled = summary["rollout"]["compiled"]
    assert sum(loop["turns"] for loop in compiled["decode_loops"]) == 64 - 1
    decoding = sum(loop["turns"] * loop["seconds"] for loop in compiled["decode_loops"])
    assert 0.5 * compiled["seconds"] < decoding < compiled["seconds"]
    assert jax.devices() == before


@pytest.mark.nightly
@pytest.mark.slow
@needs_cuda
def test_tiny_decoder_is_compiled_for_gpus_of_two_hosts_without_complaints(tmp_path):
    """In its own process, whose plugin says nothing although there is no driver."""
    file, folder = tmp_path / "plan.json", tmp_path / "compiled"
    command = f"plan --model tiny --topology h100:2x2 {SIZES} --json {file} --hlo {folder}"
    settings = "model.num_layers=1 rollout_stages=1 mesh.fsdp=4"
    changed = ("JAX_PLATFORMS", "JAX_TRACEBACK_IN_LOCATIONS_LIMIT")
    done = subprocess.run(
        [sys.executable, "-m", "dvaojax", *f"{command} --profile --set {settings}".split()],
        capture_output=True,
        text=True,
        check=False,
        env={name: os.environ[name] for name in os.environ if name not in changed},
    )
    assert done.returncode == 0, done.stderr
    assert [line.partition(" with")[0] for line in done.stderr.splitlines()] == [
        "compiling the train step",
        "compiling the rollout",
    ]
    assert "models/layers.py:" in done.stdout
    compiled = [
        json.loads(file.read_text())[phase]["compiled"] for phase in ("training", "rollout")
    ]
    for phase, name in zip(compiled, ("update", "rollout"), strict=True):
        text = (folder / f"{name}.hlo").read_text()
        assert text.startswith("HloModule")
        model = GpuCost(Links(450e9, 50e9, 2), 3.35e12, 989.4e12)
        assert profile(text, model).seconds == pytest.approx(phase["seconds"])
    (loop,) = compiled[1]["decode_loops"]
    assert loop["turns"] == 64 - 1
    assert 10 < loop["kernels"] < 200
    assert compiled[1]["kernels"] > loop["kernels"] * 63
    assert json.loads(file.read_text())["training"]["collectives"]


@pytest.mark.nightly
@needs_libtpu
def test_search_finds_a_layout_that_fits(tmp_path):
    file = tmp_path / "plan.json"
    sizes = "--prompts 8 --group-size 4 --prompt-length 256 --completion-length 256"
    data_parallel = "--set mesh.data=4 model.num_layers=4 learning.micro_batches=1"
    command = f"--model qwen3-8b --topology v5e:2x2 {sizes} {data_parallel} --quick --json {file}"
    assert plan(command) == 0
    summary = json.loads(file.read_text())
    assert not summary["fits"]
    assert summary["memory_needed"] > summary["memory_of_a_chip"]
    assert summary["would_fit"]["fits"]
    assert summary["would_fit"]["memory_needed"] < summary["memory_of_a_chip"]


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize("mesh", [(1, 32, 2), (2, 4, 8), (1, 1, 64)])
def test_mesh_need_not_match_the_torus(mesh):
    """The described devices are also the chips whose peak rates the estimates use."""
    slice = parse_slice("v5p:4x4x4")
    devices = described.slice_devices(slice)
    assert peak_of(devices[0].device_kind) == (slice.chip.flops, slice.chip.memory_bandwidth)
    made = make_mesh(MeshConfig(*mesh), devices)
    assert tuple(made.shape.values()) == (1, *mesh)
    assert len({device.id for device in made.devices.flat}) == 64
