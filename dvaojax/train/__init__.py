"""The training loop: compiled functions, sampling and scoring, checkpoints, resuming."""

from dvaojax.train.failures import TrainingError as TrainingError
from dvaojax.train.interrupts import Interrupted as Interrupted
from dvaojax.train.loop import train as train
