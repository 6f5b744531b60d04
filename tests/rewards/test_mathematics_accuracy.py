"""Accuracy rewards: published cases, every gold answer, hostile texts, speed."""

import json
import os
import subprocess
import sys
import time
from functools import partial

import pytest
from hostile_texts import completion
from shared_data import shared

from dvaojax.errors import UserError
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.mathematics import (
    AnswerGrade,
    accuracy,
    accuracy_integer,
    accuracy_math_verify,
    answered,
    equivalent,
    grade,
    math_verify_client,
)
from dvaojax.types import Prompt


def rows(*path):
    return [json.loads(line) for line in shared(*path).read_text().splitlines()]


def published_cases():
    return rows("edge_cases", "math_equivalence.jsonl")


def test_published_cases_with_recommended_reward():
    for row in published_cases():
        if row["recommended"] is not None:
            reward = accuracy(completion(row["response"]), row["gold"])
            assert reward == row["recommended"], row["note"]


def test_published_cases_with_math_verify():
    for row in published_cases():
        if (
            "must not hang" in row["note"]
        ):  # Takes five seconds; covered by the hostile texts below.
            continue
        reward = accuracy_math_verify(completion(row["response"]), row["gold"])
        assert reward == row["math_verify"], row["note"]


def golds():
    """Name of the set and gold answer of every problem."""
    for row in rows("gsm8k", "train.jsonl") + rows("gsm8k", "test.jsonl"):
        yield "gsm8k", row["answer"].partition("####")[2].strip()
    for name in ("math500", "aime25", "amc23"):
        for row in rows(name, "test.jsonl"):
            yield name, str(row["answer"])
    for row in rows("olympiadbench", "test.jsonl"):
        yield "olympiadbench", row["final_answer"][0].strip("$")
    for row in rows("dapo_math_17k", "sample500.jsonl"):
        yield "dapo_math_17k", row["answer"]


def test_every_gold_answer_gets_full_reward():
    distinct = dict.fromkeys(golds())
    assert len(distinct) > 2_000
    for name, gold in distinct:
        for text in (f"Therefore $\\boxed{{{gold}}}$.", f"so\n#### {gold}", f"\\boxed{{ {gold} }}"):
            assert accuracy(completion(text), gold) == 1.0, (name, gold)
            assert answered(completion(text), gold) == 1.0
        if name in ("aime25", "amc23", "dapo_math_17k", "gsm8k"):
            assert accuracy_integer(completion(text), gold) == 1.0, (name, gold)
            wrong = completion(rf"\boxed{{1{gold.lstrip('-')}}}")
            assert accuracy_integer(wrong, gold) == accuracy(wrong, gold) == 0.0


def test_answer_is_found_in_every_math500_solution():
    for row in rows("math500", "test.jsonl"):
        assert accuracy(completion(row["solution"]), row["answer"]) == 1.0, row["unique_id"]


def test_answer_is_found_in_every_gsm8k_solution():
    for row in rows("gsm8k", "test.jsonl"):
        gold = row["answer"].partition("####")[2].strip()
        assert accuracy(completion(row["answer"]), gold) == 1.0


@pytest.mark.slow
def test_every_gold_answer_gets_full_reward_from_math_verify():
    for name, gold in dict.fromkeys(golds()):
        answer = completion(f"Therefore $\\boxed{{{gold}}}$.")
        assert accuracy_math_verify(answer, gold) == 1.0, (name, gold)


def test_missing_answer_differs_from_wrong_answer():
    assert grade(r"\boxed{34}", "34") is AnswerGrade.RIGHT
    assert grade(r"\boxed{35}", "34") is AnswerGrade.WRONG
    assert grade("maybe 34", "34") is AnswerGrade.NO_ANSWER
    assert answered(completion(r"\boxed{35}"), "34") == 1.0
    assert answered(completion("maybe 34"), "34") == 0.0


