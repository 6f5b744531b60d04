"""The configuration of a run: its fields, its checks, and how it is read and changed."""

from dvaojax.config.migration import migrate as migrate
from dvaojax.config.migration import migrate_settings as migrate_settings
from dvaojax.config.recorded import config_from_json as config_from_json
from dvaojax.config.schema import AggregatorConfig as AggregatorConfig
from dvaojax.config.schema import CheckpointConfig as CheckpointConfig
from dvaojax.config.schema import Config as Config
from dvaojax.config.schema import EvaluationConfig as EvaluationConfig
from dvaojax.config.schema import HintConfig as HintConfig
from dvaojax.config.schema import RewardConfig as RewardConfig
from dvaojax.config.trusted import check_disjoint as check_disjoint
from dvaojax.config.trusted import evaluated_problems as evaluated_problems
from dvaojax.config.trusted import trusted_problems as trusted_problems
from dvaojax.config.validation import aggregator_knobs as aggregator_knobs
from dvaojax.config.validation import compares_within_groups as compares_within_groups
from dvaojax.config.validation import make_aggregator as make_aggregator
from dvaojax.config.validation import make_shadows as make_shadows
from dvaojax.config.validation import validate as validate
from dvaojax.config.validation import validate_evaluation as validate_evaluation
