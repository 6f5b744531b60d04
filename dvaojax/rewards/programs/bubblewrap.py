"""The command line of bubblewrap for one process, and the reason if it cannot start one.

The process has its own user, process, network, IPC, mount and host-name namespaces and no
capabilities, runs as a user that owns nothing, and sees a read-only system of shared libraries and
Python's standard library: no home directory, no installed packages, no configuration. `/proc` shows
its own namespace, and nothing can be written, `/tmp` included.
"""

import contextlib
import functools
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dvaojax.errors import UserError
from dvaojax.rewards.programs.system_calls import make_filter

USER = 65534
"""User and group of the processes, in their namespace and, if started by root, outside."""

ALTERNATIVES = (
    "or name a server by rewards.programs.server=URL, or set rewards.programs.isolation=process, "
    "which does not protect against harmful programs"
)

_DIRECTORIES = (
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/nix/store",
)
_EMPTY = "/tmp/program"  # where it starts; /tmp itself may hold the interpreter
_DEVICES = ("null", "zero", "random", "urandom")

# Keeps its capabilities in a new user namespace until its users are mapped from outside.
_HOLDER = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    sys.exit(os.strerror(ctypes.get_errno()))
print(flush=True)
sys.stdin.read()
"""


class SandboxError(UserError):
    """Programs cannot be run on this machine; the line names the reason and the remedy."""


def command(
    python: Sequence[str], *, code: Path, stack: contextlib.ExitStack
) -> tuple[list[str], list[int]]:
    """The command that runs Python in a sandbox, and the open files that it must inherit.

    Args:
        python: the interpreter and its arguments.
        code: a directory that the process may read in addition.
        stack: closes the files.

    Raises:
        SandboxError: bubblewrap is not installed, or root may not create a user namespace.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(
            "programs run in bubblewrap, which is not installed: install the package bubblewrap "
            f"(apt-get install bubblewrap), {ALTERNATIVES}"
        )
    files = []
    if os.geteuid() == 0:
        files.append(_namespace_of_root())
        # The process itself changes to USER and thereby loses these two capabilities.
        capabilities = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        user = ["--userns", str(files[0]), "--cap-drop", "ALL", *capabilities]
    else:
        user = ["--unshare-user", "--uid", str(USER), "--gid", str(USER), "--cap-drop", "ALL"]
    instructions = make_filter()
    if instructions is not None:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        os.write(writer, instructions)
        os.close(writer)
        files.append(reader)
        user += ["--seccomp", str(reader)]
    options = [
        *user,
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--as-pid-1"),
        *_file_system(python[0], code),
        *("--proc", "/proc", "--dir", "/tmp", "--dir", _EMPTY, "--chdir", _EMPTY),
        *("--remount-ro", "/"),
    ]
    return [program, *options, "--", *python], files


@functools.cache
def _file_system(interpreter: str, code: Path) -> Sequence[str]:
    """The options that mount the visible directories."""
    wanted = {*_DIRECTORIES, f"{sys.base_prefix}/lib", os.path.dirname(os.__file__), str(code)}
    directories: list[str] = []
    options = ["--tmpfs", "/"]
    for directory in sorted(wanted):
        if os.path.islink(directory):
            options += ["--symlink", os.readlink(directory), directory]
        elif os.path.isdir(directory) and not directory.startswith(
            tuple(f"{parent}/" for parent in directories)
        ):
            directories.append(directory)
            # Without --dir, only the owner might enter the directories above.
            options += ["--dir", os.path.dirname(directory), "--ro-bind", directory, directory]
    # Installed packages may contain data sets with the expected values.
    packages = [
        path
        for parent in directories
        for pattern in ("", "python3*", "*/python3*")
        for name in ("site-packages", "dist-packages")
        for path in glob.glob(os.path.join(parent, pattern, name))
    ]
    for path in packages:
        options += ["--tmpfs", path, "--remount-ro", path]
    for path in ("/etc/ld.so.cache", interpreter):
        options += ["--dir", os.path.dirname(path), "--ro-bind-try", path, path]
    options += ["--dir", "/dev"]
    for device in _DEVICES:
        options += ["--dev-bind-try", f"/dev/{device}", f"/dev/{device}"]
    return options


@functools.cache
def _namespace_of_root() -> int:
    """A user namespace of root and `USER`, as an open file.

    In it root mounts the file system, also from directories that only root may read, and the
    program runs as `USER`. In a namespace of root alone the program would be root for the rest of
    the system: it could write `/proc/sys`, and no limit on its processes would apply.

    Raises:
        SandboxError: root may not create a user namespace.
    """
    holder = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        if not holder.stdout.readline():
            _, error = holder.communicate()
            raise SandboxError(explain(f"new user namespace: {error.decode(errors='replace')}"))
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{kind}").write_text(f"0 0 1\n{USER} {USER} 1\n")
        return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
    except OSError as error:
        raise SandboxError(explain(f"new user namespace: {error.strerror}")) from error
    finally:
        holder.communicate()


def explain(complaint: str, *, system: Path = Path("/")) -> str:
    """One line about a failed start: the complaint, and the setting that causes it.

    Args:
        complaint: the output of bubblewrap.
        system: root directory of the files that describe the system.
    """
    complaint = " ".join(complaint.split())[-300:] or "it ended without a message"
    denied = ("namespace", "not permitted", "uid map", "gid map", "Can't mount proc")
    if not any(word in complaint for word in denied):
        return f"bubblewrap cannot start {sys.executable}: {complaint}; repair that, {ALTERNATIVES}"
    return f"bubblewrap is not permitted here by {_setting(system)}; it says: {complaint}; " + (
        f"change that setting, {ALTERNATIVES}"
    )


def _setting(system: Path) -> str:
    """The setting that forbids namespaces, with the change that permits them."""
    sysctls = [
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for "
            "bwrap with the rule `userns,`",
        ),
    ]
    for name, forbidding, remedy in sysctls:
        try:
            value = (system / "proc/sys" / name).read_text().strip()
        except OSError:
            continue
        if value == forbidding:
            return f"the kernel's {name.replace('/', '.')}={value} ({remedy})"
    if any((system / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return (
            "the container (start it with --security-opt seccomp=unconfined --security-opt "
            "apparmor=unconfined --security-opt systempaths=unconfined)"
        )
    return "the kernel, a container or a security module (user namespaces must be allowed)"