def test_candidates_in_one_place_are_one_answer_only_if_the_gold_has_several():
    right = {
        "7, 11": ["Answer: $7$ or $11$", "The answer is 11 and 7.", r"\boxed{11}, \boxed{7}"],
        "7": [r"\boxed{11}. No, \boxed{7}", "Answer: 11\nAnswer: 7", "The answer is 7 or 7.0."],
    }
    wrong = {
        "7, 11": ["Answer: 7", "Answer: 7, 11 or 13", r"\boxed{7} or \boxed{13}"],
        "7": [
            *("Answer: 7 or 11", "Answer: $11$, $7$", "The answer is 11, or perhaps 7."),
            *(r"\boxed{7,11}", r"\boxed{11} or \boxed{7}", r"\boxed{7} or 11", r"\boxed{7,7}"),
        ],
    }
    for gold, texts in right.items():
        assert [text for text in texts if grade(text, gold) is not AnswerGrade.RIGHT] == []
    for gold, texts in wrong.items():
        assert [text for text in texts if grade(text, gold) is not AnswerGrade.WRONG] == []


def test_accuracy_integer():
    for text in ("025", "25.0", r"25^\circ", "+25", "x=25"[2:], "2{,}5".replace("{,}", "")):
        assert accuracy_integer(completion(rf"\boxed{{{text}}}"), "25") == 1.0
    for text in ("5^2", "25.5", r"\frac{50}{2}", r"25\%", "-25", "25, 25"):
        assert accuracy_integer(completion(rf"\boxed{{{text}}}"), "25") == 0.0
    big = "7" * 10_000
    assert accuracy_integer(completion(rf"\boxed{{{big}}}"), big) == 1.0
    assert accuracy_integer(completion(rf"\boxed{{{big[:-1]}8}}"), big) == 0.0
    with pytest.raises(ValueError, match=r"'1/2' is not an integer"):
        accuracy_integer(completion(r"\boxed{1}"), "1/2")


