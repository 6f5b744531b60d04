"""The presets are those of the README, and of the command line's help."""

import re
from pathlib import Path

import pytest

from dvaojax import cli
from dvaojax.evaluation.presets import PRESETS

ROOT = Path(__file__).parents[2]


def test_the_readme_lists_every_preset_as_it_is():
    readme = (ROOT / "README.md").read_text()
    table = re.search(r"^\| preset \|.*?\n\n", readme, re.M | re.S).group(0)
    listed = re.findall(r"^\| `(.*?)` \| (.*) \|$", table, re.M)
    assert {name: tuple(cells.split(" | ")) for name, cells in listed} == {
        name: (
            *map(str, (preset.sampling.temperature, preset.sampling.top_p, preset.samples)),
            str(preset.max_new_tokens or "as in training"),
            preset.source,
        )
        for name, preset in PRESETS.items()
    }


def test_the_help_names_every_preset(capsys):
    with pytest.raises(SystemExit):
        cli.parse(["evaluate", "--help"])
    assert ", ".join(PRESETS) in " ".join(capsys.readouterr().out.split())
