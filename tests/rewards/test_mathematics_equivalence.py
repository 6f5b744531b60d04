"""Equivalence of answers with the gold answer, without math-verify."""

import random
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax.rewards.mathematics import equivalent, math_verify_client


@pytest.fixture(autouse=True)
def _without_math_verify(monkeypatch):
    monkeypatch.setattr(math_verify_client, "installed", lambda: False)
    equivalent.cache_clear()
    yield
    equivalent.cache_clear()


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        ("025", ["25", "25.0", "25.", "+25", "025", r"\text{25}", "x=25", r"25\text{ cm}", "$25$"]),
        ("27.0", ["27", "027", r"\frac{54}{2}", "54/2", "3^3", "5!/4-3", "25+2"]),
        ("336^\\circ", ["336", "336^{\\circ}", "336°", "336 degrees", r"336\text{ degrees}"]),
        ("1,080", ["1080", "1,080", "1{,}080", r"1,\!080", r"\$1,080", "1080.00"]),
        ("-7", ["-7", "\N{MINUS SIGN}7", "- 7", "-\\frac{14}{2}", "-(7)"]),
        (
            r"\frac43",
            [
                r"\frac{4}{3}",
                "4/3",
                r"1\frac13",
                "1 1/3",
                r"\frac{8}{3}/2",
                "8/6",
                "1.3333333333",
                r"\tfrac43",
            ],
        ),
        ("-1.5", [r"-1\frac12", r"-1\frac{1}{2}", "-1 1/2", r"-\frac32"]),
        ("34", ["34 or 34", r"34, \frac{68}{2}", "x=34, x=34"]),
        ("3.5", [r"\frac72", "3.50", "7/2", r"3\frac{1}{2}"]),
        ("0", [r"\sin \pi", r"\sin^2 x + \cos^2 x - 1", "-0", "0.0"]),
        (r"50\%", [r"50\%", "50%", "50", "0.5", r"\frac{1}{2}"]),
        ("0.34", [r"34\%", "34 %", ".34"]),
        ("52_8", ["52_8", "52_{8}", "52"]),
        (r"11\sqrt2", [r"11\sqrt{2}", r"\sqrt{242}", "15.556349186", r"\frac{22}{\sqrt2}", "11√2"]),
        (r"2\pi", [r"2 \pi", "2π", "6.283185", r"\frac{4\pi}{2}"]),
        ("6 - 5i", ["-5i+6", "6-5i", r"6 - i\sqrt{25}"]),
        ("(n-2) 2^{n}+1", ["2^n(n-2)+1", "n 2^n - 2^{n+1} + 1"]),
        ("p - q", ["-q+p", "p-q", "-(q-p)"]),
        ("(a+5)(b+2)", ["ab+2a+5b+10", "(b+2)(a+5)", "2(a+5)+b(a+5)"]),
        ("x=5", ["5", "x=5", "x = 5", "y=5"]),
        ("5", ["x=5", "2+3=5", "x=2+3=5"]),
        ("y = 2x + 3", ["2x+3", "y=3+2x", "f(x)=2x+3"]),
        ("5x - 7y + 11z + 4 = 0", ["-5x+7y-11z-4=0", "5x+11z=7y-4", "10x-14y+22z+8=0"]),
        (r"\cot x", [r"\frac{1}{\tan x}", r"\frac{\cos x}{\sin x}", r"\cot{x}", r"\cot(x)"]),
        (r"\sin^2 x", [r"1-\cos^2 x", r"(\sin x)^2", r"\frac{1-\cos 2x}{2}"]),
        (r"\log_2 8", ["3", r"\frac{\ln 8}{\ln 2}"]),
        (r"\binom{2n}{n}", [r"\frac{(2n)!}{n!n!}", r"\frac{(2n)!}{(n!)^2}"]),
        ("2^{2^n}+n!", ["n!+4^{2^{n-1}}"]),
        (r"\lceil n/2\rceil", [r"\lfloor \frac{n+1}{2}\rfloor", r"n-\lfloor n/2\rfloor"]),
        ("True", ["true"]),
        ("y = -2x", ["2x+y=0", "-2x", "y=-x-x"]),
        ("34", ["34 apples", "34 green apples", "$34$ apples"]),
        (r"\text{Anna, Bob}", [r"\text{anna,bob}", "Anna, Bob"]),
        (r"\lfloor n/2\rfloor", [r"\left\lfloor\frac{n}{2}\right\rfloor"]),
        (r"\sqrt[3]{-8}", ["-2"]),
        ("1,-2", ["-2,1", r"\{1,-2\}", "x=1, x=-2", r"1\text{ and }-2", "1 or -2", "-2;1"]),
        (r"1 \pm \sqrt{19}", [r"1+\sqrt{19}, 1-\sqrt{19}", r"1-\sqrt{19},1+\sqrt{19}"]),
        (r"\{1\pm\sqrt{5},-2\}", [r"-2,1+\sqrt{5},1-\sqrt{5}", r"-2, 1\pm\sqrt5"]),
        ("(-2,1)", ["(-2,1)", r"\left(-2, 1\right)", "(-2.0, \\frac22)", "(x,y)=(-2,1)"]),
        ("(1,1), (3,2)", ["(3,2),(1,1)", r"\{(3,2), (1,1)\}"]),
        ("(3,4]", [r"\left(3, 4\right]", "(3,4.0]", r"x \in (3,4]"]),
        (r"(0,9) \cup (9,36)", [r"(9,36)\cup(0,9)", "(9,36)\N{UNION}(0,9)"]),
        (r"(2,\infty)", [r"(2,+\infty)", "(2,∞)"]),
        (
            r"\begin{pmatrix} -7 \\ 16 \end{pmatrix}",
            [r"\begin{bmatrix}-7\\16\end{bmatrix}", r"\begin{pmatrix}-14/2\\2^4\\\end{pmatrix}"],
        ),
        (r"\text{Evelyn}", ["Evelyn", "evelyn", r"\textbf{Evelyn}", r"\mbox{ Evelyn }"]),
        (r"\text{(C)}", ["C", "(C)", r"\text{C}", "c"]),
        (r"864 \mbox{ inches}^2", ["864", r"864\text{ square inches}", "864 square inches"]),
        ("10,11,-2", ["-2,10,11"]),
        ("x > 3", ["x>3", "$x > 3$"]),
    ],
)
def test_equivalent_answers(gold, answers):
    for answer in answers:
        assert equivalent(answer, gold), answer


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        (
            "25",
            ["250", "2.5", "-25", "25.0001", "24.9999999999", r"25\%", "25_8", "25, 26", "25 or 5"],
        ),
        ("34", [r"34\%", "(34,35)", r"\{34,35\}", "35=34", "34=35", "x", "34x", "", "=", ","]),
        ("10", ["9.999999999", "10.000001", "9.9999999999999999"]),
        (r"\frac43", ["1.333", "1.3333333334", "1.3", "4.3", r"\frac34", "4,3"]),
        ("-7", ["7", "--7", "+7"]),
        ("52_8", ["52_9", "42", "52_{10}", "53_8"]),
        ("52", ["52_8"]),
        (r"11\sqrt2", ["15.556", "15.5563491862", r"11\sqrt3", "11", r"\sqrt2"]),
        ("p - q", ["q-p", "p+q", "p", "a-b"]),
        ("1,-2", ["(1,-2)", "1", "1,-2,-2", "1,2", "[1,-2]"]),
        ("3, 5, 7", ["3,5", "3,5,7,7", "3,5,7,9", "(3,5,7)"]),
        ("(-2,1)", ["(1,-2)", "-2,1", "(-2,1,0)", "[-2,1]", r"\{-2,1\}"]),
        ("(1,2)", [r"\{1,2\}"]),
        ("(3,4]", ["(3,4)", "[3,4]", "(3,4", "3,4"]),
        (r"(0,9) \cup (9,36)", ["(0,36)", "(0,9),(9,36)", "(0,9)"]),
        ("5.4 \\text{ cents}", [r"\$0.054", "0.054"]),
        (
            r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
            ["(1,2)", r"\begin{pmatrix}1&2\end{pmatrix}", "1,2"],
        ),
        (r"\text{even}", ["odd", "neve", r"\text{odd}", "e v e n s"]),
        (r"\text{(C)}", ["D", "(D)", "CC", r"\text{C, D}"]),
        ("5x - 7y = 4", ["5x-7y=5", "5x+7y=4", "0=0", "5x-7y", "z=4"]),
        ("x=5", ["x=6", "x"]),
        (
            "105263157894736842",
            ["105263157894736848", "105263157894736841", "1.05263157894736842e17"],
        ),
        ("9007199254740993", ["9007199254740992"]),
        ("2^{1009}", ["2^{1009}+1", "2^{1008}"]),
        ("4", ["x^2=4"]),
        ("12", ["3 4", "2 6"]),
        ("(1,2)", ["(1,2) + 1", "x"]),
        (r"\lfloor n/2\rfloor", ["n/2", r"\lceil n/2\rceil", r"\frac{n-1}{2}"]),
        (r"\lfloor n/12\rfloor", ["0", "1", r"\lfloor n/11\rfloor"]),
        ("2N", ["2n"]),
        ("34", ["34 abc", "34 n", "35 apples", "apples"]),
        ("y = -2x", ["2x-y=0", "x=-2y"]),
        ("n!", ["n", "n^n", "9^{9^{9^9}}"]),
        ("2n-2", ["2m-2", "2n"]),
    ],
)
def test_different_answers_are_not_equivalent(gold, answers):
    for answer in answers:
        assert not equivalent(answer, gold), answer


