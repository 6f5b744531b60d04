import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from hostile_texts import TEXTS, completion

from dvaojax.rewards import (
    RewardError,
    RewardSuite,
    exact_answer,
    single_block_at_end,
    within_budget,
)
from dvaojax.types import Prompt

MARKERS = {"opening": "[", "closing": "]"}
RULES = {
    "accuracy": partial(exact_answer, **MARKERS),
    "brevity": partial(within_budget, budget=3),
    "format": partial(single_block_at_end, **MARKERS),
}
PROMPTS = [Prompt("2*2=", 4, index=0), Prompt("7+8=", "15", index=1)]
COMPLETIONS = [
    [completion("[4]", length=2), completion("[04]", length=4), completion("4", length=1)],
    [completion("[4]", length=4), completion("[15].", length=3), completion("", length=0)],
]
REWARDS = [
    [[1, 1, 1], [1, 0, 1], [0, 1, 0]],
    [[0, 0, 1], [1, 1, 0], [0, 1, 0]],
]


def text_length(answer, reference):
    return float(len(answer.text))


def only_long(answer, reference):
    return None if len(answer.text) < 4 else 1.0


def follow(answer, reference):
    """Performs the action named by the answer."""
    match answer.text:
        case "hang":
            time.sleep(600)
        case "hang stubbornly":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        case "raise":
            raise KeyError("no such tag\nin the answer \ud800")
        case "raise strangely":
            raise Unpicklable("one", "two")
        case "exit":
            sys.exit(3)
        case "die":
            os._exit(7)
        case "sleep":
            time.sleep(0.2)
    return 1.0


class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first)


class Gone:
    """A function that cannot be unpickled in a worker."""

    def __call__(self, answer, reference):
        return 1.0

    def __reduce__(self):
        return (_missing_in_workers, (os.getpid(),))


def _missing_in_workers(pid):
    if os.getpid() != pid:
        raise ModuleNotFoundError("No module named 'elsewhere'")
    return Gone()


def score_texts(suite, *texts):
    """Scores of one group."""
    return suite.score([[completion(text) for text in texts]], [Prompt("2*2=", 4, index=0)])


@pytest.fixture(scope="module")
def workers():
    """Two processes with a time limit of half a second per call."""
    with RewardSuite({"follow": follow}, workers=2, timeout_seconds=0.5, on_error="mask") as suite:
        yield suite


@pytest.mark.parametrize("workers", [0, 2])
def test_scores_every_completion_on_every_objective(workers):
    with RewardSuite(RULES, workers=workers) as suite:
        scores = suite.score(COMPLETIONS, PROMPTS)
    assert suite.objectives == ("accuracy", "brevity", "format")
    assert scores.rewards.dtype == np.float32
    np.testing.assert_array_equal(scores.rewards, REWARDS)
    np.testing.assert_array_equal(scores.mask, np.ones((2, 3, 3), bool))
    assert scores.failures == {"accuracy": 0, "brevity": 0, "format": 0}
    assert not scores.messages


def test_columns_have_the_order_of_the_objectives():
    names = ["format", "accuracy", "brevity"]
    scores = RewardSuite({name: RULES[name] for name in names}).score(COMPLETIONS, PROMPTS)
    np.testing.assert_array_equal(scores.rewards, np.array(REWARDS)[..., [2, 0, 1]])


def test_a_short_last_batch_keeps_its_axes():
    scores = RewardSuite({"length": text_length}).score([[completion("abc")]], PROMPTS[:1])
    assert scores.rewards.shape == scores.mask.shape == (1, 1, 1)
    assert scores.rewards[0, 0, 0] == 3.0


@pytest.mark.parametrize("workers", [0, 1])
def test_none_masks_an_objective_that_does_not_apply(workers):
    with RewardSuite({"length": text_length, "long": only_long}, workers=workers) as suite:
        scores = score_texts(suite, "abc", "abcd")
    np.testing.assert_array_equal(scores.rewards, [[[3, 0], [4, 1]]])
    np.testing.assert_array_equal(scores.mask, [[[True, False], [True, True]]])
    assert scores.failures == {"length": 0, "long": 0}


