"""Extraction of the final answer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.rewards.mathematics import final_answer

PROSE = st.text(st.characters(exclude_characters="\\{}$#", exclude_categories=["Cs"]), max_size=50)
BALANCED = st.recursive(
    st.sampled_from(["x", "1", " ", r"\frac", r"\{", r"\}", r"\\", ","]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda parts: f"{{{''.join(parts)}}}"
    ),
    max_leaves=20,
).filter(lambda text: text.strip(" {}"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{34}.", "34"),
        (r"\boxed{\frac{1}{2}} is $\boxed{\frac{2}{4}}$", r"\frac{2}{4}"),
        (r"\boxed{12} wait, no: \boxed{34}", "34"),
        (r"\boxed{12} and \boxed{34}", "12, 34"),
        (r"$\boxed{12}$, $\boxed{34}$", "12, 34"),
        (r"\boxed{34}, \boxed{34}", "34"),
        (r"\boxed{34}\boxed{35}", "34, 35"),
        (r"\boxed{\boxed{34}}", "34"),
        (r"\boxed{\boxed{3}+\boxed{4}}", r"\boxed{3}+\boxed{4}"),
        (r"\fbox{34}", "34"),
        (r"\boxed 34", "34"),
        (r"$\boxed 34$", "34"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"<think>\boxed{99}</think> \boxed{34}", "34"),
        (r"<think>\boxed{34}", "34"),
        (r"\boxed{34} or \boxed{}", "34"),
        ("The answer is 34. \\boxed{}", "34"),
        ("#### 1,080", "1,080"),
        ("#### 12\n\n#### 34 \nbye", "34"),
        (r"#### 12 \boxed{34}", "34"),
        (r"#### \frac{1}{2}", r"\frac{1}{2}"),
        ("#### Step 1\nWe add.\n\nThe answer is 34.", "34"),
        ("#### 1. We add.\n\nThe answer is 34.", "34"),
        (r"$x = \boxed{1}$ or $x = \boxed{2}$", "1, 2"),
        ("34", "34"),
        (" $-34$\n", "-34"),
        ("Answer: 34", "34"),
        ("**Answer:** 34", "34"),
        ("**Final Answer**: 34.", "34"),
        ("The answer: 12. Answer: $3\\,4$", "3\\,4"),
        ("The answer is $34$, as asked.", "34"),
        (r"the answer is: \(34\).", "34"),
        ("the answer is 3.5. Really.", "3.5"),
        ("答案是34", "34"),
        ("答案\N{FULLWIDTH COLON} $34$。", "34"),
        ("Answer\N{FULLWIDTH COLON}34", "34"),
        # Several candidates in one sentence, or in boxes of one sentence.
        ("Answer: $7$ or $11$ or $13$", "7, 11, 13"),
        ("The answer is $14$, or maybe $15$.", "14, 15"),
        ("The answer is either 14 or 15.", "14, 15"),
        ("Answer: 14, but it could also be 15.", "14, 15"),
        ("The answer is 14. Or maybe 15.", "14, 15"),
        ("The answer is 14; alternatively 15", "14, 15"),
        ("Answer: $4$, $9$", "4, 9"),
        ("The answer is $x=4$ and $y=9$.", "x=4, y=9"),
        ("Answer: (1, 2) and (3, 4)", "(1, 2), (3, 4)"),
        ("答案是 3 或 4", "3, 4"),
        ("Answer: 12 vs 13", "12, 13"),
        ("Answer: 12 vs. 13", "12, 13"),
        ("Answer: 12? 13?", "12, 13"),
        ("Answer: 12...14", "12, 14"),
        ("The answer is $12$ to $14$.", "12, 14"),
        ("Answer: $12$\n or $13$", "12, 13"),
        ("#### 72 or 73", "72, 73"),
        (r"\boxed{14}, or maybe \boxed{15}", "14, 15"),
        (r"\boxed{14} or maybe 15", "14, 15"),
        (r"$\boxed{14}$ or $15$", "14, 15"),
        # The same number again is no other candidate, and neither is a later place.
        ("The answer is 1/2 or 0.5", "1/2"),
        (r"\boxed{0.5} or $\frac12$", "0.5"),
        (r"\boxed{12}. Correction: \boxed{34}", "34"),
        (r"\boxed{72} clips, so each may have 36", "72"),
        ("Answer: 34\nAnswer: 12", "12"),
        # Words behind a value.
        ("The answer is 72, which is the total number of clips.", "72"),
        ("The answer is **72** clips.", "72"),
        ("The answer is 72 clips because 48 + 24 = 72.", "72"),
        ("The answer is 72 (24 times 3).", "72"),
        ("The answer is Evelyn, who runs fastest.", "Evelyn"),
        ("The answer is C: The market clears.", "C"),
        ("答案是42元。", "42"),
        ("答案是42，因为6乘7等于42。", "42"),
        ("#### 72 clips", "72"),
        ("The answer is 3.14 to 2 decimal places.", "3.14"),
        ("The answer is 72 to the nearest whole number.", "72"),
        ("Answer: 72\n\nOr, in words, seventy-two.", "72"),
        # Words before a value.
        ("The final answer is therefore 72.", "72"),
        ("The answer to the problem is 12.", "12"),
        ("The answer is not 14.", "not 14"),
        ("The answer is between 3 and 5.", "between 3 and 5"),
        # Label and value on two lines.
        ("Answer:\n\n72", "72"),
        ("Answer: \n 34", "34"),
        ("**Answer:**\n72 clips", "72"),
        ("Answer:\n$$72$$", "72"),
        ("**Final Answer**\n\n72", "72"),
        ("## Answer\n$72$ clips", "72"),
        ("Final answer\r\n\r\n\\(72\\)", "72"),
        ("The answer is 72.\n\n**Final Answer**\nAs computed above.", "72"),
        ("Answer:\n\\[\n72\n\\]", "72"),
        ("### Answer\n\nThe answer is: \n\n$72$", "72"),
        # A remark on the answer is no answer.
        ("The answer is 72. I hope this answer is helpful.", "72"),
        ("The answer is 72. This answer is correct.", "72"),
        # Plain and LaTeX values.
        (r"Answer: \frac{\sqrt{3}}{2} cm", r"\frac{\sqrt{3}}{2}"),
        ("Answer: x = 34", "x = 34"),
        ("The answer is [2, 3).", "[2, 3)"),
        ("The answer is 2*sqrt(3).", "2*sqrt(3)"),
        ("The answer is 50 percent.", "50 percent"),
        (r"Answer: $\$32,\!348$", r"\$32,\!348"),
        # The word in prose, placeholders and line breaks.
        (r"So $x=\boxed{19}$. As required, the result is inside \boxed.", "19"),
        (r"Thus \boxed{19}. (I used the \boxed command.)", "19"),
        (r"\boxed{19} (see \boxed 3 times)", "19"),
        (r"\boxed{19} as \boxed{...} asked", "19"),
        (r"\boxed{19} in \boxed{answer} form", "19"),
        ("\\boxed\n{19}", "19"),
        ("\\boxed  \n {19}", "19"),
    ],
)
def test_finds_the_answer(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I think 34 is nice.",
        "there are 34 apples and 5",
        r"\boxed{}",
        r"\boxed{ }",
        r"so \boxed",
        r"\boxed{34",
        r"\boxed{12} no, \boxed{34",
        r"\boxedly{34}",
        "####34",
        "<think>Answer: 34</think> hm",
        "answer",
        "Answer:",
        "Answer:\nWe add the numbers first.",
        "## Answer\nWe add the numbers first.",
        "**Final Answer**",
        r"Use \boxed for it.",
        r"Write it as \boxed{...}.",
    ],
)
def test_text_without_answer(text):
    assert final_answer(text) is None


@given(PROSE, BALANCED, PROSE)
def test_box_content_is_kept_unchanged(before, content, after):
    assert final_answer(f"{before} \\boxed{{{content}}} {after}") == content


@given(BALANCED)
def test_truncated_box_is_not_an_answer(content):
    for length in range(len(content) + 1):
        assert final_answer(f"$\\boxed{{{content[:length]}") is None


@given(st.lists(st.sampled_from(["\\boxed", "{", "}", "\\", "$", " ", "#### ", "answer is"])))
def test_every_text_has_an_answer_or_none(pieces):
    answer = final_answer("".join(pieces))
    assert answer is None or answer.strip()


@pytest.mark.parametrize(
    "unit",
    [
        *(r"\boxed{", r"\boxed{3}, ", r"\boxed{3} x ", r"\text{", "{", "}", "$", "\\", "\n", " "),
        *("answer ", "answer:", "answer*", "#### ", "</think>", ".", "\ud800", "\x00"),
    ],
)
def test_long_texts_are_processed_quickly(unit):
    text = unit * (200_000 // len(unit))
    for whole in (text, rf"\boxed{{{text}}}", rf"\boxed{{3}}{text}\boxed{{4}}", f"Answer: {text}"):
        began = time.process_time()
        final_answer(whole)
        assert time.process_time() - began < 2.0
