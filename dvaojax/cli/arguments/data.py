"""What can be written behind `dvaojax data`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_door

_ABOUT = """\
Prepare sets of problems, once each. Published sets come from their source or from files
on this disk; a set of your own is JSON lines, {"prompt": ..., "answer": ...} each, where
the prompt is a text or a list of messages. Needs: pip install 'dvaojax[data]'."""

_EXAMPLES = """\
Examples:
  dvaojax data list
  dvaojax data prepare gsm8k
  dvaojax data prepare bfcl --source gorilla/berkeley-function-call-leaderboard/bfcl_eval/data
  dvaojax data prepare mine --source mine.jsonl"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(doors, "data", "prepare sets of problems", about=_ABOUT, examples=_EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prepare = actions.add_parser("prepare", help="a published set, or one of your own")
    prepare.add_argument("name", metavar="NAME", help="of the set; `dvaojax data list` has them")
    prepare.add_argument(
        "--source",
        type=Path,
        metavar="PATH",
        help="its file, or the directory of its files (default: where it is published)",
    )
    for action in (prepare, actions.add_parser("list", help="the published sets")):
        action.add_argument(
            "--data-dir",
            default="",
            metavar="DIR",
            help="where prepared sets stand (default: TFDS_DATA_DIR or ~/tensorflow_datasets)",
        )
