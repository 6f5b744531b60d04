"""`python -m dvaojax` is `dvaojax`."""

import sys

from dvaojax.cli import main

if __name__ == "__main__":
    sys.exit(main())
