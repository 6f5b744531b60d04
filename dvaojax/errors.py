"""Errors that a user can fix: one clear line instead of a traceback."""

import contextlib
import difflib
import errno
import importlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

RESTART = 75
"""Exit code, EX_TEMPFAIL of sysexits.h: the same command, given again, continues the work."""


class UserError(ValueError):
    """Invalid input: a misspelt key, a missing file, shapes that do not match.

    The message is one line that names the mistake and, if there is one, the nearest valid choice.
    The command line prints that line and exits with code 2. Any other exception is a failure of the
    machine (`storage_failure`, `memory_failure`) or a bug of this package.
    """


class ServiceError(RuntimeError):
    """A server that holds the files of a run does not answer, or answers with errors only.

    The message is one line. The command line prints it and exits with code `RESTART`: requests were
    repeated for a while, and the same command may succeed later.
    """


_CHOOSE_ANOTHER = "choose a place where files can be written"
_REMEDIES = {
    errno.ENOSPC: "free space there, or write to another disk",
    errno.EDQUOT: "free space there, or write to another disk",
    errno.EFBIG: "the limit of a file's size is reached (ulimit -f); raise it",
    errno.EROFS: _CHOOSE_ANOTHER,
    errno.EACCES: _CHOOSE_ANOTHER,
    errno.EPERM: _CHOOSE_ANOTHER,
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "there is a directory of that name; choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open (ulimit -n); raise the limit",
    errno.EIO: "the disk reports an error; write to another one",
    errno.ESTALE: "the network's file system was lost; mount it again",
}
"""Errors of a disk or of a path, with the way out of each."""

_NO_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory")
_AMOUNT = re.compile(r"(\d[\d.]*) ?([KMGT]i?B?|bytes?)\b")


def storage_failure(error: BaseException) -> str | None:
    """One line for a failure of a disk or a path: full, read-only, not permitted, not a directory.

    The failure may be a cause of the error, or only be quoted in its text, as libraries that write
    in other threads or languages do.

    Returns:
        The reason and the remedy; None for any other error.
    """
    for part in error_chain(error):
        if isinstance(part, OSError) and part.errno in _REMEDIES:
            return f"{os.strerror(part.errno)}: {_REMEDIES[part.errno]}"
    for part in error_chain(error):
        for number, remedy in _REMEDIES.items():
            if os.strerror(number) in str(part):
                return f"{os.strerror(number)}: {remedy}"
    return None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of the operating system into one line about the file that was to be written.

    Raises:
        UserError: the body raised an `OSError`; the line names the path, the reason and the remedy.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {storage_failure(error) or error.strerror}"
        ) from error


def memory_failure(error: BaseException) -> str | None:
    """One line for memory that did not suffice, on a device, in XLA's compiler or on the host.

    Returns:
        What happened, with the amount where it is known; None for any other error.
    """
    if storage_failure(error) is not None:  # a full disk is RESOURCE_EXHAUSTED as well
        return None
    for part in error_chain(error):
        text = str(part)
        if isinstance(part, MemoryError) or (
            isinstance(part, RuntimeError | ValueError) and _NO_MEMORY.search(text)
        ):
            return "out of memory" + _asked_for(text)
    return None


def _asked_for(text: str) -> str:
    """The first amount of memory in a text, in parentheses; empty if there is none."""
    amount = _AMOUNT.search(text)
    if amount is None:
        return ""
    number, unit = amount.groups()
    return f" ({int(number) / 2**30:.3g} GiB)" if unit[0] == "b" else f" ({number} {unit})"


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from, while handling, or with."""
    pending, visited = [error], set()
    while pending:
        part = pending.pop(0)
        if id(part) in visited:
            continue
        visited.add(id(part))
        yield part
        members = part.exceptions if isinstance(part, BaseExceptionGroup) else ()
        pending += [e for e in (*members, part.__cause__, part.__context__) if e is not None]


def root_cause(error: BaseException) -> BaseException:
    """The error that an error was raised from, or while handling; itself if there is none."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def first_line(error: BaseException) -> str:
    """At most 300 characters of an error's message, without line breaks, or else its class.

    Libraries describe a fault in the first line, and add advice, source lines or traces.
    """
    line = str(error).strip().partition("\n")[0]
    return " ".join(line.split())[:300] or type(error).__name__


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
        raise UserError(f"{module} is not installed: {install_hint(extra)}") from error


def install_hint(extra: str) -> str:
    """The command that installs an extra: from a checkout, as no index has the package."""
    return f"pip install '.[{extra}]' in the checkout of dvaojax"


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
