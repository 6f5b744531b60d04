"""Whether an answer follows the instructions of its prompt: one of them, all, or their share.

Each reward takes a `rule` that says when an instruction counts as followed:

| rule              | what is looked at                       | a language that cannot be told |
|-------------------|-----------------------------------------|--------------------------------|
| `strictly`        | what follows the thought                | is the wrong one               |
| `loosely`         | the same, and what IFEval makes of it   | is the wrong one               |
| `ifeval_strictly` | the text as it is                       | is the right one               |
| `ifeval_loosely`  | the same, and what IFEval makes of it   | is the right one               |

IFEval is Zhou et al., arXiv 2311.07911; the last two are what its code pays (google-research,
`instruction_following_eval`, commit 3f357bde), the first two are recommended. A blank answer
follows nothing. An answer of nonsense follows what forbids something, such as commas; that is in
the nature of these instructions.

The reference of every reward is the sequence of the prompt's instructions.
"""

from collections.abc import Callable, Iterable, Sequence

from dvaojax.rewards.instructions.instruction import CHECKS, KINDS_OF_A_LANGUAGE, Instruction
from dvaojax.rewards.instructions.language import detected_language
from dvaojax.rewards.thinking import after_thinking
from dvaojax.types import Completion

FollowRule = Callable[[str, Instruction], bool]
"""Whether a text follows an instruction."""


def followed(
    completion: Completion, instructions: Sequence[Instruction], /, *, number: int, rule: FollowRule
) -> float | None:
    """1 where the answer follows one of its instructions, else 0; None where it has fewer.

    With `number` from 0 to 2, three objectives cover every prompt of IFEval.

    Args:
        completion: the answer.
        instructions: of its prompt.
        number: which of them, from 0.
        rule: when an instruction is followed.
    """
    if number >= len(instructions):
        return None
    return float(rule(completion.text, instructions[number]))


def all_followed(
    completion: Completion, instructions: Sequence[Instruction], /, *, rule: FollowRule
) -> float:
    """1 where the answer follows all its instructions, else 0: IFEval's prompt-level accuracy."""
    return float(all(rule(completion.text, instruction) for instruction in instructions))


def share_followed(
    completion: Completion, instructions: Sequence[Instruction], /, *, rule: FollowRule
) -> float | None:
    """The share of its instructions that the answer follows; None where it has none.

    Its mean over prompts is not IFEval's instruction-level accuracy, where a prompt counts as often
    as it has instructions.
    """
    if not instructions:
        return None
    return sum(rule(completion.text, each) for each in instructions) / len(instructions)


def strictly(text: str, instruction: Instruction) -> bool:
    """The answer after the thought follows the instruction as it stands. Recommended."""
    return _follows_tellably(after_thinking(text), instruction)


def loosely(text: str, instruction: Instruction) -> bool:
    """One of eight readings of the answer after the thought follows it. Recommended."""
    return any(_follows_tellably(each, instruction) for each in _readings(after_thinking(text)))


def ifeval_strictly(text: str, instruction: Instruction) -> bool:
    """The text follows the instruction as it stands, as IFEval judges it."""
    return _follows(text, instruction)


def ifeval_loosely(text: str, instruction: Instruction) -> bool:
    """One of eight readings of the text follows it, as IFEval judges them."""
    return any(_follows(each, instruction) for each in _readings(text))


def _follows(text: str, instruction: Instruction) -> bool:
    return bool(text.strip()) and CHECKS[instruction.kind](text, **instruction.arguments)


def _follows_tellably(text: str, instruction: Instruction) -> bool:
    if instruction.kind in KINDS_OF_A_LANGUAGE and detected_language(text) is None:
        return False
    return _follows(text, instruction)


def _readings(text: str) -> Iterable[str]:
    """The text, without its first line, its last or both, each with its asterisks and without."""
    lines = text.split("\n")
    cut = ["\n".join(each).strip() for each in (lines[1:], lines[:-1], lines[1:-1])]
    readings = [text, *cut]
    # Many of the eight are often the same.
    return dict.fromkeys(readings + [each.replace("*", "") for each in readings])
