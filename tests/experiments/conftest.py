"""Puts the experiment folders on the path, since the scripts import each other as modules."""

import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path[:0] = [str(EXPERIMENTS / "benchmarks"), str(EXPERIMENTS)]
