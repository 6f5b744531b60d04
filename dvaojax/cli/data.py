"""`dvaojax data`: prepares datasets and lists those that are available."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_subcommand

if TYPE_CHECKING:
    from rich import box, console, table

    from dvaojax.data import preparing, sources
else:
    box = LazyModule("rich.box")
    console = LazyModule("rich.console")
    table = LazyModule("rich.table")
    preparing = LazyModule("dvaojax.data.preparing")
    sources = LazyModule("dvaojax.data.sources")

_ABOUT = """\
Prepare datasets, each once. Published sets come from their source or from local files;
your own set is a file of JSON lines, {"prompt": ..., "answer": ...} each, where the
prompt is a text or a list of messages. Needs: pip install 'dvaojax[data]'."""

_EXAMPLES = """\
Examples:
  dvaojax data list
  dvaojax data prepare gsm8k
  dvaojax data prepare bfcl --source gorilla/berkeley-function-call-leaderboard/bfcl_eval/data
  dvaojax data prepare mine --source mine.jsonl"""


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
        type=Path,
        metavar="PATH",
        help="its file, or the directory of its files (default: the place of publication)",
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
    prepared = preparing.prepare(
        arguments.name, source=arguments.source, data_dir=arguments.data_dir
    )
    state = "is prepared" if prepared.is_new else "is already prepared"
    out.print(f"{arguments.name} {state} in {prepared.path}: {_splits(prepared)}", soft_wrap=True)
    if prepared.absent:
        out.print(f"missing files: {', '.join(prepared.absent)}", soft_wrap=True)
    for note, count in prepared.noted.items():
        out.print(f"{note}: {count}", soft_wrap=True)
    source = sources.BY_NAME.get(arguments.name)
    if source is not None:
        out.print(f"licence: {source.licence}", soft_wrap=True)
    return 0


def _table(data_dir: str) -> "table.Table":
    """The published datasets, and which of them are prepared."""
    listed = table.Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("set", "prepared records", "content and licence"):
        listed.add_column(heading)
    for name, source in sources.BY_NAME.items():
        prepared = preparing.describe(name, data_dir=data_dir)
        content = f"{source.title}. {source.licence}"
        listed.add_row(name, _splits(prepared) if prepared else "none", content)
    return listed


def _splits(prepared: "preparing.PreparedSet") -> str:
    return ", ".join(f"{split} {count}" for split, count in prepared.splits.items())
