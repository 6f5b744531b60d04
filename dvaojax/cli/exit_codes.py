"""Exit codes, and the one line that a failing command prints."""

import sys

FAILED = 1
BAD_INPUT = 2
BY_SIGNAL = 128  # plus the signal's number, the convention of shells


def fail(message: str, code: int) -> int:
    """Prints the message as one line on standard error.

    Returns:
        `code`, for the caller to return.
    """
    print("dvaojax:", " ".join(message.split()), file=sys.stderr)
    return code
