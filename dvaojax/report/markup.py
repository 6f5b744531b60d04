"""HTML that what is put into it cannot break: text is escaped, and only markup is not text."""

import html
import re
from collections.abc import Iterable

# What a reader would not see, or what would turn the text around it: controls but for tab and
# newline, marks and overrides of writing direction, separators of lines, halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)
_WITHOUT_END = {"br", "input", "col"}


class Markup(str):
    """Text that is HTML already, and is put into other HTML as it stands."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text with a sign in the place of every character that has none of its own.

    Controls become the pictures that Unicode has for them (`␛`); marks of writing direction, lone
    surrogates and their like are named (`⟨U+202E⟩`). Tabs and newlines stay.
    """
    return _UNSEEN.sub(_picture, text)


def element(tag: str, /, *children: str | None, **attributes: object) -> Markup:
    """One element, with its end where it has one.

    Args:
        tag: its name.
        children: in order; text is escaped, `Markup` is not, None is left out.
        attributes: a trailing underscore is dropped and the others become hyphens (`class_`,
            `aria_label`); True is an attribute without a value, None and False are left out.
    """
    head = tag + "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _WITHOUT_END:
        return Markup(f"<{head}>")
    return Markup(f"<{head}>{join(children)}</{tag}>")


def join(children: Iterable[str | None]) -> Markup:
    """Children one after the other, without an element around them."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(visible(text))


def _picture(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"
