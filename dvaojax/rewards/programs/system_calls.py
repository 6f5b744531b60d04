"""A seccomp filter for bubblewrap that refuses calls whose memory no resource limit counts.

Namespaces decide what a program can reach, and resource limits how much it can use. But no limit
counts the segments, semaphores and message queues of System V, or the contents of a memory file
system, which a program could mount in namespaces of its own. The filter also refuses large
interfaces of the kernel that Python does not need, and calls with the numbers of another
architecture. Everything else is left to bubblewrap.
"""

import platform
import struct

# Name of a system call, and its number on x86-64 and on AArch64.
_REFUSED = """
    shmget 29 194  semget 64 190  msgget 68 186  add_key 248 217  request_key 249 218
    keyctl 250 219  io_uring_setup 425 425  bpf 321 280  perf_event_open 298 241
    userfaultfd 323 282  unshare 272 97  setns 308 268"""
_COLUMN = {"x86_64": 1, "aarch64": 2}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Constants of the kernel: linux/filter.h, linux/seccomp.h.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_REFUSE, _ALLOW = 0x00050001, 0x7FFF0000
_NUMBER, _ARCHITECTURE_FIELD = 0, 4
_FIRST_X32_CALL = 0x40000000  # x86-64 calls with 32-bit pointers; no number on AArch64 is as large


def make_filter() -> bytes | None:
    """The filter as BPF instructions, the input of `bwrap --seccomp`.

    None where the numbers of system calls are not known here; these calls are allowed then.
    """
    machine = platform.machine()
    if machine not in _COLUMN:
        return None
    numbers = sorted(int(word) for word in _REFUSED.split()[_COLUMN[machine] :: 3])
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_FIELD),
        (_IF_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, _FIRST_X32_CALL),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number in numbers:
        program += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
