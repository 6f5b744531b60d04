import itertools
import json
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tool_texts import HOSTILE_ANSWERS, THOUGHT, answered, block, call, gold_texts, lines_of

from dvaojax.rewards import tools
from dvaojax.rewards.tools.call_matching import best_fit, same_json

REWARDS = (
    tools.toolrl_format,
    tools.layout,
    tools.toolrl_correctness,
    tools.correctness,
    tools.graded,
    tools.exact_match,
    tools.names,
    tools.parameter_names,
    tools.values,
)

RECOMMENDED = {
    # The thought may mention a tag.
    "toolrl-003": (1.0, 3.0),
    # The optimal pairing: the second gold call is paired with the call that repeats it.
    "toolrl-030": (1.0, 0.75),
    # `true` is not 1, but the parameter's name is right.
    "toolrl-033": (1.0, 1.0),
    # The gold answer has no calls, so correctness does not apply.
    "toolrl-027": (0.0, None),
    "toolrl-028": (0.0, None),
}
"""Vector -> layout and correctness, if the recommended rewards differ from the reference."""


@pytest.fixture(scope="module")
def vectors():
    return lines_of("edge_cases", "toolrl.jsonl")


@pytest.fixture(scope="module")
def golds():
    return gold_texts()


def test_reference_rewards_equal_toolrl(vectors):
    assert len(vectors) >= 28
    for vector in vectors:
        completion, gold = answered(vector["response"]), vector["ground_truth"]
        paid = tools.toolrl_format(completion, gold), tools.toolrl_correctness(completion, gold)
        # If ToolRL raises, the vector has None, and so has the reward.
        assert paid[1] == pytest.approx(vector["correctness"]), vector["id"]
        if vector["format"] is not None:
            assert paid[0] == vector["format"], vector["id"]


def test_recommended_rewards_differ_only_in_known_cases(vectors):
    remaining = set(RECOMMENDED)
    for vector in vectors:
        completion, gold = answered(vector["response"]), vector["ground_truth"]
        expected = RECOMMENDED.get(vector["id"], (vector["format"], vector["correctness"]))
        if vector["reference_raises"]:
            expected = (1.0, 3.0)
        paid = tools.layout(completion, gold), tools.correctness(completion, gold)
        assert paid[0] == expected[0], vector["id"]
        assert paid[1] == pytest.approx(expected[1]), vector["id"]
        remaining.discard(vector["id"])
    assert not remaining


def test_every_gold_answer_gets_the_maximum(golds):
    assert len(golds) >= 340
    for name, gold in golds.items():
        completion = answered(gold)
        assert tools.layout(completion, gold) == 1.0, name
        if not tools.wants_calls(gold):
            assert tools.correctness(completion, gold) is None, name
            assert tools.toolrl_correctness(completion, gold) in (0.0, None), name
            continue
        assert tools.correctness(completion, gold) == 3.0, name
        assert tools.graded(completion, gold) == tools.exact_match(completion, gold) == 1.0, name
        assert tools.names(completion, gold) == tools.parameter_names(completion, gold) == 1.0, name
        assert tools.values(completion, gold) in (1.0, None), name


def test_reference_gives_the_maximum_to_gold_answers_without_tags_in_thoughts(golds):
    named = re.compile("<(tool_call|response)>.*</think>", re.DOTALL)
    for name, gold in golds.items():
        completion = answered(gold)
        if not named.search(gold):
            most = 3.0 if tools.wants_calls(gold) else 0.0
            assert tools.toolrl_correctness(completion, gold) == most, name
            assert tools.toolrl_format(completion, gold) == 1.0, name
        elif "<tool_call>" in gold.partition("</think>")[0]:
            assert tools.toolrl_correctness(completion, gold) is None, name
            assert tools.toolrl_format(completion, gold) == 0.0, name


ONE = call("GetNews", page="1")
GOLD = THOUGHT + block([ONE])
TWO = THOUGHT + block([call("f", a=1, b=2), call("g")])


