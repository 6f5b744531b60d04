"""The one line for an exception that no subcommand handles, and the file with its traceback.

Foreseeable failures of the machine, such as a full disk, need no traceback: the line names the
remedy. Any other exception is a bug, of this package or of the user's code. Its traceback is
appended to `error.log` in the directory of the run, or written to the temporary directory.
"""

import argparse
import contextlib
import datetime
import logging
import os
import re
import signal
import sys
import sysconfig
import tempfile
import traceback
from pathlib import Path

import dvaojax
from dvaojax import files
from dvaojax.cli.exit_codes import BAD_INPUT, BY_SIGNAL, FAILED, fail
from dvaojax.errors import memory_failure, printable, storage_failure

_SMALLER = {
    "evaluate": "lower evaluation.prompts_per_batch or evaluation.max_new_tokens",
    "export": "close other programs",
    "report": "close other programs",
    "plot": "close other programs",
    "data": "close other programs",
}
_SMALLER_STEPS = (
    "raise learning.micro_batches, lower prompts_per_step or max_new_tokens, set "
    "model.remat=layer; `dvaojax plan` estimates what fits"
)

# JAX reads its settings from the environment when it is imported.
_JAX_SETTING = re.compile(r'Invalid value "(.*)" for JAX flag (\w+)')


def report(error: Exception, arguments: argparse.Namespace) -> int:
    """Prints one line about an exception; must be called while it is being handled.

    Args:
        error: the exception.
        arguments: those of the command; they name the directory of the run.

    Returns:
        The exit code.
    """
    directory = _directory(arguments)
    if (line := storage_failure(error)) is not None:
        _ignore_threads()
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        named = error.filename if isinstance(error, OSError) else None
        where = named or _target(arguments)
        return fail(f"{where}: {line}" if where else line, FAILED)
    if (line := memory_failure(error)) is not None:
        return fail(f"{line}: {_SMALLER.get(arguments.command, _SMALLER_STEPS)}", FAILED)
    if (setting := _JAX_SETTING.search(str(error))) is not None:
        value, name = setting.groups()
        return fail(f"the environment variable {name.upper()} is {value!r}, invalid", BAD_INPUT)
    line = f"{_location(error)}{type(error).__name__}: {error}"
    return fail(f"{' '.join(line.split())[:500]}; {_log(directory)}", FAILED)


def closed_pipe() -> int:
    """Ends quietly, as other programs do, when the reader of standard output has gone.

    Returns:
        The exit code.
    """
    _discard_output()
    return BY_SIGNAL + signal.SIGPIPE


def _discard_output() -> None:
    """Discards what is still buffered for standard output, whose file or pipe cannot take it."""
    with contextlib.suppress(OSError, ValueError):  # not a file of the operating system
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _ignore_threads() -> None:
    """Logs nothing more: threads that still save meet the same full disk, and the program ends."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None


def _directory(arguments: argparse.Namespace) -> Path | None:
    """The directory of the run or sweep that the command works on."""
    named = vars(arguments)
    runs = named.get("runs")
    first = runs[0] if isinstance(runs, list) and runs else None
    works_on = (named.get("directory_of_run"), named.get("policy"), named.get("run"), first)
    candidates = [*works_on, named.get("out") if arguments.command == "sweep" else None]
    return next((path for path in candidates if path is not None), None)


def _target(arguments: argparse.Namespace) -> Path | str | None:
    """The file or directory that the command writes."""
    named = vars(arguments)
    given = named.get("out") or named.get("directory") or named.get("data_dir")
    return given or _directory(arguments)


def _location(error: BaseException) -> str:
    """`FILE:LINE: ` of the innermost line of the user's own code; empty if there is none."""
    libraries = [Path(dvaojax.__file__).parent, *map(Path, sysconfig.get_paths().values())]
    libraries.append(Path(sys.prefix))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not any(file.is_relative_to(library) for library in libraries):
            return f"{file}:{frame.lineno}: "
    return "this is a bug of dvaojax: "


def _log(directory: Path | None) -> str:
    """Writes the traceback of the exception being handled, and says where it is."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = f"{now} dvaojax {dvaojax.__version__}\n{traceback.format_exc()}\n"
    text = "\n".join(map(printable, text.split("\n")))
    with contextlib.suppress(OSError):
        if isinstance(directory, Path) and directory.is_dir():
            path = directory / files.ERRORS
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return f"traceback: {path}"
    with contextlib.suppress(OSError):
        number, name = tempfile.mkstemp(prefix="dvaojax-error-", suffix=".log", text=True)
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return f"traceback: {name}"
    return "its traceback could not be written anywhere"
