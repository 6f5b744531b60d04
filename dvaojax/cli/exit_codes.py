"""Exit codes, and the one line that a failing command prints."""

import sys

from dvaojax.errors import printable

FAILED = 1
BAD_INPUT = 2
BY_SIGNAL = 128  # plus the signal's number, the convention of shells


def fail(message: str, code: int) -> int:
    """Prints the message as one line on standard error, with control characters escaped.

    Returns:
        `code`, for the caller to return.
    """
    print("dvaojax:", printable(" ".join(message.split())), file=sys.stderr)
    return code
