"""Declarations for type checkers of the names that `dvaojax` imports on first use."""

from dvaojax import aggregators as aggregators
from dvaojax import losses as losses
from dvaojax import rollout as rollout
from dvaojax import train as train
from dvaojax.config import Config as Config
from dvaojax.types import Completion as Completion
from dvaojax.types import Prompt as Prompt

__version__: str
