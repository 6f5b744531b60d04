"""Irrevocable restrictions on a process before it runs code that a policy wrote.

Limits on time, memory and files apply on every POSIX system. On Linux (x86-64, AArch64) a seccomp
filter also refuses all system calls that affect anything outside the process: sockets, new
processes and threads, signals to others, other programs, every change to the file system. On other
systems the corresponding Python modules are removed, which a determined program can circumvent.
Uses the standard library only, since it runs in the children of `sandbox`.

This is not a security boundary. A program can still read every file that its user can read, and
there was no systematic attempt to escape: run code of real adversaries in a virtual machine.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable

# Name of a refused system call, its number on x86-64 and on AArch64. For calls that AArch64 lacks,
# the second number is that of the equivalent call.
_REFUSED = {
    "new processes, threads and programs": """
        clone 56 220  clone3 435 435  fork 57 220  vfork 58 220  execve 59 221  execveat 322 281
        setsid 112 157  setpgid 109 154""",
    "the network and other communication": """
        socket 41 198  socketpair 53 199  io_uring_setup 425 425
        shmget 29 194  msgget 68 186  semget 64 190  mq_open 240 180""",
    "other processes": """
        kill 62 129  tkill 200 130  tgkill 234 131  rt_sigqueueinfo 129 138
        rt_tgsigqueueinfo 297 240  pidfd_send_signal 424 424  pidfd_open 434 434
        pidfd_getfd 438 438  ptrace 101 117  process_vm_readv 310 270
        process_vm_writev 311 271  setpriority 141 140""",
    "the machine": """
        unshare 272 97  setns 308 268  chroot 161 51  pivot_root 155 41  mount 165 40
        umount2 166 39  reboot 169 142  bpf 321 280  perf_event_open 298 241
        keyctl 250 219  add_key 248 217""",
    "files": """
        creat 85 56  openat2 437 437  memfd_create 319 279  truncate 76 45
        unlink 87 35  unlinkat 263 35  rmdir 84 35  mkdir 83 34  mkdirat 258 34
        mknod 133 33  mknodat 259 33  rename 82 38  renameat 264 38  renameat2 316 276
        link 86 37  linkat 265 37  symlink 88 36  symlinkat 266 36
        chmod 90 53  fchmod 91 52  fchmodat 268 53  fchmodat2 452 452
        chown 92 54  fchown 93 55  lchown 94 54  fchownat 260 54
        utime 132 88  utimes 235 88  futimesat 261 88  utimensat 280 88
        setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7
        removexattr 197 14  lremovexattr 198 15  fremovexattr 199 16""",
}

# Number of a system call -> an argument and its bits that cause a refusal. Files may only be opened
# for reading; resource limits may only be read, and only those of this process.
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_REFUSED_WITH = {
    "x86_64": {2: (1, _WRITING), 257: (2, _WRITING), 302: (0, 0xFFFFFFFF)},
    "aarch64": {56: (2, _WRITING), 261: (0, 0xFFFFFFFF)},
}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Constants of the kernel: linux/filter.h, linux/seccomp.h, linux/prctl.h.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
_SET_SIGNAL_OF_PARENTS_DEATH, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVILEGES = 1, 4, 22, 38
_NUMBER, _ARCHITECTURE_FIELD, _ARGUMENTS = 0, 4, 16


def make_filter() -> Callable[[], None] | None:
    """A function that installs the seccomp filter in the process that calls it.

    None if the system has no such filter or its system call numbers are not known here.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURE or sys.maxsize < 2**32:
        return None
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _program(machine))
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def install() -> None:
        keep = instructions, ctypes.create_string_buffer(described, len(described))
        for option, *values in (
            (_SET_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL),
            (_SET_DUMPABLE, 0),
            (_SET_NO_NEW_PRIVILEGES, 1),
            (_SET_SECCOMP, 2, ctypes.addressof(keep[1])),
        ):
            if prctl(option, *map(ctypes.c_ulong, (*values, 0, 0, 0, 0)[:4])):
                raise OSError(ctypes.get_errno(), "the kernel rejected the seccomp filter")

    return install


def set_resource_limits(*, cpu_seconds: int, memory_bytes: int) -> None:
    """Limits this process: time, memory, no written files, few open files."""
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except ValueError:  # macOS cannot limit the address space
            if sys.platform == "linux":
                raise


def remove_modules() -> None:
    """Fallback without a filter: no new processes, no modules that reach outside the process."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    for name in ("_socket", "socket", "_posixsubprocess", "subprocess", "_ctypes", "ctypes"):
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    for name in ("kill", "killpg", "fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        if hasattr(os, name):
            delattr(os, name)


def _program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter as BPF instructions: code, jump if true, jump if false, operand."""
    column = {"x86_64": 1, "aarch64": 2}[machine]
    words = " ".join(_REFUSED.values()).split()
    refused = sorted({int(number) for number in words[column::3]} - _REFUSED_WITH[machine].keys())
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_FIELD),
        (_IF_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # the x32 system calls, with 32-bit pointers
        program += [(_IF_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _REFUSE)]
    for number in refused:
        program += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number, (position, bits) in _REFUSED_WITH[machine].items():
        program += [
            (_IF_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * position),
            (_IF_BITS, 0, 1, bits),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return [*program, (_RETURN, 0, 0, _ALLOW)]
