import json
from functools import partial
from pathlib import Path

import pytest
from hostile_texts import TEXTS, completion

from dvaojax.rewards import within_budget

EDGE_CASES = Path(__file__).parents[2] / "../shared/data/edge_cases/length.jsonl"


@pytest.mark.parametrize(
    ("length", "reward"), [(0, 1.0), (1, 1.0), (3_999, 1.0), (4_000, 1.0), (4_001, 0.0)]
)
@pytest.mark.parametrize("stopped", [True, False])
def test_the_budget_is_included_and_so_is_the_stop_token(length, reward, stopped):
    answer = completion("x", length=length, stopped=stopped)
    assert within_budget(answer, None, budget=4_000) == reward


def test_an_answer_that_fills_the_budget_and_then_stops_is_over_it():
    answer = completion("x" * 4_000, length=4_000 + 1)
    assert within_budget(answer, None, budget=4_000) == 0.0


def test_the_text_does_not_matter():
    for text in TEXTS.values():
        assert within_budget(completion(text), "7", budget=3) == 1.0
        assert within_budget(completion(text), "7", budget=2) == 0.0


def test_the_published_boundary_cases():
    if not EDGE_CASES.exists():
        pytest.skip("length.jsonl is not here")
    rows = [json.loads(line) for line in EDGE_CASES.read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "binary_length"]
    assert rows
    for row in rows:
        reward = partial(within_budget, budget=row["limit"])
        assert reward(completion("", length=row["length"]), None) == row["length_reward"]