SPELLINGS = st.sampled_from(
    [
        lambda x: f"{x.numerator}/{x.denominator}",
        lambda x: rf"\frac{{{x.numerator}}}{{{x.denominator}}}",
        lambda x: rf"\dfrac{{{7 * x.numerator}}}{{{7 * x.denominator}}}",
        lambda x: rf"\left({x.numerator}\right) \div {x.denominator}",
        lambda x: rf"$ {x.numerator} \cdot {x.denominator}^{{-1}} $",
        lambda x: f"x = {x + 1} - 1".replace("--", "+"),
        lambda x: rf"{x * 100}\%",
        lambda x: rf"\sqrt{{({x})^2}}" if x >= 0 else rf"-\sqrt{{({x})^2}}",
    ]
)


@given(st.fractions(), st.fractions(), SPELLINGS, SPELLINGS)
def test_rational_numbers_are_compared_exactly(a, b, spell, respell):
    gold = str(a)
    assert equivalent(spell(a), gold)
    assert equivalent(spell(b), gold) == (a == b)
    # A neighbour that floats cannot distinguish.
    assert not equivalent(respell(a + Fraction(1, 10**40)), gold)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5), st.integers(0, 3))
def test_decimals_equal_their_fractions(number, zeros):
    assert equivalent(f"{number:f}" + "0" * zeros, str(Fraction(number)))


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=6), st.randoms())
def test_lists_are_unordered_and_tuples_ordered(numbers, chance):
    shuffled = chance.sample(numbers, k=len(numbers))
    gold, answer = (", ".join(map(str, order)) for order in (numbers, shuffled))
    assert equivalent(answer, gold)
    assert equivalent(rf"\{{{answer}\}}", gold)
    assert equivalent(f"({answer})", f"({gold})") == (numbers == shuffled)
    assert not equivalent(f"({answer})", gold)
    assert not equivalent(f"{answer}, 21", gold)


EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "y", "1", "2", "3", r"\pi"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda both: f"({both[0]}+{both[1]})"),
        st.tuples(inner, inner).map(lambda both: f"({both[0]}-{both[1]})"),
        st.tuples(inner, inner).map(lambda both: rf"{both[0]} \cdot {both[1]}"),
        inner.map(lambda text: f"({text})^2"),
        inner.map(lambda text: rf"\sqrt{{({text})^2+1}}"),
    ),
    max_leaves=5,
)


def in_sympy(text):
    """A generated expression in sympy's syntax."""
    text = text.replace(r"\sqrt{", "sqrt(").replace("}", ")").replace(r"\cdot", "*")
    return sympy.sympify(text.replace(r"\pi", "pi").replace("^", "**"))


@settings(deadline=None, max_examples=40)
@given(EXPRESSIONS, EXPRESSIONS)
def test_expressions_agree_with_sympy(a, b):
    same = sympy.simplify(in_sympy(a) - in_sympy(b)) == 0
    assert equivalent(a, b) == same
    expanded = str(sympy.expand(in_sympy(a))).replace("**", "^")
    if "sqrt" not in expanded:
        assert equivalent(expanded.replace("pi", r"\pi "), a)


TOKENS = st.sampled_from(
    [
        *"0123456789xyzei()[]{}|,;=+-*/^_!%$. \\&",
        *(r"\frac", r"\sqrt", r"\pm", r"\cup", r"\text{", r"\{", r"\}", r"\left", r"\infty", r"\\"),
        *(r"\begin{pmatrix}", r"\end{pmatrix}", r"\sin", r"\log", r"\binom", r"\lfloor", r"\in"),
        *("9^{9^{9^9}}", "\ud800", "\x00", "²", "答"),
    ]
)


@settings(max_examples=300)
@given(st.lists(TOKENS, max_size=30).map("".join), st.lists(TOKENS, max_size=30).map("".join))
def test_arbitrary_text_never_raises(answer, gold):
    assert isinstance(equivalent(answer, gold), bool)
    assert not equivalent(answer, "31415926535.8979")
    assert equivalent(answer, answer)


def test_greedy_matching_of_collections():
    """Equality is transitive here, so the order of matching does not matter."""
    chance = random.Random(0)
    golds = [f"{k}" for k in range(30)]
    answers = [rf"\frac{{{2 * k}}}{{2}}" for k in range(30)]
    chance.shuffle(answers)
    assert equivalent(",".join(answers), ",".join(golds))
