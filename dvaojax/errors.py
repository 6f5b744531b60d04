"""Errors that a user can fix: one clear line instead of a traceback."""

import difflib
import importlib
import unicodedata
from collections.abc import Iterable
from types import ModuleType


class UserError(ValueError):
    """Invalid input: a misspelt key, a missing file, shapes that do not match.

    The message is one line that names the mistake and, if there is one, the nearest valid choice.
    The command line prints that line and exits with code 2. Any other exception is a bug of this
    package and keeps its traceback.
    """


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Returns the choice most similar to `word`, or None without choices."""
    return next(iter(difflib.get_close_matches(word, list(choices), n=1, cutoff=0.0)), None)


def suggest(word: str, choices: Iterable[str]) -> str:
    """`word` with the nearest choice, for an error of one line."""
    choice = nearest(word, choices)
    return f"{word!r}" if choice is None else f"{word!r}; did you mean {choice!r}?"


def import_extra(module: str, *, extra: str) -> ModuleType:
    """Imports a module that an optional extra of this package installs.

    Raises:
        UserError: the module is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{module} is not installed: pip install 'dvaojax[{extra}]'") from error


def printable(text: str) -> str:
    r"""Text from outside, for a terminal, a log or a label.

    Servers, models, files and names may contain sequences that move the cursor, change the window's
    title or reverse the direction of writing. Control and format characters, line breaks, lone
    surrogates and unassigned characters are replaced by Python's escapes, such as `\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    """The character if it is printable or a space of any width, else its escape."""
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()
