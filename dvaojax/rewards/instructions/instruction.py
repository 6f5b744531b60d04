"""IFEval's 25 kinds of instructions, and an instruction with its arguments."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dvaojax.errors import UserError, nearest
from dvaojax.rewards.instructions import content_checks, format_checks, recommended_checks

CHECKS: Mapping[str, Callable[..., bool]] = {
    "change_case:capital_word_frequency": content_checks.has_capital_words,
    "change_case:english_capital": content_checks.is_english_in_capitals,
    "change_case:english_lowercase": content_checks.is_english_in_small_letters,
    "combination:repeat_prompt": content_checks.repeats_the_prompt,
    "combination:two_responses": format_checks.has_two_responses,
    "detectable_content:number_placeholders": format_checks.has_placeholders,
    "detectable_content:postscript": format_checks.has_postscript,
    "detectable_format:constrained_response": content_checks.is_one_of_three_answers,
    "detectable_format:json_format": format_checks.is_json,
    "detectable_format:multiple_sections": format_checks.has_sections,
    "detectable_format:number_bullet_lists": format_checks.has_bullets,
    "detectable_format:number_highlighted_sections": format_checks.has_highlights,
    "detectable_format:title": format_checks.has_title,
    "keywords:existence": content_checks.has_keywords,
    "keywords:forbidden_words": content_checks.has_no_forbidden_words,
    "keywords:frequency": content_checks.has_keyword_often,
    "keywords:letter_frequency": content_checks.has_letter_often,
    "language:response_language": content_checks.is_in_language,
    "length_constraints:nth_paragraph_first_word": format_checks.has_paragraph_with_first_word,
    "length_constraints:number_paragraphs": format_checks.has_paragraphs,
    "length_constraints:number_sentences": content_checks.has_sentences,
    "length_constraints:number_words": content_checks.has_words,
    "punctuation:no_comma": content_checks.has_no_comma,
    "startend:end_checker": content_checks.ends_with,
    "startend:quotation": format_checks.is_quoted,
}
"""Kind -> IFEval's check, `(text, *, ...) -> bool`, with the keyword arguments of the data set."""

RECOMMENDED_CHECKS: Mapping[str, Callable[..., bool]] = {
    **CHECKS,
    "change_case:english_capital": recommended_checks.is_english_in_capitals,
    "keywords:forbidden_words": recommended_checks.has_no_forbidden_words,
    "language:response_language": recommended_checks.is_in_language,
    "length_constraints:nth_paragraph_first_word": (
        recommended_checks.has_paragraph_with_first_word
    ),
}
"""Kind -> the check of the recommended rules; see `recommended_checks` for the differences."""

LANGUAGE_KINDS = {
    "change_case:english_capital",
    "change_case:english_lowercase",
    "language:response_language",
}
"""Kinds whose check also accepts a text whose language cannot be detected."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a prompt; a prompt's reference is the sequence of its instructions.

    Attributes:
        kind: such as "punctuation:no_comma".
        arguments: keyword arguments of its check, such as `{"num_words": 300, "relation": "at
            least"}`.

    Raises:
        UserError: the kind does not exist, or the arguments are not those of its check.
    """

    kind: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in CHECKS:
            near = nearest(self.kind, CHECKS)
            raise UserError(f"unknown instruction {self.kind!r}; did you mean {near!r}?")
        try:
            inspect.signature(CHECKS[self.kind]).bind("", **self.arguments)
        except TypeError as error:
            raise UserError(f"invalid arguments of {self.kind!r}: {error}") from error


def instructions(
    kinds: Sequence[str], arguments: Sequence[Mapping[str, Any]]
) -> tuple[Instruction, ...]:
    """The instructions of a row, from its `instruction_id_list` and its `kwargs`.

    Arguments that are None are dropped: some copies of the data list all arguments of all kinds.

    Raises:
        UserError: the two lists differ in length, or an instruction is invalid.
    """
    if len(kinds) != len(arguments):
        raise UserError(f"{len(kinds)} instructions, but {len(arguments)} sets of arguments")
    return tuple(
        Instruction(kind, {name: value for name, value in given.items() if value is not None})
        for kind, given in zip(kinds, arguments, strict=True)
    )
