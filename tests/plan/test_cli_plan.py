"""`dvaojax plan`: bad input gives one line and exit code 2, good input is compiled with libtpu."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental import topologies

from dvaojax.cli import main
from dvaojax.config import EvaluationConfig, overrides, validate
from dvaojax.devices import peak_of
from dvaojax.plan import compilation
from dvaojax.plan.chips import parse_slice
from dvaojax.plan.sizes import with_sizes_only
from dvaojax.sharding import MeshConfig, make_mesh

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SIZE_OPTIONS = ("prompts", "group-size", "prompt-length", "completion-length", "steps")
SIZES = "--prompts 8 --group-size 4 --prompt-length 32 --completion-length 64"
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install '.[plan]'",
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
        ("--topology v5p:4x4x4 --model qwen3-9b", "unknown model 'qwen3-9b'; did you mean 'qwen3-"),
        ("--topology v5p:4x4x4", "plan needs --model or --experiment"),
        ("--topology v5p:4x4x4 --model tiny --set model.width=0", "model.width=0 must be positive"),
        ("--topology v5p:4x4x4 --model tiny --set modle.width=8", "unknown key 'modle.width'"),
        ("--model tiny", "--topology"),
        ("--topology v5p:4x4x4 --model tiny --set num_steps=0", "num_steps=0 must be at least 1"),
        ("--topology v5p:4x4x4 --model tiny --prompts 6 --set learning.micro_batches=4", "divide"),
        (
            "--topology v5p:4x4x4 --model tiny --set mesh.fsdp=7",
            "tensor=1 does not fit 64",
        ),
        ("--topology v5p:4x4x4 --model tiny --json nowhere/plan.json", "no such folder"),
        ("--topology v5p:4x4x4 --model tiny --json .", "is a folder"),
    ],
)
def test_rejects_bad_input_before_loading_the_compiler(capsys, monkeypatch, arguments, message):
    monkeypatch.delattr(compilation, "slice_devices")
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


def test_unknown_model_lists_known_models(capsys):
    line = error_line(capsys, "--topology v5p:4x4x4 --model llama")
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


def test_experiment_is_planned_without_its_problems_judge_and_tokenizer(monkeypatch):
    """None of them is available on this machine; only the sizes matter."""

    class Compiling(Exception):
        pass

    def slice_devices(slice):
        raise Compiling

    monkeypatch.setattr(compilation, "slice_devices", slice_devices)
    for name in ("dvao_mathematics_4b", "rvpo_healthbench"):
        with pytest.raises(Compiling):
            plan(f"--experiment {EXPERIMENTS / name}.py --topology v5p:4x4x4")
        config = with_sizes_only(overrides.load_experiment(EXPERIMENTS / f"{name}.py"))
        validate(dataclasses.replace(config, evaluation=EvaluationConfig(num_prompts=128)))


@pytest.mark.slow
@needs_libtpu
def test_tiny_decoder_is_compiled_for_four_chips_and_the_process_keeps_its_devices(tmp_path):
    file, before = tmp_path / "plan.json", jax.devices()
    command = f"--model tiny --topology v5e:2x2 {SIZES} --steps 100 --quick --json {file}"
    assert plan(f"{command} --set model.num_layers=2") == 0
    summary = json.loads(file.read_text())
    assert summary["fits"]
    state = summary["training"]["memory"]
    assert state["optimizer"] == pytest.approx(2 * state["parameters"], rel=1e-3)
    assert 0 < summary["memory_needed"] < summary["memory_of_a_chip"] / 10
    assert summary["training"]["roofline_seconds"]["total"] > 0
    assert jax.devices() == before


@pytest.mark.slow
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
    devices = compilation.slice_devices(slice)
    assert peak_of(devices[0].device_kind) == (slice.chip.flops, slice.chip.memory_bandwidth)
    made = make_mesh(MeshConfig(*mesh), devices)
    assert tuple(made.shape.values()) == (1, *mesh)
    assert len({device.id for device in made.devices.flat}) == 64
