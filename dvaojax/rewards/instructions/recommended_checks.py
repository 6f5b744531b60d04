"""Checks of the recommended rules that differ from IFEval's own, and the reasons.

IFEval's checks have defects that make an instruction impossible to follow, or pay for breaking it:

- Blank paragraphs are not counted, but take part in the numbering. After `</think>` an answer
  begins with an empty line, so its first paragraph is the second.
- The language of a short English text in capitals is mostly detected as German. Here such a text is
  written in small letters first.
- A word that begins or ends with a symbol, such as "C++", has no word boundary there, so it is
  never forbidden; and a combining mark, as in Hindi, is no part of a word.
"""

import re
import unicodedata
from collections.abc import Sequence

from dvaojax.rewards.instructions import content_checks

_OPENING = "'\"*_([{\u2018\u201c\u00ab\u00bf\u00a1"
_CLOSING = ".,?!'\":;)]}*_\u2019\u201d\u00bb\u2026\u2013\u2014"


def has_no_forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """No forbidden word occurs as a separate word, ignoring case.

    It is separate if neither of its ends is between two letters, digits, marks or underscores.
    """
    return not any(_occurs(word, text) for word in forbidden_words)


def _occurs(word: str, text: str) -> bool:
    starts = (match.start() for match in re.finditer(f"(?={re.escape(word)})", text, re.IGNORECASE))
    return any(
        not _is_inside_word(text, start) and not _is_inside_word(text, start + len(word))
        for start in starts
    )


def _is_inside_word(text: str, position: int) -> bool:
    """Whether the characters before and after a position belong to one word."""
    return 0 < position < len(text) and all(map(_is_of_word, text[position - 1 : position + 1]))


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


def has_paragraph_with_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly `num_paragraphs` paragraphs between blank lines; the n-th has this first word.

    Only paragraphs that are not blank are counted and numbered. Case, and quotation marks, brackets
    and punctuation around the word are ignored.
    """
    paragraphs = [each for each in re.split(r"\n\s*\n", text) if each.strip()]
    if len(paragraphs) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    wanted, word = first_word.strip().lower(), paragraphs[nth_paragraph - 1].split()[0].lower()
    rests = [
        form[len(wanted) :] for form in (word, word.lstrip(_OPENING)) if form.startswith(wanted)
    ]
    return any(not rest or rest[0] in _CLOSING for rest in rests)


def is_in_language(text: str, *, language: str) -> bool:
    """As `content_checks.is_in_language`; a text in capitals is written in small letters first."""
    return content_checks.is_in_language(without_capitals(text), language=language)


def is_english_in_capitals(text: str) -> bool:
    """The text is English, or of no detectable language, and all its letters are upper case."""
    return text.isupper() and is_in_language(text, language="en")


def without_capitals(text: str) -> str:
    """A text in capitals in small letters; any other text as it is."""
    return text.lower() if text.isupper() else text
