"""The running of an experiment: the compiled program, the experience, the loop."""

from dvaojax.train.failures import TrainingError as TrainingError
from dvaojax.train.interrupts import Interrupted as Interrupted
from dvaojax.train.loop import train as train
