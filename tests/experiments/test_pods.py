"""The scripts for pods and clusters, with fake programs of the clusters."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from dvaojax import cli

PODS = Path(__file__).parents[2] / "experiments" / "pods"
EXPERIMENT = ("experiments/dvao_mathematics_4b.py", "--set", "mesh.fsdp=16")
SETTINGS = {
    "ZONE": "a-zone",
    "TYPE": "v5p-128",
    "RUNTIME": "v2-alpha-tpuv5",
    "NFS": "10.0.0.2:/runs",
    "PROJECT": "mine",
    "CLUSTER": "tpus",
    "IMAGE": "registry/dvaojax",
    "STORAGE": "runs",
    "SLURM_JOB_ID": "17",
    "POLL_SECONDS": "0",
    "RESTART_SECONDS": "0",
}
# Writes its words to `calls`, one line each, then behaves as the next line of `answers` says.
FAKE = """#!/usr/bin/env bash
printf '%q ' "$(basename "$0")" "$@" >>"{calls}"; echo >>"{calls}"
{behaviour}
"""


def fake(directory, name, behaviour="exit 0"):
    path = directory / name
    path.write_text(FAKE.format(calls=directory / "calls", behaviour=behaviour))
    path.chmod(0o755)


BUCKET = {"RUNS": "gs://mine/runs", "SOURCE": "gs://mine/dvaojax", "NFS": "", "STORAGE": ""}


def run(directory, script, *arguments, settings=SETTINGS):
    """Runs a script with the fake programs of a directory; the process, and each call's words."""
    environment = {**os.environ, **settings, "PATH": f"{directory}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", PODS / script, *arguments],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    calls = directory / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return done, [shlex.split(line) for line in lines]


def check_command(words):
    """Asserts that the command line of `dvaojax` accepts the words after its name."""
    arguments = cli.parse(words)
    assert arguments.command == "train"
    assert (arguments.start, arguments.distributed) == ("auto", True)
    assert str(arguments.experiment) == EXPERIMENT[0]
    assert arguments.changes == ["mesh.fsdp=16"]
    assert arguments.name == "four"


def command_in(text):
    """The words after `dvaojax train` in a shell command."""
    words = shlex.split(text)
    return words[words.index("train") :]


@pytest.mark.parametrize("script", sorted(path.name for path in PODS.iterdir()))
def test_syntax_and_usage(script):
    if script == "README.md":
        return
    subprocess.run(["bash", "-n", PODS / script], check=True)
    assert len((PODS / script).read_text().splitlines()) <= 70


@pytest.mark.parametrize(("codes", "expected"), [([75, 75, 0], 0), ([75, 1], 1), ([2], 2)])
def test_a_command_is_started_again_while_it_asks_for_it(tmp_path, codes, expected):
    (tmp_path / "codes").write_text("\n".join(map(str, codes)) + "\n")
    fake(tmp_path, "job", 'c=$(head -1 codes); sed -i 1d codes; exit "$c"')
    done, calls = run(tmp_path, "restart.sh", "job", "a b", "--resume=auto")
    assert done.returncode == expected
    assert calls == [["job", "a b", "--resume=auto"]] * len(codes)


def test_sigterm_reaches_the_command_which_is_not_started_again(tmp_path):
    fake(tmp_path, "job", "trap 'exit 75' TERM; touch ready; while :; do sleep 0.05; done")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", PODS / "restart.sh", "job"], env=environment, cwd=tmp_path)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert (tmp_path / "calls").read_text().count("job") == 1


# The answers of `describe`, and the exit codes of `ssh`, in the order of the calls.
SLICES = {
    "finished": (["WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE"], [0, 0], 0, 1),
    "taken away once": (["ACTIVE", "SUSPENDED", "ACTIVE"], [0, 255, 0, 0], 0, 2),
    "failed in its own code": (["ACTIVE", "ACTIVE"], [0, 1], 1, 1),
    "never granted": (["WAITING_FOR_RESOURCES", "FAILED", "FAILED"], [], 1, 1),
}


