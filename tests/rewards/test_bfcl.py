import itertools
import json
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_texts import HOSTILE_ANSWERS, answered, lines_of

from dvaojax.rewards.tools import bfcl
from dvaojax.rewards.tools.bfcl import FunctionCall, FunctionProblem

SETS = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_multiple_first200",
)
# Their answers contain a parameter that the function does not have.
UNSOLVABLE_AS_LISTED = {"parallel_multiple_12", "parallel_multiple_26"}
PARTS = (bfcl.names, bfcl.complete, bfcl.types, bfcl.values)
PARSERS = (bfcl.python_calls, bfcl.native_calls, bfcl.toolrl_calls, bfcl.json_calls)


@pytest.fixture(scope="module")
def problems():
    """Row -> problem, for every set with answers."""
    problems = {}
    for name in SETS:
        rows = lines_of("bfcl", f"BFCL_v4_{name}.json")
        answers = lines_of("bfcl", "possible_answer", f"BFCL_v4_{name}.json")
        for row, answer in zip(rows, answers, strict=True):
            assert row["id"] == answer["id"]
            problems[row["id"]] = FunctionProblem(name, row["function"], answer["ground_truth"])
    return problems


def in_python(calls):
    """The calls as a Python list, the format of models without native tools."""
    arguments = ({name: f"{value!r}" for name, value in call.arguments.items()} for call in calls)
    texts = (", ".join(f"{name}={value}" for name, value in each.items()) for each in arguments)
    return f"[{', '.join(f'{c.name}({text})' for c, text in zip(calls, texts, strict=True))}]"


def in_blocks(calls):
    """The calls in one `<tool_call>` block each, Qwen's format."""
    texts = (json.dumps({"name": call.name, "arguments": call.arguments}) for call in calls)
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)


def in_one_block(calls):
    """The calls in one block, ToolRL's format."""
    texts = (json.dumps({"name": call.name, "parameters": call.arguments}) for call in calls)
    return "\n".join(["<tool_call>", *texts, "</tool_call>"])


FORMATS = dict(zip(PARSERS, (in_python, in_blocks, in_one_block, in_blocks), strict=True))


def listed_answer(problem):
    """The first accepted value of every parameter that has one."""
    return [
        FunctionCall(name, _first_of_each(options))
        for answer in problem.answers
        for name, options in answer.items()
    ]


def _first_of_each(options):
    """Parameter or key -> its first value other than "", which means omission."""
    given = {
        key: [choice for choice in choices if choice != ""] for key, choices in options.items()
    }
    return {key: _given(choices[0]) for key, choices in given.items() if choices}


def _given(option):
    match option:
        case dict() if all(isinstance(choices, list) for choices in option.values()):
            return _first_of_each(option)
        case [dict(), *_]:
            return [_first_of_each(each) for each in option]
    return option


def test_checker_agrees_with_the_leaderboard(problems):
    vectors = lines_of("edge_cases", "bfcl.jsonl")
    assert len(vectors) >= 34
    # The set `live_simple` is not available; its two vectors are of problems without a solution.
    available = [vector for vector in vectors if vector["row"] in problems]
    assert {vector["file"] for vector in vectors if vector not in available} <= {"live_simple"}
    for vector in available:
        calls = [FunctionCall(*item) for call in vector["calls"] for item in call.items()]
        assert bfcl.fault(calls, problems[vector["row"]]) == (vector["error_type"] or "")
        for decode, formatter in FORMATS.items():
            completion = answered(formatter(calls))
            paid = bfcl.ast_match(completion, problems[vector["row"]], decode=decode)
            assert paid == float(vector["valid"]), vector["id"]
            published = bfcl.leaderboard_match(completion, problems[vector["row"]], decode=decode)
            assert published == paid


