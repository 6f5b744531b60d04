r"""One spelling for answers that differ only in typography.

Changes only what does not affect the value: spacing, sizes and styles, dollar signs, currency,
separators of thousands, Unicode forms of signs, E notation, and the units after a value. Nothing is
evaluated here. The result uses `°` for degrees, `\land` and `\lor` for "and" and "or", and
`\text{...}` for words that do not belong to a unit.
"""

import re
import unicodedata
from fractions import Fraction

from dvaojax.rewards.mathematics.units import UNIT_SYMBOLS, without_units

LONGEST_ANSWER = 2_000
"""In characters; a longer answer is not normalised."""

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ", "0123456789+-()nx", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}\N{FIGURE DASH}\N{HYPHEN}", "-"),
        **dict.fromkeys("\N{IDEOGRAPHIC COMMA}\N{ARABIC COMMA}", ","),
        **dict.fromkeys("\N{EURO SIGN}\N{POUND SIGN}\N{YEN SIGN}\N{RUPEE SIGN}", ""),
        **dict.fromkeys("\N{INDIAN RUPEE SIGN}\N{WON SIGN}\N{RUBLE SIGN}\N{ZERO WIDTH SPACE}", ""),
        **dict.fromkeys("\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}\N{DOT OPERATOR}", "*"),
        **dict.fromkeys("\N{ASTERISK OPERATOR}\N{BULLET OPERATOR}", "*"),
        "\N{DIVISION SIGN}": r"\div ",
        "\N{DIVISION SLASH}": "/",
        "\N{GREEK SMALL LETTER PI}": r"\pi ",
        "\N{GREEK SMALL LETTER THETA}": r"\theta ",
        "\N{GREEK SMALL LETTER ALPHA}": r"\alpha ",
        "\N{GREEK SMALL LETTER BETA}": r"\beta ",
        "\N{GREEK SMALL LETTER GAMMA}": r"\gamma ",
        "\N{GREEK SMALL LETTER LAMDA}": r"\lambda ",
        "\N{GREEK SMALL LETTER PHI}": r"\phi ",
        "\N{GREEK SMALL LETTER OMEGA}": r"\omega ",
        "\N{INFINITY}": r"\infty ",
        "\N{SQUARE ROOT}": r"\sqrt ",
        "\N{CUBE ROOT}": r"\sqrt[3] ",
        "\N{UNION}": r"\cup ",
        "\N{INTERSECTION}": r"\cap ",
        "\N{ELEMENT OF}": r"\in ",
        "\N{SET MINUS}": r"\setminus ",
        "\N{EMPTY SET}": r"\emptyset ",
        "\N{DOUBLE-STRUCK CAPITAL R}": r"\mathbb{R}",
        "\N{LESS-THAN OR EQUAL TO}": r"\le ",
        "\N{GREATER-THAN OR EQUAL TO}": r"\ge ",
        "\N{NOT EQUAL TO}": r"\ne ",
        "\N{PLUS-MINUS SIGN}": r"\pm ",
        "\N{ALMOST EQUAL TO}": r"\approx ",
        "或": r"\lor ",
        "和": r"\land ",
    }
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_RAISED = re.compile(rf"[{''.join(_SUPERSCRIPTS)}]+")
_LOWERED = re.compile(rf"[{''.join(_SUBSCRIPTS)}]+")

_TEXT_COMMAND = r"\\(?:text(?:bf|it|rm|sf|tt|normal|up|md|sl|sc)?|mbox|hbox|mathrm|operatorname\*?)"
_STYLE = r"\\(?:underline|mathbf|mathit|mathsf|mathtt|bm|boldsymbol|emph|ensuremath)(?![A-Za-z])"
_END = r"(?![A-Za-z])"


def _overlined(match: re.Match[str]) -> str:
    digits = match[1].replace("\N{COMBINING OVERLINE}", "")
    return rf"\overline{{{digits}}}"


_SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=[\w)])\*\*(?=[\w({-])", "^"),  # a power as in Python, not a closing mark of bold
        (r"\*\*|`", ""),
        (r",\s*(?:\.\.\.|…)\s*$", r",\\ldots "),
        (r"\\begin\{cases\}([^&]*)\\end\{cases\}", lambda match: match[1].replace(r"\\", ",")),
        (r"(?<=\S)\s*\\q?quad(?=\s*\\?[A-Za-z](?:_\w)?\s*=)", ", "),
        # 10,\!080, 10{,}080 and 10\,080: separators of thousands, not lists.
        (r",\\!\s*|\{,\}", ","),
        (r"(?<=\d)(?:\\[,;: ]|~|\{\\,\})(?=\d{3}(?!\d))", ""),
        (r"^\s*(-?\d{1,3})((?: \d{3})+)\s*$", lambda match: match[0].replace(" ", "")),
        (r"(?<!\\)\$|\\\$|\\(?:pounds|euro|textdollar)" + _END, ""),
        (r"\\%", "%"),
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)" + _END + r"\.?", ""),
        (r"\\(?:displaystyle|textstyle|scriptstyle|limits|rm|bf|it|large|Large)" + _END, ""),
        (r"\\(?:hspace|vspace|kern|hphantom|vphantom|phantom|tag|label)\*?\s*\{[^{}]*\}", " "),
        (r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}|\\color\s*\{[^{}]*\}", ""),
        # The second half of a line break is not the beginning of a space.
        (r"(?<!\\)\\[!,;:> /]|~|\\(?:q?quad|thinspace|enspace)" + _END, " "),
        (r"\\[dtc]frac" + _END, r"\\frac"),
        (r"\\(?:cdot|times|ast)" + _END, "*"),
        (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree" + _END, "°"),
        # Repeating decimals.
        (r"(?<=[\d.])((?:\d\N{COMBINING OVERLINE})+)", _overlined),
        (r"(?<=[\d.])\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?", r"\\overline{\1\2\3}"),
        (r"(?<=[\d.])\\(?:bar|overbar|dot)\s*\{?(\d)\}?+(?!\d*\\dot)", r"\\overline{\1}"),
        (r"(?<=[\d.])\\(?:bar|overbar|overline)\s*\{\s*(\d+)\s*\}", r"\\overline{\1}"),
        (r"(?<=[\d.])\\overline\s*(\d)", r"\\overline{\1}"),
        (r"(?<!\d)(\d*\.\d*)\((\d+)\)$", r"\1\\overline{\2}"),
        (r"\\l[bB]race" + _END, r"\\{"),
        (r"\\r[bB]race" + _END, r"\\}"),
        (r"\\(?:[lr]vert|vert)" + _END, "|"),
        (r"\\cr" + _END, r"\\\\"),
        (r"\\\\\s*\[[^\]]*\]|\\hline" + _END, lambda match: match[0][:2].replace(r"\h", "")),
        (r"\\(?:leqslant|leqq|leq)" + _END, r"\\le "),
        (r"\\(?:geqslant|geqq|geq)" + _END, r"\\ge "),
        (r"\\neq" + _END, r"\\ne "),
        (r"\\colon" + _END, ":"),
        (r"\\lt" + _END, "<"),
        (r"\\gt" + _END, ">"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"\\varnothing" + _END, r"\\emptyset "),
        (r"\\(?:mathbb|mathbf|Bbb)\s*\{?\s*R\s*\}?|\\(?:R|Reals|reals)" + _END, r"\\mathbb{R}"),
        (r"\+\s*(?=\\infty)", ""),
        # The set of all x with a property.
        (r"^\\\{\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid|[|:])(.+)\\\}$", r"\1"),
        (r"\\(?:vee|lor)" + _END, r"\\lor "),
        (r"\\(?:wedge|land)" + _END, r"\\land "),
        (_TEXT_COMMAND + r"\s*\{\s*,?\s*or\s*(?:maybe|also)?\s*\}", r" \\lor "),
        (_TEXT_COMMAND + r"\s*\{\s*,?\s*and\s*\}", r" \\land "),
        (_TEXT_COMMAND + r"\s*\{\s*(?=(?:[^{}]|\{-?\d+\})*\})", r"\\text{"),
        (r"(?<=\d)\s*(?:\\text\{min\s*\}|\\min" + _END + r")\s*$", " min"),
        # Names of functions and of Euler's number, digits and signs as text.
        (r"\\text\{((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp|max|min)\s*\}", r"\\\1 "),
        (r"\\text\{([ei])\s*\}", r"\1"),
        (r"\\text\{([^{}A-Za-z\\]*[0-9][^{}A-Za-z\\]*)\}", r"\1"),
        (r"\\text\{\s*(?:%|per ?cent|pct)\s*\}|(?<=\d)\s*(?:per ?cent|pct)\b", "%"),
        # Names without a backslash, as in Python.
        (r"(?<![\\A-Za-z])((?:arc)?(?:sin|cos|tan)|cot|sec|csc|ln|log|sqrt|pi)" + _END, r"\\\1 "),
        (r"(?<![\\A-Za-z])(?:infinity|inf)" + _END, r"\\infty "),
        (
            r"\\text\{\s*degrees?(?: (?:[CF]|Celsius|Fahrenheit))?\s*\}"
            r"|(?<=[\d})])\s*degrees?(?: (?:[CF]|Celsius|Fahrenheit))?\b",
            "°",
        ),
        (r"(?<=[\d}])\s*(?:\\text\{thousand\s*\}|thousand\b)", "*10^{3}"),
        (r"(?<=[\d}])\s*(?:\\text\{million\s*\}|million\b)", "*10^{6}"),
        (r"(?<=[\d}])\s*(?:\\text\{billion\s*\}|billion\b)", "*10^{9}"),
        # Text that names a quantity, or begins with its number.
        (r"^\s*\\text\{[A-Za-z ]+\}\s*=\s*(?=\S)", ""),
        (r"^\s*\\text\{(?=[-+\d])([^{}]*)\}$", r"\1"),
        (r"^\s*\\(?:therefore|implies|Rightarrow)" + _END, ""),
        (r"^\s*(\\?[A-Za-z])\s*\\(?:approx|simeq)" + _END, r"\1="),
        (r"^\s*\\text\{(?:about|around|roughly|approximately|exactly|only)\s*\}", ""),
        (r"^\s*(?:\\(?:approx|simeq)" + _END + r"|(?:about|around|approximately|exactly) )", ""),
        (r"^\s*(?:US|HK|USD|EUR|GBP|RMB|CNY|INR|Rs\.?)\s*(?=\d)", ""),
        # 1.2e5; a signed exponent only after what cannot be a multiple of Euler's number.
        (r"(?<![\w.}])(\d+(?:\.\d+)?)[eE](\d+)(?![\w.])", r"\1*10^{\2}"),
        (r"(?<![\w.}])(\d+\.\d+|1)[eE]([+-]\d+)(?![\w.])", r"\1*10^{\2}"),
        (r"(?<![\w.}])(\d+)[eE]([+-]\d\d+)(?![\w.])", r"\1*10^{\2}"),
        (r"\s(?:or)\s", r" \\lor "),
        (r"\s(?:and)\s", r" \\land "),
        (r"^(-?[0-9]+) +([0-9]+)/([0-9]+)$", r"\1\\frac{\2}{\3}"),
    )
]
_STYLED = re.compile(_STYLE + r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORDS_ONLY = re.compile(rf"(?:\s|[{{}}.$]|{_TEXT_COMMAND}\s*\{{[^{{}}]*\}})*")
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq)" + _END)
# Three letters may be a product.
_PLAIN_WORDS = re.compile(r"(?!infinity$)[A-Za-z][a-z'-]{3,}(?: [A-Za-z][a-z'-]*)*")
_THOUSANDS = re.compile(r"(?<![\d,.])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_LETTER = re.compile(r"[^\W\d_]")
_SPACES = re.compile(r"\s+")
_INSIDE_TEXT = re.compile(rf"{_TEXT_COMMAND}\s*\{{([^{{}}]*)\}}")


def normalised(answer: str) -> str:
    r"""The answer in one typography.

    `\left( 3, \dfrac{\pi}{2} \right)` becomes `( 3, \frac{\pi}{2} )`, `\$32,\!348` becomes `32348`,
    `864 \mbox{ inches}^2` becomes `864`, `x⁴` becomes `x^{4}`. A percent sign and the subscript of
    a base are kept, since they change the value, and so are words that are not a unit:
    `\text{not }2`. A text that is only words is returned without its command: `\text{east}` becomes
    `east`.

    Args:
        answer: the content of a box, of at most `LONGEST_ANSWER` characters.
    """
    answer = _plain_characters(answer)
    if is_words(answer):
        words = _INSIDE_TEXT.sub(r"\1", answer)
        return _SPACES.sub(" ", words).strip(" ${}").rstrip(".,;:。 ")
    for _ in range(3):
        answer = _STYLED.sub(r"\1", answer)
    for pattern, replacement in _SUBSTITUTIONS:
        answer = pattern.sub(replacement, answer)
    answer = _SPACES.sub(" ", answer).strip().rstrip(".,;:。 ")
    # An approximation of the answer follows.
    answer = without_units(_APPROXIMATELY.split(answer)[0].strip() or answer)
    # The letter of a choice, a variable: text only by its command.
    answer = re.sub(r"\\text\{\s*(\(?[A-Za-z]\)?)\s*\}", r"\1", answer)
    return _plain_thousands(answer).strip()


def is_words(answer: str) -> bool:
    r"""Whether the answer is only words, such as `\text{east}`, `\text{(C)}` or `Anna and Bob`."""
    if _WORDS_ONLY.fullmatch(answer) is not None:
        words = "".join(_INSIDE_TEXT.findall(answer))
        return _LETTER.search(words) is not None and not words.lstrip(" +-$")[:1].isdigit()
    return _PLAIN_WORDS.fullmatch(answer.strip(" .")) is not None


def leftover_words(answer: str) -> list[str]:
    r"""The words in a normalised answer that are neither units nor connectives, in order."""
    return [_SPACES.sub("", words).casefold() for words in _TEXT.findall(answer)]


def single_letter_unit_removed(answer: str) -> str:
    """The answer without a plain one-letter unit after its number: `14 m^3` becomes `14`.

    Only for an answer to a gold that is a number, since such a letter may also be a variable.

    Args:
        answer: a normalised answer.
    """
    return UNIT_SYMBOLS.sub("", answer)


def _plain_characters(answer: str) -> str:
    """The answer with Unicode signs as their LaTeX or ASCII form."""
    if _NOT_ASCII.search(answer) is None:
        return answer
    answer = _RAISED.sub(lambda run: _script("^", run[0], _SUPERSCRIPTS), answer)
    answer = _LOWERED.sub(lambda run: _script("_", run[0], _SUBSCRIPTS), answer)
    answer = answer.translate(_CHARACTERS)
    answer = _NOT_ASCII.sub(lambda match: _compatible(match[0]), answer)
    return answer.translate(_CHARACTERS)


def _script(mark: str, run: str, plain: dict[str, str]) -> str:
    return f"{mark}{{{''.join(plain[character] for character in run)}}}"


def _compatible(character: str) -> str:
    """A vulgar fraction as LaTeX; other characters in their compatible form: full-width, bold."""
    decomposition = unicodedata.decomposition(character)
    if decomposition.startswith("<fraction>"):
        value = Fraction(unicodedata.numeric(character)).limit_denominator(10)
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return character if not decomposition else unicodedata.normalize("NFKC", character)


def _plain_thousands(answer: str) -> str:
    """The answer without thousands commas outside brackets: `(7,103)` is a pair."""
    if any(bracket in answer for bracket in "([{"):
        return answer
    return _THOUSANDS.sub(lambda match: match[1].replace(",", ""), answer)
