"""Rewards of a judge: it finds the known preference, and goes through the whole rubric."""

import dataclasses
import re

from dvaojax.rewards.preferences.comparison import Preferred, ResponsePair, read_verdict
from dvaojax.rewards.preferences.rubric_text import criteria
from dvaojax.rewards.thinking import after_thinking
from dvaojax.types import Completion

_HEADING = re.compile(
    r"^[ \t*_#]*(Criterion[ \t]+\d{1,3}|Justification|Verdict)[ \t*_]*:[ \t*_]*", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Preference:
    """Two responses of which the better one is known.

    Attributes:
        comparison: the responses, with the rubric by which they are compared.
        preferred: the better response.
    """

    comparison: ResponsePair
    preferred: Preferred


def right_verdict(completion: Completion, preference: Preference, /) -> float:
    """1 if the completion's last line is the verdict for the preferred response, else 0.

    Rubric-ARM's accuracy reward of the judge, R_acc (arXiv:2602.01511). It does not depend on the
    rest of the layout; a missing verdict is wrong.
    """
    return float(read_verdict(completion.text) == preference.preferred)


def addresses_every_criterion(completion: Completion, preference: Preference, /) -> float:
    """1 if the completion has the requested layout and every part has words, else 0.

    Rubric-ARM's format reward of the judge, R_fmt (arXiv:2602.01511): it addresses and explains
    each criterion, and ends with a justification and the verdict. In our layout, after the
    thoughts, these are the headings `Criterion 1:` to `Criterion N:` for the N criteria of the
    rubric, `Justification:` and `Verdict:`, at the beginning of a line, each once, in this order
    and with nothing before the first. The text below them is not judged.
    """
    answer = after_thinking(completion.text).strip()
    headings = list(_HEADING.finditer(answer))
    numbers = range(1, len(criteria(preference.comparison.rubric)) + 1)
    expected = [*(f"Criterion {number}" for number in numbers), "Justification", "Verdict"]
    if [" ".join(heading[1].split()) for heading in headings] != expected or headings[0].start():
        return 0.0
    ends = [*(heading.start() for heading in headings[1:]), len(answer)]
    bodies = [answer[h.end() : end] for h, end in zip(headings, ends, strict=True)]
    explained = all(re.search(r"\w", body) for body in bodies)
    return float(explained and read_verdict(answer) is not None)
