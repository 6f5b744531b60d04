"""Checks of what an answer says: its words, letters, language and length.

One function for each of IFEval's instructions (google-research, `instruction_following_eval`,
commit 3f357bde); its keyword arguments are named as in the data. Keywords are taken literally,
where IFEval takes them for regular expressions; none of its own tells the two apart.
"""

import re
from collections.abc import Sequence

from dvaojax.rewards.instructions.language import (
    count_capital_words,
    count_sentences,
    count_words,
    detected_language,
)


def has_keywords(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, as part of a word or in other case if need be."""
    return all(_occurrences(keyword, text) for keyword in keywords)


def has_keyword_often(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword occurs "less than" or "at least" so many times, as in `has_keywords`."""
    return _compares(_occurrences(keyword.strip(), text), relation, frequency)


def has_no_forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None occurs as a word of its own, in whatever case."""
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words
    )


def has_letter_often(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A character occurs "less than" or "at least" so many times, in whatever case."""
    return _compares(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def is_in_language(text: str, *, language: str) -> bool:
    """The text is in a language, or in none that can be told."""
    return detected_language(text) in (language, None)


def is_english_in_capitals(text: str) -> bool:
    """English, or nothing that can be told, and no letter is a small one."""
    return text.isupper() and is_in_language(text, language="en")


def is_english_in_small_letters(text: str) -> bool:
    """English, or nothing that can be told, and no letter is a capital."""
    return text.islower() and is_in_language(text, language="en")


def has_capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """So many words are in capitals, "less than" or "at least"."""
    return _compares(count_capital_words(text), capital_relation, capital_frequency)


def has_words(text: str, *, num_words: int, relation: str) -> bool:
    """So many words, "less than" or "at least"."""
    return _compares(count_words(text), relation, num_words)


def has_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """So many sentences, "less than" or "at least"."""
    return _compares(count_sentences(text), relation, num_sentences)


def repeats_the_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """It begins with the prompt, in whatever case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(text: str, *, end_phrase: str) -> bool:
    """It ends with a phrase, in whatever case, quotation marks after it aside."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def is_one_of_three_answers(text: str) -> bool:
    """It says that its answer is yes, no or maybe, in these very words."""
    return any(f"My answer is {answer}." in text for answer in ("yes", "no", "maybe"))


def has_no_comma(text: str) -> bool:
    """No comma anywhere."""
    return "," not in text


def _occurrences(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _compares(count: int, relation: str, limit: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"{relation!r} is neither 'less than' nor 'at least'")
    return count < limit if relation == "less than" else count >= limit
