"""`dvaojax evaluate` in a process of its own, that is killed behind some batches.

python evaluate_child.py BATCHES ARGUMENTS...
"""

import os
import signal
import sys
from pathlib import Path
from unittest import mock

from tiny_run import compiled_once

from dvaojax import cli
from dvaojax.evaluation.directory import EvaluationDirectory


def main() -> int:
    left = int(sys.argv[1])
    add = EvaluationDirectory.add

    def mortal(self, batch):
        nonlocal left
        if left == 0:
            # The middle of a batch's lines, as a kill during the writing would leave them.
            add(self, batch)
            os.truncate(self.completions, self.completions.stat().st_size - 100)
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        add(self, batch)

    with mock.patch.object(EvaluationDirectory, "add", mortal), compiled_once(Path(os.environ["COMPILED"])):
        return cli.main(["evaluate", *sys.argv[2:]])


if __name__ == "__main__":
    sys.exit(main())
