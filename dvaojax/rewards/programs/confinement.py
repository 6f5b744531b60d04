"""Restrictions of a process before it runs a program or a test. Standard library only.

A process that runs a program starts no other process or thread, writes no file, and has limits on
processor time, address space, open files, timers and message queues. Limits apply to single
processes, so they are limits of a whole test only because no further process can be started.
"""

import ctypes
import os
import resource
import signal
import sys

_SET_PARENT_DEATH_SIGNAL, _SET_DUMPABLE = 1, 4  # linux/prctl.h


def protect_from_children() -> None:
    """Makes this process unreachable for its children, which have the same user.

    It starts the processes of the tests and has none of their limits, so a program must not be able
    to trace it or to change its memory.
    """
    _control(_SET_DUMPABLE, 0)


def end_with_parent() -> None:
    """Has the kernel end this process when its parent ends."""
    _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def change_user(user: int) -> None:
    """Continues as a user and group without any right; needs the right to do so."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def set_resource_limits(*, cpu_seconds: int, memory_bytes: int) -> None:
    """Limits this process: time, memory, no further processes, no written files."""
    limits = {
        "RLIMIT_CPU": cpu_seconds,
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": 64,
    }
    for name, most in limits.items():
        kind = getattr(resource, name, None)  # some exist on Linux only
        if kind is None:
            continue
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except ValueError:  # macOS cannot limit the address space
            if sys.platform == "linux":
                raise
