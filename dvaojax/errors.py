"""Errors that a person can mend: one clear line instead of a traceback."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class UserError(ValueError):
    """Bad input: a misspelt key, a missing file, shapes that do not fit.

    Its message is one line that names what is wrong and, where there is one, the nearest right
    choice. The command line prints that line and exits with code 2. A mistake of this package is
    any other exception, and keeps its traceback.
    """


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`; None where there is no choice."""
    return next(iter(difflib.get_close_matches(word, list(choices), n=1, cutoff=0.0)), None)


def import_extra(module: str, *, extra: str) -> ModuleType:
    """A module that comes with an extra of this package.

    Raises:
        UserError: it is not installed; the line names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{module} is not installed: pip install 'dvaojax[{extra}]'") from error
