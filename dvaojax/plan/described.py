"""Described devices: chips that programs are compiled for, on a machine without them."""

import contextlib
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from dvaojax.errors import UserError, import_extra, install_hint
from dvaojax.plan.chips import Gpu, Slice

# By default libtpu queries the cloud's metadata server, writes logs, and excludes other processes.
# None of that is needed to compile without a chip.
_LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

# XLA's description of a GPU. Without the driver's version it takes the driver for one that is too
# old for conditionals in CUDA graphs.
_GPU = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared_memory}
  shared_memory_per_block_optin: {optin}
  threads_per_core_limit: {threads}
  core_count: {gpu.cores}
  fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {gpu.memory_bandwidth:.0f}
  l2_cache_size: {gpu.l2_cache}
  clock_rate_ghz: {gpu.clock_ghz}
  device_memory_size: {gpu.whole_memory}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} }}
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 }}
device_description_str: "{gpu.kind}" """


def set_environment() -> None:
    """Configures libtpu and the CUDA plugin to compile only; before JAX looks for devices.

    Unless the process is to run on the CPU, the plugin complains that there is no driver.
    """
    for name, value in _LIBTPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # JAX refuses the change if it has devices already, which are then the right ones.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")


def slice_devices(slice: Slice) -> Sequence[Any]:
    """Devices of the slice as compilation targets; nothing can run on them.

    Raises:
        UserError: the compiler for them is not installed, is used by another process, or does not
            know the slice.
    """
    return _gpus(slice, slice.chip) if isinstance(slice.chip, Gpu) else _tpus(slice)


def _tpus(slice: Slice) -> Sequence[Any]:
    import_extra("libtpu", extra="plan")
    set_environment()
    settings: dict[str, Any] = {} if slice.count == 1 else {"num_slices": slice.count}
    if math.prod(slice.shape) == 1:
        settings["chips_per_host_bounds"] = (1, 1, 1)
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=slice.name, **settings
        ).devices
    except jax.errors.JaxRuntimeError as error:
        if "lockfile" in str(error):
            raise UserError(
                "libtpu is in use by another process: wait until that ends, or delete the lock "
                "/tmp/libtpu_lockfile if a killed process left it"
            ) from error
        reason = " ".join(str(error).split()).removeprefix("INVALID_ARGUMENT: ")
        raise UserError(f"topology {slice} is unknown to libtpu: {reason}") from error


def _gpus(slice: Slice, gpu: Gpu) -> Sequence[Any]:
    target = _GPU.format(
        gpu=gpu,
        optin=gpu.shared_memory - 1024,
        threads=1536 if gpu.capability == (8, 9) else 2048,
        fpus=64 if gpu.capability == (8, 0) else 128,
    )
    import_extra("jax_cuda13_plugin", extra="plan-cuda")
    hosts, per_host = slice.shape
    try:
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name=str(slice),
            topology=f"1x{hosts}x{per_host}",  # of slices, hosts and GPUs
            target_config=target,
        ).devices
    except NotImplementedError as error:
        raise UserError(
            "JAX's CUDA plugin does not start: set JAX_PLATFORMS=cpu, and install the plugin for "
            f"jax {jax.__version__}: {install_hint('plan-cuda')}"
        ) from error