HOSTILE = {
    "empty": "",
    "one letter": "a" * 100_000,
    "one letter in a box": r"\boxed{" + "a" * 100_000 + "}",
    "one digit": "7" * 100_000,
    "one digit in a box": r"\boxed{" + "7" * 100_000 + "}",
    "spaces in a box": r"\boxed{" + " " * 100_000 + "}",
    "a lone surrogate": "\ud800",
    "a lone surrogate in a box": "\\boxed{\udfff}",
    "NUL": "\x00",
    "NUL in a box": "\\boxed{\x0034}",
    "nested braces": "{" * 10_000 + "}" * 10_000,
    "nested braces in a box": r"\boxed{" + "{" * 10_000 + "34" + "}" * 10_000 + "}",
    "braces the wrong way": "}" * 10_000 + "{" * 10_000,
    "boxes in boxes": r"\boxed{" * 10_000 + "}" * 10_000,
    "boxes that never end": r"\boxed{" * 10_000,
    "a box at the very end": r"so \boxed",
    "a tower": r"\boxed{9^{9^{9^9}}}",
    "a tower with a letter": r"\boxed{x^{9^{9^9}}}",
    "a factorial": r"\boxed{100000000!}",
    "factorials": r"\boxed{((((9!)!)!)!)!}",
    "exponentials": r"\boxed{\exp(\exp(\exp(9)))}",
    "a long sum": r"\boxed{" + "1+" * 900 + "1}",
    "minus signs": r"\boxed{" + "-" * 1_900 + "1}",
    "powers of powers": r"\boxed{" + "2^" * 900 + "2}",
    "fractions of fractions": r"\boxed{" + r"\frac" * 300 + "}",
    "roots of roots": r"\boxed{" + r"\sqrt" * 300 + "2}",
    "sines of sines": r"\boxed{" + r"\sin" * 300 + " x}",
    "brackets": r"\boxed{" + "(" * 900 + "1" + ")" * 900 + "}",
    "lists in lists": r"\boxed{" + "[1," * 600 + "1" + "]" * 600 + "}",
    "a long list": r"\boxed{" + "x^2," * 400 + "2}",
    "equations": r"\boxed{" + "x=" * 900 + "}",
    "a wide matrix": r"\boxed{\begin{matrix}" + "1&" * 900 + r"\end{matrix}}",
}
GOLDS = ("34", r"\frac{x}{2}+y", "(1, 2)", "x=2", r"\text{east}", r"50\%", r"5, 1\pm\sqrt2")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_wrong_and_processed_quickly(text):
    """In this process; math-verify's process has its own limit, see below."""
    equivalent.cache_clear()
    for gold in GOLDS:
        began = time.process_time()
        assert accuracy(completion(text), gold) == 0.0
        assert time.process_time() - began < 2.0
    assert accuracy_integer(completion(text), "34") == 0.0
    assert answered(completion(text), "34") in (0.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_wrong_with_math_verify(text, monkeypatch):
    soon = partial(math_verify_client.score, seconds=1.0)
    monkeypatch.setattr(math_verify_client, "score", soon)
    assert accuracy_math_verify(completion(text), "34") == 0.0


def test_math_verify_that_cannot_be_loaded_is_one_line(monkeypatch, tmp_path):
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit('no module named math_verify')")
    math_verify_client._worker.close()
    monkeypatch.setattr(math_verify_client, "_WORKER_SCRIPT", broken)
    with pytest.raises(UserError, match=r"math-verify cannot be loaded .*: pip install") as refusal:
        accuracy_math_verify(completion(r"\boxed{34}"), "34")
    assert "\n" not in str(refusal.value)
    assert accuracy(completion(r"\boxed{34}"), "34") == 1.0


def test_import_and_exact_decisions_load_neither_sympy_nor_jax():
    code = """
import sys
from dvaojax.rewards.mathematics import equivalent, math_verify_client
assert equivalent("0.5", "1/2") and equivalent("(1, 2.0)", "(1, 2)") and not equivalent("3", "5")
assert math_verify_client._worker._process is None
print({"sympy", "math_verify", "jax"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_math_verify_works_in_reward_workers():
    """Daemonic workers may not have `multiprocessing` children; a plain subprocess is allowed."""
    prompts = [Prompt("", r"(0,9) \cup (9,36)", 0), Prompt("", "34", 1)]
    right = [completion(r"\boxed{(0,36)\setminus\{9\}}"), completion(r"\boxed{34}")]
    wrong = [completion(r"\boxed{(0,35)\setminus\{9\}}"), completion(r"\boxed{34")]
    objectives = {"accuracy": accuracy, "math_verify": accuracy_math_verify}
    with RewardSuite(objectives, workers=1, timeout_seconds=120) as suite:
        scores = suite.score([[right[0], wrong[0]], [right[1], wrong[1]]], prompts)
    assert scores.rewards.tolist() == [[[1.0, 1.0], [0.0, 0.0]]] * 2


SPELLINGS = (
    r"\boxed{{{0}}}",
    r"\boxed{{x = {0}}}",
    r"\boxed{{\left({0}\right)}}",
    r"\boxed{{{0} + 1}}",
    r"\boxed{{2 \cdot {0}}}",
    "#### {0}",
)


def processor_seconds():
    """Processor time of this process and its ended children; independent of the machine's load."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.mark.slow
def test_ten_thousand_answers_within_twenty_seconds():
    """All answers differ, so that caches do not help."""
    distinct = list(dict.fromkeys(gold for _, gold in golds()))
    work = "We compute.\n\n" + "Thus $x = \\frac{1}{2}$. " * 100
    pairs = [(gold, work + spelling.format(gold)) for spelling in SPELLINGS for gold in distinct]
    pairs += [(gold, f"{work}\\boxed{{{n}.5}}") for n, gold in enumerate(distinct)]
    pairs = pairs[:10_000]
    assert len(pairs) == 10_000
    equivalent.cache_clear()
    math_verify_client._worker.close()
    began = processor_seconds()
    paid = [accuracy(completion(text), gold) for gold, text in pairs]
    math_verify_client._worker.close()
    traced = 2 if sys.gettrace() else 1  # line coverage takes as much time again
    assert processor_seconds() - began < 20 * traced
    assert len(distinct) < sum(paid) < len(pairs) - len(distinct)
