"""Equivalence of answers with the gold answer."""

import random
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax.rewards.mathematics import equivalent, math_verify_client


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        ("025", ["25", "25.0", "25.", "+25", "025", r"\text{25}", "x=25", r"25\text{ cm}", "$25$"]),
        ("27.0", ["27", "027", r"\frac{54}{2}", "54/2", "3^3"]),
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
        ("3.5", [r"\frac72", "3.50", "7/2", r"3\frac{1}{2}"]),
        ("0", [r"\sin \pi", r"\sin^2 x + \cos^2 x - 1", "-0", "0.0"]),
        (r"50\%", [r"50\%", "50%", "50", "0.5", r"\frac{1}{2}"]),
        ("0.34", [r"34\%", "34 %", ".34"]),
        ("52_8", ["52_8", "52_{8}", "52"]),
        (r"11\sqrt2", [r"11\sqrt{2}", r"\sqrt{242}", "15.556349186", r"\frac{22}{\sqrt2}", "11√2"]),
        (r"2\pi", [r"2 \pi", "2π", "6.283185307", r"\frac{4\pi}{2}"]),
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
        (r"\lceil n/2\rceil", [r"\left\lceil\frac{n}{2}\right\rceil", r"\lceil 0.5n \rceil"]),
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
            ["105263157894736848", "105263157894736841", "1.0526315789473684e17"],
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


