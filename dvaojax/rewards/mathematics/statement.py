r"""Reads the answer that a sentence states, such as the rest of a line after `Answer:`.

A statement is a value, or several values with commas, "and" or "or" between them, and then words.
Values are formulas (`$4$`, `\(4\)`, `\[4\]`) and runs of numbers, signs, LaTeX and single letters.
Words after a value do not belong to it: `72 clips`, `72, which is the total`. Words such as "maybe"
or "could be" before a further value make it another candidate, unless it is the same number again
(`1/2 or 0.5`). A statement that begins with other words than `the`, `therefore` and the like is an
answer in words, up to its end.
"""

import re
from typing import NamedTuple

from dvaojax.rewards.mathematics.canonical import canonical

_LONGEST_STATEMENT = 2_000
_GROUP = r"\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\})*\}"
_PIECE = re.compile(
    r"(?P<formula>\$\$?(?:\\\$|[^$])+\$\$?|\\\((?:.|\n)+?\\\)|\\\[(?:.|\n)+?\\\])"
    r"|(?P<mark>\*\*|__|`)"
    r"|(?P<separator>[,;](?=[\s$]|\\[A-Za-z ]|\Z|[^\x00-\x7f])|[、，；]|\b(?:and|or)\b"
    r"|\bvs\.?(?=\s)"
    # 12...14, and "12? 13?".
    r"|(?:\.{2,3}|…)(?=\d)|[?？](?=\s*\$?[-\d\\][^.!?？\n]{0,30}[?？])"
    # 12 to 14, but not "3.14 to 2 decimal places".
    r"|\bto\b(?=\s+\$?[-\d\\])(?!\s+\S+ (?:decimal|significant|sig|places?|digits?|d\.?p|s\.?f))"
    r"|或者?|和|以及)"
    r"|(?P<opening>[(\[]|\\\{|\\langle)"
    r"|(?P<closing>[)\]]|\\\}|\\rangle)"
    rf"|(?P<maths>{_GROUP}|\\[A-Za-z]+|\\.|,(?=\S)"
    r"|[0-9]+(?:[.,][0-9]+)*(?:[eE][+-]?[0-9]+)?|(?<![.])\.[0-9]+|[-+*/^_=<>|%!°−–×·÷√π∞±≤≥≠∪∈′&€£¥$]"
    r"|[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞²³⁴⁵⁶⁷⁸⁹⁰¹]|(?<![A-Za-z])[A-Za-z](?![A-Za-z'’])"
    r"|(?<![A-Za-z])(?:sqrt|sin|cos|tan|log|ln|exp|pi|infinity)(?![A-Za-z])"
    # Products such as 2RC+1, and units such as km/h.
    r"|(?<![A-Za-z])[A-Za-z]{2,3}(?=[+*/^_=(])|(?<=[-+*/^=(0-9])[A-Za-z]{2,3}(?![A-Za-z]))"
    r"|(?P<word>[^\W\d_](?:[A-Za-zÀ-ɏ'’-]*[A-Za-zÀ-ɏ])?)"
    r"|(?P<end>[.。!?！？](?=\s|\Z|\*|[^\x00-\x7f])|\n)"
    r"|(?P<other>\S)"
)
_BEFORE_A_VALUE = re.compile(
    r"(?:the|is|an?|are|equals?|equal|to|therefore|thus|hence|so|then|simply|just|exactly|only|now|"
    r"indeed|clearly|approximately|about|roughly|around|given|by|number|value|option|choice|letter|"
    r"both|either|final|answer|correct|probably|maybe|perhaps|possibly|likely|是|为|等|于|约)\Z",
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"(?:maybe|perhaps|possibly|probably|also|even|it|could|might|may|can|be|is|else|then|either|but|"
    r"alternatively|otherwise|the|both|是|可|能|也|许)\Z",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|might|could|may|alternatively|either|otherwise|versus)\b"
    r"|或|也许|可能",
    re.IGNORECASE,
)
_NEXT_SENTENCE_DOUBTS = re.compile(
    r"[.。!?！？]\s*(?:or|maybe|perhaps|possibly|alternatively|或)\b"
    r"|\n\s*(?:or|maybe|perhaps|possibly|或)\b",
    re.IGNORECASE,
)
_CHANGES_THE_VALUE = re.compile(r"(?:percent|pct|thousand|million|billion)\Z", re.IGNORECASE)
_CLAUSE = re.compile(
    r",\s*(?:which|who|because|since|as|where|when|so|for|with)\b|\s\((?=[^()\n]*[A-Za-z]{3})",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\(?[A-J]\)?")
_VALUES = ("formula", "maths")


class _Piece(NamedTuple):
    kind: str
    start: int
    end: int
    text: str


def stated_answer(text: str, *, value_only: bool = False) -> str | None:
    r"""The answer at the beginning of a text; several candidates are separated by commas.

    `$14$, or maybe $15$` is `14, 15`; `**72** clips` is `72`; `Evelyn, who is older.` is `Evelyn`.

    Args:
        text: what follows the label.
        value_only: whether an answer in words is none.
    """
    text = text[:_LONGEST_STATEMENT]
    pieces = _pieces(text)
    start = 0
    while start < len(pieces) and (
        pieces[start].kind == "mark"
        or (pieces[start].kind == "other" and pieces[start].text in ":：=")
        or (_BEFORE_A_VALUE.match(pieces[start].text) is not None and not _is_value(pieces, start))
    ):
        start += 1
    if start == len(pieces):
        return None
    if not _is_value(pieces, start):
        return None if value_only else _in_words(text, pieces, start)
    return ", ".join(_candidates(text, pieces, start)) or None


def further_candidates(text: str) -> list[str]:
    """Candidates that directly follow an answer: `or maybe 15`; none in `, as asked` or `and 15`.

    Args:
        text: what follows the answer.
    """
    text = text[:_LONGEST_STATEMENT].lstrip(" $*_`")
    pieces = _pieces(text)
    following = _joined(pieces, 0)
    if following is None or not any(map(_doubts, pieces[:following])):
        return []
    return _candidates(text, pieces, following)


def _pieces(text: str) -> list[_Piece]:
    """The pieces of the statement, up to the end of its sentence."""
    pieces = []
    for match in _PIECE.finditer(text):
        kind = match.lastgroup or "other"
        if kind == "end" and _NEXT_SENTENCE_DOUBTS.match(text, match.start()) is None:
            break
        pieces.append(_Piece(kind, *match.span(), match[0]))
    return _with_brackets(pieces)


def _with_brackets(pieces: list[_Piece]) -> list[_Piece]:
    """The pieces, in which brackets without words inside are part of a value, commas included."""
    opened: list[int] = []
    kinds = [
        piece.kind if piece.kind not in ("opening", "closing") else "other" for piece in pieces
    ]
    for index, piece in enumerate(pieces):
        if piece.kind == "opening":
            opened.append(index)
        elif piece.kind == "closing" and opened:
            inside = range(opened.pop(), index + 1)
            if not any(pieces[k].kind == "word" and len(pieces[k].text) > 2 for k in inside):
                for k in inside:
                    kinds[k] = "maths"
    return [piece._replace(kind=kind) for piece, kind in zip(pieces, kinds, strict=True)]


def _is_value(pieces: list[_Piece], index: int) -> bool:
    """Whether a value begins at a piece; the article `a` before a word is none."""
    piece = pieces[index]
    if piece.kind not in _VALUES:
        return False
    before_word = index + 1 < len(pieces) and pieces[index + 1].kind == "word"
    return not (piece.text in ("a", "A", "I") and before_word)


def _candidates(text: str, pieces: list[_Piece], start: int) -> list[str]:
    """The values from a piece on that are candidates for the answer."""
    candidates: list[str] = []
    following: int | None = start
    doubted = False
    while following is not None:
        end = following
        while end < len(pieces) and (_is_value(pieces, end) or pieces[end].kind == "mark"):
            end += 1
        while end < len(pieces) and _CHANGES_THE_VALUE.match(pieces[end].text):
            end += 1
        value = _tidied(text[pieces[following].start : pieces[end - 1].end])
        if value is not None and not (doubted and canonical(value) in map(canonical, candidates)):
            candidates.append(value)
        following_character = text[pieces[end - 1].end :][:1]
        if following_character in (":", ")", ".") and _CHOICE.fullmatch("".join(candidates)):
            return candidates
        following = _next_candidate(pieces, end)
        doubted = any(map(_doubts, pieces[end:following]))
    return candidates


def _next_candidate(pieces: list[_Piece], start: int) -> int | None:
    """Index of the next candidate after a value and its words, or later after words of doubt."""
    index = start
    while index < len(pieces) and pieces[index].kind == "word" and not _doubts(pieces[index]):
        index += 1
    following = _joined(pieces, index)
    for position in range(index, len(pieces)):
        if following is None and _doubts(pieces[position]):
            following = _joined(pieces, position)
    return following


def _joined(pieces: list[_Piece], start: int) -> int | None:
    """Index of the value after one or more separators and words such as `or maybe`, if there is."""
    index = start
    while index < len(pieces) and (
        pieces[index].kind in ("separator", "mark")
        or _doubts(pieces[index])
        or (index > start and _ANOTHER.match(pieces[index].text))
    ):
        index += 1
    return index if start < index < len(pieces) and _is_value(pieces, index) else None


def _doubts(piece: _Piece) -> bool:
    return piece.kind in ("word", "separator") and _DOUBT.fullmatch(piece.text) is not None


def _in_words(text: str, pieces: list[_Piece], start: int) -> str | None:
    """An answer in words, without a clause after it."""
    words = text[pieces[start].start : pieces[-1].end]
    return _tidied(_CLAUSE.split(words, maxsplit=1)[0])


def _tidied(answer: str) -> str | None:
    """The answer without Markdown, delimiters and punctuation around it; None if it is empty."""
    answer = answer.strip(" \t\r*_`").rstrip(".,;:。")
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        inside = answer[len(opening) : len(answer) - len(closing)]
        wrapped = answer.startswith(opening) and answer.endswith(closing)
        again = opening in inside.replace(r"\$", "")
        if wrapped and len(answer) > len(opening + closing) and not again:
            answer = inside
    return answer.strip(" \t\r\n*_`").rstrip(".,;:。").strip() or None
