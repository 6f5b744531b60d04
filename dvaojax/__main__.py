"""Entry point of `python -m dvaojax`, the same as the command `dvaojax`."""

import sys

from dvaojax.cli import main

if __name__ == "__main__":
    sys.exit(main())
