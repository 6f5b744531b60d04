"""`dvaojax train` without arguments reaches its targets in full."""

import json
import os
import resource
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_main_job_reaches_its_targets(tmp_path):
    """Within what two cores compute in five minutes.

    Processor time is measured, because other tests run at the same time.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    before_run = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "dvaojax", "train"], cwd=tmp_path, env=environment, check=True
    )
    after_run = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after_run.ru_utime + after_run.ru_stime - before_run.ru_utime - before_run.ru_stime
    summary = json.loads((tmp_path / "runs" / "arithmetic" / "summary.json").read_text())
    before, after = summary["before"], summary["after"]
    print(f"main job: {seconds:.0f} s of processor time, before {before}, after {after}")
    assert seconds < 2 * 300
    assert summary["wall_seconds"] > 0
    assert summary["problems"] == 512
    assert before["accuracy"]["mean"] < 0.60
    assert after["accuracy"]["mean"] >= 0.85
    for objective in ("brevity", "format"):
        assert before[objective]["mean"] < 0.75
        assert after[objective]["mean"] >= 0.97
    assert len(list((tmp_path / "runs" / "arithmetic" / "plots").glob("*.png"))) == 5
