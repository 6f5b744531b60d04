"""Loading of user code: experiment files, and functions named in a configuration.

A plug-in is a function that a configuration names by the file or module that defines it:
`my_file.py:my_function` or `package.module:my_function`. Every failure to load or call user code
becomes one line with the file and the line number.
"""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dvaojax.errors import UserError, nearest, suggest

_SUFFIX = ".py"


def is_plugin(name: str) -> bool:
    """Whether a name in a configuration means a function outside this package."""
    return ":" in name


def short_name(name: str) -> str:
    """A plug-in's name without the directory of its file; any other name as it is."""
    source, colon, function = name.rpartition(":")
    return f"{Path(source).name}:{function}" if colon and source.endswith(_SUFFIX) else name


def find(name: str, known: Mapping[str, Callable[..., Any]], *, kind: str) -> Callable[..., Any]:
    """The function of a name: an entry of a table, or a plug-in.

    Args:
        name: a key of the table, or a plug-in as in `load`.
        known: the table.
        kind: of its entries, for errors.

    Raises:
        UserError: the name is neither, or the plug-in cannot be loaded.
    """
    if is_plugin(name):
        return load(name)
    if name not in known:
        raise UserError(f"unknown {kind} {suggest(name, known)}")
    return known[name]


def load(name: str) -> Callable[..., Any]:
    """The function that a plug-in's name means.

    Args:
        name: `path/to/file.py:function` or `package.module:function`.

    Raises:
        UserError: there is no such file, module or function, or running the file fails.
    """
    source, _, attribute = name.rpartition(":")
    if "=" in attribute:
        raise UserError(f"{name!r} is not the name of a function: options have their own setting")
    if not source or not attribute:
        raise UserError(f"{name!r}: write file.py:function or package.module:function")
    module = _module_of_file(name, Path(source)) if source.endswith(_SUFFIX) else _imported(source)
    if not hasattr(module, attribute):
        names = [key for key, value in vars(module).items() if callable(value)]
        public = [key for key in names if not key.startswith("_")]
        raise UserError(f"{source} has no function {suggest(attribute, public)}")
    function = getattr(module, attribute)
    if not callable(function):
        raise UserError(f"{name}: {attribute} is of type {type(function).__name__}, not a function")
    require_arguments(name, function, [])
    return function


def require_arguments(
    name: str, function: Callable[..., Any], positional: Sequence[str], keywords: Sequence[str] = ()
) -> None:
    """Checks that a function can be called as its kind of method is called.

    Args:
        name: of the function, for errors.
        function: the function.
        positional: the positional arguments, by the names to print.
        keywords: the keyword arguments.

    Raises:
        UserError: the signature does not accept these arguments.
    """
    try:
        arguments = dict.fromkeys(keywords)
        inspect.signature(function).bind_partial(*(None for _ in positional), **arguments)
    except (TypeError, ValueError) as error:
        call = ", ".join([*positional, *(f"{keyword}=..." for keyword in keywords)])
        raise UserError(f"{name} cannot be called as ({call}): {error}") from error


def _module_of_file(name: str, path: Path) -> ModuleType:
    """The module that a plug-in's file defines."""
    require_file(path, f"{name}: there is no file")
    return run_file(path)


def require_file(path: Path, error: str) -> None:
    """Checks that a Python file exists.

    Args:
        path: of the file.
        error: beginning of the message, followed by the path and the nearest name.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        siblings = path.parent.glob(f"*{_SUFFIX}") if path.parent.is_dir() else ()
        guess = nearest(path.name, [sibling.name for sibling in siblings])
        hint = f"; did you mean {path.parent / guess}?" if guess else ""
        raise UserError(f"{error} {path}{hint}")


def _imported(module: str) -> ModuleType:
    """An installed module."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(_located(error, module)) from error
        raise UserError(
            f"there is no module {module}: install it, or name its file, "
            f"{module.replace('.', '/')}{_SUFFIX}"
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(_located(error, module)) from error


def run_file(path: Path) -> ModuleType:
    """A Python file as a module, registered under a name derived from the file's.

    A file is run once per process, and again after it has changed, so that an experiment file may
    name a method of its own.

    Raises:
        UserError: it is not a Python file, or running it fails.
    """
    status = path.stat()
    return _run_once(path.absolute(), path, status.st_mtime_ns, status.st_size)


@functools.lru_cache
def _run_once(absolute: Path, path: Path, modified: int, size: int) -> ModuleType:
    """The module; a new one whenever one of the arguments differs."""
    del absolute, modified, size
    name = f"dvaojax_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    with blaming(str(path)):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def blaming(source: str) -> Iterator[None]:
    """Turns an exception or an exit in user code into one line with the place of it.

    Args:
        source: the path of the file, or another name of the code.

    Raises:
        UserError: the body raised an exception, or called `sys.exit`.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(_located(error, source)) from error


def _located(error: BaseException, source: str) -> str:
    """`file:line: type: message` for an exception in user code, from the innermost line of it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {error.msg}"
    file = source.rpartition(":")[0] or source
    file = getattr(sys.modules.get(file), "__file__", None) or _origin(file) or file
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename in (file, str(Path(file).absolute()))]
    separator = ", line " if is_plugin(source) else ":"
    where = f"{source}{separator}{lines[-1]}" if lines else source
    return f"{where}: {type(error).__name__}: {' '.join(str(error).split())}"


def _origin(module: str) -> str | None:
    """The file of a module that could not be imported."""
    with contextlib.suppress(ImportError, ValueError):  # its parent package may be missing
        spec = importlib.util.find_spec(module)
        return spec.origin if spec else None
    return None
