"""The built-in task: its rewards, and how often demonstrations get them."""

import random

import pytest

from dvaojax.config import Config
from dvaojax.rewards import RewardSuite
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.types import Completion, Prompt, Task, TaskWithDemonstrations

TASK = Arithmetic()
PROBLEM = Prompt("347+586=", "933", 0)
GOOD = "7+6=13;4+8+1=13;3+5+1=9;[933]"
PERFECT = Arithmetic(slip=0.0, careful_slip=0.0, too_long=0.0, misformatted=0.0)
CAREFUL = Arithmetic(slip=0.0, careful_slip=0.0, too_long=1.0, misformatted=0.0)


def completion(text, *, stopped=True):
    tokens = TASK.tokenizer.encode(text) + [1] * stopped
    return Completion(text, tuple(tokens), stopped)


def rewards(text, prompt=PROBLEM, *, stopped=True, task=TASK):
    """Accuracy, brevity and format of one completion."""
    scores = RewardSuite(task.objectives).score([[completion(text, stopped=stopped)]], [prompt])
    assert scores.mask.all()
    return tuple(scores.rewards[0, 0].tolist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, (1, 1, 1)),
        ("[933]", (1, 1, 1)),
        ("[934]", (0, 1, 1)),
        ("[0933]", (1, 1, 1)),
        ("933", (0, 1, 0)),
        (GOOD[:-1], (0, 1, 0)),
        (GOOD + "?", (1, 1, 0)),
        (GOOD + "?[933]", (1, 0, 0)),
        ("[1]?[933]", (1, 1, 0)),
        ("[933]?[1]", (0, 1, 0)),
        ("347+586=;" + GOOD, (1, 0, 1)),
        ("", (0, 1, 0)),
        ("[]", (0, 1, 1)),
    ],
)
def test_rewards_of_examples(text, expected):
    assert rewards(text) == expected


def test_truncated_completion_is_badly_formatted():
    assert rewards(GOOD, stopped=False) == (1, 1, 0)


def test_budget_fits_the_longest_correct_sum_of_three_digits():
    longest = shortest_careful = None
    for text in ("999+999=", "998+989=", "100+100=", "101+100="):
        prompt = Prompt(text, str(sum(map(int, text[:-1].split("+")))), 0)
        brief = PERFECT.demonstration(prompt, random.Random(0))
        careful = CAREFUL.demonstration(prompt, random.Random(0))
        assert rewards(brief, prompt) == (1, 1, 1)
        assert rewards(careful, prompt) == (1, 0, 1)
        longest = max(longest or 0, completion(brief).length)
        shortest_careful = min(shortest_careful or 99, completion(careful).length)
    assert longest == TASK.budget == 32
    assert shortest_careful == 33


def test_perfect_demonstration_gets_every_reward():
    generator = random.Random(1)
    for prompt in PERFECT.prompts("train")[:500]:
        text = PERFECT.demonstration(prompt, generator)
        assert rewards(text, prompt) == (1, 1, 1), text
        assert PERFECT.demonstration(prompt, generator) == text


def test_columns_are_written_last_to_first_with_their_carries():
    assert PERFECT.demonstration(PROBLEM, random.Random(0)) == GOOD
    zeros = Prompt("500+500=", "1000", 0)
    assert PERFECT.demonstration(zeros, random.Random(0)) == "0+0=0;0+0=0;5+5=10;[1000]"


def shares(task, count=4000):
    """Mean accuracy, brevity and format of demonstrations."""
    generator = random.Random(0)
    scored = [
        rewards(task.demonstration(prompt, generator), prompt, task=task)
        for prompt in task.prompts("train")[:count]
    ]
    return [sum(column) / count for column in zip(*scored, strict=True)]