SAME = {
    "absolute values and signs": r"""
        |t-2| :: |2-t| ; \sqrt{(t-2)^2} ; \left|t-2\right| ; \lvert 2-t\rvert
        \sqrt{x^2} :: |x| ; \sqrt{(-x)^2}
    """,
    "identities": r"""
        1 :: \cos^2 x+\sin^2 x ; \cosh^2 t-\sinh^2 t ; e^0 ; -e^{i\pi} ; \sec^2 u - \tan^2 u
        \cos^2 x :: 1-\sin^2 x ; 1-\sin^2(x) ; \frac{1+\cos 2x}{2} ; (\cos x)^2
        \sec^2\theta :: 1+\tan^2\theta ; \frac{1}{\cos^2 \theta}
        \frac{a+b}{2} :: (a+b)/2 ; \frac12(a+b) ; \frac{a}{2}+\frac{b}{2} ; 0.5(a+b)
        6-5i :: 6 - i\sqrt{25} ; 6-5\mathrm{i}
        \sqrt[3]{2} :: 2^{1/3} ; 2^{\frac13}
        \log_{10} 2 :: \lg 2 ; \frac{\ln 2}{\ln 10}
    """,
    "degrees": r"""
        \frac{\sqrt6+\sqrt2}{4} :: \sin 75^\circ ; \cos 15^\circ ; \sin(75^\circ) ; \cos{15^\circ}
        \frac{\sqrt6+\sqrt2}{4} :: \sin 75°
        1 :: \tan 45^\circ ; \sin 90° ; \sin(90^{\circ}) ; \tan 45 degrees ; \sin^2 90^\circ
        \frac12 :: \sin 30^\circ ; \cos 60° ; \cos(20^\circ+40^\circ)
        \frac{\pi}{3} :: 60^\circ ; \pi/3
        60 :: 60^\circ ; 60° ; 60 degrees ; 60\text{ degrees}
    """,
    "repeating decimals": r"""
        \frac{26}{11} :: 2.\overline{36} ; 2.\overline{3636} ; 2.3\overline{63} ; 2\frac{4}{11}
        \frac{26}{11} :: 2.\dot{3}\dot{6}
        \frac13 :: 0.\overline{3} ; 0.\dot3 ; .\overline{3} ; 0.3̅ ; 0.\bar{3} ; 0.(3)
        \frac13 :: 0.333333333 ; ⅓
        \frac{41}{333} :: 0.\dot{1}2\dot{3} ; 0.\overline{123}
        0.\overline{3} :: \frac13 ; 1/3
        1 :: 0.\overline{9}
        1.\overline{6} :: \frac53 ; 1\frac23
        \frac43 :: 1.3333333333 ; 1.\overline3
    """,
    "units": r"""
        25 :: 25 °C ; 25^\circ\text{C} ; 25^{\circ} C ; 25℃ ; 25 degrees Celsius ; 25\text{ °C}
        25 :: 25 °F
        14 :: 14 m³ ; 14 m^3 ; 14\text{ m}^3 ; 14\,\mathrm{m^3} ; 14\text{ m³} ; 14 cubic meters
        14 :: 14 L ; 14 km²
        14 :: 14 \text{ cubic metres} ; 14\ \text{cm}^2 ; 14 立方米 ; 14 cm
        60 :: 60\,\frac{\text{km}}{\text{h}} ; 60 km/h ; 60 \,\mathrm{km}/\mathrm{h}
        60 :: 60 km h^{-1} ; 60 mph
        60 :: 60\ \text{km}\cdot\text{h}^{-1} ; 60\text{ miles per hour}
        60 :: 60\, \mathrm{km\,h^{-1}} ; 60 m/s
        60 :: 60 \frac{\mathrm{m}}{\mathrm{s}^2} ; 60千米/小时 ; 60 米/秒 ; 60 per hour
        42 :: 42元 ; 42个 ; 42 小时 ; 42美元 ; 42岁 ; 42平方厘米 ; \$42 ; 42 dollars ; €42 ; ￥42
        42 :: 42 kg
        42 :: 42 mA ; 42 kΩ ; 42 Ω ; 42\ \Omega ; 42\,\mu\text{m} ; 42 µm ; 42 Pa ; 42 MeV ; 42 USD
        42 :: 42 min ; 42\text{ min} ; 42\,\mathrm{min}
        42 :: 42 EUR ; 42円 ; 42 years old ; 42 N·m ; 42 GB ; 42 dB
        42 :: 42\text{ apples} ; 42\text{ ways} ; \text{42 apples} ; 42 green apples
    """,
    "scientific notation and large numbers": r"""
        32000 :: 3.2e4 ; 3.2E4 ; 3.2\times 10^4 ; 3.2×10⁴ ; 3.2e+4 ; 32{,}000 ; 32\,000 ; 32,000
        32000 :: 32 000
        32000 :: 32 thousand ; 32\text{ thousand} ; ３２０００
        0.001 :: 1e-3 ; 10^{-3} ; \frac{1}{1000} ; 1.0e-3 ; 0.1\%
        1000000 :: 1 million ; 10^6 ; 1\text{ million} ; 1,000,000
        105263157894736842 :: 1.05263157894736842e17
        2e :: e+e ; e\cdot 2
    """,
    "typography": r"""
        x^4 :: x⁴ ; x^{4} ; x*x*x*x ; x·x³ ; x**4
        x^{10} :: x¹⁰
        x^{-1} :: x⁻¹ ; \frac{1}{x}
        \frac12 :: ½ ; 1/2 ; 0.5 ; 50\% ; \tfrac{1}{2}
        \frac32 :: 1½ ; 1 ½ ; 1 1/2 ; 1\frac12 ; 1.5
        12 :: \underline{12} ; **12** ; \mathbf{12} ; \textbf{12} ; `12` ; \underline{\mathbf{12}}
        12 :: \bm{12} ; \emph{12}
        12 :: \color{red}{12} ; \textcolor{blue}{12} ; {12} ; \mathrm{12} ; 12. ; \displaystyle 12
        12 :: $12$ ; \(12\)
        \emptyset :: \varnothing ; \{\} ; ∅
        \mathbb{R} :: (-\infty,\infty) ; ℝ ; \R
        \infty :: +\infty ; ∞ ; infinity
        3\pi :: 3π ; \pi\cdot 3 ; 3 pi
        2\sqrt3 :: 2*sqrt(3) ; 2√3
        \begin{pmatrix}1&2\\3&4\end{pmatrix} :: \begin{pmatrix}1&2\cr 3&4\end{pmatrix}
        \begin{pmatrix}1&2\\3&4\end{pmatrix} :: \begin{array}{cc}1&2\\3&4\end{array}
        \begin{pmatrix}1&2\\3&4\end{pmatrix} :: \begin{pmatrix} 1 & 2 \\[2pt] 3 & 4 \\ \end{pmatrix}
        \begin{pmatrix}1&2\\3&4\end{pmatrix} :: \left[\begin{matrix}1&2\\3&4\end{matrix}\right]
    """,
    "the side of an equation": r"""
        12 :: S=\sum_{i=1}^{3}4=12 ; \gcd(24,36) = 12
        \max(a,b) :: \max(b,a)
        5 :: 5 = x ; x=5 ; x = 2+3 = 5 ; 2+3=5 ; x_1=5 ; |AB|=5 ; AB = 5 ; a+b = 5 ; f(2) = 5
        5 :: \angle A = 5^\circ
        5 :: 5=n ; \text{Area}=5 ; x\approx 5 ; \sqrt{25}=5
        \frac12 :: \cos\theta=\frac12 ; \frac12=\cos\theta ; \sin\alpha = 0.5 ; P(A)=\frac12
        2x+3 :: y=2x+3 ; f(x)=2x+3 ; 2x+3=y
        x^2+y^2=25 :: x^2+y^2-25=0 ; 2x^2+2y^2=50 ; 25=x^2+y^2
        y=2x+3 :: 2x+3 ; y-2x=3 ; 2x-y+3=0 ; f(x)=2x+3
    """,
    "names": r"""
        u=9, v=4 :: v=4, u=9 ; u = 9 \text{ and } v = 4 ; (u,v)=(9,4) ; (v,u)=(4,9) ; 9=u, 4=v
        u=9, v=4 :: (9,4) ; 9, 4 ; u=9\quad v=4 ; v=4,\quad u=9
        u=9, v=4 :: \begin{cases} v=4 \\ u=9 \end{cases}
        (m,n)=(4,9) :: (4,9) ; m=4, n=9 ; (n,m)=(9,4) ; n=9,m=4
        x=1, x=-2 :: -2, 1 ; x=-2, x=1 ; x=1 or x=-2 ; \{1,-2\} ; x \in \{1,-2\}
        (4,9) :: (m,n)=(4,9) ; x=4,y=9
        (1,2),(3,4) :: (x,y)=(1,2),(3,4) ; (x,y)=(3,4) \text{ or } (x,y)=(1,2)
        (1,2),(3,4) :: x=3,y=4 or x=1,y=2
    """,
    "inequalities": r"""
        x<2 \text{ or } x>3 :: (-\infty,2)\cup(3,\infty) ; (3,\infty)\cup(-\infty,2)
        x<2 \text{ or } x>3 :: x < 2, x > 3 ; x<2\lor x>3
        x<2 \text{ or } x>3 :: 2>x or 3<x ; (-∞,2)∪(3,+∞)
        [3,\infty) :: x \ge 3 ; x≥3 ; 3 \le x ; x\geqslant 3 ; x>=3 ; [3,+\infty)
        [-2,7] :: -2\le x\le 7 ; 7\ge x \ge -2 ; -2<=x<=7 ; x\ge-2 \text{ and } x\le7
        [-2,7] :: x \ge -2, x \le 7
        [-2,7] :: \{x \mid -2\le x\le 7\} ; \{t : t\ge-2, t\le7\}
        [-2,7] :: \{x\in\mathbb{R} | -2\le x\le 7\}
        3:4 :: 3 : 4 ; 3\colon 4
        -2 \le x \le 7 :: [-2,7] ; x\in[-2,7]
        x \ne 3 :: (-\infty,3)\cup(3,\infty) ; \mathbb{R}\setminus\{3\} ; x<3 or x>3
    """,
    "choices": r"""
        C :: (C) ; \text{C} ; \textbf{(C)} ; C: The market clears ; \textbf{(C)}\ 24 ; C. 24
        C :: C) 24 ; (C) 24
        C :: \mathrm{(C)}~24 ; C \text{: 24} ; Option C ; \text{C. } 24
        \text{(C)} :: c ; \textbf{(C)}\ 5 ; C. because
    """,
    "words": r"""
        east :: \text{east} ; East ; \textbf{the east}
        \text{ellipse} :: an ellipse ; \text{An ellipse}
        1,2,3 :: 3,2,1 ; 1, 2, \text{ and } 3 ; 1, 2 and 3 ; 1、2、3
        3\text{ hours }20\text{ minutes} :: 3 \text{ hours } 20 \text{ minutes}
    """,
}

