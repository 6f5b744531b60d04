"""Builds HTML in which all text is escaped, except what is marked as `Markup`."""

import html
import re
from collections.abc import Iterable

# Characters that are invisible or change the text around them: controls except tab and newline,
# marks and overrides of the writing direction, line separators, lone surrogates.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)
_VOID_ELEMENTS = {"br", "input", "col"}


class Markup(str):
    """Text that is HTML already and is not escaped."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text with a visible symbol for each invisible character.

    Control characters become Unicode's control pictures (`␛`); direction marks, lone surrogates
    and similar characters are replaced by their code point (`⟨U+202E⟩`). Tabs and newlines stay.
    """
    return _INVISIBLE.sub(_picture, text)


def element(tag: str, /, *children: str | None, **attributes: object) -> Markup:
    """One element, with its end tag unless it is a void element.

    Args:
        tag: its name.
        children: its content; text is escaped, `Markup` is not, None is skipped.
        attributes: a trailing underscore is dropped and the others become hyphens (`class_`,
            `aria_label`); True is an attribute without a value, None and False are skipped.
    """
    head = tag + "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID_ELEMENTS:
        return Markup(f"<{head}>")
    return Markup(f"<{head}>{join(children)}</{tag}>")


def join(children: Iterable[str | None]) -> Markup:
    """Concatenates children, without an element around them."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(visible(text))


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"