@pytest.mark.parametrize("decode", PARSERS)
def test_every_listed_answer_is_correct(problems, decode):
    assert len(problems) >= 1_240
    for row, problem in problems.items():
        completion = answered(
            f"<think> <tool_call> [ </think>{FORMATS[decode](listed_answer(problem))}"
        )
        most = float(row not in UNSOLVABLE_AS_LISTED)
        assert bfcl.ast_match(completion, problem, decode=decode) == most, row
        assert bfcl.names(completion, problem, decode=decode) == 1.0, row
        for part in PARTS[1:]:
            assert part(completion, problem, decode=decode) >= most, row


@pytest.mark.parametrize("decode", PARSERS)
def test_irrelevance_requires_no_call_and_relevance_a_call(decode):
    rows = lines_of("bfcl", "BFCL_v4_irrelevance.json")
    call = answered(FORMATS[decode]([FunctionCall("f", {"x": 1})]))
    for row in rows:
        problem = FunctionProblem("irrelevance", row["function"])
        assert bfcl.ast_match(answered("I cannot do that."), problem, decode=decode) == 1.0
        assert bfcl.ast_match(answered("[]"), problem, decode=decode) == 1.0
        assert bfcl.ast_match(call, problem, decode=decode) == 0.0
        assert all(part(call, problem, decode=decode) is None for part in PARTS)
    problem = FunctionProblem("live_relevance", rows[0]["function"])
    assert bfcl.ast_match(answered("I cannot do that."), problem, decode=decode) == 0.0
    assert bfcl.ast_match(call, problem, decode=decode) == 1.0


OBJECT = '{"name": "find", "arguments": {"city": "Lima"}}'
NO_CALLS = (
    "",
    "I cannot do that.",
    "[]",
    "Function(s) like find are not relevant here.",
    "find (the tool) does not help.",
    f"<think>\n<tool_call>\n{OBJECT}\n</tool_call>\n</think>\nNone of these helps.",
    "See [1] and {2}.",
    "No <b>function</b> of type function fits; the tool calls would not help.",
    '{"type": "answer", "text": "none"}',
)
ATTEMPTS = (
    f"<tool_call>{OBJECT}</tool_call>",
    f"<tool_call>\n{OBJECT}",
    f"<tool_call>\n{OBJECT[:-9]}\n</tool_call>",
    f"<tool_call>\n{OBJECT[:20]}",
    "<tool_call>\nfind Lima\n</tool_call>",
    "<tool_call>",
    f"{OBJECT}\n</tool_call>",
    OBJECT,
    f"```json\n{OBJECT[:20]}",
    f"[{OBJECT}]",
    "[find(city='Lima'",
    "find(city='Lima",
    "[find(",
    "I call it now:\n[find(city='Lima', day=)]",
    f"<TOOL_CALL>\n{OBJECT}\n</TOOL_CALL>",
    '<function=find>{"city": "Lima"}</function>',
    "<|python_tag|>find.call(city='Lima')",
    f"[TOOL_CALLS][{OBJECT}]",
    "<function_calls>\n<invoke name='find'>",
    "<\N{FULLWIDTH VERTICAL LINE}tool▁calls▁begin\N{FULLWIDTH VERTICAL LINE}>function",
    '{"type": "function", "function": {"name": "find", "arguments": "{}"}}',
    '[{"id": "c1", "type": "function", "function": {"name": "find"',
    '{"tool_calls": [{"name": "find"',
    f"<think>So.</think>\n<tool_call> {OBJECT}, {OBJECT} </tool_call>",
)


@pytest.mark.parametrize("decode", PARSERS)
def test_an_attempted_call_is_not_the_same_as_no_call(decode):
    irrelevance, relevance = (
        FunctionProblem(c, []) for c in ("live_irrelevance", "live_relevance")
    )
    for text in NO_CALLS:
        assert bfcl.ast_match(answered(text), irrelevance, decode=decode) == 1.0, text
        assert bfcl.ast_match(answered(text), relevance, decode=decode) == 0.0, text
    for text in ATTEMPTS:
        assert bfcl.ast_match(answered(text), irrelevance, decode=decode) == 0.0, text
        expected = float(not decode(text))
        assert bfcl.leaderboard_match(answered(text), irrelevance, decode=decode) == expected
    for text in ATTEMPTS[1:6]:
        assert bfcl.ast_match(answered(text), relevance, decode=decode) == 0.0, text


