"""What can be written behind `dvaojax plan`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_door, add_settings, positive

_ABOUT = """\
Compile a run's rollout and train step for a TPU slice, on a machine that has none, and
print whether it fits, the memory of a chip by part, floating-point operations,
collectives, and two estimates of the time: the compiler's and a roofline. Where it does
not fit, other meshes, remat policies and micro-batches are searched for one that does.

Chips are v5e, v5p and v6e. Needs: pip install 'dvaojax[plan]'."""

_EXAMPLES = """\
Examples:
  dvaojax plan --model qwen3-8b --topology v5p:4x4x4 --prompts 128 --group-size 16 \\
      --prompt-length 1024 --completion-length 7168 --steps 500
  dvaojax plan --experiment mine.py --topology v6e:8x8 --set model.remat=none
  dvaojax plan --model qwen3-4b --topology v5e:8x8 --set mesh.fsdp=16 mesh.tensor=4"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(
        doors, "plan", "what a run takes on a TPU slice", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument("--topology", required=True, metavar="CHIP:SHAPE", help="such as v5p:4x4x4")
    parser.add_argument("--model", help="a published decoder, such as qwen3-8b")
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="EXPERIMENT.py",
        help="a file with a function get_config(); what is not said here is taken from it",
    )
    for name, gist in (
        ("prompts", "prompts of a step"),
        ("group-size", "completions of a prompt"),
        ("prompt-length", "tokens that prompts are padded to"),
        ("completion-length", "tokens of a completion at most"),
        ("steps", "of the run, for the hours it takes"),
    ):
        parser.add_argument(f"--{name}", type=positive, metavar="N", help=gist)
    parser.add_argument(
        "--quick",
        action="store_const",
        dest="effort",
        const=-1.0,
        default=0.0,
        help="compile with little optimisation: more memory, more collectives, no cycles",
    )
    add_settings(parser, "replace settings, those of mesh, learning and model among them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
