r"""Units and names of things after a value, which are no part of it.

`25 °C`, `14\text{ m}^3`, `60\,\frac{\text{km}}{\text{h}}`, `42元` and `34 green apples` are 25, 14,
60, 42 and 34. Words that change a value are no units: `\text{not }2` and `5 \text{ or more}` are
kept as they are. Units themselves are not compared.
"""

import re

_UNITS = (
    "degrees? deg units? dollars? bucks? cents? euros? pounds? yuan rupees? inch(?:es)? in\\. "
    "feet foot ft yards? yd miles? mi mph meters? metres? km kilomet(?:er|re)s? cm "
    "centimet(?:er|re)s? mm millimet(?:er|re)s? nm kg kilograms? grams? mg lbs? ounces? oz tons? "
    "tonnes? hours? hrs? minutes? mins? seconds? secs? ms days? weeks? months? years? ways? "
    "points? "
    "digits? students? people persons? km/h m/s m/s\\^2 km/hr kph lit(?:er|re)s? ml mL gallons? "
    "Hz kHz MHz GHz joules? kJ MJ newtons? kN pascals? Pa kPa MPa watts? mW kW MW kWh volts? mV kV "
    "eV keV MeV amps? mA ohms? [kM]?Ω [kM]?\\\\Omega mol moles? rad radians? dB rpm bits? bytes? "
    "kB MB GB TB [μµ]m [μµ]s USD EUR GBP JPY CNY RMB INR "
    "Kelvin Celsius Fahrenheit times sq"
).replace(" ", "|")
_POWER = r"(?:\s*\^\s*(?:-?\d|\{\s*-?\d+\s*\}))"
_PLAIN_UNIT = re.compile(
    rf"(?<=[\d)}}\]°])\s*(?:square|cubic|sq\.?)?\s*(?<![A-Za-z\\])(?:per )?(?:{_UNITS}){_POWER}?"
    rf"(?:\s*(?:/|per|\*|\s)\s*(?:{_UNITS}|[smhdLN]){_POWER}?)*(?:\s+(?:squared|cubed|each|old|tall|long|high|wide|deep))?\s*$"
)
_CHINESE_UNIT = re.compile(
    r"(?<=[\d)}\]%°])\s*(?:平方|立方)?(?:千|厘|毫|分|公)?(?:美元|人民币|元|角|个|只|人|岁|年|月|日|天|小时|时|"
    r"分钟|分|秒|米|里|斤|克|升|吨|次|种|条|张|本|块|颗|辆|名|位|件|双|对|棵|支|度|倍|円|页|点|道|题)"
    r"(?:钱|米|里|斤|克|升)?(?:/(?:小时|时|秒|分钟|分|天|米|千克|个|人))?\s*$"
)
UNIT_SYMBOLS = re.compile(
    rf"(?<=[\d)}}])\s*[mgshLlNJWVAKFCPTΩ]{_POWER}?(?:\s*[*/]\s*[mgshLKC]{_POWER}?)?\s*$"
)
r"""One-letter symbols of units after a number."""

_TEXT = r"\\text\{((?:[^{}]|\{-?\d+\})*)\}"
_TRAILING_TEXT = re.compile(rf"\s*[*/]?\s*°?(?:\\[ ,])?\s*(?:\\mu)?\s*{_TEXT}{_POWER}?\s*$")
_TEXT_FRACTION = re.compile(
    rf"\s*\\frac\s*\{{\s*(?:{_TEXT}{_POWER}?\s*[* ]?)+\}}"
    rf"\s*\{{\s*(?:{_TEXT}{_POWER}?\s*[* ]?)+\}}\s*$"
)
_TEMPERATURE = re.compile(r"°\s*[CFK]\s*$")
# 34 apples; shorter words could be products of variables.
_THINGS = re.compile(r"(?<=\d)((?: [A-Za-z]{4,})+)$")
_CHANGES_THE_VALUE = re.compile(
    r"\b(?:no|not|non|never|none|nor|wrong|incorrect|false|more|less|fewer|least|most|than|over|"
    r"under|above|below|at|up|except|without|plus|minus|half|quarter|dozens?|hundreds?|thousands?|"
    r"millions?|billions?|trillions?|per ?cent|pct|or|and|if|when|for|where|base|mod|times as|"
    r"greater|smaller|maybe|perhaps|possibly|remainder|to)\b|(?<![A-Za-z^{-])[0-9]",
    re.IGNORECASE,
)
_MOST_UNITS = 8


def without_units(answer: str) -> str:
    """The answer without the units and things after its value; all of it if that leaves nothing.

    Args:
        answer: a normalised answer.
    """
    bare = answer
    for _ in range(_MOST_UNITS):
        shorter = _without_last_unit(bare)
        if shorter == bare or not shorter.strip(" *{}"):
            break
        bare = shorter
    return bare


def _without_last_unit(answer: str) -> str:
    for pattern in (_TEMPERATURE, _TEXT_FRACTION, _PLAIN_UNIT, _CHINESE_UNIT):
        shorter = pattern.sub("", answer)
        if shorter != answer:
            return shorter.rstrip()
    for pattern in (_TRAILING_TEXT, _THINGS):
        match = pattern.search(answer)
        if match is not None and _CHANGES_THE_VALUE.search(match[1]) is None:
            return answer[: match.start()].rstrip()
    return answer