@pytest.mark.parametrize(
    ("text", "reference", "recommended"),
    [
        (GOLD, (1, 3), (1, 3)),
        (block([ONE]), (0, 3), (0, 3)),
        ("\n " + GOLD + " \n", (1, 3), (1, 3)),
        (f"<think> t </think>\n\n{block([ONE])}", (0, 3), (0, 3)),
        (f"<think> a <tool_call> </think>\n{block([ONE])}", (0, -3), (1, 3)),
        # The reference reads the first block, the recommended reward the last.
        (f"<think> {block([ONE])} </think>\n{block([call('f')])}", (0, 3), (1, -3)),
        (THOUGHT + block([call("f")]) + "\n" + block([ONE]), (0, -3), (0, 3)),
        (GOLD.replace('"parameters"', '"arguments"'), (1, -3), (1, -3)),
        (THOUGHT + block([[ONE]]), (1, -3), (1, -3)),
        (THOUGHT + f"<tool_call>\n{json.dumps(ONE, indent=1)}\n</tool_call>", (1, -3), (1, -3)),
        (THOUGHT + block([call("GetNews", page="2")]), (1, 1), (1, 1)),
        (THOUGHT + block([call("GetNews")]), (1, -1), (1, -1)),
        (THOUGHT + block([call("GetNews", page="1", more=2)]), (1, 2), (1, 2)),
        (THOUGHT + block([ONE, ONE]), (1, 2), (1, 2)),
        (GOLD + "\n<response> hi </response>", (0, 3), (0, 3)),
        (GOLD.removesuffix("</tool_call>"), (0, -3), (0, -3)),
        ("", (0, -3), (0, -3)),
    ],
)
def test_rewards_of_single_answers(text, reference, recommended):
    completion = answered(text)
    paid = tools.toolrl_format(completion, GOLD), tools.toolrl_correctness(completion, GOLD)
    assert paid == pytest.approx(reference)
    paid = tools.layout(completion, GOLD), tools.correctness(completion, GOLD)
    assert paid == pytest.approx(recommended)


QUOTING = [call("say", text=f"a {tag} b") for tag in ("</tool_call>", "</think>", "<tool_call>")]


@pytest.mark.parametrize("quoting", QUOTING, ids=lambda quoting: quoting["parameters"]["text"])
def test_a_tag_in_a_string_of_a_call_is_text(quoting):
    gold = THOUGHT + block([ONE, quoting])
    assert tools.exact_match(answered(gold), gold) == tools.layout(answered(gold), gold) == 1.0
    assert tools.gold_calls(gold) == (("GetNews", {"page": "1"}), tuple(quoting.values()))
    cut = answered(gold.removesuffix("</tool_call>"))
    assert tools.exact_match(cut, gold) == tools.layout(cut, gold) == 0.0
    other = answered(gold.replace(" b", " c"))
    assert tools.exact_match(other, gold) == 0.0
    assert tools.layout(other, gold) == 1.0
    mentioned = answered(f"<think> {block([quoting])} </think>\n{block([ONE, quoting])}")
    assert tools.exact_match(mentioned, gold) == tools.layout(mentioned, gold) == 1.0


def test_response_tag_in_a_string_of_a_call_asks_for_no_response():
    gold = THOUGHT + block([call("say", text="<response> a </response>")])
    assert tools.layout(answered(gold), gold) == 1.0
    assert tools.layout(answered(gold + "\n<response> a </response>"), gold) == 0.0


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<tool_call>\n{}\n\n{}\n</tool_call>", 1),
        ("<tool_call>\n\n \n{}\r\n\t\r\n{}\n\n</tool_call>", 1),
        ("<tool_call>{}\n{}</tool_call>", 1),
        ("<tool_call> {}\n {} </tool_call>", 1),
        ("<tool_call>{} {}</tool_call>", 0),
        ("<tool_call>{}{}</tool_call>", 0),
        ("<tool_call>{},\n{}</tool_call>", 0),
        ("<tool_call>[{},\n{}]</tool_call>", 0),
        ("<tool_call>\n{}\n{}\nwords\n</tool_call>", 0),
        ("<tool_call>\n{}\n{}\n</tool_call", 0),
    ],
)
def test_calls_have_their_own_lines_and_blank_lines_do_not_matter(text, right):
    one, two = call("f", a=1, b=2), call("g")
    completion = answered(THOUGHT + text.format(json.dumps(one), json.dumps(two)))
    assert tools.exact_match(completion, TWO) == right
    assert tools.graded(completion, TWO) == right


