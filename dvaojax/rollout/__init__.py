"""Sampling groups of completions from the policy."""

from dvaojax.rollout.generate import MAX_STAGES as MAX_STAGES
from dvaojax.rollout.generate import completion_keys as completion_keys
from dvaojax.rollout.generate import rollout as rollout
from dvaojax.rollout.sampling import Sampling as Sampling
