r"""One spelling for answers that differ only in typography.

Changes only what does not affect the meaning: spacing, sizes of brackets, dollar signs, degree
signs, currency, units, thousands separators, variants of the minus sign. Nothing is evaluated here.
"""

import re

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}\N{FULLWIDTH HYPHEN-MINUS}", "-"),
        **dict.fromkeys("\N{FULLWIDTH COMMA}\N{IDEOGRAPHIC COMMA}", ","),
        # FULLWIDTH forms of ASCII characters have the order of ASCII.
        **{chr(0xFEE0 + ord(character)): character for character in "0123456789()[];=%+:"},
        **dict.fromkeys("\N{DEGREE SIGN}\N{EURO SIGN}\N{POUND SIGN}\N{YEN SIGN}", ""),
        "\N{NO-BREAK SPACE}": " ",
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{MIDDLE DOT}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{SUPERSCRIPT TWO}": "^2",
        "\N{SUPERSCRIPT THREE}": "^3",
        "\N{GREEK SMALL LETTER PI}": r"\pi ",
        "\N{INFINITY}": r"\infty ",
        "\N{SQUARE ROOT}": r"\sqrt ",
        "\N{UNION}": r"\cup ",
        "\N{ELEMENT OF}": r"\in ",
        "\N{PLUS-MINUS SIGN}": r"\pm ",
        "\N{ALMOST EQUAL TO}": r"\approx ",
    }
)

_SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # 10,\!080 and 10{,}080: a thousands separator, not a list.
        (r",\\!\s*|\{,\}", ","),
        (r"(?<!\\)\$|\\\$|\\(?:pounds|euro)(?![A-Za-z])", ""),
        (r"\\%", "%"),
        (r"^\s*\\(?:approx|simeq)(?![A-Za-z])\s*", ""),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\.?", ""),
        (r"\\(?:displaystyle|textstyle|limits|rm|bf)(?![A-Za-z])", ""),
        # The second half of a line break is not the beginning of a space.
        (r"(?<!\\)\\[!,;:> ]|~|\\q?quad(?![A-Za-z])", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])", ""),
        (r"\\l[bB]race(?![A-Za-z])", r"\\{"),
        (r"\\r[bB]race(?![A-Za-z])", r"\\}"),
        (r"\\(?:mathrm|mathbf|mathit|operatorname)\s*\{\s*([A-Za-z])\s*\}", r"\1"),
        (r"^(-?[0-9]+) +([0-9]+)/([0-9]+)$", r"\1\\frac{\2}{\3}"),
        (r"\\(?:text\w*|mbox|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}", ", "),
    )
]
_WORDS = r"\\(?:text\w*|mbox|mathrm|operatorname)\s*\{([^{}]*)\}"
_TEXT = re.compile(_WORDS)
_TEXT_AND_POWER = re.compile(_WORDS + r"(?:\s*\^\s*(?:\d|\{\s*\d\s*\}))?")
_CONJUNCTION = re.compile(r"(?<=[\s\d)}\]]) ?\b(?:and|or) ")
_UNITS = (
    "degrees? units? dollars? cents? inch(?:es)? feet foot ft yards? miles? mph meters? metres? "
    "km kilometers? cm centimeters? mm kg grams? lbs? pounds? hours? minutes? seconds? days? "
    "weeks? months? years? ways? points? digits? students? people km/h m/s liters? litres? percent"
).replace(" ", "|")
_UNIT = re.compile(
    rf"(?<=[\d)}}\]])\s*(?:square|cubic|sq\.?)?\s*(?<![A-Za-z])(?:{_UNITS})"
    r"(?:\s*\^\s*(?:\d|\{\d\}))?(?:\s+squared|\s+cubed)?\s*$"
)
# 34 apples; shorter words could be products of variables.
_THINGS = re.compile(r"(?<=\d)(?: [A-Za-z]{4,})+$")
_THOUSANDS = re.compile(r"(?<![\d,.])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_LETTER = re.compile(r"[^\W\d_]")
_SPACES = re.compile(r"\s+")


def normalised(answer: str) -> str:
    r"""The answer in one typography.

    `\left( 3, \dfrac{\pi}{2} \right)` becomes `( 3, \frac{\pi}{2} )`, `\$32,\!348` becomes `32348`,
    `864 \mbox{ inches}^2` becomes `864`. A percent sign and the subscript of a base are kept, since
    they change the value, and so is a word that is the whole answer: `\text{east}` becomes `east`.

    Args:
        answer: the content of a box, of moderate length.
    """
    answer = answer.translate(_CHARACTERS)
    for pattern, replacement in _SUBSTITUTIONS:
        answer = pattern.sub(replacement, answer)
    answer = _without_words(answer)
    answer = _SPACES.sub(" ", answer).strip().rstrip(".,;:。 ")
    answer = _CONJUNCTION.sub(", ", answer)
    return _plain_thousands(_THINGS.sub("", _UNIT.sub("", answer))).strip()


def is_words(answer: str) -> bool:
    r"""Whether the answer is written only as text, such as `\text{east}` or `\text{(C)}`."""
    words = "".join(_TEXT.findall(answer))
    return bool(_LETTER.search(words)) and not _TEXT_AND_POWER.sub("", answer).strip(" ${}.")


def _without_words(answer: str) -> str:
    """The answer without units and remarks, unless it consists of them."""
    bare = _TEXT_AND_POWER.sub(" ", answer)
    return bare if bare.strip(" {}.,") else _TEXT.sub(r"\1", answer)


def _plain_thousands(answer: str) -> str:
    """The answer without thousands commas outside brackets: `(7,103)` is a pair."""
    if any(bracket in answer for bracket in "([{"):
        return answer
    return _THOUSANDS.sub(lambda match: match[1].replace(",", ""), answer)
