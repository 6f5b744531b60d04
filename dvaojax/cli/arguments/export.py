"""What can be written behind `dvaojax export`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_checkpoint, add_door

_ABOUT = """\
Write a checkpoint of a run as a published model: config.json, safetensors, and the
files of the tokenizer with the chat template. transformers loads the directory and
vLLM serves it. DIR appears when it is complete; an existing one is not touched."""

_EXAMPLES = """\
Examples:
  dvaojax export runs/arithmetic exported
  dvaojax export runs/mine exported --best --dtype bfloat16
  dvaojax export runs/mine exported --experiment mine.py   a task of your own"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(
        doors, "export", "write a checkpoint as a published model", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's directory, runs/NAME")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="the float that weights are written in (default: that of the parameters)",
    )
    add_checkpoint(parser)