@pytest.mark.parametrize("part", ["[\n", "[f(\n", "`", "\n", "[a.", "[ \n\n"])
def test_attempts_are_looked_for_quickly(part):
    start = time.process_time()
    bfcl.attempts_call(part * 50_000)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("words", []),
        (f"<tool_call>{OBJECT}</tool_call>", [("find", {"city": "Lima"})]),
        (f"<tool_call>\n\n{OBJECT}\n\n{OBJECT}\n</tool_call>", [("find", {"city": "Lima"})] * 2),
        (f"<tool_call>{OBJECT}</tool_call> " * 2, [("find", {"city": "Lima"})] * 2),
        (
            f"<tool_call>{json.dumps(json.loads(OBJECT), indent=1)}</tool_call>",
            [("find", {"city": "Lima"})],
        ),
        ('<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>', [("f", {"x": 1})]),
        (
            '<tool_call>{"name": "f", "arguments": {"x": "</tool_call> </think> <tool_call>"}}'
            "</tool_call>",
            [("f", {"x": "</tool_call> </think> <tool_call>"})],
        ),
        (f"<tool_call>{OBJECT}</tool_call><tool_call>{OBJECT}", None),
        (f"<tool_call>no JSON</tool_call><tool_call>{OBJECT}</tool_call>", None),
        ("<tool_call></tool_call>", None),
        ("<tool_call>[1]</tool_call>", None),
        ('<tool_call>{"name": "f"}</tool_call>', None),
        ('<tool_call>{"name": "f", "arguments": 1}</tool_call>', None),
    ],
)
def test_json_calls_reads_every_block_or_none(text, calls):
    assert bfcl.json_calls(text) == calls
    assert bfcl.json_calls(f"<think> {OBJECT} </think>{text}") == calls


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[f(x=1)]", {"x": 1}),
        ("f(x=1)", {"x": 1}),
        ("[f(x=1)", {"x": 1}),
        ("```\n[f(x=1)]\n```", {"x": 1}),
        ("<think> [g(x=2)] </think>\n[f(x=1)]", {"x": 1}),
        ("[f(1, x=2)]", {"x": 2}),
        ("[f(x=-1.5, y=True, z=None)]", {"x": -1.5, "y": True, "z": None}),
        ("[f(x=['a', (1, 2)], y={'k': [1]})]", {"x": ["a", (1, 2)], "y": {"k": [1]}}),
        (
            "[f(x=name, y=g(1), z=g(k=1), w=a[0])]",
            {"x": "name", "y": "g(1)", "z": {"g": {"k": 1}}, "w": "a[0]"},
        ),
        (
            "[f(x=2*(3+4), y=10**-2, z=-(1/4)*4, w='a'+'b')]",
            {"x": 14, "y": 0.01, "z": -1.0, "w": "ab"},
        ),
        ("[f(x='\\d')]", {"x": "\\d"}),
        # Any unary operator negates a number, as in the leaderboard's code.
        ("[f(x=+1, y=not 2)]", {"x": -1, "y": -2}),
    ],
)
def test_parses_python_list_of_calls(text, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bfcl.python_calls(text) == [("f", arguments)]


@pytest.mark.parametrize(
    "text",
    [
        "words",
        "[1]",
        "[f]",
        "[f(x=1]",
        "[f(x=1), 2]",
        "[f(x=y.z)]",
        "[f(x={1, 2})]",
        "[f(x=lambda: 1)]",
        "[f(x=f'{y}')]",
        "[f(x=-(1/4))]",
        "[f(x=2**y)]",
        "[f(x=9**9**9**9)]",
        "[f(x=1/0)]",
        "[f(x='a'*9)]",
        "[f(x=__import__('os')+1)]",
        "[f(x={[]: 1})]",
    ],
)
def test_rejects_other_python_text(text):
    assert bfcl.python_calls(text) is None


def test_arguments_are_never_evaluated(tmp_path):
    mark = tmp_path / "mark"
    bfcl.python_calls(f"[f(x=open({str(mark)!r}, 'w'), y=1+open({str(mark)!r}, 'w').write('a'))]")
    assert not mark.exists()


def test_parsing_is_thread_safe():
    text = "[f(x='\\d')]"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        with ThreadPoolExecutor(8) as threads:
            calls = list(threads.map(bfcl.python_calls, [text] * 400))
        assert calls == [[("f", {"x": "\\d"})]] * 400
        assert warnings.filters == filters


def test_rewards_can_be_pickled():
    problem = FunctionProblem("simple", FUNCTIONS, [{"f": OPTIONS}])
    reward = partial(bfcl.ast_match, decode=bfcl.python_calls)
    completion = answered("[f(n=1, l=[1, 2])]")
    copied, *arguments = pickle.loads(pickle.dumps((reward, completion, problem)))
    assert copied(*arguments) == reward(completion, problem) == 1.0


BLOCK = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"{BLOCK}\n{BLOCK}", [("f", {"x": 1})] * 2),
        (f"words {BLOCK} words\n<tool_call>\nno JSON\n</tool_call>", [("f", {"x": 1})]),
        (f"<think>\n{BLOCK}\n</think>", []),
        (BLOCK.replace("\n", ""), []),
        (BLOCK.removesuffix("</tool_call>"), []),
        (BLOCK.replace("arguments", "parameters"), None),
        (BLOCK.replace('{"x": 1}', "1"), None),
        (BLOCK.replace('"f"', "[]"), None),
        ("<tool_call>\n[1]\n</tool_call>", None),
    ],
)
def test_parses_native_tool_calls(text, calls):
    assert bfcl.native_calls(text) == calls