DIFFERENT = {
    "absolute values and signs": r"""
        |t-2| :: t-2 ; 2-t ; |t|-2 ; |t+2|
        1 :: \frac{|t|}{t} ; \frac{\sqrt{x^2}}{x} ; \frac{x}{|x|}
        x :: |x| ; \sqrt{x^2} ; e^{\ln|x|}
        \sqrt{x^2} :: x ; -x
    """,
    "equal at many points": r"""
        \lfloor m \rfloor :: m ; \lceil m\rceil ; \lfloor m\rfloor+1
        n :: \lfloor n \rfloor ; n+e^{-40n} ; n + \sin(\pi n)
        s :: s+e^{-12s} ; s+10^{-30} ; s + e^{-300}
        1 :: \tanh(5x) ; \coth(9s) ; 1+e^{-300} ; 1-e^{-100x}
        0 :: e^{-100} ; 10^{-50} ; \sin(10^{-40}) ; \sqrt2\cdot 10^{-40} ; -e^{-400}
    """,
    "degrees": r"""
        1 :: \tan 45 ; \sin 90
        \frac{\sqrt6+\sqrt2}{4} :: \sin 75 ; \sin 15^\circ
    """,
    "decimals": r"""
        \sqrt2 :: 1.414214 ; 1.41421356 ; 1.414213563
        \frac43 :: 1.333 ; 1.333333 ; 1.34
        \frac{26}{11} :: 2.36 ; 2.363636 ; 2.\overline{63} ; \overline{236}
        \frac{2}{3} :: 0.67 ; 0.666667
        \ln 2 :: 0.693147
        10 :: 9.9999999999999 ; 10.0000000001
        1.5 :: 15 ; 1\cdot 5 ; 1,5
    """,
    "names": r"""
        u=9, v=4 :: u=4, v=9 ; v=9, u=4 ; 4, 9 ; (4,9) ; u=9, w=4 ; u=9 ; (u,v)=(4,9) ; a=9,b=4
        u=9, v=4 :: \{4, 9\} ; u=4\quad v=9 ; \begin{cases} u=4 \\ v=9 \end{cases}
        (m,n)=(4,9) :: (n,m)=(4,9) ; m=9,n=4 ; (9,4) ; (a,b)=(4,9)
        x=1,y=2 :: x=2,y=1 ; x=y=1
        y=2x+3 :: x=2y+3 ; 2x-3
    """,
    "words that change a value": r"""
        2 :: \text{not }2 ; not 2 ; 2 or more ; \text{at least }2 ; 2\text{ is wrong}
        2 :: \text{either 2 or 3} ; half of 2
        2 :: \text{less than } 2 ; 2\text{ million} ; 2 \text{ dozen} ; 2\text{ more than } x
        2 :: \text{no more than 2}
        2 :: \neq 2 ; > 2 ; \ge 2 ; x>2 ; x\ne 2 ; 2\% ; 2:1 ; \lnot 2 ; \pm 2
        60 :: 60\text{ or }70 ; 60\text{ to }70 ; 60\text{ minus }1
        34 :: 34\% ; 34 percent ; 34\text{ percent} ; 34 hundred ; 34 thousand ; 3 4
        \text{(C)} :: \text{not (C)}
    """,
    "several candidates": r"""
        5 :: 5,5 ; \{5,5\} ; 5;5 ; 5\text{ and }5 ; 5 or 6 ; [5,5] ; x=5, y=6
        34 :: 34, 35 ; 34 or 35 ; 34/35 ; 34 and 35 ; 34 or 34
        C :: C, D ; C or D ; A: x C: y ; (C) or (D) ; A) 3 B) 4 C) 5 ; CD
    """,
    "the problem instead of its answer": r"""
        933 :: 347+586 ; (347+586) ; 1000-67 ; 3\cdot 311 ; 3\times311 ; \text{347+586}
        933 :: 1866\div 2 ; x=347+586
        933 :: 933+0 ; 933*1 ; \frac{347+586}{1} ; \sqrt{(347+586)^2} ; 347+586=934
        7 :: \sqrt{16}+\sqrt{9}
        -3 :: 4-7 ; -(1+2)
        12 :: \sum_{i=1}^{3}4 ; \int_0^{12}1\,dx ; \prod_{i=1}^{1}12 ; \lim_{x\to 12}x ; \gcd(24,36)
        12 :: \max(12,3) ; 25\mod 13 ; \det\begin{pmatrix}3&0\\0&4\end{pmatrix} ; \frac{d}{dx}12x
        12 :: |-12| ; \lfloor 12.5\rfloor ; \lceil 11.2\rceil ; \begin{cases} 12\\ 13\end{cases}
        12, 5 :: \sum_{i=1}^{3}4, 5
        \frac{n(n+1)}{2} :: \sum_{k=1}^{n} k
    """,
    "sets": r"""
        \emptyset :: 0 ; \{0\} ; \{\emptyset\}
        \{1,2\} :: (1,2) ; [1,2] ; \{1,2,2\}
        7 :: 7,\ldots ; \ldots 7 ; 7:1 ; 7,... ; 7, …
    """,
    "equations yet to be solved": r"""
        4 :: x^2=4 ; 2x=4 ; x+1=4 ; \frac{x}{2}=4
        x^2+1=0 :: x^2+2=0 ; x=0
        x=5 :: 2x=10 ; x\ne5 ; x>5
    """,
    "inequalities": r"""
        [3,\infty) :: x > 3 ; x \le 3 ; (3,\infty) ; 3
        x<2 \text{ or } x>3 :: (2,3) ; (-\infty,2]\cup(3,\infty) ; x<2 ; x<2 \text{ and } x>3
        (0,2) :: 0\le x<2 ; 0<x\le 2 ; \{0,2\}
        \mathbb{R} :: \mathbb{Z} ; (0,\infty)
    """,
}


