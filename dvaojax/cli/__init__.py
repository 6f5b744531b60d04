"""The doors: `dvaojax` with `train`, `evaluate`, `sweep`, `plot`, `report`, `export`, `plan`,
`data` or `methods`.

Exit codes: 0 done; 1 the run could not go on; 2 bad input, and nothing was written; 128 and the
signal's number where a signal stopped it. Whatever is not 0 comes with one line on standard error.
"""

import importlib
import signal
from collections.abc import Sequence

from dvaojax.cli.answers import BAD_INPUT, BY_SIGNAL, answer
from dvaojax.cli.arguments import parse
from dvaojax.errors import UserError

# By name, and imported when opened: help and misspelt options need not wait for JAX.
_DOORS = {
    "train": "dvaojax.cli.train",
    "evaluate": "dvaojax.cli.evaluate",
    "sweep": "dvaojax.cli.sweep",
    "plot": "dvaojax.cli.plot",
    "report": "dvaojax.cli.report",
    "export": "dvaojax.cli.export",
    "plan": "dvaojax.cli.plan",
    "data": "dvaojax.cli.data",
    "methods": "dvaojax.cli.methods",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: its arguments without the program's name; by default those of this process.

    Returns:
        The exit code.
    """
    try:
        arguments = parse(argv)
        return importlib.import_module(_DOORS[arguments.door]).run(arguments)
    except UserError as error:
        return answer(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return answer("stopped at once, without saving", BY_SIGNAL + signal.SIGINT)
