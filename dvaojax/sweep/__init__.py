"""Comparison of many short runs over a grid of settings, with a report."""

from dvaojax.sweep.grid import Cell as Cell
from dvaojax.sweep.grid import Sweep as Sweep