def test_toolrl_parser_reads_the_last_block():
    lines = [
        "no JSON",
        '{"name": "f", "parameters": {"x": 1}}',
        '{"name": "None", "parameters": {}}',
    ]
    text = "<tool_call>[]</tool_call><tool_call>\n" + "\n".join(lines) + "\n</tool_call>"
    assert bfcl.toolrl_calls(text) == [("f", {"x": 1})]
    assert bfcl.toolrl_calls("words") == []
    assert bfcl.toolrl_calls('<tool_call>{"name": "f", "parameters": 1}</tool_call>') is None


SCHEMAS = {
    "s": {"type": "string"},
    "n": {"type": "float"},
    "l": {"type": "array", "items": {"type": "integer"}},
    "d": {"type": "dict"},
}
OPTIONS = {"s": ["Ab c", ""], "n": [1.0, 2.5], "l": [[1, 2]], "d": [{"k": ["v", ""]}, ""]}
FUNCTIONS = [
    {"name": name, "parameters": {"properties": SCHEMAS, "required": ["n"]}} for name in "fg"
]
values_of = {
    "s": st.sampled_from(["Ab c", "ab.C", "other", "", 1]),
    "n": st.sampled_from([1, 1.0, 2.5, 3, "1.0", True]),
    "l": st.sampled_from([[1, 2], (1, 2), [2, 1], [1.0, 2], [], "1"]),
    "d": st.sampled_from([{"k": "V"}, {}, {"k": 1}, {"z": 1}, []]),
    "z": st.just(1),
}
function_calls = st.builds(
    FunctionCall, st.sampled_from("fg"), st.fixed_dictionaries({}, optional=values_of)
)
answers = st.builds(
    lambda name, options: {name: options},
    st.sampled_from("fg"),
    st.fixed_dictionaries(
        {"n": st.just([1.0, 2.5])},
        optional={
            "s": st.sampled_from([["Ab c"], ["Ab c", ""]]),
            "l": st.sampled_from([[[1, 2]], [[1, 2], ""]]),
            "d": st.just(OPTIONS["d"]),
        },
    ),
)