def test_lambdas_are_named_by_their_objective():
    with pytest.raises(RewardError, match="objective 'odd' failed: ZeroDivisionError"):
        score_texts(RewardSuite({"odd": lambda answer, reference: 1 / 0}), "abc")


def test_exception_names_objective_prompt_and_completion_in_one_line():
    suite = RewardSuite({"length": text_length, "follow": follow})
    with pytest.raises(RewardError) as caught:
        suite.score([[completion("fine")], [completion("raise")]], PROMPTS)
    message = str(caught.value)
    for part in ("'follow'", "KeyError", "no such tag", "'7+8='", "'raise'"):
        assert part in message
    assert "\n" not in message
    message.encode("utf-8")
    # The traceback is in the notes.
    assert "in follow" in "".join(caught.value.__notes__)


def test_long_texts_are_shortened():
    text = "raise" + "x" * 100_000 + "end"
    suite = RewardSuite({"odd": lambda answer, reference: answer.text["key"]})
    with pytest.raises(RewardError) as caught:
        score_texts(suite, text)
    assert len(str(caught.value)) < 600
    assert "end' (100,008 characters)" in str(caught.value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e39, "1.0", [1.0], np.ones(1), 1j, 10**400]
)
def test_rejects_values_that_are_not_finite_numbers(value):
    objectives = {"fine": text_length, "odd": lambda answer, reference: value}
    with pytest.raises(RewardError, match="objective 'odd' failed"):
        score_texts(RewardSuite(objectives), "abc")
    scores = score_texts(RewardSuite(objectives, on_error="mask"), "abc", "ab")
    np.testing.assert_array_equal(scores.rewards, [[[3, 0], [2, 0]]])
    np.testing.assert_array_equal(scores.mask, [[[True, False], [True, False]]])
    assert scores.failures == {"fine": 0, "odd": 2}
    assert len(scores.messages) == 2


@pytest.mark.parametrize("value", [1, True, np.float32(1.0), np.float64(1.0), np.int64(1)])
def test_accepts_every_real_number_type(value):
    suite = RewardSuite({"one": lambda answer, reference: value})
    np.testing.assert_array_equal(score_texts(suite, "abc").rewards, [[[1.0]]])


def test_batch_of_the_caller_is_not_modified():
    before = pickle.dumps((COMPLETIONS, PROMPTS))
    RewardSuite(RULES).score(COMPLETIONS, PROMPTS)
    assert pickle.dumps((COMPLETIONS, PROMPTS)) == before


def test_workers_score_hostile_text_like_the_main_process():
    texts = list(TEXTS.values())
    here = score_texts(RewardSuite(RULES), *texts)
    with RewardSuite(RULES, workers=1, timeout_seconds=5.0) as suite:
        there = score_texts(suite, *texts)
    np.testing.assert_array_equal(there.rewards, here.rewards)
    assert not here.rewards[..., 0].any()
    assert here.mask.all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hang", "took longer than 0.5 s"),
        ("raise", "KeyError"),
        ("raise strangely", "Unpicklable: one"),
        ("exit", "SystemExit: 3"),
        ("die", "its process died with exit code 7"),
    ],
)
def test_failure_affects_only_its_own_answer(workers, text, reason):
    start = time.monotonic()
    scores = score_texts(workers, "fine", text, "fine")
    assert time.monotonic() - start < 10.0
    np.testing.assert_array_equal(scores.rewards, [[[1], [0], [1]]])
    np.testing.assert_array_equal(scores.mask, [[[True], [False], [True]]])
    assert scores.failures == {"follow": 1}
    assert reason in scores.messages[0]


@pytest.mark.slow
def test_process_that_ignores_sigterm_is_killed(workers):
    scores = score_texts(workers, "hang stubbornly", "fine", "fine", "fine")
    np.testing.assert_array_equal(scores.mask[0, :, 0], [False, True, True, True])
    assert score_texts(workers, "fine").mask.all()


