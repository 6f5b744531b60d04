"""The benchmarks are scripts that import each other from the directory they stand in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
