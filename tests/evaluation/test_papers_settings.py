"""The README and the help of the command line list the presets."""

import re

import pytest
from import_layers import PACKAGE

from dvaojax import cli
from dvaojax.evaluation import presets


def test_readme_lists_every_preset():
    readme = (PACKAGE / "evaluation" / "README.md").read_text()
    table = re.search(r"^\| preset \|.*?\n\n", readme, re.M | re.S).group(0)
    listed = re.findall(r"^\| `(.*?)` \| (.*) \|$", table, re.M)
    assert {name: tuple(cells.split(" | ")) for name, cells in listed} == {
        name: (
            *map(str, (preset.sampling.temperature, preset.sampling.top_p, preset.samples)),
            str(preset.max_new_tokens or "as in training"),
            preset.source,
        )
        for name, preset in presets.PRESETS.items()
    }


def test_help_lists_every_preset(capsys):
    with pytest.raises(SystemExit):
        cli.parse(["evaluate", "--help"])
    assert ", ".join(presets.PRESETS) in " ".join(capsys.readouterr().out.split())