def test_frequency_of_faults_is_as_configured():
    """Within four standard errors of a mean over 4,000."""
    near = {"abs": 0.032}
    _, brevity, form = shares(Arithmetic(slip=0.0, careful_slip=0.0, misformatted=0.0))
    assert brevity == pytest.approx(1 - TASK.too_long, **near)
    assert form == 1.0

    # A third of the badly formatted ones do not close the block and have no answer.
    accuracy, _, form = shares(Arithmetic(slip=0.0, careful_slip=0.0, too_long=0.0))
    assert form == pytest.approx(1 - TASK.misformatted, **near)
    assert accuracy == pytest.approx(1 - TASK.misformatted / 3, **near)

    # Each of three columns may be wrong; errors that cancel are rare.
    accuracy, brevity, form = shares(Arithmetic(too_long=0.0, misformatted=0.0))
    assert accuracy == pytest.approx((1 - TASK.slip) ** 3, **near)
    assert (brevity, form) == (1.0, 1.0)

    accuracy, brevity, _ = shares(Arithmetic(too_long=1.0, misformatted=0.0))
    assert accuracy == pytest.approx((1 - TASK.careful_slip) ** 3, **near)
    assert brevity < 0.005, "an error may drop the last digit that made it too long"
    assert shares(CAREFUL) == [1.0, 0.0, 1.0]


def test_objectives_conflict_in_the_demonstrations():
    accuracy, brevity, form = shares(TASK)
    assert accuracy < 0.6
    assert brevity < 0.75
    assert form < 0.75


def test_every_demonstration_fits_the_default_token_limit():
    generator = random.Random(0)
    limit = Config().max_new_tokens
    widest = max(
        completion(TASK.demonstration(prompt, generator)).length
        for prompt in TASK.prompts("train")[:4000]
    )
    assert widest <= limit


def test_demonstrations_are_determined_by_the_generator():
    a, b = ([TASK.demonstration(p, random.Random(7)) for p in TASK.prompts("test")] for _ in "ab")
    assert a == b


@pytest.mark.parametrize("digits", [2, 3, 4])
def test_problems_are_distinct_correct_and_disjoint_between_splits(digits):
    task = Arithmetic(digits=digits, num_train=2000, num_test=300)
    train, test = task.prompts("train"), task.prompts("test")
    assert (len(train), len(test)) == (2000, 300)
    assert len({prompt.text for prompt in [*train, *test]}) == 2300
    assert len({prompt.index for prompt in [*train, *test]}) == 2300
    for prompt in [*train[:200], *test]:
        first, second = prompt.text.removesuffix("=").split("+")
        assert int(prompt.reference) == int(first) + int(second)
        assert len(first) == len(second) == digits
        assert len(TASK.tokenizer.encode(prompt.text)) == task.max_prompt_length


def test_problem_seed_determines_the_problems():
    same, other = Arithmetic(), Arithmetic(problem_seed=1)
    assert same.prompts("test") == TASK.prompts("test") != other.prompts("test")


def test_there_are_two_splits():
    with pytest.raises(ValueError, match="'dev' is neither 'train' nor 'test'"):
        TASK.prompts("dev")


def test_implements_the_demonstration_task_protocol():
    task: TaskWithDemonstrations = TASK
    assert isinstance(task, Task)
    assert isinstance(task, TaskWithDemonstrations)
    assert tuple(task.objectives) == ("accuracy", "brevity", "format")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"digits": 1}, "task.digits=1"),
        ({"digits": 2, "num_train": 8000}, "task.num_train=8000 and task.num_test=512"),
        ({"slip": 1.5}, "task.slip=1.5"),
        ({"careful_slip": -0.1}, "task.careful_slip=-0.1"),
        ({"too_long": 2.0}, "task.too_long=2.0"),
        ({"misformatted": float("nan")}, "task.misformatted=nan"),
        ({"budget": 0}, "task.budget=0"),
        ({"num_train": -1}, "task.num_train=-1"),
    ],
)
def test_rejects_invalid_settings_by_name(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        Arithmetic(**settings)
    assert "\n" not in str(error.value)
