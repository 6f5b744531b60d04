"""What can be written behind `dvaojax methods`."""

from dvaojax.cli.arguments.parser import Doors, add_door

_ABOUT = """\
Print what rewards can be turned into advantages with, advantages into a loss, and what is
known of problems into their share of the completions: what holds of each method whatever
the rewards are, what it needs, and where it is from. With a name: its equation, what it is
confused with, its knobs, and an entry for BibTeX."""

_EXAMPLES = """\
Examples:
  dvaojax methods
  dvaojax methods dvao
  dvaojax methods gspo"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(doors, "methods", "what to choose from", about=_ABOUT, examples=_EXAMPLES)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a method, here or in its paper")
