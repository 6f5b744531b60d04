"""Runs `dvaojax evaluate` in a child process that kills itself after some batches.

python evaluate_child.py BATCHES ARGUMENTS...
"""

import os
import signal
import sys
from unittest import mock

from dvaojax import cli
from dvaojax.evaluation.directory import EvaluationDirectory


def main() -> int:
    remaining = int(sys.argv[1])
    add = EvaluationDirectory.add

    def add_or_die(self, batch):
        nonlocal remaining
        if remaining == 0:
            # Leaves a partial batch, like a kill while it is written.
            add(self, batch)
            os.truncate(self.completions, self.completions.stat().st_size - 100)
            os.kill(os.getpid(), signal.SIGKILL)
        remaining -= 1
        add(self, batch)

    with mock.patch.object(EvaluationDirectory, "add", add_or_die):
        return cli.main(["evaluate", *sys.argv[2:]])


if __name__ == "__main__":
    sys.exit(main())
