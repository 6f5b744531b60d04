import re
import time

import pytest
from hostile_texts import TEXTS, completion
from hypothesis import example, given
from hypothesis import strategies as st

from dvaojax.rewards import blocks, exact_answer, last_block, single_block_at_end

MARKERS = {"opening": "[", "closing": "]"}
TAGS = {"opening": "<answer>", "closing": "</answer>"}


@given(st.text(alphabet="[]1 a\n", max_size=30))
@example("[[1] 2]")
@example("[1]2]")
def test_blocks_match_a_regular_expression(text):
    expected = re.findall(r"\[([^\[\]]*)\]", text)
    assert blocks(text, **MARKERS) == expected
    assert last_block(text, **MARKERS) == (expected[-1] if expected else None)
    tagged = text.replace("[", "<answer>").replace("]", "</answer>")
    assert blocks(tagged, **TAGS) == expected


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("42", 42),
        ("42", "42"),
        (" 42\n", "42"),
        ("025", "25"),
        ("25", "025"),
        ("+7", 7),
        ("-7", -7),
        ("-0", 0),
        ("000", "0"),
        ("105263157894736842", 105263157894736842),
        ("-" + "9" * 5_000, "-0" + "9" * 5_000),
        ("two", "two"),
        ("1,080", "1,080"),
    ],
)
def test_equal_answers(answer, reference):
    assert exact_answer(completion(f"so [{answer}]"), reference, **MARKERS) == 1.0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("", 0),
        ("42 ", 43),
        ("42", -42),
        ("25.0", 25),
        ("1,080", 1080),
        ("4 2", 42),
        ("--7", 7),
        ("- 7", -7),
        # Neighbouring integers above 2**53, which floats cannot distinguish.
        ("105263157894736848", "105263157894736842"),
        (str(2**53 + 1), 2**53),
        ("0x2a", 42),
        ("4_2", 42),
        ("Two", "two"),
        ("True", 1),
        ("1", "True"),
    ],
)
def test_different_answers(answer, reference):
    assert exact_answer(completion(f"[{answer}]"), reference, **MARKERS) == 0.0


def test_last_complete_block_is_the_answer():
    assert exact_answer(completion("[1] no, [2]"), 2, **MARKERS) == 1.0
    assert exact_answer(completion("[1] no, [2]"), 1, **MARKERS) == 0.0
    assert exact_answer(completion("[1] no, [2"), 1, **MARKERS) == 1.0
    assert exact_answer(completion("[2] and more"), 2, **MARKERS) == 1.0
    assert exact_answer(completion("2"), 2, **MARKERS) == 0.0


@pytest.mark.parametrize("reference", [25.0, None, True, ["25"]])
def test_rejects_reference_that_is_neither_text_nor_integer(reference):
    with pytest.raises(TypeError, match="a reference is text or an integer"):
        exact_answer(completion("[25]"), reference, **MARKERS)


@pytest.mark.parametrize("text", ["[42]", "so [42]", "1\n2\n[42]", "[]", "[ 42 ]", "[no number]"])
def test_one_block_at_the_end(text):
    assert single_block_at_end(completion(text), 42, **MARKERS) == 1.0
    assert single_block_at_end(completion(text, stopped=False), 42, **MARKERS) == 0.0


@pytest.mark.parametrize(
    "text",
    ["42", "[42] ", "[42]\n", "[42].", "[1][42]", "[[42]", "[42]]", "[[42]]", "]42[", "[42", "42]"],
)
def test_malformed_blocks(text):
    assert single_block_at_end(completion(text), 42, **MARKERS) == 0.0


def test_markers_of_several_characters():
    text = "<think>7 </think><answer>42</answer>"
    assert single_block_at_end(completion(text), 42, **TAGS) == 1.0
    assert exact_answer(completion(text), 42, **TAGS) == 1.0
    assert single_block_at_end(completion(text + "</answer>"), 42, **TAGS) == 0.0


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_hostile_text_gets_zero_quickly(name):
    answer = completion(TEXTS[name])
    is_block_at_end = re.fullmatch(r"[^\[\]]*\[[^\[\]]*\]", TEXTS[name]) is not None
    start = time.perf_counter()
    assert exact_answer(answer, 42, **MARKERS) == 0.0
    # A block with invalid content is well formed; all other texts are not.
    assert single_block_at_end(answer, 42, **MARKERS) == float(is_block_at_end)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(("opening", "closing"), [("", "]"), ("[", ""), ("$", "$")])
def test_rejects_empty_or_equal_markers(opening, closing):
    with pytest.raises(ValueError, match="two different markers"):
        blocks("$1$", opening=opening, closing=closing)
