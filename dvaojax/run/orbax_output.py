"""Keeps Orbax's threads from printing tracebacks of failures that are raised elsewhere as well."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from absl import logging


@contextlib.contextmanager
def quiet_saving_threads() -> Iterator[None]:
    """Prints no tracebacks of the threads that save checkpoints.

    Orbax logs them and TensorStore prints them; both also raise them where a save is awaited.
    """
    verbosity, hook = logging.get_verbosity(), sys.unraisablehook
    logging.set_verbosity(logging.FATAL)
    hide_abandoned_work()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        sys.unraisablehook = hook


def hide_abandoned_work() -> None:
    """Hides the tracebacks of reads and writes that Orbax abandoned after an error.

    They are not raised but written to standard error, at any time later.
    """
    hook = sys.unraisablehook

    def filtered(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        is_from_orbax = code is not None and f"{os.sep}orbax{os.sep}" in code.co_filename
        if not is_from_orbax and str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = filtered