def test_time_limit_applies_to_each_call_not_to_the_batch(workers):
    # Ten calls of 0.2 s on two processes take a second, twice the limit of one call.
    assert score_texts(workers, *["sleep"] * 10).mask.all()


def test_workers_can_be_used_from_any_thread(workers):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(score_texts(workers, "fine", "hang", "raise"))
    )
    thread.start()
    thread.join(timeout=30.0)
    np.testing.assert_array_equal(results[0].mask[0, :, 0], [True, False, False])


def test_failure_in_a_worker_raises_with_its_traceback():
    with RewardSuite({"follow": follow}, workers=1, timeout_seconds=0.3) as suite:
        with pytest.raises(RewardError, match="objective 'follow' failed: KeyError") as caught:
            score_texts(suite, "fine", "raise")
        assert "in follow" in "".join(caught.value.__notes__)
        with pytest.raises(RewardError, match=r"took longer than 0\.3 s; prompt '2\*2='"):
            score_texts(suite, "hang")
        assert score_texts(suite, "fine").mask.all()


def test_rejects_unpicklable_function_in_one_line():
    with pytest.raises(TypeError, match="objective 'odd' cannot be sent") as caught:
        RewardSuite({"fine": text_length, "odd": lambda answer, reference: 1.0}, workers=1)
    assert "\n" not in str(caught.value)


def test_function_that_workers_cannot_load_is_named():
    with (
        RewardSuite({"fine": text_length, "gone": Gone()}, workers=1) as suite,
        pytest.raises(RewardError, match=r"'gone' failed: ModuleNotFoundError.*elsewhere"),
    ):
        score_texts(suite, "abc")


def test_closed_suite_has_no_processes():
    suite = RewardSuite({"pid": process_id}, workers=1)
    pid = int(score_texts(suite, "x").rewards[0, 0, 0])
    assert pid != os.getpid()
    assert is_alive(pid)
    suite.close()
    assert not is_alive(pid)
    with pytest.raises(RuntimeError):
        score_texts(suite, "x")


def process_id(answer, reference):
    return os.getpid()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"workers": -1}, "must not be negative"),
        ({"timeout_seconds": 1.0}, "needs workers"),
        ({"timeout_seconds": 0.0, "workers": 1}, "must be positive"),
        ({"on_error": "ignore"}, "neither 'raise' nor 'mask'"),
    ],
)
def test_rejects_options_out_of_range(knobs, message):
    with pytest.raises(ValueError, match=message):
        RewardSuite(RULES, **knobs)


def test_rejects_empty_objectives():
    with pytest.raises(ValueError, match="at least one objective"):
        RewardSuite({})


@pytest.mark.parametrize(
    ("completions", "prompts", "message"),
    [
        ([COMPLETIONS[0], COMPLETIONS[1][:2]], PROMPTS, "groups of different sizes: 2, 3"),
        (COMPLETIONS, PROMPTS[:1], "2 groups of completions for 1 prompts"),
        ([], [], "0 groups"),
    ],
)
def test_rejects_groups_of_different_sizes(completions, prompts, message):
    with pytest.raises(ValueError, match=message):
        RewardSuite(RULES).score(completions, prompts)


def test_neither_the_package_nor_its_workers_import_jax():
    program = "import sys, dvaojax.rewards; print('jax' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"
    with RewardSuite({"jax": has_jax}, workers=1) as suite:
        assert score_texts(suite, "x").rewards[0, 0, 0] == 0.0


def has_jax(answer, reference):
    return float("jax" in sys.modules)


def test_program_without_main_guard_gets_a_clear_error(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from functools import partial\n"
        "from dvaojax.rewards import RewardSuite, within_budget\n"
        "from dvaojax.types import Completion, Prompt\n"
        "suite = RewardSuite({'b': partial(within_budget, budget=1)}, workers=1)\n"
        "suite.score([[Completion('', (), True)]], [Prompt('', '', 0)])\n"
    )
    result = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode != 0
    assert "guard the program's entry point with `if __name__ == '__main__'`" in result.stderr
