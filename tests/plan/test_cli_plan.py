"""The door: bad input is one line and exit code 2, good input is compiled where libtpu is."""

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
from dvaojax.plan.sizes import with_sizes_alone
from dvaojax.sharding import MeshConfig, make_mesh

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SIZES = "--prompts 8 --group-size 4 --prompt-length 32 --completion-length 64"
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install 'dvaojax[plan]'",
)


def plan(arguments):
    return main(["plan", *arguments.split()])


def refused(capsys, arguments):
    """The one line that a command answers with."""
    assert plan(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--topology v7x:4x4 --model qwen3-8b", "unknown topology 'v7x:4x4'"),
        ("--topology v5p:4x4x4 --model qwen3-9b", "unknown model 'qwen3-9b': the nearest is"),
        ("--topology v5p:4x4x4", "plan needs --model or --experiment"),
        ("--topology v5p:4x4x4 --model tiny --set model.width=0", "model.width=0 must be positive"),
        ("--topology v5p:4x4x4 --model tiny --set modle.width=8", "unknown key modle.width"),
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
def test_bad_input_is_one_line(capsys, monkeypatch, arguments, words):
    """And answered before a compiler is looked for."""
    monkeypatch.delattr(compilation, "describe")
    assert words in refused(capsys, arguments)


@pytest.mark.parametrize("size", ["0", "-3", "1.5", "many"])
@pytest.mark.parametrize(
    "name", ["prompts", "group-size", "prompt-length", "completion-length", "steps"]
)
def test_sizes_are_at_least_one(capsys, name, size):
    line = refused(capsys, f"--topology v5p:4x4x4 --model tiny --{name} {size}")
    assert f"argument --{name}" in line
    assert f"{size} is not a whole number of at least 1" in line


def test_known_models_are_named(capsys):
    line = refused(capsys, "--topology v5p:4x4x4 --model llama")
    for name in ("qwen3-4b", "qwen3-8b", "qwen3-32b", "qwen2.5-3b", "qwen2.5-7b"):
        assert name in line


def test_without_libtpu_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    line = refused(capsys, f"--topology v5e:2x2 --model tiny {SIZES}")
    assert "pip install 'dvaojax[plan]'" in line


@pytest.mark.parametrize(
    ("complaint", "words"),
    [
        ("ABORTED: Internal error when accessing libtpu multi-process lockfile.", "only one at a"),
        ("INVALID_ARGUMENT: not divisible by 2x2x1", "topology v5e:3x3 is unknown to libtpu: not"),
    ],
)
def test_what_libtpu_refuses_is_one_line(capsys, monkeypatch, complaint, words):
    def refuse(**_):
        raise jax.errors.JaxRuntimeError(complaint)

    monkeypatch.setitem(sys.modules, "libtpu", sys)
    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    assert words in refused(capsys, f"--topology v5e:3x3 --model tiny {SIZES}")


def test_an_experiment_is_planned_without_its_problems_its_judge_and_its_tokenizer(monkeypatch):
    """Of which none is on this machine: its sizes alone count."""

    class Compiling(Exception):
        pass

    def describe(slice):
        raise Compiling

    monkeypatch.setattr(compilation, "describe", describe)
    for name in ("dvao_mathematics_4b", "rvpo_healthbench"):
        with pytest.raises(Compiling):
            plan(f"--experiment {EXPERIMENTS / name}.py --topology v5p:4x4x4")
        config = with_sizes_alone(overrides.load_experiment(EXPERIMENTS / f"{name}.py"))
        validate(dataclasses.replace(config, evaluation=EvaluationConfig(num_prompts=128)))


@pytest.mark.slow
@needs_libtpu
def test_a_tiny_decoder_is_compiled_for_four_chips_and_leaves_the_process_as_it_was(tmp_path):
    file, before = tmp_path / "plan.json", jax.devices()
    command = f"--model tiny --topology v5e:2x2 {SIZES} --steps 100 --quick --json {file}"
    assert plan(f"{command} --set model.num_layers=2") == 0
    found = json.loads(file.read_text())
    assert found["fits"]
    state = found["training"]["memory"]
    assert state["optimizer"] == pytest.approx(2 * state["parameters"], rel=1e-3)
    assert 0 < found["memory_needed"] < found["memory_of_a_chip"] / 10
    assert found["training"]["roofline_seconds"]["total"] > 0
    assert jax.devices() == before


@pytest.mark.slow
@needs_libtpu
def test_what_does_not_fit_is_laid_out_until_it_does(tmp_path):
    file = tmp_path / "plan.json"
    sizes = "--prompts 8 --group-size 4 --prompt-length 256 --completion-length 256"
    by_data = "--set mesh.data=4 model.num_layers=4 learning.micro_batches=1"
    command = f"--model qwen3-8b --topology v5e:2x2 {sizes} {by_data} --quick --json {file}"
    assert plan(command) == 0
    found = json.loads(file.read_text())
    assert not found["fits"]
    assert found["memory_needed"] > found["memory_of_a_chip"]
    assert found["would_fit"]["fits"]
    assert found["would_fit"]["memory_needed"] < found["memory_of_a_chip"]


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize("mesh", [(1, 32, 2), (2, 4, 8), (1, 1, 64)])
def test_a_mesh_may_cut_through_the_torus(mesh):
    """And what is described is the chip whose peak rates the estimates take."""
    slice = parse_slice("v5p:4x4x4")
    devices = compilation.describe(slice)
    assert peak_of(devices[0].device_kind) == (slice.chip.flops, slice.chip.memory_bandwidth)
    made = make_mesh(MeshConfig(*mesh), devices)
    assert tuple(made.shape.values()) == (1, *mesh)
    assert len({device.id for device in made.devices.flat}) == 64
