"""Libraries do not print into the output of commands."""

import importlib.util
import subprocess
import sys

import pytest

from dvaojax.cli import environment

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}

# Folding the constant takes longer than XLA waits before it logs an alarm.
ALARM = """
from dvaojax.cli import environment
{quiet}
import jax, numpy as np
def windows():
    values = jax.numpy.asarray(np.ones(20_000, np.float32))
    return jax.lax.reduce_window(values, 0.0, jax.lax.add, (80,), (1,), "SAME")
jax.jit(windows).lower().compile()
"""


def pci(directory, devices):
    """A directory of PCI devices with these vendors and classes."""
    for index, (vendor, kind) in enumerate(devices):
        (directory / str(index)).mkdir(parents=True)
        (directory / str(index) / "vendor").write_text(vendor + "\n")
        (directory / str(index) / "class").write_text(kind + "\n")
    return directory


@pytest.mark.parametrize(
    ("devices", "is_set"),
    [
        ([], True),
        ([("0x10de", "0x030200"), ("0x8086", "0x060000")], True),
        ([("0x1ae0", "0x020000"), ("0x1ae0", "0x010802")], True),  # network and disk of a cloud
        ([("0x10de", "0x030200"), ("0x1ae0", "0x120000")], False),
        ([("0x1ae0", "0xff0000")], False),
    ],
)
def test_libtpu_gets_its_variables_only_in_machines_without_a_tpu(
    tmp_path, monkeypatch, devices, is_set
):
    variables = {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    environment.quiet_libraries(variables, devices=pci(tmp_path / "devices", devices))
    assert ("TPU_WORKER_HOSTNAMES" in variables) == is_set
    assert ("TPU_ACCELERATOR_TYPE" in variables) == is_set


def test_nothing_is_set_that_is_set_already_or_without_libtpu(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    variables = {}
    environment.quiet_libraries(variables, devices=tmp_path / "none")
    assert variables == QUIET
    mine = {"TF_CPP_MIN_LOG_LEVEL": "0", "TPU_WORKER_HOSTNAMES": "a,b"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    environment.quiet_libraries(mine, devices=tmp_path / "none")
    assert mine["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert mine["TPU_WORKER_HOSTNAMES"] == "a,b"


def alarm(quiet):
    command = [sys.executable, "-c", ALARM.format(quiet=quiet)]
    variables = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=variables, timeout=300
    ).stderr


def test_an_invalid_setting_of_jax_is_named(tmp_path):
    variables = {"JAX_NUM_CPU_DEVICES": "two", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "dvaojax", "train", "--runs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 2
    expected = "dvaojax: the environment variable JAX_NUM_CPU_DEVICES is 'two', invalid\n"
    assert done.stderr == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_alarms_of_a_slow_compilation_are_not_shown():
    assert "slow_operation_alarm" in alarm("")
    assert alarm("environment.quiet_libraries()") == ""
