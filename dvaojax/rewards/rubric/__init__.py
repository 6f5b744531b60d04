"""Rubric rewards: items with points, graded by a judge, and the scores computed from them."""

from dvaojax.rewards.rubric.grading import ItemGrade as ItemGrade
from dvaojax.rewards.rubric.grading import question as question
from dvaojax.rewards.rubric.grading import read_grade as read_grade
from dvaojax.rewards.rubric.items import AXES as AXES
from dvaojax.rewards.rubric.items import Rubric as Rubric
from dvaojax.rewards.rubric.items import RubricItem as RubricItem
from dvaojax.rewards.rubric.items import RubricObjective as RubricObjective
from dvaojax.rewards.rubric.items import axes as axes
from dvaojax.rewards.rubric.items import overall as overall
from dvaojax.rewards.rubric.items import read_rubric as read_rubric
from dvaojax.rewards.rubric.items import single_items as single_items
from dvaojax.rewards.rubric.items import tagged as tagged
from dvaojax.rewards.rubric.scorer import RubricScorer as RubricScorer
from dvaojax.rewards.rubric.scores import clipped_or_spared_score as clipped_or_spared_score
from dvaojax.rewards.rubric.scores import clipped_score as clipped_score
from dvaojax.rewards.rubric.scores import healthbench_score as healthbench_score

Grade = ItemGrade
"""Earlier name of `ItemGrade`."""