@pytest.mark.parametrize(
    "part",
    ['<tool_call>{"a":', '<tool_call>["', '<tool_call>[1,",1,', '<tool_call>"\\"', "<tool_call>["],
)
def test_repeated_beginnings_of_calls_are_read_quickly(part):
    start = time.process_time()
    for count in (900, 9_000):
        assert tools.graded(answered(part * count), TWO) == 0.0
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("reward", [tools.toolrl_format, tools.layout])
def test_thought_opened_by_the_prompt(reward):
    completion = answered(GOLD.removeprefix("<think>"))
    assert reward(completion, GOLD) == 0.0
    assert reward(completion, GOLD, opened="<think>") == 1.0


@pytest.mark.parametrize("reward", [tools.toolrl_format, tools.layout])
@pytest.mark.parametrize(
    "parts",
    [
        "",
        "\n<response> hi </response>",
        "\n<tool_call>\nx\n</tool_call>",
        "\n<tool_call>\nx\n</tool_call>\n<response></response>",
    ],
)
def test_layout_must_match_the_gold_answer(reward, parts):
    forms = {
        "",
        "\n<response> hi </response>",
        "\n<tool_call>\nx\n</tool_call>",
        "\n<tool_call>\nx\n</tool_call>\n<response></response>",
    }
    gold = "<think> t </think>" + parts
    for form in forms:
        assert reward(answered("<think> u </think>" + form), gold) == float(form == parts)
    tag = parts[1 : parts.find(">") + 1]
    if tag:
        assert reward(answered(gold + tag), gold) == 0.0


def test_parts_of_correctness():
    completion = answered(THOUGHT + block([call("f", a=1, c=3), call("h")]))
    assert tools.names(completion, TWO) == pytest.approx(1 / 3)
    # f: one of three names; g: not called.
    assert tools.parameter_names(completion, TWO) == pytest.approx((1 / 3 + 0) / 2)
    assert tools.values(completion, TWO) == pytest.approx(1 / 2)
    assert tools.values(completion, THOUGHT + block([call("g")])) is None


def test_unreadable_gold_answer_is_named():
    with pytest.raises(ValueError, match=r"gold answer cannot be read.*tool_call"):
        tools.correctness(answered(GOLD), "<tool_call> nothing </tool_call>")


json_values = st.sampled_from([0, 1, 1.0, True, False, "1", "", None, [1, True], {"x": 1}])


def lists_of_calls(values):
    parameters = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
    calls = st.builds(lambda name, given: call(name, **given), st.sampled_from("fg"), parameters)
    return st.lists(calls, min_size=1, max_size=4)


call_lists = lists_of_calls(json_values)


def as_calls(objects):
    return tools.tool_calls(block(objects))


@settings(deadline=None)
@given(call_lists, call_lists)
@example(
    [call("f", a=1, b=2), call("f", a=1, b=2, c=3)], [call("f", a=1, b=2, c=3), call("f", x=0)]
)
def test_pairing_is_optimal(gold, answer):
    gold, answer = as_calls(gold), as_calls(answer)

    def worth(wanted, given):
        if given is None or wanted.name != given.name:
            return 0.0
        one, other = wanted.parameters.keys(), given.parameters.keys()
        names = len(one & other) / len(one | other) if one | other else 1.0
        same = [key for key in one & other if _same(wanted.parameters[key], given.parameters[key])]
        return names + len(same)

    spare = [*answer, *[None] * len(gold)]
    best = max(sum(map(worth, gold, order)) for order in itertools.permutations(spare, len(gold)))
    fit = best_fit(gold, answer)
    assert fit.parameter_names + fit.values == pytest.approx(best)


