"""Experiments that are scripts import each other from the directory they stand in."""

import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path[:0] = [str(EXPERIMENTS / "benchmarks"), str(EXPERIMENTS)]
