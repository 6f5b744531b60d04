"""Checks of an answer's content: its words, letters, language and length.

One function for each of IFEval's instructions (google-research, `instruction_following_eval`,
commit 3f357bde); its keyword arguments are named as in the data. Keywords are matched literally,
whereas IFEval treats them as regular expressions; its own data gives the same result either way.
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
    """Every keyword occurs, possibly inside a word and ignoring case."""
    return all(_occurrences(keyword, text) for keyword in keywords)


def has_keyword_often(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword occurs "less than" or "at least" `frequency` times, as in `has_keywords`."""
    return _compares(_occurrences(keyword.strip(), text), relation, frequency)


def has_no_forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """No forbidden word occurs as a separate word, ignoring case."""
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words
    )


def has_letter_often(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A character occurs "less than" or "at least" `let_frequency` times, ignoring case."""
    return _compares(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def is_in_language(text: str, *, language: str) -> bool:
    """The text is in the language, or its language cannot be detected."""
    return detected_language(text) in (language, None)


def is_english_in_capitals(text: str) -> bool:
    """The text is English, or of no detectable language, and all its letters are upper case."""
    return text.isupper() and is_in_language(text, language="en")


def is_english_in_small_letters(text: str) -> bool:
    """The text is English, or of no detectable language, and all its letters are lower case."""
    return text.islower() and is_in_language(text, language="en")


def has_capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """The text has "less than" or "at least" `capital_frequency` words in capitals."""
    return _compares(count_capital_words(text), capital_relation, capital_frequency)


def has_words(text: str, *, num_words: int, relation: str) -> bool:
    """The text has "less than" or "at least" `num_words` words."""
    return _compares(count_words(text), relation, num_words)


def has_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """The text has "less than" or "at least" `num_sentences` sentences."""
    return _compares(count_sentences(text), relation, num_sentences)


def repeats_the_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The text begins with the prompt, ignoring case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(text: str, *, end_phrase: str) -> bool:
    """The text ends with a phrase, ignoring case and quotation marks after it."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def is_one_of_three_answers(text: str) -> bool:
    """The text states that its answer is yes, no or maybe, in a fixed wording."""
    return any(f"My answer is {answer}." in text for answer in ("yes", "no", "maybe"))


def has_no_comma(text: str) -> bool:
    """The text contains no comma."""
    return "," not in text


def _occurrences(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _compares(count: int, relation: str, limit: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"{relation!r} is neither 'less than' nor 'at least'")
    return count < limit if relation == "less than" else count >= limit