@settings(deadline=None)
@given(
    st.lists(function_calls, max_size=3),
    st.lists(answers, min_size=1, max_size=3),
    st.sampled_from(["parallel", "multiple"]),
)
def test_all_parts_are_correct_exactly_if_some_pairing_is(calls, wanted, category):
    wanted = wanted if category == "parallel" else wanted[:1]
    problem = FunctionProblem(category, FUNCTIONS, wanted)
    decode = lambda text: calls  # noqa: E731
    paid = [part(answered(""), problem, decode=decode) for part in PARTS]
    pairings = itertools.permutations(calls) if len(calls) == len(wanted) else []
    one_by_one = [
        [
            bfcl.fault([call], FunctionProblem("simple", FUNCTIONS, [answer]))
            for call, answer in zip(pairing, wanted, strict=True)
        ]
        for pairing in pairings
    ]
    assert all(paid) == any(not any(faults) for faults in one_by_one)
    assert paid == [float(p) for p in paid]
    assert paid[0] >= max(paid[1:])
    assert paid[2] >= paid[3]
    if bfcl.ast_match(answered(""), problem, decode=decode):
        assert all(paid)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"n": 1, "l": [1, 2]}, (1, 1, 1, 1)),
        ({"l": [1, 2]}, (1, 0, 1, 1)),
        ({"n": 1}, (1, 0, 1, 1)),
        ({"n": "1", "l": [1, 2]}, (1, 1, 0, 0)),
        ({"n": 7, "l": [1, 2]}, (1, 1, 1, 0)),
        ({"n": 1, "l": [1, 2], "z": 0}, (1, 1, 0, 0)),
    ],
)
def test_each_part_detects_its_own_fault(arguments, parts):
    problem = FunctionProblem("simple", FUNCTIONS, [{"f": OPTIONS}])
    for name, right in (("f", parts), ("g", (0, 0, 0, 0))):
        completion = answered(in_blocks([FunctionCall(name, arguments)]))
        paid = tuple(part(completion, problem, decode=bfcl.native_calls) for part in PARTS)
        assert paid == right


@pytest.mark.parametrize("decode", PARSERS)
@pytest.mark.parametrize("text", HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS)
def test_hostile_answers_get_zero_quickly(text, decode):
    start = time.process_time()
    calls = decode(text)
    for category, wanted in (("simple", 1), ("parallel", 2)):
        problem = FunctionProblem(category, FUNCTIONS, [{"f": OPTIONS}] * wanted)
        for reward in (bfcl.ast_match, bfcl.complete, bfcl.values):
            assert reward(answered(text), problem, decode=lambda _: calls) == 0.0
    assert time.process_time() - start < 2.0


PIECES = ("[", "]", "f(", "x=", ")", "1", "'", "\\", ",", "<tool_call>\n", "\n</tool_call>")
JSON = ('{"name": "f", "arguments": {}}', '{"name": "f", "parameters": {"n": 1}}')
fragments = st.lists(st.sampled_from(PIECES + JSON) | st.text(max_size=3), max_size=10)


@settings(deadline=None)
@given(fragments.map("".join))
def test_arbitrary_answers_never_raise(text):
    problem = FunctionProblem("simple", FUNCTIONS, [{"f": OPTIONS}])
    for decode in PARSERS:
        assert bfcl.ast_match(answered(text), problem, decode=decode) == 0.0
        for part in PARTS:
            assert part(answered(text), problem, decode=decode) in (0.0, 1.0)
