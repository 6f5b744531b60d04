"""Many short runs that are compared: a grid of settings, trained side by side and reported."""

from dvaojax.sweep.grid import Cell as Cell
from dvaojax.sweep.grid import Sweep as Sweep
