"""Exit codes, and the one line that a failing command prints."""

import signal
import sys

from dvaojax.errors import RESTART, printable

FAILED = 1
BAD_INPUT = 2
BY_SIGNAL = 128  # plus the signal's number, the convention of shells


def interrupted(signal_number: int) -> int:
    """The exit code of a command that a signal stopped after it had saved its work.

    SIGTERM is sent by schedulers, which may start the command again; Ctrl-C by people.
    """
    return RESTART if signal_number == signal.SIGTERM else BY_SIGNAL + signal_number


def fail(message: str, code: int) -> int:
    """Prints the message as one line on standard error, with control characters escaped.

    Returns:
        `code`, for the caller to return.
    """
    print("dvaojax:", printable(" ".join(message.split())), file=sys.stderr)
    return code
