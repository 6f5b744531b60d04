"""The configuration of a run, its checks, and how it is read and changed."""

from dvaojax.config.schema import CheckpointConfig as CheckpointConfig
from dvaojax.config.schema import Config as Config
from dvaojax.config.schema import EvaluationConfig as EvaluationConfig
from dvaojax.config.schema import RewardConfig as RewardConfig
from dvaojax.config.schema import aggregator_knobs as aggregator_knobs
from dvaojax.config.schema import config_from_json as config_from_json
from dvaojax.config.schema import make_aggregator as make_aggregator
from dvaojax.config.schema import make_shadows as make_shadows
from dvaojax.config.schema import validate as validate
from dvaojax.config.schema import validate_evaluation as validate_evaluation