@pytest.mark.parametrize("case", SLICES)
def test_a_slice_is_requested_again_only_when_it_was_taken_away(tmp_path, case):
    states, codes, expected, requests = SLICES[case]
    (tmp_path / "states").write_text("".join(f"{state}\n" for state in states))
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    behaviour = """case "$*" in
  *describe*) head -1 states; [ "$(wc -l <states)" -gt 1 ] && sed -i 1d states; exit 0 ;;
  *ssh*) c=$(head -1 codes); sed -i 1d codes; exit "$c" ;;
esac"""
    fake(tmp_path, "gcloud", behaviour)
    done, calls = run(tmp_path, "tpu_slice.sh", "four", *EXPERIMENT)
    assert done.returncode == expected, done.stderr
    assert all(call[:3] == ["gcloud", "compute", "tpus"] for call in calls)
    assert all("--zone=a-zone" in call for call in calls)
    created = [call for call in calls if "create" in call]
    assert len(created) == requests
    assert "--accelerator-type=v5p-128" in created[0]
    deleted = sum("delete" in call for call in calls)
    assert deleted == (requests if case != "failed in its own code" else 0)
    for call in calls:
        if "ssh" in call:
            (command,) = (word for word in call if word.startswith("--command="))
            assert "--worker=all" in call
            if "restart.sh" in command:
                check_command(command_in(command))


def test_the_workload_of_a_cluster_trains(tmp_path):
    fake(tmp_path, "xpk")
    done, (call,) = run(tmp_path, "gke.sh", "four", *EXPERIMENT)
    assert done.returncode == 0, done.stderr
    assert call[:3] == ["xpk", "workload", "create"]
    assert {"--tpu-type=v5p-128", "--restart-on-exit-codes=75", "--storage=runs"} <= set(call)
    (command,) = (word for word in call if word.startswith("--command="))
    check_command(command_in(command))


def test_the_runs_may_be_in_a_bucket(tmp_path):
    settings = {**SETTINGS, **BUCKET}
    fake(tmp_path, "xpk")
    fake(tmp_path, "gcloud", 'case "$*" in *describe*) echo ACTIVE ;; esac')
    for script in ("gke.sh", "tpu_slice.sh"):
        done, calls = run(tmp_path, script, "four", *EXPERIMENT, settings=settings)
        assert done.returncode == 0, done.stderr
        commands = [w for call in calls for w in call if w.startswith("--command=")]
        words = command_in(commands[-1])
        assert str(cli.parse(words).runs) == "gs://mine/runs"
        assert not any("/mnt/runs" in word for call in calls for word in call)
        assert not any(word.startswith("--storage") for call in calls for word in call)
    assert "gcloud storage rsync --recursive gs://mine/dvaojax" in commands[-2]
    for missing in ("RUNS", "SOURCE"):
        done, _ = run(tmp_path, "tpu_slice.sh", "four", settings={**settings, missing: ""})
        assert done.returncode != 0
        assert f"{missing}: " in done.stderr


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False)])
def test_a_job_is_queued_again_when_it_asks_for_it(tmp_path, code, requeued):
    fake(tmp_path, "srun", f"exit {code}")
    fake(tmp_path, "scontrol")
    done, calls = run(tmp_path, "slurm.sbatch", "four", *EXPERIMENT)
    assert done.returncode == code
    check_command(calls[0][calls[0].index("train") :])
    assert calls[1:] == ([["scontrol", "requeue", "17"]] if requeued else [])


@pytest.mark.parametrize("script", ["tpu_slice.sh", "gke.sh", "slurm.sbatch"])
def test_a_missing_name_is_one_line(tmp_path, script):
    for name in ("gcloud", "xpk", "srun"):
        fake(tmp_path, name)
    done, calls = run(tmp_path, script)
    assert done.returncode != 0
    assert "the name of the" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not calls