def cases(blocks):
    for lines in blocks.values():
        for line in lines.strip().splitlines():
            gold, _, answers = line.strip().partition(" :: ")
            for answer in answers.split(" ; "):
                yield answer.strip(), gold


def test_answers_of_every_kind_are_accepted():
    assert [case for case in cases(SAME) if not equivalent(*case)] == []


def test_answers_of_every_kind_are_rejected():
    assert [case for case in cases(DIFFERENT) if equivalent(*case)] == []


def test_exact_decisions_do_not_ask_math_verify(monkeypatch):
    def ask(*question):
        raise AssertionError(question)

    monkeypatch.setattr(math_verify_client._worker, "ask", ask)
    equivalent.cache_clear()
    for kind in ("repeating decimals", "units", "scientific notation and large numbers", "choices"):
        for answer, gold in cases({kind: SAME[kind]}):
            assert gold == "2e" or equivalent(answer, gold), answer
    for answer in (
        "-7",
        "7.5",
        "1/7",
        "(7, 8)",
        "7, 8",
        "7.0000000001",
        r"7\%",
        "9^{9^{9^9}}",
        "n=8",
    ):
        assert not equivalent(answer, "7")
    equivalent.cache_clear()


def test_undecided_answers_are_wrong(monkeypatch):
    """No verdict within the limit of time is no reward."""
    monkeypatch.setattr(math_verify_client._worker, "ask", lambda *question: False)
    equivalent.cache_clear()
    assert not equivalent(r"\cos^2 x", r"1-\sin^2 x")
    equivalent.cache_clear()


SPELLINGS = st.sampled_from(
    [
        lambda x: f"{x.numerator}/{x.denominator}",
        lambda x: rf"\frac{{{x.numerator}}}{{{x.denominator}}}",
        lambda x: rf"\dfrac{{{7 * x.numerator}}}{{{7 * x.denominator}}}",
        lambda x: rf"\left({x.numerator}\right) / {x.denominator}",
        lambda x: f"x = {x + 1} - 1 = {x}",
        lambda x: f"{x} = x",
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
        *("\ud800", "\x00", "²", "答", "°", "½"),
    ]
)


@settings(max_examples=150, deadline=None)
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
