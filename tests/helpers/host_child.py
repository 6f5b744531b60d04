"""Child process that is one of several, each with its share of eight CPU devices.

python host_child.py PORT PROCESSES INDEX exchange
python host_child.py PORT PROCESSES INDEX run RUNS START [--signal-at STEP]
python host_child.py PORT PROCESSES INDEX watch RUNS
"""

import argparse
import itertools
import json
import os
import signal
import sys
import time
from unittest import mock

import digits_run
import faulty_host
import jax
import numpy as np
from run_child import INTERRUPTED

from dvaojax import files, sharding
from dvaojax.cli.parser import run_path
from dvaojax.rewards import RewardError, RewardSuite
from dvaojax.train import Interrupted, TrainingError, host_watch, hosts, loop, train
from dvaojax.train.interrupts import Interrupts
from dvaojax.train.scoring import SharedScorer, score_groups
from dvaojax.train.step_log import StepLog
from dvaojax.types import Completion, Prompt


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("processes", type=int)
    parser.add_argument("index", type=int)
    parser.add_argument("what", choices=["exchange", "run", "watch"])
    parser.add_argument("runs", type=run_path, nargs="?")
    parser.add_argument("start", choices=["create", "resume"], nargs="?")
    parser.add_argument("--signal-at", type=int)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 8 // arguments.processes)
    if arguments.processes > 1:
        address = f"127.0.0.1:{arguments.port}"
        jax.distributed.initialize(address, arguments.processes, arguments.index)
    return {"exchange": exchange, "run": run, "watch": watch}[arguments.what](arguments)


def exchange(arguments: argparse.Namespace) -> int:
    """Prints the results of all exchanges with the other process, as JSON."""
    del arguments
    mesh = sharding.make_mesh(sharding.MeshConfig(data=4, tensor=2))
    spread = sharding.make_mesh(sharding.MeshConfig(data=1, tensor=8))
    by_group = sharding.named(mesh, "group")
    me = jax.process_index()
    result = {
        "shares": [
            [part.tolist() for part in hosts.share(sharding.named(m, "group"), 8)]
            for m in (mesh, spread)
        ]
    }
    share = hosts.share(by_group, 8)
    ours = np.full((8, 3), -1, np.int32)
    ours[share.held] = share.held[:, None]  # only the rows on its own devices matter
    placed = hosts.place(ours, by_group)
    result["rows"] = hosts.rows(placed, share.scored).tolist()
    result["whole"] = hosts.whole(placed).tolist()
    result["gathered"] = hosts.gather(np.int32(10 + me)).tolist()

    def failing():
        if me == 1:
            raise RewardError("here")

    for attempt in (lambda: hosts.together("scoring", failing), lambda: score(share, failing=me)):
        try:
            attempt()
        except (RewardError, TrainingError) as error:
            result.setdefault("failures", []).append(f"{type(error).__name__}: {error}")
    result["rewards"] = score(share, failing=None)
    with Interrupts() as interrupts:
        step = 0
        while interrupts.received is None and step < 600:
            step += 1
            if step == 2 and me == 1:
                os.kill(os.getpid(), signal.SIGINT)
            interrupts.agree(step)
            time.sleep(0.05 * (1 + me))  # the processes are at different steps
        result["signal"] = [step, interrupts.received]
    print(json.dumps(result))
    return 0


def score(share: hosts.Share, *, failing: int | None) -> list:
    """Rewards of eight groups of one: the length of the completion, or none."""

    def length(completion, reference):
        if failing == 1 and reference == 7:
            raise ValueError("seven")
        return len(completion.text) if reference % 3 else None

    def groups(indices):
        prompts = [Prompt("?", int(i), int(i)) for i in indices]
        return [[Completion("x" * (9 * int(i)), (1,), True)] for i in indices], prompts

    suite = RewardSuite({"length": length})
    scores = score_groups(suite, *groups(share.scored), groups=share.scored, shape=(8, 1))
    again = SharedScorer(suite).score(*groups(range(8)))
    np.testing.assert_array_equal(again.rewards, scores.rewards)
    np.testing.assert_array_equal(again.mask, scores.mask)
    return np.where(scores.mask, scores.rewards, -1.0).ravel().tolist()


def watch(arguments: argparse.Namespace) -> int:
    """Exchanges numbers for ever, until one of the processes meets a fault."""
    path = arguments.runs / "mini"
    with (
        host_watch.watching_hosts(3.0, path),
        host_watch.native_output_in(path / files.ERRORS, lambda: None),
        host_watch.telling_others(),
    ):
        for step in itertools.count():
            hosts.gather(np.int32(step))
            if step == 3 and jax.process_index() == faulty_host.PROCESS:
                faulty_host.meet()
            time.sleep(0.05)
    return 0


def run(arguments: argparse.Namespace) -> int:
    """A training run in which only the last process receives a signal."""
    add = StepLog.add

    def add_then_signal(self, step):
        add(self, step)
        if step.number == arguments.signal_at and jax.process_index() == jax.process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3)  # JAX looks for signals once per second

    with (
        mock.patch.object(StepLog, "add", add_then_signal),
        mock.patch.object(loop, "plot_run", return_value=[]),
    ):
        try:
            train(digits_run.SPREAD, arguments.runs, start=arguments.start)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
