"""Two responses compared by a judge: as a reward for policies, for rubrics and for judges."""

from dvaojax.rewards.preferences.comparison import Preferred as Preferred
from dvaojax.rewards.preferences.comparison import ResponsePair as ResponsePair
from dvaojax.rewards.preferences.comparison import comparison_question as comparison_question
from dvaojax.rewards.preferences.comparison import read_verdict as read_verdict
from dvaojax.rewards.preferences.judging import Preference as Preference
from dvaojax.rewards.preferences.judging import (
    addresses_every_criterion as addresses_every_criterion,
)
from dvaojax.rewards.preferences.judging import right_verdict as right_verdict
from dvaojax.rewards.preferences.pairwise import Baseline as Baseline
from dvaojax.rewards.preferences.pairwise import PairwiseScorer as PairwiseScorer
from dvaojax.rewards.preferences.rubric_accuracy import RubricAccuracyScorer as RubricAccuracyScorer
from dvaojax.rewards.preferences.rubric_text import criteria as criteria
from dvaojax.rewards.preferences.rubric_text import read_rubric_text as read_rubric_text
from dvaojax.rewards.preferences.rubric_text import rubric_question as rubric_question
