"""Two responses compared by a judge: as a reward for policies, for rubrics and for judges."""

from dvaojax.rewards.preferences.comparison import Comparison as Comparison
from dvaojax.rewards.preferences.comparison import Verdict as Verdict
from dvaojax.rewards.preferences.comparison import comparison_question as comparison_question
from dvaojax.rewards.preferences.comparison import read_verdict as read_verdict
from dvaojax.rewards.preferences.pairwise import Baseline as Baseline
from dvaojax.rewards.preferences.pairwise import PairwiseScorer as PairwiseScorer
