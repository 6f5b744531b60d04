"""Checks of how an answer is laid out: its paragraphs, lists, titles and marks.

One function for each of IFEval's instructions (google-research, `instruction_following_eval`,
commit 3f357bde); its keyword arguments are named as in the data. Where IFEval's own pattern would
try every pair of places in a hostile text, another one finds the same with one scan.
"""

import json
import re


def has_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many `[placeholders]`, each on one line."""
    return sum(map(_placeholders, text.split("\n"))) >= num_placeholders


def _placeholders(line: str) -> int:
    """Brackets that are opened and closed; between the two anything may stand."""
    count, place = 0, 0
    while (start := line.find("[", place)) >= 0 and (end := line.find("]", start)) >= 0:
        count, place = count + 1, end + 1
    return count


def has_postscript(text: str, *, postscript_marker: str) -> bool:
    """The marker occurs somewhere, in whatever case; "P.S." and "P.P.S" also with spaces inside."""
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    return re.search(known.get(marker, re.escape(marker.lower())), text.lower()) is not None


def has_bullets(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that begin with `*` or `-`, `**` aside."""
    stars = re.findall(r"^[^\S\n]*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def has_highlights(text: str, *, num_highlights: int) -> bool:
    """At least so many `*highlights*`; each `**bold**` one counts as well."""
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(each.strip("*").strip()) for each in single + double) >= num_highlights


def has_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many headings such as `Section 1`, anywhere."""
    heading = rf"{re.escape(section_spliter.strip())}\s?\d+"
    return len(re.findall(heading, text)) >= num_sections


def has_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs with `***` between them, none of them blank but at the ends."""
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", text)]
    return all(paragraphs[1:-1]) and sum(map(bool, paragraphs)) == num_paragraphs


def has_paragraph_with_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly so many paragraphs with an empty line between them, and how one of them begins."""
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    # IFEval counts paragraphs without blank ones, but looks the n-th up among all of them.
    words = paragraphs[nth_paragraph - 1].split() if nth_paragraph <= count else []
    if not words or count != num_paragraphs:
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return word.lower() == first_word.lower()


def is_json(text: str) -> bool:
    """All of it is one JSON value, in a fence of backquotes or not."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def has_title(text: str) -> bool:
    """A `<<title>>`, anywhere on a line."""
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def has_two_responses(text: str) -> bool:
    """Two different responses with `******` between them."""
    parts = [part.strip() for part in text.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def is_quoted(text: str) -> bool:
    """All of it stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'
