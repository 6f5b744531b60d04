"""Overwrites a run again and again, killed before every change of a file, each time one later.

python overwrite_child.py DIRECTORY

DIRECTORY/template is copied to DIRECTORY/NUMBER/a for every number of changes made before the kill;
the last number is that of a process that was not killed. Prints one line per number.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

from dvaojax.config import Config
from dvaojax.run import directory as run_directory
from dvaojax.run import lock

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate")


def kill_before(number: int) -> None:
    """Kills this process before its change of that number, from 0."""
    remaining = number

    def hook(event, arguments):
        nonlocal remaining
        is_change = event in CHANGES or (event == "open" and arguments[2] & WRITING != 0)
        if is_change and remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        remaining -= is_change

    sys.addaudithook(hook)


def main() -> None:
    place = Path(sys.argv[1])
    start = {"time": "now", "argv": ["new"]}
    for number in range(200):
        run = shutil.copytree(place / "template", place / str(number) / "a")
        child = os.fork()
        if child == 0:
            kill_before(number)
            with mock.patch.object(run_directory, "describe_start", return_value=start):
                held = lock.take(run)
                run_directory.overwrite(run, Config(num_steps=9))
                held.release()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(number, code, flush=True)
        if code == 0:
            return
        assert code == -signal.SIGKILL


if __name__ == "__main__":
    main()
