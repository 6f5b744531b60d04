"""Scores of rubrics, and the question and answer about one item."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import asked
from shared_data import shared

from dvaojax.rewards.rubric import (
    AXES,
    Rubric,
    RubricItem,
    axes,
    clipped_or_spared_score,
    clipped_score,
    healthbench_score,
    overall,
    question,
    read_grade,
    read_rubric,
    single_items,
    tagged,
)

items = st.lists(
    st.tuples(st.integers(-10, 10).filter(bool).map(float), st.booleans()), max_size=12
)


def lines(*parts):
    return [json.loads(line) for line in shared(*parts).read_text().splitlines()]


def test_published_scores():
    for row in lines("edge_cases", "rubric.jsonl"):
        score = healthbench_score(row["points"], row["criteria_met"])
        clipped = clipped_score(row["points"], row["criteria_met"])
        assert score == (None if row["score"] is None else pytest.approx(row["score"])), row["id"]
        expected = row["clipped01"]
        assert clipped == (None if expected is None else pytest.approx(expected)), row["id"]


@given(items)
def test_healthbench_score_is_met_points_over_positive_points(rubric):
    points, met = [p for p, _ in rubric], [m for _, m in rubric]
    score = healthbench_score(points, met)
    positive = [p for p in points if p > 0]
    if not positive:
        assert score is None
        return
    assert score is not None
    assert score * sum(positive) == pytest.approx(sum(p for p, m in rubric if m))
    assert score <= 1.0


@given(items)
def test_recommended_scores_are_in_unit_interval(rubric):
    points, met = [p for p, _ in rubric], [m for _, m in rubric]
    reference, clipped = healthbench_score(points, met), clipped_score(points, met)
    spared = clipped_or_spared_score(points, met)
    assert (clipped is None) == (reference is None)
    assert (spared is None) == (not points)
    if clipped is not None and reference is not None:
        assert spared == clipped == min(max(reference, 0.0), 1.0)
    if spared is not None:
        assert 0.0 <= spared <= 1.0


@given(items)
def test_scores_are_monotone(rubric):
    points, met = [p for p, _ in rubric], [m for _, m in rubric]
    best = [p > 0 for p in points]
    for formula in (healthbench_score, clipped_score, clipped_or_spared_score):
        highest, score = formula(points, best), formula(points, met)
        if score is None or highest is None:
            assert score is highest is None
            continue
        assert highest == 1.0
        for i in range(len(points)):
            better = formula(points, [*met[:i], best[i], *met[i + 1 :]])
            assert better is not None
            assert better >= score - 1e-9


@pytest.mark.parametrize(
    ("met", "spared"),
    [([False, False], 1.0), ([True, False], 0.4), ([False, True], 0.6), ([True, True], 0.0)],
)
def test_score_of_penalties_only(met, spared):
    assert healthbench_score([-6, -4], met) is None
    assert clipped_or_spared_score([-6, -4], met) == pytest.approx(spared)


RUBRIC = Rubric(
    (("user", "Hello?"),),
    (
        RubricItem("a", 5.0, ("axis:accuracy", "level:example")),
        RubricItem("b", -3.0, ("axis:accuracy",)),
        RubricItem("c", -2.0, ("axis:completeness",)),
    ),
)


def criteria(objective):
    return [item.criterion for item in objective.choose(RUBRIC.items)]


def test_objectives_select_their_items():
    assert criteria(overall()) == ["a", "b", "c"]
    assert criteria(tagged("level:example")) == ["a"]
    assert {name: criteria(o) for name, o in axes().items()} == {
        **{axis: [] for axis in AXES},
        "accuracy": ["a", "b"],
        "completeness": ["c"],
    }
    assert [criteria(o) for o in single_items(4).values()] == [["a"], ["b"], ["c"], []]
    assert list(single_items(17))[-1] == "item_17"
    avoided = single_items(3)["item_2"]
    assert [avoided.formula([-3.0], [met]) for met in (False, True)] == [1.0, 0.0]


def test_real_rubrics():
    rubrics = [
        read_rubric(r["prompt"], r["rubrics"]) for r in lines("healthbench", "sample50.jsonl")
    ]
    assert (len(rubrics), sum(len(r.items) for r in rubrics)) == (50, 539)
    lowest = [
        healthbench_score([i.points for i in r.items], [i.points < 0 for i in r.items])
        for r in rubrics
    ]
    assert min(s for s in lowest if s is not None) == pytest.approx(-36 / 7)
    undefined = 0
    for rubric in rubrics:
        for tag in {tag for item in rubric.items for tag in item.tags}:
            chosen = tagged(tag).choose(rubric.items)
            points, met = [i.points for i in chosen], [False] * len(chosen)
            undefined += healthbench_score(points, met) is None
            assert clipped_or_spared_score(points, met) is not None
    assert undefined == 20
    assert max(len(rubric.items) for rubric in rubrics) == 26
    for rubric in rubrics:
        for item in rubric.items:
            answer, criterion = asked({"messages": question(rubric, "An answer.", item)})
            assert answer == "An answer."
            assert item.criterion.startswith(criterion)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"points": 1}, "item 0 of the rubric has no criterion"),
        ({"criterion": "a"}, "no number of points: None"),
        ({"criterion": "a", "points": True}, "no number of points: True"),
        ({"criterion": "a", "points": 0}, "has 0 points"),
        ({"criterion": "a", "points": float("nan")}, "has nan points"),
        ({"criterion": "a", "points": 1, "tags": [3]}, "a tag that is not a string"),
    ],
)
def test_malformed_item_is_named(item, message):
    with pytest.raises(ValueError, match=message):
        read_rubric([], [item])


@given(st.text(st.characters()))
def test_answer_cannot_end_its_quotation(text):
    (message,) = question(RUBRIC, text, RUBRIC.items[0])
    message["content"].encode()
    answer, criterion = asked({"messages": [message]})
    assert answer == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert criterion == "a"


def test_question_contains_signed_points():
    contents = [question(RUBRIC, "x", item)[0]["content"] for item in RUBRIC.items]
    assert ["[+5] a" in contents[0], "[-3] b" in contents[1]] == [True, True]
    assert '"content": "Hello?"' in contents[0]


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ('{"explanation": "e", "criteria_met": true}', True),
        (' {"criteria_met": false, "explanation": ""}\n', False),
        ('```json\n{"explanation": "e", "criteria_met": true}\n```', True),
        ('```\n{"explanation": "e", "criteria_met": true}\n```', True),
        ('{"explanation": "e", "criteria_met": true, "more": 1}', True),
        ('{"explanation": "e", "criteria_met": "true"}', None),
        ('{"explanation": "e", "criteria_met": 1}', None),
        ('{"explanation": "e", "criteria_met": null}', None),
        ('{"explanation": null, "criteria_met": true}', None),
        ('{"criteria_met": true}', None),
        ('{"explanation": "e"}', None),
        ('[{"explanation": "e", "criteria_met": true}]', None),
        ('Sure! {"explanation": "e", "criteria_met": true}', None),
        ('{"explanation": "e", "criteria_met": true} Done.', None),
        ('{"explanation": "e", "criteria_met": tru', None),
        ('{"criteria_met": false, "explanation": "e", "criteria_met": true}', None),
        ('\ufeff{"explanation": "e", "criteria_met": true}', True),
        ('{"explanation": "First.\n\n- second\tthird", "criteria_met": true}', True),
        ('```json\n{"explanation": "See\n```\nx\n```\n", "criteria_met": true}\n```', None),
        ('{"explanation": "See\n```\nx\n```\n", "criteria_met": true}', True),
        ("{'explanation': 'e', 'criteria_met': True}", None),
        ("true", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_grade_must_be_one_valid_object(text, met):
    grade = read_grade(text)
    assert (None if grade is None else grade.met) is met


MET = '{"explanation": "e", "criteria_met": true}'
QUOTED = '{"explanation": "It wrote </think> and ```json ```.", "criteria_met": true}'
DRAFT = '{"explanation": "d", "criteria_met": false}'


@pytest.mark.parametrize(
    "text",
    [
        f"<think>Let me see.</think>\n{MET}",
        f"<think>First {DRAFT}.</think>\n\n```json\n{MET}\n```",
        f"Opened by the template.\n</think>{MET}",
        f"<think>It ends with </think> and {DRAFT}</think>{MET}",
        f"<thinking>Well.</thinking>{MET}",
        f"[THINK]Well.[/THINK]{MET}",
        f"<|channel|>analysis<|message|>Well.<|end|><|channel|>final<|message|>{MET}",
        QUOTED,
        f"<think>Well.</think>{QUOTED}",
        f"```json\n{QUOTED}\n```",
        f"```json\n{MET}```",
        f"```{MET}```",
        f"```json {MET} ```",
        f"``` JSON\r\n{MET}\r\n```\r\n",
        f'````json title="grade"\n{MET}\n````',
        f"```{{.json}}\n{MET}\n```",
        f"~~~json\n{MET}\n~~~",
        f"  ```json\n  {MET}\n  ```",
        f"```json\n{json.dumps(json.loads(MET), indent=2)}\n```",
        f"```json\n{MET}",
        f"`{MET}`",
        f"First I compare.\n```\nquoted\n```\nSo:\n```json\n{MET}\n```",
    ],
)
def test_grade_may_follow_reasoning_and_be_fenced(text):
    grade = read_grade(text)
    assert grade is not None
    assert grade.met is True


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{MET}",
        f"<think>{MET}</think>",
        f"<think>{MET}</think> Yes.",
        f"```json\n{MET}\n```\nBut wait.",
        f"{MET}\n{DRAFT}",
        f"```json\n{MET}\n{DRAFT}\n```",
        '<think></think>{"explanation": "e", "criteria_met": NaN}',
    ],
)
def test_text_after_the_grade_or_an_unfinished_one_is_no_grade(text):
    assert read_grade(text) is None


@pytest.mark.parametrize(
    "part", ["</think>", "```\n", "```{", "~~~ { }\n", "[/THINK]{", "`", " \n"]
)
def test_long_hostile_replies_are_read_quickly(part):
    start = time.process_time()
    assert read_grade(part * 100_000) is None
    assert time.process_time() - start < 2.0


@given(st.text())
def test_arbitrary_text_is_a_grade_or_none(text):
    grade = read_grade(text)
    assert grade is None or isinstance(grade.met, bool)
