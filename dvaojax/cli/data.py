"""`dvaojax data`: prepares datasets and lists those that are available."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_subcommand, local_path
from dvaojax.errors import UserError

if TYPE_CHECKING:
    from rich import box, console, table

    from dvaojax.data import prepared, preparing, sources
else:
    box = LazyModule("rich.box")
    console = LazyModule("rich.console")
    table = LazyModule("rich.table")
    prepared = LazyModule("dvaojax.data.prepared")
    preparing = LazyModule("dvaojax.data.preparing")
    sources = LazyModule("dvaojax.data.sources")

_ABOUT = """\
Prepare datasets, each once. Published sets come from their source or from local files;
your own set is JSON lines, CSV, Parquet, or a directory that Hugging Face `datasets`
saved. A row is {"prompt": ..., "answer": ...}, where the prompt is a text or a list of
messages; --columns names other columns. `prepare` needs pip install '.[data]' in
the checkout of dvaojax."""

_EXAMPLES = """\
Examples:
  dvaojax data list
  dvaojax data prepare gsm8k
  dvaojax data prepare bfcl --source gorilla/berkeley-function-call-leaderboard/bfcl_eval/data
  dvaojax data prepare mine --source mine.jsonl
  dvaojax data prepare mine --source mine.csv --columns prompt=question answer=answer
  dvaojax data prepare mine --source saved_dataset --overwrite"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands, "data", "prepare datasets", about=_ABOUT, examples=_EXAMPLES
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prepare = actions.add_parser("prepare", help="prepare a published dataset, or your own")
    prepare.add_argument("name", metavar="NAME", help="of the set; `dvaojax data list` lists them")
    prepare.add_argument(
        "--source",
        type=local_path,
        metavar="PATH",
        help="its file, or the directory of its files (default: the place of publication)",
    )
    prepare.add_argument(
        "--columns",
        nargs="+",
        action="extend",
        type=_column,
        metavar="FIELD=COLUMN",
        help="which columns of your own rows are the prompt, the answer and the metadata, such as "
        "prompt=question answer=solution; all other columns become metadata",
    )
    prepare.add_argument(
        "--overwrite",
        action="store_const",
        dest="existing",
        const="replace",
        default="keep",
        help="prepare the set again and replace the earlier one",
    )
    for action in (prepare, actions.add_parser("list", help="list the published datasets")):
        action.add_argument(
            "--data-dir",
            default="",
            metavar="DIR",
            help="directory of prepared sets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Prepares a set, or lists the published ones; returns the exit code."""
    out = console.Console(highlight=False)
    if arguments.action == "list":
        out.print(_table(arguments.data_dir))
        return 0
    summary = preparing.prepare(
        arguments.name,
        source=arguments.source,
        data_dir=arguments.data_dir,
        columns=None if arguments.columns is None else _columns(arguments.columns),
        existing=arguments.existing,
    )
    state = "is prepared" if summary.is_new else "is already prepared"
    out.print(f"{arguments.name} {state} in {summary.path}: {_splits(summary)}", soft_wrap=True)
    if summary.absent:
        out.print(f"missing files: {', '.join(summary.absent)}", soft_wrap=True)
    for note, count in summary.noted.items():
        out.print(f"{note}: {count}", soft_wrap=True)
    source = sources.BY_NAME.get(arguments.name)
    if source is not None:
        out.print(f"licence: {source.licence}", soft_wrap=True)
    return 0


def _columns(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The column of each field.

    Raises:
        UserError: a field has two.
    """
    for field, column in pairs:
        others = [other for name, other in pairs if name == field and other != column]
        if others:
            raise UserError(
                f"--columns gives {field} two columns, {column} and {others[0]}: keep one"
            )
    return dict(pairs)


def _column(text: str) -> tuple[str, str]:
    """Parses `FIELD=COLUMN`.

    Raises:
        ArgumentTypeError: it is something else.
    """
    field, _, column = text.partition("=")
    if field not in ("prompt", "answer", "metadata") or not column:
        raise argparse.ArgumentTypeError(
            f"{text} is not prompt=COLUMN, answer=COLUMN or metadata=COLUMN"
        )
    return field, column


def _table(data_dir: str) -> "table.Table":
    """The published datasets, and which of them are prepared."""
    listed = table.Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("set", "prepared records", "content and licence"):
        listed.add_column(heading)
    for name, source in sources.BY_NAME.items():
        content = f"{source.title}. {source.licence}"
        listed.add_row(name, _records(name, data_dir), content)
    return listed


def _records(name: str, data_dir: str) -> str:
    """The prepared records of a set."""
    try:
        summary = prepared.describe(name, data_dir=data_dir)
    except UserError:
        return "damaged"
    return _splits(summary) if summary else "none"


def _splits(summary: "prepared.PreparedSet") -> str:
    return ", ".join(f"{split} {count}" for split, count in summary.splits.items())
