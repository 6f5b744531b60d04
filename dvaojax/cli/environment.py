"""Environment variables that keep libraries from printing into the output of a command."""

import importlib.util
import os
from collections.abc import MutableMapping
from pathlib import Path

# XLA logs "Very slow compile?" and the like as errors; its real errors are Python exceptions.
_FATAL_ONLY = {"TF_CPP_MIN_LOG_LEVEL": "3"}
# With libtpu installed, JAX tries to use a TPU, which without these fails with a trace.
_NO_TPU = {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}

_PCI_DEVICES = Path("/sys/bus/pci/devices")
_GOOGLE = "0x1ae0"
_STORAGE, _NETWORK = "0x01", "0x02"  # classes of Google's devices in machines without a TPU


def quiet_libraries(
    environment: MutableMapping[str, str] = os.environ, *, devices: Path = _PCI_DEVICES
) -> None:
    """Sets what is not set already; must run before JAX is imported.

    Args:
        environment: to change; by default that of this process.
        devices: directory that has one directory for each PCI device.
    """
    wanted = dict(_FATAL_ONLY)
    if importlib.util.find_spec("libtpu") is not None and not _may_have_tpu(devices):
        wanted |= _NO_TPU
    for name, value in wanted.items():
        environment.setdefault(name, value)


def _may_have_tpu(devices: Path) -> bool:
    """Whether a PCI device of Google is neither storage nor a network card."""
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor.startswith(_GOOGLE) and not kind.startswith((_STORAGE, _NETWORK)):
            return True
    return False
