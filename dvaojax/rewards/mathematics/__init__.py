"""Rewards for the correct answer to a mathematics problem.

`accuracy` is recommended; `accuracy_math_verify` and `answer_line_dapo` equal the papers' code.
math-verify runs in a separate process, which starts when the first answer needs it.
"""

from dvaojax.rewards.mathematics.accuracy import AnswerGrade as AnswerGrade
from dvaojax.rewards.mathematics.accuracy import accuracy as accuracy
from dvaojax.rewards.mathematics.accuracy import accuracy_integer as accuracy_integer
from dvaojax.rewards.mathematics.accuracy import accuracy_math_verify as accuracy_math_verify
from dvaojax.rewards.mathematics.accuracy import answered as answered
from dvaojax.rewards.mathematics.accuracy import grade as grade
from dvaojax.rewards.mathematics.answer_line import answer_line_dapo as answer_line_dapo
from dvaojax.rewards.mathematics.answer_line import answer_line_lenient as answer_line_lenient
from dvaojax.rewards.mathematics.canonical import canonical as canonical
from dvaojax.rewards.mathematics.equivalence import equivalent as equivalent
from dvaojax.rewards.mathematics.extraction import final_answer as final_answer

Grade = AnswerGrade
"""Earlier name of `AnswerGrade`."""
