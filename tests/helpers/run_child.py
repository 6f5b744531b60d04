"""Child process with a training run that kills itself or waits for a signal at a given step.

That is after the step was dispatched and the row of the previous step was written.

python run_child.py RUNS CONFIG START [--die-at STEP CHECKPOINT | --wait-at STEP] [--quick]
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import digits_run
from etils import epath

from dvaojax.cli.parser import run_path
from dvaojax.run.saved_checkpoints import COMMITTED
from dvaojax.train import Interrupted, loop, session, train
from dvaojax.train.step_log import StepLog

INTERRUPTED = 75


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=run_path)
    parser.add_argument("config", choices=["PLAIN", "EPOCHS", "AHEAD"])
    parser.add_argument("start", choices=["create", "resume"])
    parser.add_argument("--die-at", type=int, nargs=2, metavar=("STEP", "CHECKPOINT"))
    parser.add_argument("--wait-at", type=int)
    parser.add_argument("--quick", action="store_true", help="see digits_run.quick_programs")
    arguments = parser.parse_args()
    add = StepLog.add

    def add_then_stop(self, step):
        add(self, step)
        if arguments.die_at and step.number == arguments.die_at[0]:
            wait_for(complete(self._session.directory.checkpoints / str(arguments.die_at[1])))
            os.kill(os.getpid(), signal.SIGKILL)
        if step.number == arguments.wait_at:
            (arguments.runs / "waiting").touch()
            wait_for(arguments.runs / "signalled")

    patches = [mock.patch.object(StepLog, "add", add_then_stop)]
    patches += [mock.patch.object(loop, "plot_run", return_value=[])]
    if arguments.config != "PLAIN":
        patches += [mock.patch.object(session, "make_aggregator", digits_run.noisy_running_mean)]
    if arguments.quick:
        patches.append(digits_run.quick_programs())
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Runs to the end, or to a signal; returns the exit code."""
    config = getattr(digits_run, arguments.config)
    try:
        train(config, arguments.runs, start=arguments.start)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED
    return 0


def complete(checkpoint: Path | epath.Path) -> Path | epath.Path:
    """A path that exists once a checkpoint is complete."""
    return checkpoint if isinstance(checkpoint, Path) else checkpoint / COMMITTED


def wait_for(path: Path | epath.Path) -> None:
    """Waits until the path exists."""
    deadline = time.monotonic() + 60
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