def _same(one, other):
    """Whether two values have the same JSON text after converting numbers to floats."""
    return json.dumps(_floats(one), sort_keys=True) == json.dumps(_floats(other), sort_keys=True)


def _floats(value):
    match value:
        case bool():
            return value
        case int():
            return float(value)
        case list():
            return [_floats(item) for item in value]
        case dict():
            return {key: _floats(item) for key, item in value.items()}
    return value


nested = st.recursive(
    json_values,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(nested, nested)
def test_json_values_are_equal_if_their_texts_are(one, other):
    assert same_json(one, other) == _same(one, other)
    assert same_json(one, json.loads(json.dumps(one)))


@settings(deadline=None)
@given(call_lists, call_lists, st.randoms())
def test_correctness_is_the_sum_of_its_parts_in_any_order(gold, answer, random):
    reference = THOUGHT + block(gold)
    completion = answered(THOUGHT + block(answer))
    parameters = sum(len(one["parameters"]) for one in gold)
    met = (
        tools.names(completion, reference)
        + len(gold) * tools.parameter_names(completion, reference)
        + parameters * (tools.values(completion, reference) or 0.0)
    )
    share = met / (1 + len(gold) + parameters)
    assert tools.graded(completion, reference) == pytest.approx(share)
    assert tools.correctness(completion, reference) == pytest.approx(6 * share - 3)
    assert -3.0 <= tools.toolrl_correctness(completion, reference) <= 3.0
    shuffled = answered(THOUGHT + block(random.sample(answer, len(answer))))
    assert tools.graded(shuffled, reference) == pytest.approx(share)


@settings(deadline=None)
@given(call_lists, call_lists)
def test_exact_match_is_one_exactly_if_graded_is(gold, answer):
    reference, completion = THOUGHT + block(gold), answered(THOUGHT + block(answer))
    full = tools.graded(completion, reference) == 1.0
    assert tools.exact_match(completion, reference) == float(full)
    key = lambda one: json.dumps(_floats(one), sort_keys=True)  # noqa: E731
    assert full == (sorted(map(key, gold)) == sorted(map(key, answer)))


@settings(deadline=None)
@given(lists_of_calls(st.sampled_from([1, 2, "1"])), lists_of_calls(st.sampled_from([1, 2, "1"])))
def test_greedy_pairing_is_never_better(gold, answer):
    reference, completion = THOUGHT + block(gold), answered(THOUGHT + block(answer))
    greedy = tools.toolrl_correctness(completion, reference)
    assert tools.correctness(completion, reference) >= greedy - 1e-9


@pytest.mark.parametrize("text", HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS)
def test_hostile_answers_get_the_minimum_quickly(text):
    start = time.process_time()
    for gold in (GOLD, TWO):
        paid = [reward(answered(text), gold) for reward in REWARDS]
        assert paid[2:] == [-3.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert time.process_time() - start < 2.0


TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>", "\n")
JSON = (json.dumps(ONE), '{"name": "GetNews"}', "[]", "{")
fragments = st.lists(st.sampled_from(TAGS + JSON) | st.text(max_size=3), max_size=12).map("".join)


@settings(deadline=None)
@given(fragments)
def test_arbitrary_answers_stay_in_range(text):
    for gold in (GOLD, TWO, "<think> t </think>\n<response> hi </response>"):
        paid = [reward(answered(text), gold) for reward in REWARDS]
        scores = [score for score in paid if score is not None]
        assert all(-3.0 <= score <= 3.0 for score in scores)
        assert all(0.0 <= score <= 1.0 for score in [*paid[:2], *paid[4:]] if score is not None)
