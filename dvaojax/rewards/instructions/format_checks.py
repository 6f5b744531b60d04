"""Checks of an answer's format: its paragraphs, lists, titles and marks.

One function for each of IFEval's instructions (google-research, `instruction_following_eval`,
commit 3f357bde); its keyword arguments are named as in the data. If IFEval's own pattern could take
quadratic time on a hostile text, an equivalent linear scan is used.
"""

import json
import re


def has_placeholders(text: str, *, num_placeholders: int) -> bool:
    """The text has at least `num_placeholders` `[placeholders]`, each within one line."""
    return sum(map(_placeholders, text.split("\n"))) >= num_placeholders


def _placeholders(line: str) -> int:
    """Number of pairs of an opening and a closing bracket with any text between."""
    count, position = 0, 0
    while (start := line.find("[", position)) >= 0 and (end := line.find("]", start)) >= 0:
        count, position = count + 1, end + 1
    return count


def has_postscript(text: str, *, postscript_marker: str) -> bool:
    """The marker occurs, ignoring case; "P.S." and "P.P.S" also with spaces inside."""
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    return re.search(known.get(marker, re.escape(marker.lower())), text.lower()) is not None


def has_bullets(text: str, *, num_bullets: int) -> bool:
    """Exactly `num_bullets` lines begin with `*` or `-`, not counting `**`."""
    stars = re.findall(r"^[^\S\n]*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def has_highlights(text: str, *, num_highlights: int) -> bool:
    """The text has at least `num_highlights` `*highlights*`; `**bold**` counts as well."""
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(each.strip("*").strip()) for each in single + double) >= num_highlights


def has_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """The text has at least `num_sections` headings such as `Section 1`, at any position."""
    heading = rf"{re.escape(section_spliter.strip())}\s?\d+"
    return len(re.findall(heading, text)) >= num_sections


def has_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Exactly `num_paragraphs` paragraphs separated by `***`; inner ones are not blank."""
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", text)]
    return all(paragraphs[1:-1]) and sum(map(bool, paragraphs)) == num_paragraphs


def has_paragraph_with_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly `num_paragraphs` paragraphs between empty lines; the n-th has this first word."""
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    # IFEval counts only paragraphs that are not blank, but indexes into all of them.
    words = paragraphs[nth_paragraph - 1].split() if nth_paragraph <= count else []
    if not words or count != num_paragraphs:
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return word.lower() == first_word.lower()


def is_json(text: str) -> bool:
    """The whole text is one JSON value, optionally in a fence of backquotes."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def has_title(text: str) -> bool:
    """The text contains a `<<title>>`, anywhere on a line."""
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def has_two_responses(text: str) -> bool:
    """The text has two different responses separated by `******`."""
    parts = [part.strip() for part in text.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def is_quoted(text: str) -> bool:
    """The whole text is enclosed in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'
