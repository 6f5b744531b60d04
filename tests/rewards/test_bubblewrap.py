"""Where programs cannot run in bubblewrap, one line says why and what to do."""

import os
import shutil
import subprocess
import sys

import pytest
from program_attacks import requires_bubblewrap

from dvaojax.rewards.programs import ProgramsConfig, SandboxError
from dvaojax.rewards.programs.bubblewrap import explain
from dvaojax.rewards.programs.trials import _probe, require

NEW_NAMESPACE = (
    "bwrap: No permissions to create new namespace, likely because the kernel does not allow "
    "non-privileged user namespaces."
)


@pytest.fixture(autouse=True)
def _fresh_probe():
    _probe.cache_clear()
    yield
    _probe.cache_clear()


def refusal():
    with pytest.raises(SandboxError) as error:
        require(ProgramsConfig())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refusal()
    assert "not installed: install the package bubblewrap (apt-get install bubblewrap)" in line
    assert "rewards.programs.server=URL" in line
    assert "rewards.programs.isolation=process" in line
    require(ProgramsConfig(isolation="process"))


@pytest.mark.parametrize(
    ("complaint", "files", "setting"),
    [
        (
            NEW_NAMESPACE,
            {"proc/sys/kernel/unprivileged_userns_clone": "0\n"},
            "kernel.unprivileged_userns_clone=0 (sysctl kernel.unprivileged_userns_clone=1)",
        ),
        (
            "bwrap: setting up uid map: Permission denied",
            {
                "proc/sys/kernel/unprivileged_userns_clone": "1\n",
                "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
            },
            "kernel.apparmor_restrict_unprivileged_userns=1 (sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile",
        ),
        (
            "bwrap: Creating new namespace failed: No space left on device",
            {"proc/sys/user/max_user_namespaces": "0\n"},
            "user.max_user_namespaces=0",
        ),
        (
            "bwrap: Creating new namespace failed: Operation not permitted",
            {".dockerenv": "", "proc/sys/user/max_user_namespaces": "1000\n"},
            "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        ),
        (
            "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
            {"run/.containerenv": ""},
            "--security-opt systempaths=unconfined",
        ),
        (NEW_NAMESPACE, {}, "the kernel, a container or a security module"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(tmp_path, complaint, files, setting):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    line = explain(complaint, system=tmp_path)
    assert line.startswith("bubblewrap is not permitted here by ")
    assert setting in line
    assert complaint in line
    assert "rewards.programs.server=URL" in line


def test_other_failures_are_not_blamed_on_a_setting(tmp_path):
    line = explain("bwrap: execvp /opt/python: No such file or directory", system=tmp_path)
    assert line.startswith(f"bubblewrap cannot start {sys.executable}: bwrap: execvp")


def test_the_output_of_bubblewrap_is_read(monkeypatch, tmp_path):
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\necho '{NEW_NAMESPACE}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert NEW_NAMESPACE in refusal()


@requires_bubblewrap
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no program unshare")
def test_a_kernel_without_user_namespaces():
    """In a namespace that may have no further ones."""
    code = (
        "from dvaojax.rewards.programs import ProgramsConfig\n"
        "from dvaojax.rewards.programs.trials import require\n"
        "try: require(ProgramsConfig())\n"
        "except ValueError as error: print(error)\n"
    )
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", shell, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"user namespaces cannot be created here: {done.stderr}")
    assert done.stdout.startswith("bubblewrap is not permitted here by the kernel's "), done
    assert "user.max_user_namespaces=0" in done.stdout
    assert done.stdout.count("\n") == 1
